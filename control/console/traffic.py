"""Traffic and errors of the whole house, from roll-ups and from what the gateway counted."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control.console.door import Operator, enter, shown
from control.console.recent_log import recent_faults
from control.web.charts import TONES, Chart, Line, bar_chart
from control.web.chosen_period import RANGES, Chosen, buckets_of, read_chosen
from control.web.filters import count, usdc
from control.web.outcome_words import OUTCOMES
from ledger.activity import read_house_activity, read_house_clients
from ledger.activity_values import KEPT_DAYS, NO_MODEL, OTHER_MODEL, Activity, ClientSeen, Outcome, Tally, sum_of
from ledger.errors import BalanceUnavailable
from ledger.figure_values import OTHER, Series, total_of
from ledger.house_figures import dearest_accounts, earned_over_time, house_over_time, house_usage
from ledger.periods import Period

ACCOUNTS_SHOWN: Final = 20
ACCOUNTS_DAYS_MAX: Final = timedelta(days=31)  # the dearest accounts are looked for in all roll-ups of the period
MODELS_SHOWN: Final = 100
FAILURES: Final = tuple(OUTCOMES)


async def show_traffic(request: Request) -> Response:
    """Show what was asked for, what it cost and what was earned."""
    operator = await enter(request)
    chosen = read_chosen(request.query_params, datetime.now(UTC))
    pool, period, buckets = operator.context.pool, chosen.period, buckets_of(chosen.period)
    usage = await house_usage(pool, period)
    earned = {series.key: series for series in await earned_over_time(pool, period)}
    spent = await house_over_time(pool, period, series_max=TONES)
    short = period.until - period.since <= ACCOUNTS_DAYS_MAX
    return shown(
        request, operator, "traffic.html", title="Traffic", here="/admin/traffic", chosen=chosen, ranges=_ranges(), usage=usage[:MODELS_SHOWN],
        total=total_of(one.counts for one in usage if not one.reported),
        requests=bar_chart("requests", buckets, [_line(earned["requests"], "requests", "1")], title="Requests", write=count),
        paid=bar_chart("paid", buckets, _lines(spent), title="Paid by customers in USDC", write=usdc),
        earned=bar_chart("earned", buckets, [_line(earned["markup"], "mark-up", "1")], title="Mark-up in USDC", write=usdc),
        accounts=await dearest_accounts(pool, period, rows_max=ACCOUNTS_SHOWN) if short else None, clients=await _clients(operator),
        activity=await _activity(operator, period),
    )  # fmt: skip


async def show_errors(request: Request) -> Response:
    """Show what went wrong: of requests by kind and model, and of the roles in their own words."""
    operator = await enter(request)
    chosen = read_chosen(request.query_params, datetime.now(UTC))
    activity = await _activity(operator, chosen.period)
    bars = activity.in_bars(chosen.period.buckets) if activity is not None else []
    total = sum_of(bars)
    lines = await asyncio.to_thread(recent_faults, operator.context.settings.home / "logs")
    return shown(
        request, operator, "errors.html", title="Errors", here="/admin/errors", chosen=chosen, ranges=_ranges(), seen=activity is not None, total=total,
        chart=_failure_chart(bars, chosen) if activity is not None else None, log=lines,
        failures=[(OUTCOMES[outcome], total.of(outcome)) for outcome in FAILURES],
        models=[(_model(name), tally) for name, tally in (activity.by_model() if activity is not None else {}).items() if tally.errors][:MODELS_SHOWN],
        health=await operator.context.monitor.look(), outcomes=Outcome,
    )  # fmt: skip


async def _activity(operator: Operator, period: Period) -> Activity | None:
    """Return what the gateway saw, None where Redis does not tell: these are no books, and a page does not fail for them."""
    since = max(period.since, datetime.now(UTC) - timedelta(days=KEPT_DAYS))
    try:
        return await read_house_activity(operator.context.balances, since=since, until=period.until)
    except BalanceUnavailable:
        return None


async def _clients(operator: Operator) -> list[ClientSeen]:
    try:
        return await read_house_clients(operator.context.balances)
    except BalanceUnavailable:
        return []


def _failure_chart(bars: Sequence[Tally], chosen: Chosen) -> Chart:
    """Return the failures of each bucket, by kind; kinds that did not occur are left out."""
    rows = {outcome: tuple(tally.of(outcome) for tally in bars) for outcome in FAILURES}
    lines = [Line(label=OUTCOMES[outcome], values=row, tone=str(tone)) for tone, (outcome, row) in enumerate(rows.items(), start=1) if any(row)]
    return bar_chart("failures", buckets_of(chosen.period), lines, title="Failed requests", write=count)


def _lines(series: Sequence[Series]) -> list[Line]:
    return [_line(one, one.label or "others", "other" if one.key == OTHER else str(place % TONES + 1)) for place, one in enumerate(series)]


def _line(series: Series, label: str, tone: str) -> Line:
    return Line(label=label, values=series.amounts, tone=tone)


def _model(name: str) -> str:
    return {NO_MODEL: "before the model was known", OTHER_MODEL: "others"}.get(name, name)


def _ranges() -> list[tuple[str, str]]:
    ranges: Mapping[str, tuple[str, timedelta]] = RANGES
    return [(name, words) for name, (words, _) in ranges.items()]
