"""Values of usage ingest: what is reported, what may stop it, and what became of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.entries import AccountId, RequestId

ITEMS_MAX: Final = 1000  # events of one request
TOKENS_MAX: Final = 10**12  # of one kind in one event: the sums of a full request stay below 2^53
COST_MAX: Final = 10**11  # microunits of one event: a hundred thousand dollars
BALANCE_MIN: Final = -(10**15)  # no reported usage takes an account further down, so that nothing can make its figures overflow
TEXT_LENGTH_MAX: Final = 200  # characters of every text of an event
FREE_TIER: Final = "free"
WARN_PERCENT: Final = 80  # of a workspace's budget, from which on its owner is warned
EVENT_PREFIX: Final = "evt_"


@dataclass(frozen=True, slots=True)
class IngestKey:
    """A well-formed ingest key without its secret; whether it is good only its open shard can say."""

    account: AccountId
    shard: int
    digest: str


@dataclass(slots=True, kw_only=True)
class UsageItem:
    """One reported event. Not frozen, since thousands are made at once: nobody changes it.

    `line` is its number in the request, from 0: it makes the event's id, and need not be gapless.

    Counts are tokens, `cost` microunits, `occurred_at` milliseconds since the epoch. `output_tokens` do not contain `reasoning_tokens`,
    `cache_write_tokens` do contain `cache_write_1h_tokens`.
    `estimated` tells that the cost is ours, by the rate card; `unpriced` that the card does not know the model.
    """

    line: int
    provider: str
    model: str
    task_type: str
    source: str
    occurred_at: int
    workspace_id: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    cost: int = 0
    estimated: bool = False
    unpriced: bool = False
    external_ref: str | None = None
    user_id: str | None = None

    @property
    def tokens(self) -> int:
        """What counts into the month's quota."""
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens + self.reasoning_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestPolicy:
    """What stops an event. `tracked_limits` has the tokens a month of every tier, None for no cap; `outbox_max` as for holds."""

    block_over_balance: bool
    block_over_free_limit: bool
    tracked_limits: Mapping[str, int | None]
    outbox_max: int

    @property
    def limits_text(self) -> str:
        """The limits as the script that charges reads them: `,free:10000,pro:,`."""
        return "".join(f",{tier}:{'' if limit is None else limit}" for tier, limit in self.tracked_limits.items()) + ","

    def tracked_limit(self, tier: str) -> int | None:
        """Return the tokens a month of a tier; one that is not configured has the free tier's."""
        return self.tracked_limits[tier] if tier in self.tracked_limits else self.tracked_limits.get(FREE_TIER)


@dataclass(frozen=True, slots=True)
class Charged:
    """What the script answered to one request: microunits after it, the month's tokens before it, and a mark for each event where some were refused.

    `funded` tells that the account ever had money; tier and org are empty where the shard does not say them.
    """

    status: str
    used: int
    mask: str
    balance: int
    available: int
    tier: str
    org_id: str
    funded: bool


@dataclass(slots=True, kw_only=True)
class ItemOutcome:
    """What became of one event, not frozen as events are not; `event_id` is None for one that was refused, `balance_after` in microunits.

    `over_free_limit` tells that the month's tokens are used up with this event, or were before it where it was refused;
    `over_balance` that what the account had left does not cover it.
    """

    recorded: bool
    event_id: str | None
    over_free_limit: bool
    over_balance: bool
    balance_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestOutcome:
    """What became of a request: its events in their order, and the account's figures after it, in tokens and microunits.

    `org_id` is the account's public id. `repeated` tells that the request was recorded before and nothing changed.
    """

    items: tuple[ItemOutcome, ...]
    tokens_mtd: int
    tracked_limit: int | None
    balance: int
    available: int
    tier: str
    org_id: str
    repeated: bool = False

    @property
    def recorded(self) -> int:
        """How many events were recorded."""
        return sum(item.recorded for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestStanding:
    """Who an ingest key is, and how its account stands: the month's reported tokens, and microunits.

    `funded` tells that the account ever had money, so that a balance of nothing stops it.
    """

    key_id: str
    org_id: str
    tier: str
    tokens_mtd: int
    balance: int
    available: int
    funded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """What is kept of an ingest key. `last_used_at` is when it last recorded something."""

    key_id: str
    account_id: AccountId
    name: str | None
    prefix: str
    created_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """An ingest key that was just made, with the one copy of its text."""

    text: str
    key_id: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """A part of an organisation that events are counted for; `slug` is what its names have in common."""

    id: str
    name: str
    slug: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetUse:
    """What a workspace is meant to cost a month and what it has cost so far, in microunits."""

    budget: int
    spent: int

    @property
    def is_over(self) -> bool:
        """More was spent than was meant to be."""
        return self.spent > self.budget

    @property
    def is_near(self) -> bool:
        """So much was spent that its owner is to be warned."""
        return self.spent * 100 >= self.budget * WARN_PERCENT


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceUse:
    """A workspace with what was reported for it in a month; `spent` and `budget` in microunits, the latter None where there is none."""

    id: str
    name: str
    slug: str
    created_at: datetime
    events: int
    tokens: int
    spent: int
    budget: int | None

    @property
    def use(self) -> BudgetUse | None:
        """How its budget stands."""
        return None if self.budget is None else BudgetUse(budget=self.budget, spent=self.spent)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedWorkspace:
    """The workspace of an event. `folded` tells that it is the oldest one, because the tier has no room for the one that was named."""

    workspace: Workspace
    folded: bool = False


def event_id(request_id: RequestId, line: int) -> str:
    """Return the public id of an event: unique as its request's id is, and in the order of time as that is."""
    return f"{EVENT_PREFIX}{request_id.replace('-', '')}{line:03x}"
