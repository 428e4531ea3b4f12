"""The provider of `oidc_site.py` as a running process, and a person who signs in there without a browser."""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.fakes.appliance import Appliance, free_ports

PYTHON: Final = Path(__file__).parents[2] / ".venv-clients" / "oidc" / "bin" / "python"
SITE: Final = Path(__file__).parent / "oidc_site.py"
START_SECONDS_MAX: Final = 60.0
CLIENT_ID: Final = "console-of-a-test"
CLIENT_SECRET: Final = "not-a-secret-but-a-test"
PASSWORD: Final = "password-of-a-test"
OPERATOR, STRANGER, UNVERIFIED = "operator@example.com", "stranger@elsewhere.example", "unverified@example.com"
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)"(?: value="([^"]*)")?')


@dataclass(frozen=True)
class Issuer:
    """A running provider."""

    port: int

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        return f"{self.origin}/o"

    def settings(self, *, allowed: str = OPERATOR) -> dict[str, str]:
        """Return the settings of a console that trusts it."""
        return {"issuer": self.issuer, "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET, "allowed": allowed}

    def environment(self, *, allowed: str = OPERATOR) -> dict[str, str]:
        """Return the same for the environment of an appliance."""
        return {f"LEVEL5_ADMIN__OIDC__{name.upper()}": value for name, value in self.settings(allowed=allowed).items()}

    def sign_in(self, address: str, authorize: str) -> httpx.Response:
        """Sign in and consent as a person would; return the redirect that leads back."""
        with httpx.Client(base_url=self.origin, timeout=30, follow_redirects=False, trust_env=False) as client:
            login = client.get("/login", params={"next": authorize.removeprefix(self.origin)})
            sent = client.post(login.url, data={**_hidden(login.text), "username": address, "password": PASSWORD})
            assert sent.status_code == 302, sent.text[:500]
            consent = client.get(authorize)
            if consent.status_code == 302:
                return consent
            form = {**_hidden(consent.text), "allow": "Authorize"}
            return client.post(authorize, data=form)


def _hidden(page: str) -> dict[str, str]:
    from html import unescape

    return {name: unescape(value) for name, value in _HIDDEN.findall(page)}


def is_installed() -> bool:
    """Tell whether there is a provider to run; continuous integration has to have one."""
    return PYTHON.exists() or os.environ.get("CI") == "true"


@contextmanager
def trusted_issuer(appliance: Appliance) -> Iterator[Issuer | None]:
    """Yield a provider that this appliance, which is not started yet, will trust; None where none is installed."""
    if not is_installed():
        yield None
        return
    with running_issuer(f"{appliance.url}/admin/oidc/callback") as issuer:
        appliance.environment |= issuer.environment()
        yield issuer


@contextmanager
def running_issuer(redirect_uri: str) -> Iterator[Issuer]:
    """Yield a provider that knows one client, the console at `redirect_uri`. Without its environment the test is skipped, or fails where that must be."""
    if not is_installed():
        pytest.skip("the OpenID Connect provider is not installed: make python-clients")
    folder, [port] = Path(tempfile.mkdtemp(prefix="l5-oidc-")), free_ports(1)
    # Codes over plain HTTP, which the libraries refuse elsewhere, are for this machine.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {"OAUTHLIB_INSECURE_TRANSPORT": "1"}
    with (folder / "log").open("wb") as log:
        command = [str(PYTHON), str(SITE), str(folder), str(port), CLIENT_ID, CLIENT_SECRET, redirect_uri]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.monotonic() + START_SECONDS_MAX
        while not (folder / "ready").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError("the provider did not start: " + (folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)
        yield Issuer(port)
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)
