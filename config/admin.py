"""Settings of those who run the appliance: the admin API's token, and who may sign in to the console and for how long."""

import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, PositiveInt, SecretStr, field_validator, model_validator

from config.sections import HTTP_ADDRESS, AbsolutePath, Section, is_loopback_host, read_networks

# One person (ops@example.com) or everybody of a domain (@example.com), in ASCII: what looks alike must be alike.
ALLOWED = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{0,64}@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]")
ALLOWED_MAX = 200


def read_allowed(value: object) -> object:
    """Return comma-separated addresses and domains as a tuple, in lower case; anything else is left to the model."""
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        return items
    names = tuple(str(item).lower() if str(item).isascii() else str(item) for item in items)
    for name in names:
        if not ALLOWED.fullmatch(name):
            raise ValueError(f"must be addresses such as ops@example.com or domains such as @example.com, not {name!r}")
    if len(names) > ALLOWED_MAX:
        raise ValueError(f"must be at most {ALLOWED_MAX} addresses and domains")
    return names


class OidcSettings(Section):
    """Signing in to the console by OpenID Connect. All of the first four, or none."""

    issuer: str | None = Field(default=None, description="Who vouches for the operators, exactly as it calls itself, such as https://accounts.google.com.")
    client_id: str | None = Field(default=None, min_length=1, max_length=500, description="What the issuer calls this console.")
    client_secret: SecretStr | None = Field(default=None, description="The secret that belongs to the client id.")
    allowed: Annotated[tuple[str, ...], BeforeValidator(read_allowed)] = Field(
        default=(), description="Verified addresses (ops@example.com) and domains (@example.com) that may sign in, comma-separated; nobody else may."
    )
    ca_file: AbsolutePath | None = Field(default=None, description="Certificate authority of the issuer, to trust instead of the public ones.")

    @property
    def is_on(self) -> bool:
        """Whether anybody can sign in this way."""
        return self.issuer is not None

    @field_validator("issuer")
    @classmethod
    def _is_safe_to_ask(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if not HTTP_ADDRESS.fullmatch(value):
            raise ValueError("must be an address such as https://accounts.google.com")
        parts = urlsplit(value)
        if parts.scheme != "https" and not is_loopback_host(parts.hostname or ""):
            raise ValueError("must begin with https://, or be on this machine")
        return value

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        given = {"issuer": self.issuer, "client_id": self.client_id, "client_secret": self.client_secret, "allowed": self.allowed}
        missing = [name for name, value in given.items() if not value]
        if missing and len(missing) < len(given):
            raise ValueError(f"issuer, client_id, client_secret and allowed belong together; {' and '.join(missing)} not set")
        return self


class AdminSettings(Section):
    """The operator's doors: the admin API (`/v1/admin/…`) and the console (`/admin`)."""

    token: SecretStr | None = Field(default=None, description="Bearer token of the admin API; without it the API answers 404.")
    networks: Annotated[tuple[str, ...], BeforeValidator(read_networks)] = Field(
        default=(), description="Networks from which the console can be reached, comma-separated; without any from everywhere."
    )
    session_hours: PositiveInt = Field(default=12, le=168, description="How long a sign-in to the console lasts at most.")
    idle_minutes: PositiveInt = Field(default=60, le=1440, description="How long a session of the console lasts without being used.")
    link_minutes: PositiveInt = Field(default=10, le=60, description="How long a one-time link of `level5 admin login` can be used.")
    oidc: OidcSettings = OidcSettings()

    @field_validator("token")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and (len(value.get_secret_value()) < 16 or not value.get_secret_value().isascii() or not value.get_secret_value().isprintable()):
            raise ValueError("must be at least 16 printable ASCII characters")
        return value
