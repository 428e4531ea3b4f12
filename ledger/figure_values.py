"""Values of the figures that pages show: what was used and spent, and what the house earned. Pure.

All amounts are microunits, all counts whole numbers. Figures run with the journal by the hour and by the day (UTC), so that a page reads
roll-ups and never the events themselves; `ledger.periods` says which of them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final

OTHER: Final = "*"  # the key of what a chart or table has no line of its own for
GATEWAY: Final = "-"  # the key of what came through the gateway itself, where workspaces or task types are told apart: it names none


class Dimension(StrEnum):
    """What spending is split by. Workspace and task type are known of reported usage alone."""

    MODEL = "model"
    PROVIDER = "provider"
    WORKSPACE = "workspace"
    TASK_TYPE = "task_type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was used and what it cost. `output_tokens` contain reasoning, `cache_write_tokens` those for an hour.

    `amount` is what customers paid, `provider_cost` what providers are owed at list price (nothing for reported usage).
    """

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cache_read_tokens: int = 0
    amount: int = 0
    provider_cost: int = 0

    @property
    def tokens(self) -> int:
        """All tokens, of whatever kind."""
        return self.input_tokens + self.output_tokens + self.cache_write_tokens + self.cache_read_tokens

    @property
    def markup(self) -> int:
        """What the house earned; of no meaning where reported usage is among the counts."""
        return self.amount - self.provider_cost


def total_of(counts: Iterable[Counts]) -> Counts:
    """Return the sum."""
    sums = dict.fromkeys((field.name for field in fields(Counts)), 0)
    for each in counts:
        for name in sums:
            sums[name] += getattr(each, name)
    return Counts(**sums)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One line of a breakdown. `key` is what it is known by: a model as `provider/model`, a workspace's id, a task type.

    `label` is for people (a workspace's name), empty where the page has to find a word: the key is then empty (reported without a workspace),
    `GATEWAY` or `OTHER`.
    """

    key: str
    label: str
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line of a chart: `amounts` has one entry for each bucket of the period; key and label as in `Share`.

    An amount may be below zero where a charge was corrected later.
    """

    key: str
    label: str
    amounts: tuple[int, ...]

    @property
    def total(self) -> int:
        """What it comes to in the whole period."""
        return sum(self.amounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """What one model did in a period. `reported` tells that the gateway only heard of it."""

    provider: str
    model: str
    reported: bool
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkUsage:
    """What one kind of work in one workspace cost.

    `workspace` is the name for people, `workspace_id` None where an event named none. `task_type` is `OTHER` beyond the kinds that are told apart,
    and both are in the line for all that has none. Both are `GATEWAY` (and `through_gateway` is true) for what came through the gateway itself.
    """

    workspace_id: str | None
    workspace: str
    task_type: str
    through_gateway: bool
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn:
    """How fast an account spends: `spent` in the last `seconds`, at most seven days and at least one, less where it began to spend later."""

    spent: int
    seconds: int

    @property
    def per_day(self) -> int:
        """Microunits a day, rounded up."""
        return -(-self.spent * 86_400 // self.seconds)

    def runway_seconds(self, available: int) -> int | None:
        """Return how long `available` lasts at this pace, None where nothing is spent; nothing lasts no time."""
        if self.spent <= 0:
            return None
        return max(0, available) * self.seconds // self.spent


@dataclass(frozen=True, slots=True, kw_only=True)
class HouseMoney:
    """The chart of accounts as it stands now; every amount is above zero on its normal side.

    `customers` is what `accounts` customers own together, `providers` what is owed to each at list price, `external_usage` what customers paid
    for reported usage. Vault, grants, drawings and `other` (accounts beyond this chart, as debits) together equal all the rest.
    """

    customers: int
    accounts: int
    vault: int
    unattributed: int
    providers: tuple[tuple[str, int], ...]
    markup_earned: int
    grants: int
    drawings: int
    external_usage: int
    other: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountUsage:
    """What one account used in a period, for the operator."""

    account_id: int
    public_id: str
    name: str | None
    counts: Counts
