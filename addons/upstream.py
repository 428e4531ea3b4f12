"""Where each provider is, how patient we are with it, and how the operator's credentials get there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlsplit

from mitmproxy import http

from addons.checked_headers import CheckedHeaders, found_in
from addons.headers import Fields, strip_for_provider
from config.settings import GatewaySettings, ProvidersSettings, Settings
from metering.classify import Operation, Route

ANTHROPIC_VERSION = b"2023-06-01"
NAMES = ("anthropic", "openai", "openrouter")
_SERVED = {
    "anthropic": frozenset({Operation.MESSAGES, Operation.COUNT_TOKENS, Operation.CHAT_COMPLETIONS}),
    "openai": frozenset({Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.INPUT_TOKENS, Operation.COMPACT, Operation.EMBEDDINGS}),
    "openrouter": frozenset({Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.EMBEDDINGS}),
}


class Patience(Protocol):
    """How long each phase of a request may take, in seconds: the gateway's settings, or a provider's own."""

    @property
    def connect_seconds_max(self) -> float: ...
    @property
    def first_byte_seconds_max(self) -> float: ...
    @property
    def stall_seconds_max(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Provider:
    """One provider as configured. Only these addresses are ever dialled. There is one object of each.

    `is_resilient` tells that there is anything to try when a request fails here: repeats, further keys, a fallback.
    """

    name: str
    scheme: str
    host: str
    port: int
    base_path: str
    include_usage: bool
    connect_seconds_max: float
    first_byte_seconds_max: float
    stall_seconds_max: float
    retries: int
    retry_pause_seconds_max: float
    key_rest_seconds: float
    fallback: str | None
    is_resilient: bool
    keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def api_key(self) -> str | None:
        """The first of the operator's keys, None where the provider is off."""
        return self.keys[0] if self.keys else None

    @property
    def authority(self) -> str:
        """The Host header: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def serves(self, operation: Operation) -> bool:
        """Tell whether the provider has this endpoint."""
        return operation in _SERVED.get(self.name, frozenset())


def read_providers(settings: ProvidersSettings, gateway: GatewaySettings) -> Mapping[str, Provider]:
    """Return the configured providers by name."""
    providers = {}
    for name in NAMES:
        section = getattr(settings, name)
        parts = urlsplit(section.base_url)
        fallback = getattr(section, "fallback", None)
        providers[name] = Provider(
            name=name,
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            base_path=parts.path.rstrip("/"),
            include_usage=section.include_usage,
            connect_seconds_max=section.connect_seconds_max or gateway.connect_seconds_max,
            first_byte_seconds_max=section.first_byte_seconds_max or gateway.first_byte_seconds_max,
            stall_seconds_max=section.stall_seconds_max or gateway.stall_seconds_max,
            retries=section.retries,
            retry_pause_seconds_max=section.retry_pause_seconds_max,
            key_rest_seconds=section.key_rest_seconds,
            fallback=fallback,
            is_resilient=section.retries > 0 or len(section.keys) > 1 or fallback is not None,
            keys=section.keys,
        )
    return providers


def longest_silence(settings: Settings) -> float:
    """Return the most seconds in which nothing may pass on a connection while a request is under way."""
    gateway, providers = settings.gateway, read_providers(settings.providers, settings.gateway).values()
    own = [silence for provider in providers for silence in (provider.first_byte_seconds_max, provider.stall_seconds_max)]
    return max(gateway.first_byte_seconds_max, gateway.stall_seconds_max, gateway.read_on_seconds_max, *own)


def aim(request: http.Request, provider: Provider, route: Route, *, body: bytes, key: str | None) -> None:
    """Turn a client's request into the operator's: address, path, credentials, body. Nothing of the client's credentials stays.

    What was aimed before may be aimed anew: nothing of the credentials before stays either.
    """
    data = request.data
    data.scheme, data.host, data.port, data.authority = provider.scheme.encode(), provider.host, provider.port, b""
    path = provider.base_path + route.upstream_path + (f"?{route.query}" if route.query else "")
    data.path, data.http_version = path.encode("utf-8", "surrogateescape"), b"HTTP/1.1"
    fields = found_in(request.headers, _fields_for, provider, route.operation, key)
    data.headers = CheckedHeaders((*fields, (b"Content-Length", b"%d" % len(body))))
    data.trailers, data.content = None, body


def _fields_for(headers: http.Headers, provider: Provider, operation: Operation, key: str | None) -> Fields:
    """Return the fields of a request as it leaves, but for its length."""
    kept, authority = strip_for_provider(headers), provider.authority.encode()
    return ((b"Host", authority), *kept, (b"Accept-Encoding", b"identity"), *_credentials(kept, provider, operation=operation, key=key))


def _credentials(kept: Fields, provider: Provider, *, operation: Operation, key: str | None) -> Fields:
    secret = (key or "").encode()
    if provider.name != "anthropic" or operation not in {Operation.MESSAGES, Operation.COUNT_TOKENS}:
        return ((b"Authorization", b"Bearer " + secret),)
    has_version = any(name.lower() == b"anthropic-version" for name, _ in kept)
    return ((b"x-api-key", secret),) if has_version else ((b"x-api-key", secret), (b"anthropic-version", ANTHROPIC_VERSION))
