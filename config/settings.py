"""Settings: read once by an entry point, then passed on as values.

Order of precedence: command-line flag, environment (`LEVEL5_SECTION__NAME`, or the same with
`_FILE` naming a file that holds a secret), `level5.toml`, default. Unknown keys are errors.
"""

import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

Port = Annotated[int, Field(ge=1, le=65535)]
ENVIRONMENT_PREFIX = "LEVEL5_"
# Names of the environment that are ours but belong to no setting.
FOREIGN_NAMES = {"LEVEL5_CONFIG", "LEVEL5_TRANSCRIPTS"}


class SettingsError(Exception):
    """A setting is wrong or unknown; the text names it and says what is allowed."""


class Section(BaseModel):
    """A group of settings: no unknown keys, never changed after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GatewaySettings(Section):
    """The proxy that agents talk to."""

    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: Port = Field(8402, description="The one public origin: proxy, API and pages.")
    workers: PositiveInt = Field(2, le=64, description="Worker processes that share the port.")
    body_bytes_max: PositiveInt = Field(32 * 1024 * 1024, description="Largest request body; larger ones are answered 413.")
    head_bytes_max: PositiveInt = Field(64 * 1024, description="Largest request head; larger ones are answered 431.")
    buffered_bytes_max: PositiveInt = Field(256 * 1024 * 1024, description="Request bytes one worker buffers at once; beyond it 503.")
    connect_seconds_max: float = Field(10.0, gt=0, description="Time to reach a provider and agree on TLS; then 504.")
    first_byte_seconds_max: float = Field(600.0, gt=0, description="Time until a provider's answer begins; then 504.")
    stall_seconds_max: float = Field(300.0, gt=0, description="Silence allowed within an answer; then it counts as cut.")
    read_on_seconds_max: float = Field(120.0, gt=0, description="How long an answer is read on after its client has left.")
    drain_seconds_max: float = Field(30.0, ge=0, description="How long running answers may finish when a worker stops.")


class ForwardSettings(Section):
    """The forward proxy (`HTTPS_PROXY`)."""

    host: str = "127.0.0.1"
    port: Port = 8403


class ControlSettings(Section):
    """The control API, direct."""

    host: str = Field("127.0.0.1", description="Address the control API listens on.")
    port: Port = Field(8404, description="Direct port of the control API.")


class MetricsSettings(Section):
    """The Prometheus page."""

    host: str = Field("127.0.0.1", description="Address of the metrics page.")
    port: Port = Field(9402, description="Port of the metrics page.")


class SandboxSettings(Section):
    """Simulated providers, only in sandbox mode."""

    provider_port: Port = Field(8405, description="Port of the simulated providers.")
    recordings: Path | None = Field(None, description="Folder of recorded transcripts to replay.")


class ProviderSettings(Section):
    """One provider: where it is and the operator's key for it."""

    base_url: str = Field(description="The part of its address before /v1.")
    api_key: SecretStr | None = Field(None, description="The operator's key; without it the provider is off.")
    include_usage: bool = Field(True, description="Ask for usage in streams that did not ask (OpenAI format).")
    ca_file: Path | None = Field(None, description="Certificate authority to trust instead of the public ones.")

    @field_validator("base_url")
    @classmethod
    def _is_an_origin_with_path(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+(/[A-Za-z0-9._~/\-]*)?", value):
            raise ValueError("must be an http(s) address such as https://api.anthropic.com")
        return value.rstrip("/")


class AnthropicSettings(ProviderSettings):
    base_url: str = "https://api.anthropic.com"


class OpenAISettings(ProviderSettings):
    base_url: str = "https://api.openai.com"


class OpenRouterSettings(ProviderSettings):
    base_url: str = "https://openrouter.ai/api"


class ProvidersSettings(Section):
    """The providers that requests are forwarded to."""

    anthropic: AnthropicSettings = AnthropicSettings()
    openai: OpenAISettings = OpenAISettings()
    openrouter: OpenRouterSettings = OpenRouterSettings()


class LedgerSettings(Section):
    """Holds, limits and the books."""

    on_exhausted: Literal["finish", "cut", "strict"] = Field("finish", description="What happens to a stream whose balance runs out.")
    hold_output_tokens: PositiveInt = Field(4096, description="Output tokens a stream's first hold covers at most.")
    hold_ttl_seconds: PositiveInt = Field(60, description="Life of a hold that is not renewed.")
    overdraft_max: NonNegativeInt = Field(1_000_000, description="Most microunits an account may go below zero to finish a stream.")
    concurrent_requests: PositiveInt = Field(64, description="Requests one account may have open; then 429.")
    outbox_retention_hours: PositiveInt = Field(48, description="How long posted changes stay in Redis, for a restored Postgres.")
    outbox_max: PositiveInt = Field(1_000_000, description="Unposted changes of one shard; beyond it new requests get 503.")
    server_tool_tokens: PositiveInt = Field(50_000, description="Input tokens one use of a server tool may add.")
    extension_tokens: PositiveInt = Field(4096, description="Output tokens by which a running stream's hold grows.")


class RegisterSettings(Section):
    """Self-service registration."""

    rate_per_minute: NonNegativeInt = Field(10, description="Registrations a minute and IP address; 0 for no limit.")


class Settings(BaseSettings):
    """All settings of one appliance."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, validate_default=True, nested_model_default_partial_update=True
    )

    mode: Literal["real", "sandbox"] = Field("real", description="Sandbox state never mixes with real state.")
    home: Path = Field(default_factory=lambda: default_home(), description="Folder of embedded stores, logs and spool.")
    database_url: SecretStr | None = Field(None, validation_alias=AliasChoices("LEVEL5_DATABASE_URL", "DATABASE_URL", "database_url"))
    redis_url: SecretStr | None = Field(None, validation_alias=AliasChoices("LEVEL5_REDIS_URL", "REDIS_URL", "redis_url"))
    rates: Path | None = Field(None, description="Path of a rate card that replaces the shipped one.")
    public_url: str | None = Field(None, description="The address agents use, if not the gateway's own.")
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field((), description="Networks whose X-Forwarded-For is believed.")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    gateway: GatewaySettings = GatewaySettings()
    forward: ForwardSettings = ForwardSettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    sandbox: SandboxSettings = SandboxSettings()
    providers: ProvidersSettings = ProvidersSettings()
    ledger: LedgerSettings = LedgerSettings()
    register_: RegisterSettings = Field(RegisterSettings(), validation_alias=AliasChoices("LEVEL5_REGISTER", "register"))
