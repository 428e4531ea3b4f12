"""Where each provider is and how the operator's credentials get there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mitmproxy import http

from addons.headers import strip_for_provider
from config.settings import ProvidersSettings
from metering.classify import Operation, Route

ANTHROPIC_VERSION = "2023-06-01"
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
    request.http_version = "HTTP/1.1"
    headers = strip_for_provider(request.headers)
    headers.insert(0, "Host", provider.authority)
    headers["Accept-Encoding"] = "identity"
    _add_credentials(headers, provider, route.operation)
    headers["Content-Length"] = str(len(body))
    request.headers = headers
    request.trailers = None
    request.raw_content = body


def _add_credentials(headers: http.Headers, provider: Provider, operation: Operation) -> None:
    key = provider.api_key or ""
    if provider.name == "anthropic" and operation in {Operation.MESSAGES, Operation.COUNT_TOKENS}:
        headers["x-api-key"] = key
        headers.setdefault("anthropic-version", ANTHROPIC_VERSION)
    else:
        headers["Authorization"] = f"Bearer {key}"
