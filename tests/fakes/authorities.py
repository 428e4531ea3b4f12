"""The list of the world's authorities, read once for all HTTP clients of a test process."""

import importlib
import os
import ssl
from functools import cache
from typing import Any

CLIENTS = ("httpx", "httpx2")
CHOICES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def read_authorities_once() -> None:
    """Let clients that verify alike share a context. To read the list takes longer than most tests, and each client read it anew for plain HTTP."""
    for package in CLIENTS:
        transports = importlib.import_module(f"{package}._transports.default")
        transports.create_ssl_context = _once(transports.create_ssl_context)  # type: ignore[attr-defined]


def _once(create: Any) -> Any:
    @cache
    def made(verify: Any, cert: Any, trust_env: bool, _chosen: tuple[str | None, ...]) -> ssl.SSLContext:
        context: ssl.SSLContext = create(verify=verify, cert=cert, trust_env=trust_env)
        return context

    def create_once(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
        return made(verify, cert, trust_env, tuple(os.environ.get(name) for name in CHOICES))

    return create_once
