"""Figures of one account for its pages, from roll-ups alone: spending over time and by kind, work, burn.

Each function is one bounded statement. None waits for the journal: figures are as far as the poster is, seconds behind at most.
Every function raises JournalUnavailable where Postgres does not answer.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from ledger.entries import AccountId
from ledger.figure_values import GATEWAY, OTHER, Burn, Counts, Dimension, ModelUsage, Series, Share, WorkUsage, total_of
from ledger.journal import COMMAND_SECONDS_MAX, Pool, journal_answers
from ledger.periods import Period
from ledger.queries import SQL

SERIES_MAX: Final = 8  # lines of a chart; more colours cannot be told apart
SHARES_MAX: Final = 200
MODELS_MAX: Final = 1000
BURN_DAYS: Final = 7
_DAY_SECONDS: Final = 86_400
_COUNTS: Final = tuple(Counts.__dataclass_fields__)


async def spend_over_time(pool: Pool, account: AccountId, period: Period, *, by: Dimension, series_max: int = SERIES_MAX) -> list[Series]:
    """Return what was spent in each bucket of `period`, the dearest `series_max` first, the rest as one series `OTHER` at the end.

    Nothing spent is an empty list.
    """
    query = SQL["spend_over_time"] if by in (Dimension.MODEL, Dimension.PROVIDER) else SQL["work_over_time"]
    buckets = list(period.buckets)
    rows = await _fetch(pool, query, account, *period.bars.arrays, buckets, series_max, by.value)
    return series_of(rows, len(buckets))


async def spend_by(
    pool: Pool, account: AccountId, period: Period, *, by: Dimension, rows_max: int = 20, usages: Sequence[ModelUsage] | None = None
) -> list[Share]:
    """Return what was used, split by one property: the dearest `rows_max`, at most 200, the rest as one share `OTHER` at the end.

    `usages` is what `usage_by_model` said of the same period, where it is at hand: then it is not read again.
    """
    rows_max = min(rows_max, SHARES_MAX)
    if usages is None:
        usages = await usage_by_model(pool, account, period)
    if by in (Dimension.MODEL, Dimension.PROVIDER):
        return _merged([_model_share(usage, by) for usage in usages], rows_max)
    rows = await _fetch(pool, SQL["usage_by_work"], account, *period.whole.arrays, rows_max, by.value)
    gateway = [Share(key=GATEWAY, label="", counts=counts) for counts in _metered(usages)]
    return _merged([*gateway, *(_work_share(row, by) for row in rows)], rows_max)


async def usage_by_model(pool: Pool, account: AccountId, period: Period) -> list[ModelUsage]:
    """Return what each model did, dearest first, at most 1000; their sum (`total_of`) is all that the account used.

    `metering.savings` says what its cached tokens saved. Reported models beyond those that are told apart are `OTHER` by name and provider.
    """
    return [model_usage(row) for row in await _fetch(pool, SQL["usage_by_model"], account, *period.whole.arrays, MODELS_MAX)]


async def work_breakdown(pool: Pool, account: AccountId, period: Period, *, rows_max: int = 50, usages: Sequence[ModelUsage] | None = None) -> list[WorkUsage]:
    """Return the cost of each task type in each workspace, dearest first, at most `rows_max` (200); the gateway's own traffic is one more line.

    Lines beyond are put together in one with `task_type` and `workspace_id` `OTHER`, at the end. `usages` as in `spend_by`.
    """
    rows = await _fetch(pool, SQL["usage_by_work"], account, *period.whole.arrays, min(rows_max, SHARES_MAX), "both")
    metered = _metered(await usage_by_model(pool, account, period) if usages is None else usages)
    lines = [WorkUsage(workspace_id=GATEWAY, workspace="", task_type=GATEWAY, through_gateway=True, counts=counts) for counts in metered]
    for row in rows:
        place = row["workspace_id"] or None
        line = WorkUsage(workspace_id=place, workspace=row["workspace"], task_type=row["task_type"], through_gateway=False, counts=counts_of(row))
        lines.append(line)
    return sorted(lines, key=lambda line: (line.workspace_id == OTHER, -line.counts.amount, -line.counts.requests))


async def burn(pool: Pool, account: AccountId, now: datetime) -> Burn:
    """Return how fast the account spends at present: over seven days, or since it began to spend, though never over less than one day."""
    since = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(days=BURN_DAYS)
    row = (await _fetch(pool, SQL["burn"], account, since))[0]
    seconds = int((now - (row["first"] or since)).total_seconds())
    return Burn(spent=row["spent"], seconds=min(max(seconds, _DAY_SECONDS), BURN_DAYS * _DAY_SECONDS))


def series_of(rows: Iterable[Any], buckets: int) -> list[Series]:
    """Return the lines of a chart from cells that are ordered by line."""
    amounts: dict[str, list[int]] = {}
    labels: dict[str, str] = {}
    for row in rows:
        line = amounts.setdefault(row["key"], [0] * buckets)
        line[max(row["bucket"], 1) - 1] += row["amount"]
        labels[row["key"]] = "" if row["key"] in (OTHER, GATEWAY) else row["label"]
    if OTHER in amounts:
        amounts[OTHER] = amounts.pop(OTHER)
    return [Series(key=key, label=labels[key], amounts=tuple(line)) for key, line in amounts.items()]


def model_usage(row: Any) -> ModelUsage:
    """Read one model's row."""
    return ModelUsage(provider=row["provider"], model=row["model"], reported=row["reported"], counts=counts_of(row))


def counts_of(row: Any) -> Counts:
    """Read the counts of a row."""
    return Counts(**{name: row[name] for name in _COUNTS})


def _metered(usages: Iterable[ModelUsage]) -> list[Counts]:
    """Return what came through the gateway itself, in one; nothing where nothing did."""
    counts = [usage.counts for usage in usages if not usage.reported]
    return [total_of(counts)] if counts else []


def _work_share(row: Any, by: Dimension) -> Share:
    key = OTHER if row["rest"] else row["workspace_id"] if by is Dimension.WORKSPACE else row["task_type"]
    label = row["workspace"] if by is Dimension.WORKSPACE else key
    return Share(key=key, label="" if key in (OTHER, GATEWAY) else label, counts=counts_of(row))


def _model_share(usage: ModelUsage, by: Dimension) -> Share:
    key = usage.provider if by is Dimension.PROVIDER or usage.provider == OTHER else f"{usage.provider}/{usage.model}"
    return Share(key=key, label="" if key == OTHER else key, counts=usage.counts)


def _merged(shares: Iterable[Share], rows_max: int) -> list[Share]:
    """Put together what bears one key, dearest first, and all beyond `rows_max` as one at the end."""
    groups: dict[str, list[Share]] = {}
    for share in shares:
        groups.setdefault(share.key, []).append(share)
    rest = [share.counts for share in groups.pop(OTHER, [])]
    sums = [Share(key=key, label=group[0].label, counts=total_of(share.counts for share in group)) for key, group in groups.items()]
    sums.sort(key=lambda share: (-share.counts.amount, -share.counts.requests, share.key))
    rest += [share.counts for share in sums[rows_max:]]
    return sums[:rows_max] + ([Share(key=OTHER, label="", counts=total_of(rest))] if rest else [])


async def _fetch(pool: Pool, query: str, *arguments: object) -> list[Any]:
    async with journal_answers():
        return list(await pool.fetch(query, *arguments, timeout=COMMAND_SECONDS_MAX))
