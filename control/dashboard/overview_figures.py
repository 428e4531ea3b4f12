"""The figures of an overview, read one after another so that one page never keeps more than one connection of the journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from control.context import ControlContext
from control.dashboard.visitor import Visitor
from control.web.charts import TONES, Bucket, Chart, Line, bar_chart
from control.web.chosen_period import Chosen, buckets_of
from control.web.filters import count, usdc
from control.web.outcome_words import OUTCOMES
from ledger.activity import read_activity
from ledger.activity_values import KEPT_DAYS, Tally, sum_of
from ledger.errors import BalanceUnavailable
from ledger.figure_values import GATEWAY, OTHER, Burn, Counts, Dimension, ModelUsage, Series, Share, WorkUsage, total_of
from ledger.figures import burn, spend_by, spend_over_time, usage_by_model, work_breakdown
from ledger.periods import Period
from metering.savings import CachedTokens, cache_saving

SHARES_MAX: Final = 12
WORK_MAX: Final = 25
WORDS: Final = {
    (Dimension.WORKSPACE, ""): "no workspace named",
    (Dimension.WORKSPACE, GATEWAY): "through the gateway",
    (Dimension.TASK_TYPE, ""): "no task type named",
    (Dimension.TASK_TYPE, GATEWAY): "through the gateway",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One line of a breakdown, with the words for it."""

    label: str
    tone: str
    counts: Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What the gateway saw, None in the fields where nothing was measured."""

    total: Tally
    failures: tuple[tuple[str, int], ...]
    chart: Chart
    median_ms: int | None
    slow_ms: int | None
    first_byte_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All that an overview shows beside standing and transactions. `saved` is None where no price is known for what was cached."""

    total: Counts
    chart: Chart
    slices: tuple[Slice, ...]
    work: tuple[WorkUsage, ...]
    saved: int | None
    burn: Burn
    traffic: Traffic | None


async def read_figures(visitor: Visitor, chosen: Chosen, now: datetime) -> Figures:
    """Return the figures of the account in the period that was chosen.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    context, account, period = visitor.context, visitor.account.id, chosen.period
    series = await spend_over_time(context.pool, account, period, by=chosen.by, series_max=TONES)
    usages = await usage_by_model(context.pool, account, period)
    shares = await spend_by(context.pool, account, period, by=chosen.by, rows_max=SHARES_MAX, usages=usages)
    work = await work_breakdown(context.pool, account, period, rows_max=WORK_MAX, usages=usages)
    tones = {line.key: _tone(line.key, place) for place, line in enumerate(series)}
    buckets = buckets_of(period)
    return Figures(
        total=total_of(usage.counts for usage in usages),
        chart=bar_chart("spend", buckets, _lines(series, chosen.by, tones=tones), title="Spending in USDC", write=usdc),
        slices=tuple(Slice(label=_label(share, chosen.by), tone=tones.get(share.key, "other"), counts=share.counts) for share in shares),
        work=tuple(work) if any(not line.through_gateway for line in work) else (),
        saved=_saved(context, usages),
        burn=await burn(context.pool, account, now),
        traffic=await _traffic(visitor, period, buckets, now=now),
    )


def label_of(key: str, label: str, by: Dimension) -> str:
    """Return the words for a line of a breakdown."""
    return label or WORDS.get((by, key)) or "others"


def _label(share: Share, by: Dimension) -> str:
    return label_of(share.key, share.label, by)


def _lines(series: Sequence[Series], by: Dimension, *, tones: dict[str, str]) -> list[Line]:
    return [Line(label=label_of(line.key, line.label, by), values=line.amounts, tone=tones[line.key]) for line in series]


def _tone(key: str, place: int) -> str:
    return "other" if key == OTHER else str(place % TONES + 1)


def _saved(context: ControlContext, usages: Sequence[ModelUsage]) -> int | None:
    """Return what the cached tokens saved, None where nothing was cached or nobody knows."""
    markup = context.settings.ingest.markup
    savings = [
        cache_saving(
            CachedTokens(
                provider=usage.provider,
                model=usage.model,
                reported=usage.reported,
                write_tokens=usage.counts.cache_write_tokens,
                write_1h_tokens=usage.counts.cache_write_1h_tokens,
                read_tokens=usage.counts.cache_read_tokens,
            ),
            context.card,
            reported_markup=markup,
        )
        for usage in usages
        if usage.counts.cache_write_tokens or usage.counts.cache_read_tokens
    ]
    known = [saving for saving in savings if saving is not None]
    return sum(known) if known else None


async def _traffic(visitor: Visitor, period: Period, buckets: Sequence[Bucket], *, now: datetime) -> Traffic | None:
    """Return what the gateway saw, None where it cannot be told: these are no books, and a page does not fail for them."""
    since = max(period.since, (now - timedelta(days=KEPT_DAYS)).astimezone(UTC))
    try:
        seen = await read_activity(visitor.context.balances, visitor.account.id, visitor.account.shard, since=since, until=period.until)
    except BalanceUnavailable:
        return None
    bars = seen.in_bars(period.buckets)
    total = sum_of(bars)
    return Traffic(
        total=total,
        failures=tuple((words, total.of(outcome)) for outcome, words in OUTCOMES.items() if total.of(outcome)),
        chart=bar_chart("requests", buckets, _request_lines(bars), title="Requests through the gateway", write=count),
        median_ms=total.latency.quantile_ms(50),
        slow_ms=total.latency.quantile_ms(95),
        first_byte_ms=total.first_byte.quantile_ms(50),
    )


def _request_lines(bars: Sequence[Tally]) -> list[Line]:
    return [
        Line(label="answered", values=tuple(tally.requests - tally.errors for tally in bars), tone="1"),
        Line(label="failed", values=tuple(tally.errors for tally in bars), tone="bad"),
    ]
