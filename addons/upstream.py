"""Where each provider is and how the operator's credentials get there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mitmproxy import http

from addons.headers import Fields, strip_for_provider
from config.settings import ProvidersSettings
from metering.classify import Operation, Route

ANTHROPIC_VERSION = b"2023-06-01"
_SERVED = {
    "anthropic": frozenset({Operation.MESSAGES, Operation.COUNT_TOKENS, Operation.CHAT_COMPLETIONS}),
    "openai": frozenset({Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.INPUT_TOKENS, Operation.COMPACT, Operation.EMBEDDINGS}),
    "openrouter": frozenset({Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.EMBEDDINGS}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One provider as configured. Only these addresses are ever dialled."""

    name: str
    scheme: str
    host: str
    port: int
    base_path: str
    include_usage: bool
    api_key: str | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """The Host header: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"

    def serves(self, operation: Operation) -> bool:
        """Tell whether the provider has this endpoint."""
        return operation in _SERVED.get(self.name, frozenset())


def read_providers(settings: ProvidersSettings) -> Mapping[str, Provider]:
    """Return the configured providers by name."""
    providers = {}
    for name in ("anthropic", "openai", "openrouter"):
        section = getattr(settings, name)
        parts = urlsplit(section.base_url)
        providers[name] = Provider(
            name=name,
            scheme=parts.scheme,
            host=parts.hostname or "",
            port=parts.port or (443 if parts.scheme == "https" else 80),
            base_path=parts.path.rstrip("/"),
            include_usage=section.include_usage,
            api_key=section.api_key.get_secret_value() if section.api_key else None,
        )
    return providers


def aim(request: http.Request, provider: Provider, route: Route, *, body: bytes) -> None:
    """Turn a client's request into the operator's: address, path, credentials, body. Nothing of the client's credentials stays."""
    request.data.scheme = provider.scheme.encode()
    request.data.host = provider.host
    request.data.port = provider.port
    request.data.authority = b""
    request.path = provider.base_path + route.upstream_path + (f"?{route.query}" if route.query else "")
    request.data.http_version = b"HTTP/1.1"
    kept = strip_for_provider(request.headers)
    request.headers = http.Headers((
        (b"Host", provider.authority.encode()), *kept, (b"Accept-Encoding", b"identity"), *_credentials(kept, provider, route.operation),
        (b"Content-Length", b"%d" % len(body)),
    ))  # fmt: skip
    request.trailers = None
    request.raw_content = body


def _credentials(kept: Fields, provider: Provider, operation: Operation) -> Fields:
    key = (provider.api_key or "").encode()
    if provider.name != "anthropic" or operation not in {Operation.MESSAGES, Operation.COUNT_TOKENS}:
        return ((b"Authorization", b"Bearer " + key),)
    has_version = any(name.lower() == b"anthropic-version" for name, _ in kept)
    return ((b"x-api-key", key),) if has_version else ((b"x-api-key", key), (b"anthropic-version", ANTHROPIC_VERSION))
