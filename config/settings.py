"""Settings: read once by an entry point, then passed on as values.

Order of precedence: command-line flag, environment (`LEVEL5_SECTION__NAME`, or the same with
`_FILE` naming a file that holds a secret), `level5.toml`, default. Unknown keys are errors.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator

from config.admin import AdminSettings
from config.chain import SANDBOX_MINT, SANDBOX_TREASURY, ChainSettings
from config.ingest import IngestSettings, PricingSettings, TiersSettings
from config.sections import (
    HTTP_ADDRESS,
    AbsolutePath,
    AnthropicSettings,
    ControlSettings,
    ForwardSettings,
    GatewaySettings,
    LedgerSettings,
    MetricsSettings,
    OpenAISettings,
    OpenRouterSettings,
    ProviderSettings,
    ProvidersSettings,
    RegisterSettings,
    SandboxSettings,
    Section,
    is_loopback_host,
    read_networks,
)
from config.sources import (
    ALIASES,
    CONFIG_NAME,
    OUTSIDE_ALIASES,
    Nested,
    SettingsError,
    environment_name,
    is_secret,
    merge,
    put,
    read_environment,
    read_toml,
    walk_fields,
)

__all__ = [
    "AdminSettings",
    "AnthropicSettings",
    "ChainSettings",
    "ControlSettings",
    "ForwardSettings",
    "GatewaySettings",
    "IngestSettings",
    "LedgerSettings",
    "MetricsSettings",
    "OpenAISettings",
    "OpenRouterSettings",
    "PricingSettings",
    "ProviderSettings",
    "ProvidersSettings",
    "RegisterSettings",
    "SandboxSettings",
    "Settings",
    "SettingsError",
    "TiersSettings",
    "default_home",
    "load_settings",
    "reachable_host",
    "settings_environment",
]

SANDBOX_FOLDER = "sandbox"
SANDBOX_KEY = "sandbox-operator-key"
# Where the one process of simulated providers answers for each of them.
SIMULATED_PATHS = {"anthropic": "/anthropic", "openai": "/openai", "openrouter": "/openrouter/api"}
# How the keys of the three providers begin.
REAL_KEY_PREFIX = "sk-"


def default_home() -> Path:
    """Return the home where none is given: root's own folder is closed to the database's user."""
    return Path("/var/lib/level5") if os.geteuid() == 0 else Path.home() / ".level5"


def reachable_host(host: str) -> str:
    """Return the host under which a listener of this machine is reached, for use in a URL."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{host}]" if address.version == 6 else host


class Settings(Section):
    """All settings of one appliance."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, populate_by_name=True)

    mode: Literal["real", "sandbox"] = Field(default="real", description="Sandbox state never mixes with real state.")
    home: AbsolutePath = Field(default_factory=default_home, description="Folder of embedded stores, logs and spool; sandbox state lies in its folder sandbox.")
    database_url: SecretStr | None = Field(default=None, description="A Postgres of your own; without it an embedded one.")
    redis_url: SecretStr | None = Field(default=None, description="A Redis or Valkey of your own; without it an embedded one.")
    rates: AbsolutePath | None = Field(default=None, description="Path of a rate card that replaces the shipped one.")
    public_url: str | None = Field(default=None, description="The address agents use, if not the gateway's own.")
    trusted_proxies: Annotated[tuple[str, ...], BeforeValidator(read_networks)] = Field(default=(), description="Networks whose X-Forwarded-For is believed.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level that is logged.")
    gateway: GatewaySettings = GatewaySettings()
    forward: ForwardSettings = ForwardSettings()
    control: ControlSettings = ControlSettings()
    metrics: MetricsSettings = MetricsSettings()
    sandbox: SandboxSettings = SandboxSettings()
    providers: ProvidersSettings = ProvidersSettings()
    chain: ChainSettings = ChainSettings()
    ledger: LedgerSettings = LedgerSettings()
    register_: RegisterSettings = Field(default=RegisterSettings(), alias="register")
    ingest: IngestSettings = IngestSettings()
    pricing: PricingSettings = PricingSettings()
    tiers: TiersSettings = TiersSettings()
    admin: AdminSettings = AdminSettings()

    @property
    def origin(self) -> str:
        """The address agents use, without a slash at its end."""
        return self.public_url or f"http://{reachable_host(self.gateway.host)}:{self.gateway.port}"

    @property
    def upgrade_url(self) -> str:
        """Where a sender who has used up what is free, or paid for, is sent to."""
        return self.pricing.upgrade_url or f"{self.origin}/pricing"

    @property
    def authority_folder(self) -> Path:
        """Where the forward proxy keeps its certificate authority."""
        return self.home / "ca"

    @property
    def certificate_file(self) -> Path:
        """What clients of the forward proxy are to trust."""
        return self.authority_folder / "ca.pem"

    def with_stores(self, *, database_url: str, redis_url: str) -> Self:
        """Return these settings with the stores at these addresses where none were given."""
        urls = {"database_url": self.database_url or SecretStr(database_url), "redis_url": self.redis_url or SecretStr(redis_url)}
        return self.model_copy(update=urls)

    @field_validator("home")
    @classmethod
    def _keep_the_sandbox_apart(cls, value: Path, info: ValidationInfo) -> Path:
        # Idempotent, so that a child process that reads the same home ends in the same folder.
        return value / SANDBOX_FOLDER if info.data.get("mode") == "sandbox" and value.name != SANDBOX_FOLDER else value

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not HTTP_ADDRESS.fullmatch(value):
            raise ValueError("must be an http(s) address such as https://llm.example.com")
        return value.rstrip("/") if value else None

    @model_validator(mode="before")
    @classmethod
    def _point_the_sandbox_at_itself(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("mode") != "sandbox" or not isinstance(data.get("providers", {}), dict):
            return data
        sandbox = data.get("sandbox", {})
        if isinstance(sandbox, dict):
            sandbox = SandboxSettings().model_copy(update=sandbox)
        simulated = {"providers": simulated_providers(sandbox.provider_port)}
        if isinstance(data.get("chain", {}), dict):
            simulated["chain"] = simulated_chain(sandbox.chain_port, sandbox.chain_ws_port)
        return merge(simulated, data)

    @model_validator(mode="after")
    def _refuse_real_providers_in_the_sandbox(self) -> Self:
        if self.mode == "sandbox":
            for name in ProvidersSettings.model_fields:
                refuse_real_provider(name, getattr(self.providers, name))
            for url in (*self.chain.providers, self.chain.ws_url.get_secret_value() if self.chain.ws_url else ""):
                if url and not _is_of_this_machine(url):
                    raise ValueError("chain.rpc_urls or chain.ws_url is not on this machine: sandbox mode reaches a simulated cluster only")
        return self


def simulated_providers(port: object) -> Nested:
    """Return the provider settings that point at the simulated providers."""
    return {name: {"base_url": f"http://127.0.0.1:{port}{path}", "api_key": SANDBOX_KEY} for name, path in SIMULATED_PATHS.items()}


def refuse_real_provider(name: str, provider: ProviderSettings) -> None:
    """Raise ValueError where a sandbox would reach a real provider or hold a real key."""
    if not _is_of_this_machine(provider.base_url):
        raise ValueError(f"providers.{name}.base_url {provider.base_url} is not on this machine: sandbox mode reaches simulated providers only")
    if any(key.startswith(REAL_KEY_PREFIX) for key in provider.keys):
        raise ValueError(f"providers.{name}.api_key looks like a real key: sandbox mode refuses real keys, unset it")


def simulated_chain(port: object, ws_port: object) -> Nested:
    """Return the chain settings that point at the simulated cluster."""
    urls = {"rpc_urls": f"http://127.0.0.1:{port}", "ws_url": f"ws://127.0.0.1:{ws_port}"}
    return {**urls, "treasury": SANDBOX_TREASURY, "usdc_mint": SANDBOX_MINT}


def _is_of_this_machine(url: str) -> bool:
    return is_loopback_host(urlsplit(url).hostname or "")


def load_settings(flags: Mapping[str, object] | None = None, config: Path | None = None, *, environment: Mapping[str, str] | None = None) -> Settings:
    """Read all settings. `flags` has dotted names ("gateway.port"); a flag that is None was not given.

    In sandbox mode the common names of provider keys and of the RPC address (ANTHROPIC_API_KEY …) are not read: agents set
    them to their own tokens, and a sandbox has no use for a real key.

    Raises:
        SettingsError: naming every setting that is wrong or unknown, never the value of a secret.
    """
    present = dict(os.environ if environment is None else environment)
    path = config or (Path(present[CONFIG_NAME]) if present.get(CONFIG_NAME) else None)
    from_flags: Nested = {}
    for name, value in (flags or {}).items():
        if value is not None:
            put(from_flags, tuple(name.split(".")), value)
    from_file = read_toml(Settings, path) if path else {}
    mode = from_flags.get("mode") or present.get("LEVEL5_MODE") or from_file.get("mode")
    if mode == "sandbox":
        present = {name: value for name, value in present.items() if name.removesuffix("_FILE") not in OUTSIDE_ALIASES}
    try:
        return Settings.model_validate(merge(merge(from_file, read_environment(Settings, present)), from_flags))
    except ValidationError as error:
        raise SettingsError(_describe(error)) from None


def _describe(error: ValidationError) -> str:
    """Return one line per fault; the values are left out, for one of them may be a secret."""
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        path = tuple(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        lines.append(f"{'.'.join(path)} ({environment_name(path)}): {message}" if path else message)
    return "\n".join(lines)


def settings_environment(settings: Settings) -> dict[str, str]:
    """Return the environment from which `load_settings` reads exactly these settings, secrets included."""
    environment = {}
    for path, field in walk_fields(Settings):
        value: Any = settings
        for name in path:
            value = getattr(value, "register_" if name == "register" else name)
        if value is None or value == ():
            continue  # an empty value counts as not given
        if is_secret(field):
            value = value.get_secret_value()
        environment[environment_name(path)] = ",".join(value) if isinstance(value, tuple) else str(value)
    return environment


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without anything that `load_settings` would read."""
    named = {*ALIASES, *(f"{name}_FILE" for name in ALIASES)}
    return {name: value for name, value in environment.items() if name not in named and not name.startswith("LEVEL5_")}
