"""Values of the figures that pages show: periods, what was used and spent in them, and what the house earned. Pure.

All amounts are microunits, all counts whole numbers. Figures run with the journal by the hour (UTC), so that a page reads roll-ups
and never the events themselves.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Final
from zoneinfo import ZoneInfo

PERIOD_DAYS_MAX: Final = 400
HOURLY_DAYS_MAX: Final = 4  # up to here a chart has a bar an hour
OTHER: Final = "*"  # the key of what a chart or table has no line of its own for
GATEWAY: Final = "-"  # the key of what came through the gateway itself, where workspaces or task types are told apart: it names none
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class Dimension(StrEnum):
    """What spending is split by. Workspace and task type are known of reported usage alone."""

    MODEL = "model"
    PROVIDER = "provider"
    WORKSPACE = "workspace"
    TASK_TYPE = "task_type"


class Step(StrEnum):
    """How long one bar of a chart is."""

    HOUR = "hour"
    DAY = "day"


@dataclass(frozen=True, kw_only=True)
class Period:
    """From `since` on, before `until`, in steps of the clock of `zone` (an IANA name); see `period_between`."""

    since: datetime
    until: datetime
    step: Step
    zone: str

    @cached_property
    def buckets(self) -> tuple[datetime, ...]:
        """The moments at which the bars begin, in UTC, oldest first: never empty. The first one may lie before `since`.

        A day lasts from midnight to midnight in `zone`; where that is not on the hour, an hour belongs to the day in which it begins.
        """
        return tuple(self._buckets())

    def _buckets(self) -> Iterable[datetime]:
        if self.step is Step.HOUR:
            begin = self.since
            while begin < self.until:
                yield begin
                begin += _HOUR
            return
        zone = ZoneInfo(self.zone)
        day = self.since.astimezone(zone).replace(hour=0, minute=0, fold=0)
        while (begin := day.astimezone(UTC)) < self.until:
            yield begin
            day = (day.replace(tzinfo=None) + _DAY).replace(tzinfo=zone)


def period_between(since: datetime, until: datetime, *, zone: str = "UTC", step: Step | None = None) -> Period:
    """Return the period of whole hours around these two moments, in steps that suit its length unless `step` says which.

    Raises:
        ValueError: it is empty or longer than 400 days, a moment has no time zone, or `zone` is none that is known here; the text says which.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("a moment needs its time zone")
    begin = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    end = until.astimezone(UTC)
    if end != (whole := end.replace(minute=0, second=0, microsecond=0)):
        end = whole + _HOUR
    if not begin < end:
        raise ValueError("a period ends after it began")
    if end - begin > timedelta(days=PERIOD_DAYS_MAX):
        raise ValueError(f"a period is at most {PERIOD_DAYS_MAX} days long")
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        raise ValueError("this time zone is not known here") from None
    chosen = step or (Step.HOUR if end - begin <= timedelta(days=HOURLY_DAYS_MAX) else Step.DAY)
    return Period(since=begin, until=end, step=chosen, zone=zone)


def period_back(length: timedelta, now: datetime, *, zone: str = "UTC") -> Period:
    """Return the period of this length that ends with the present hour; one of days begins at midnight in `zone`.

    Raises:
        ValueError: as `period_between`.
    """
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + _HOUR
    period = period_between(end - length, end, zone=zone)
    if period.step is Step.HOUR:
        return period
    return period_between(period.buckets[1], end, zone=zone, step=Step.DAY)


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
