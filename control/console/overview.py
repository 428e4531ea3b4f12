"""The console's first page: how the appliance is, what needs a person, and what the last day brought."""

from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control.console.door import enter, shown
from control.console.money import read_position
from control.web.charts import Line, bar_chart
from control.web.chosen_period import buckets_of
from control.web.filters import count
from ledger.console_reads import AuditQuery, read_audit, search_accounts
from ledger.figure_values import total_of
from ledger.house_figures import earned_over_time, house_usage
from ledger.periods import period_back

ACCOUNTS_SHOWN: Final = 5
AUDIT_SHOWN: Final = 8


async def show_overview(request: Request) -> Response:
    """Show the first page."""
    operator = await enter(request)
    pool = operator.context.pool
    period = period_back(timedelta(hours=24), datetime.now(UTC))
    earned = {series.key: series for series in await earned_over_time(pool, period)}
    usage = await house_usage(pool, period)
    requests = Line(label="requests", values=earned["requests"].amounts)
    return shown(
        request, operator, "overview.html", title="Console", here="/admin", position=await read_position(operator),
        day=total_of(one.counts for one in usage if not one.reported),
        chart=bar_chart("requests", buckets_of(period), [requests], title="Requests of the last 24 hours", write=count),
        accounts=await search_accounts(pool, limit=ACCOUNTS_SHOWN), suspended=await search_accounts(pool, status="suspended", limit=ACCOUNTS_SHOWN),
        audit=await read_audit(pool, AuditQuery(), limit=AUDIT_SHOWN),
    )  # fmt: skip
