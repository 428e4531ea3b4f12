"""The groups of settings, each with its defaults, bounds and a sentence that says what it does."""

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, NonNegativeInt, PositiveInt, SecretStr, field_validator

Port = Annotated[int, Field(ge=1, le=65535)]
# Made absolute, with the operator's own names for it: a child process has another current folder.
AbsolutePath = Annotated[Path, AfterValidator(lambda path: Path(os.path.abspath(path.expanduser())))]  # noqa: PTH100  # resolve() would follow links
HTTP_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?")

KEYS_MAX = 16


def join_items(value: object) -> object:
    """Return several secrets, a list or a text with commas, as one text without blanks; anything else is left to the model."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    items = value.split(",") if isinstance(value, str) else value
    return (",".join(item.strip() for item in map(str, items) if item.strip()) or None) if isinstance(items, list | tuple) else items


# A name with a dot, so that nothing of the local network is meant, and whose last part is no number in any spelling.
TUNNEL_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?(?::[1-9][0-9]{0,4})?")


def read_names(value: object) -> object:
    """Return comma-separated host names as a tuple, in lower case; anything else is left to the model."""
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return items
    names = tuple(str(item).lower() for item in items)
    for name in names:
        if not TUNNEL_NAME.fullmatch(name) or int(name.partition(":")[2] or 443) > 65535:
            raise ValueError(f"must be full host names such as api.github.com or example.com:8443, not {name!r}")
    return names


def is_loopback_host(host: str) -> bool:
    """Tell whether the host of an address (without brackets) is this machine under a name that no other can take."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """A group of settings: no unknown keys, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class GatewaySettings(Section):
    """The proxy that agents talk to."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address the gateway listens on.")
    port: Port = Field(default=8402, description="The one public origin: proxy, API and pages.")
    workers: PositiveInt = Field(default=2, le=64, description="Worker processes that share the port.")
    fast_lane: bool = Field(default=True, description="Serve plain HTTP/1.1 on the short path; false sends everything through mitmproxy's own layers.")
    body_bytes_max: PositiveInt = Field(default=32 * 1024 * 1024, description="Largest request body; larger ones are answered 413.")
    head_bytes_max: PositiveInt = Field(default=64 * 1024, description="Largest request head; larger ones are answered 431.")
    buffered_bytes_max: PositiveInt = Field(default=256 * 1024 * 1024, description="Request bytes one worker buffers at once; beyond it 503.")
    body_seconds_max: float = Field(default=60.0, gt=0, description="Time for a request's body to come, and a second more for each 32 KB of it; then 408.")
    connect_seconds_max: float = Field(default=10.0, gt=0, description="Time to reach a provider and agree on TLS; then 504.")
    first_byte_seconds_max: float = Field(default=600.0, gt=0, description="Time until a provider's answer begins; then 504.")
    stall_seconds_max: float = Field(default=300.0, gt=0, description="Silence allowed within an answer; then it counts as cut.")
    read_on_seconds_max: float = Field(default=120.0, gt=0, description="How long an answer is read on after its client has left.")
    drain_seconds_max: float = Field(default=30.0, ge=0, description="How long running answers may finish when a worker stops.")


class ForwardSettings(Section):
    """The forward proxy (`HTTPS_PROXY`)."""

    enabled: bool = Field(default=True, description="Offer the forward proxy beside the gateway.")
    host: str = Field(default="127.0.0.1", min_length=1, description="Address the forward proxy listens on.")
    port: Port = Field(default=8403, description="Port of the forward proxy.")
    tunnel: Annotated[tuple[str, ...], BeforeValidator(read_names)] = Field(
        default=(), description="Host names (host or host:port, comma-separated) that are passed on unmetered and unread; all others are refused."
    )


class ControlSettings(Section):
    """The control API, direct."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address the control API listens on.")
    port: Port = Field(default=8404, description="Direct port of the control API.")


class MetricsSettings(Section):
    """The Prometheus page."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address of the metrics page.")
    port: Port = Field(default=9402, description="Port of the metrics page.")


class SandboxSettings(Section):
    """Simulated providers and a simulated Solana cluster, only in sandbox mode."""

    provider_port: Port = Field(default=8405, description="Port of the simulated providers.")
    recordings: AbsolutePath | None = Field(default=None, description="Folder of recorded transcripts to replay.")
    chain_port: Port = Field(default=8406, description="Port of the simulated Solana cluster's JSON-RPC.")
    chain_ws_port: Port = Field(default=8407, description="Port of the simulated Solana cluster's WebSocket.")


class ProviderSettings(Section):
    """One provider: where it is, the operator's keys for it, and what is done when it fails."""

    base_url: str = Field(description="The part of its address before /v1.")
    api_key: SecretStr | None = Field(default=None, description="The operator's key; without any the provider is off.")
    api_keys: SecretStr | None = Field(default=None, description="Further keys, separated by commas, for when one is refused, out of credit or limited.")
    key_rest_seconds: float = Field(default=300.0, gt=0, le=86_400, description="How long a key that was refused or is out of credit is left alone.")
    include_usage: bool = Field(default=True, description="Ask for usage in streams that did not ask (OpenAI format).")
    ca_file: AbsolutePath | None = Field(default=None, description="Certificate authority to trust instead of the public ones.")
    connect_seconds_max: float | None = Field(default=None, gt=0, description="Time to reach it and agree on TLS; without it the gateway's.")
    first_byte_seconds_max: float | None = Field(default=None, gt=0, description="Time until its answer begins; without it the gateway's.")
    stall_seconds_max: float | None = Field(default=None, gt=0, description="Silence allowed within its answer; without it the gateway's.")
    retries: NonNegativeInt = Field(default=0, le=10, description="Repeats of a request that failed before its answer began.")
    retry_pause_seconds_max: float = Field(
        default=8.0, gt=0, le=30, description="Longest pause before a repeat; where the provider asks for a longer one there is none."
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """The operator's keys, in the order in which they are tried, each once."""
        single = [self.api_key.get_secret_value()] if self.api_key else []
        return tuple(dict.fromkeys([*single, *(self.api_keys.get_secret_value().split(",") if self.api_keys else ())]))

    @field_validator("base_url")
    @classmethod
    def _is_an_origin_with_path(cls, value: str) -> str:
        if not HTTP_ADDRESS.fullmatch(value):
            raise ValueError("must be an http(s) address such as https://api.anthropic.com")
        return value.rstrip("/")

    @field_validator("api_keys", mode="before")
    @classmethod
    def _join(cls, value: object) -> object:
        return join_items(value)

    @field_validator("api_key", "api_keys")
    @classmethod
    def _fits_into_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        # A key with a line break would become a header of its own; one that is only blanks is a slip of the pen.
        if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value.get_secret_value()):
            raise ValueError("must be printable ASCII without blanks")
        return value

    @field_validator("api_keys")
    @classmethod
    def _are_not_too_many(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and value.get_secret_value().count(",") >= KEYS_MAX:
            raise ValueError(f"must be at most {KEYS_MAX} keys")
        return value


class DirectSettings(ProviderSettings):
    """A provider whose models another one offers as well."""

    fallback: Literal["openrouter"] | None = Field(
        default=None, description="Who serves the same model when this provider fails; charged at that provider's rate."
    )


class AnthropicSettings(DirectSettings):
    """Anthropic."""

    base_url: str = Field(default="https://api.anthropic.com", description="The part of its address before /v1.")


class OpenAISettings(DirectSettings):
    """OpenAI."""

    base_url: str = Field(default="https://api.openai.com", description="The part of its address before /v1.")


class OpenRouterSettings(ProviderSettings):
    """OpenRouter."""

    base_url: str = Field(default="https://openrouter.ai/api", description="The part of its address before /v1.")


class ProvidersSettings(Section):
    """The providers that requests are forwarded to."""

    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    openrouter: OpenRouterSettings = OpenRouterSettings()


class LedgerSettings(Section):
    """Holds, limits and the books."""

    on_exhausted: Literal["finish", "cut", "strict"] = Field(default="finish", description="What happens to a stream whose balance runs out.")
    hold_output_tokens: PositiveInt = Field(default=4096, description="Output tokens a stream's first hold covers at most; unseen thinking comes on top.")
    hold_ttl_seconds: PositiveInt = Field(default=60, description="Life of a hold that is not renewed.")
    overdraft_max: NonNegativeInt = Field(default=1_000_000, description="Most microunits an account may go below zero to finish a stream.")
    concurrent_requests: PositiveInt = Field(default=64, description="Requests one account may have open; then 429.")
    outbox_retention_hours: PositiveInt = Field(default=48, description="How long posted changes stay in Redis, for a restored Postgres.")
    outbox_max: PositiveInt = Field(default=1_000_000, description="Unposted changes of one shard; beyond it new requests get 503.")
    server_tool_tokens: PositiveInt = Field(default=50_000, description="Input tokens one use of a server tool may add.")
    extension_tokens: PositiveInt = Field(default=4096, description="Output tokens by which a running stream's hold grows.")


class RegisterSettings(Section):
    """Self-service registration."""

    rate_per_minute: NonNegativeInt = Field(default=10, description="Registrations a minute and IP address; 0 for no limit.")


def read_networks(value: object) -> object:
    """Return comma-separated networks as a tuple of their canonical texts; anything else is left to the model."""
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return items
    try:
        return tuple(str(ipaddress.ip_network(str(item), strict=False)) for item in items)
    except ValueError as error:
        raise ValueError(f"must be networks such as 10.0.0.0/8: {error}") from error
