"""The shapes of usage ingest, its exports and its keys, as `/openapi.json` describes them. Events themselves are read by `ingest_reading`."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, Field, RootModel, StringConstraints

from control.schemas import Answer, Moment, Question

EXPORT_LIMIT_MAX = 10_000


class UsageReport(Question):
    """One event. Names that are not listed are ignored."""

    model_config = ConfigDict(extra="allow", frozen=True)

    provider: str = Field(min_length=1, max_length=200, description="Such as anthropic, openai, google, deepseek.")
    model: str | None = Field(default=None, max_length=200, description="Looked up on the rate card where cost_usd is left out.")
    input_tokens: int = Field(default=0, ge=0, description="Without those that came from a cache or were written to it.")
    output_tokens: int = Field(default=0, ge=0)
    cache_read_tokens: int = Field(default=0, ge=0)
    cache_write_tokens: int = Field(default=0, ge=0)
    cache_write_1h_tokens: int = Field(default=0, ge=0, description="How many of cache_write_tokens are for an hour, and cost what those do.")
    reasoning_tokens: int = Field(default=0, ge=0, description="Beside output_tokens, at the same rate.")
    cost_usd: float | None = Field(default=None, ge=0, description="Exact cost; left out, it is estimated from the tokens.")
    task_type: str = Field(default="general", max_length=200)
    workspace: str | None = Field(default=None, max_length=200, description="Name, slug or id; made where there is none and the tier has room for it.")
    source: str = Field(default="api", max_length=200)
    occurred_at: datetime | float | None = Field(default=None, description="When it happened: RFC 3339 with its offset, or seconds since 1970.")
    external_ref: str | None = Field(default=None, max_length=200)
    user_id: str | None = Field(default=None, max_length=200)
    idempotency_key: str | None = Field(default=None, max_length=255, description="A repeat with the same key and content is not recorded again.")


class UsageBody(RootModel[UsageReport | list[UsageReport]]):
    """One event, or an array of 1 to 1000."""


class UsageResult(Answer):
    """What became of one event."""

    recorded: bool
    event_id: str | None = Field(description="evt_…; null for an event that was refused.")
    cost_usd: float
    estimated: bool
    balance_after: float
    over_free_limit: bool
    over_balance: bool
    unpriced: bool = Field(description="The rate card does not know the model: a default was used.")
    workspace_folded: bool | None = Field(default=None, description="Counted for the oldest workspace, because the tier has no room for the one named.")
    workspace_budget_usd: float | None = Field(default=None, description="What the workspace is meant to cost a month; told from four fifths of it on.")
    workspace_spent_usd: float | None = Field(default=None, description="What it has cost so far this month (UTC), half a minute ago at most; told with it.")
    idempotent_replay: bool | None = Field(default=None, description="Recorded by an earlier request; this is its result.")
    error: str | None = Field(default=None, description="Why it is no event (Prefer: partial).")


class UsageAnswer(UsageResult):
    """The answer to one event."""

    org_id: str
    tracked_tokens_mtd: int = Field(description="Tokens reported this month (UTC).")
    tracked_limit: int | None
    tier: str
    upgrade_url: str | None = Field(default=None, description="Where there is more; with 402.")


class UsageBatchAnswer(Answer):
    """The answer to an array."""

    org_id: str
    tracked_tokens_mtd: int
    tracked_limit: int | None
    tier: str
    results: list[UsageResult]
    recorded: int
    blocked: int
    free_limit_blocked: int
    over_balance_blocked: int
    invalid: int | None = Field(default=None, description="Events that were none (Prefer: partial).")
    error: str | None = None
    upgrade_url: str | None = None


class AnyUsageAnswer(RootModel[UsageAnswer | UsageBatchAnswer]):
    """For one event its result; for an array all results."""


class PlainErrorAnswer(Answer):
    """An error below /v1/usage."""

    error: str
    event: int | None = Field(default=None, description="Number of the event that is wrong, from 0.")
    field: str | None = Field(default=None, description="The field of it that is wrong.")


def _epoch(value: object) -> object:
    """Seconds since 1970 are as good as a date."""
    if isinstance(value, str) and value.removeprefix("-").replace(".", "", 1).isdigit():
        try:
            return datetime.fromtimestamp(float(value), UTC)
        except (OverflowError, OSError, ValueError):
            return value
    return value


class ExportQuery(Question):
    """Which events to export."""

    since: Annotated[Moment, BeforeValidator(_epoch)] | None = Field(default=None, description="Events received from this time on: ISO 8601 or seconds.")
    until: Annotated[Moment, BeforeValidator(_epoch)] | None = Field(default=None, description="Events received before this time.")
    cursor: str | None = Field(default=None, min_length=1, max_length=100, description="Go on behind this place, from X-Next-Cursor.")
    limit: int | None = Field(default=None, ge=1, le=EXPORT_LIMIT_MAX, description="Events at most; without it all of them, streamed.")


class KeyRequest(Question):
    """The body of a new key. It may be left out."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)] | None = Field(default=None, description="What it is for.")


class KeyLine(Answer):
    """An ingest key without its secret."""

    id: str
    name: str | None
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


class KeysAnswer(Answer):
    """All keys of an account."""

    org_id: str
    keys: list[KeyLine]


class NewKeyAnswer(Answer):
    """A new key. The secret is shown once and cannot be recovered."""

    id: str
    org_id: str
    name: str | None
    prefix: str
    secret: str


class RevokedAnswer(Answer):
    """A key that is refused from now on."""

    id: str
    status: Literal["revoked"]


class KeyQuery(Question):
    """Which key to revoke."""

    id: str = Field(min_length=1, max_length=100, description="key_….")


class AdminKeyRequest(KeyRequest):
    """The body of a new key for an organisation."""

    org_id: str = Field(min_length=1, max_length=200, description="org_…, or another name of the account.")


class AdminKeysQuery(Question):
    """Whose keys to list."""

    org: str = Field(min_length=1, max_length=200)


class OrganisationRequest(Question):
    """The body of a new organisation."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    tier: str = "free"


class OrganisationsQuery(Question):
    """Which organisations to list."""

    limit: int = Field(default=100, ge=1, le=1000)
    after: int = Field(default=0, ge=0, le=2**63 - 1, description="Only those behind this one, from `next_after`.")


class OrganisationLine(Answer):
    """One organisation; the balance is the journal's, in microunits."""

    id: str
    name: str | None
    tier: str
    status: str
    deposit_code: str
    balance: int
    created_at: datetime


class OrganisationsAnswer(Answer):
    """A page of organisations, oldest first."""

    orgs: list[OrganisationLine]
    next_after: int | None


class NewOrganisationAnswer(Answer):
    """A new organisation. Its api_token is shown once."""

    id: str
    name: str | None
    tier: str
    api_token: str
