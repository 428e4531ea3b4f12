"""Settings of usage ingest: its bounds, what stops it, and the tiers of an organisation."""

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from config.sections import HTTP_ADDRESS, Section

FREE_TIER = "free"


class IngestSettings(Section):
    """Usage that others report (`POST /v1/usage`)."""

    rate_per_minute: NonNegativeInt = Field(default=600, description="Requests a minute and key, of up to 1000 events each; 0 for no limit.")
    body_bytes_max: PositiveInt = Field(default=1024 * 1024, description="Largest request body, unpacked; larger ones are answered 413.")
    late_days_max: NonNegativeInt = Field(default=35, le=366, description="How long ago an event may have occurred.")
    markup: bool = Field(default=False, description="Estimate costs with our mark-up instead of at list price.")
    workspace_overflow: Literal["fold", "refuse"] = Field(
        default="fold", description="What becomes of a new workspace beyond the tier's cap: its events count for the oldest one, or are refused."
    )


class PricingSettings(Section):
    """What stops reported usage, and where its sender is sent to."""

    block_over_free_limit: bool = Field(default=False, description="Refuse events beyond the tier's tokens with 402 instead of flagging them.")
    upgrade_url: str | None = Field(default=None, description="Address named by a 402; without it `<public_url>/pricing`.")
    block_over_balance: bool = Field(default=True, description="Refuse events that the balance of an account that ever had money does not cover.")

    @field_validator("upgrade_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not HTTP_ADDRESS.fullmatch(value):
            raise ValueError("must be an http(s) address such as https://llm.example.com/pricing")
        return value


class TierSettings(Section):
    """A tier: what an organisation may report."""

    tracked_tokens: NonNegativeInt = Field(default=0, description="Reported tokens a month; 0 for no cap.")
    workspaces: NonNegativeInt = Field(default=0, description="Workspaces; 0 for no cap.")

    @property
    def tracked_limit(self) -> int | None:
        """Reported tokens a month; None for no cap."""
        return self.tracked_tokens or None

    @property
    def workspace_cap(self) -> int | None:
        """Workspaces; None for no cap."""
        return self.workspaces or None


class FreeTier(TierSettings):
    """The tier of a new organisation, and of one whose tier is not configured."""

    tracked_tokens: NonNegativeInt = Field(default=10_000, description="Reported tokens a month; 0 for no cap.")
    workspaces: NonNegativeInt = Field(default=1, description="Workspaces; 0 for no cap.")


class ProTier(TierSettings):
    """The tier `pro`."""

    workspaces: NonNegativeInt = Field(default=10, description="Workspaces; 0 for no cap.")


class TeamTier(TierSettings):
    """The tier `team`."""


class EnterpriseTier(TierSettings):
    """The tier `enterprise`."""


class TiersSettings(Section):
    """What the tiers of organisations allow."""

    free: FreeTier = FreeTier()
    pro: ProTier = ProTier()
    team: TeamTier = TeamTier()
    enterprise: EnterpriseTier = EnterpriseTier()

    @property
    def names(self) -> tuple[str, ...]:
        """The tiers there are."""
        return tuple(type(self).model_fields)

    @property
    def tracked_limits(self) -> dict[str, int | None]:
        """Reported tokens a month by tier; None for no cap."""
        return {name: getattr(self, name).tracked_limit for name in self.names}

    @property
    def workspace_caps(self) -> dict[str, int | None]:
        """Workspaces by tier; None for no cap."""
        return {name: getattr(self, name).workspace_cap for name in self.names}
