"""The audit: every sign-in and every act, read, filtered and taken along; and who is signed in now."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from control.console.door import Operator, Words, enter, note, shown
from control.export_formats import Cell, cell, csv_lines, iso
from control.middleware import take_time
from control.reading import read_query
from ledger.console_reads import AuditLine, AuditQuery, read_audit

ROWS: Final = 50
EXPORT_ROWS: Final = 500  # read at a time
EXPORT_MAX: Final = 100_000
COLUMNS: Final = ("id", "at", "actor", "action", "detail")


def _day(value: object) -> object:
    """Return None for an empty text, as forms send it; anything else is left to the model."""
    return None if value == "" else value


Day = Annotated[Annotated[date, Field(ge=date(2000, 1, 1), le=date(9990, 1, 1))] | None, BeforeValidator(_day)]


class AuditPageQuery(BaseModel):
    """Which lines are asked for; days are of UTC, the last one included."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    actor: Words = Field(default="", max_length=300)
    action: Words = Field(default="", max_length=100)
    since: Day = Field(default=None, alias="from")
    until: Day = Field(default=None, alias="to")
    before: int | None = Field(default=None, gt=0, lt=2**63)

    def as_query(self, before: int | None) -> AuditQuery:
        """Return the same for the books."""
        return AuditQuery(
            before=before, actor=self.actor or None, action=self.action.replace(" ", "_") or None, since=_begin(self.since, 0), until=_begin(self.until, 1)
        )

    def filters(self) -> dict[str, str]:
        """Return what is set, as it stands in an address."""
        given = {"actor": self.actor, "action": self.action, "from": self.since, "to": self.until}
        return {name: str(value) for name, value in given.items() if value}


async def show_audit(request: Request) -> Response:
    """Show lines of the audit, the latest first."""
    operator = await enter(request)
    query = read_query(request, AuditPageQuery)
    rows = await read_audit(operator.context.pool, query.as_query(query.before), limit=ROWS + 1)
    return shown(
        request, operator, "audit.html", title="Audit", here="/admin/audit", query=query, lines=rows[:ROWS],
        older=rows[ROWS - 1].id if len(rows) > ROWS else None,
    )  # fmt: skip


async def export_audit(request: Request) -> Response:
    """Give the lines that are asked for as CSV, as they are read."""
    operator = await enter(request)
    query = read_query(request, AuditPageQuery)
    await note(request, operator, "audit_export", **query.filters())
    take_time(request.scope)
    name = f"level5-audit-{datetime.now(UTC):%Y-%m-%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_rows(operator, query), media_type="text/csv; charset=utf-8", headers=headers)


async def show_sessions(request: Request) -> Response:
    """Show who is signed in."""
    operator = await enter(request)
    found = await operator.console.sessions.list(idle_seconds=operator.console.idle_seconds)
    return shown(request, operator, "sessions.html", title="Sessions", here="/admin/sessions", sessions=found)


async def _rows(operator: Operator, query: AuditPageQuery) -> AsyncIterator[str]:
    yield csv_lines([COLUMNS])
    before, given = query.before, 0
    while given < EXPORT_MAX:
        lines = await read_audit(operator.context.pool, query.as_query(before), limit=EXPORT_ROWS)
        if not lines:
            return
        yield csv_lines([_cells(line) for line in lines])
        before, given = lines[-1].id, given + len(lines)


def _cells(line: AuditLine) -> list[Cell]:
    detail = "; ".join(f"{name}: {value}" for name, value in line.detail.items() if value is not None)
    return [line.id, iso(line.at), cell(line.actor), cell(line.action), cell(detail)]


def _begin(day: date | None, later: int) -> datetime | None:
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=later)
