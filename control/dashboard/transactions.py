"""An account's transactions: looked through on a page, or taken away whole as CSV."""

from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from control.dashboard.transaction_filter import TYPES, Asked, read_asked
from control.dashboard.visitor import Visitor, visit
from control.export_formats import Cell, cell, csv_lines
from control.middleware import take_time
from control.web.rendering import render
from ledger.changes import read_open_meta, wait_posted
from ledger.errors import BalanceUnavailable, JournalUnavailable, NotPostedYet
from ledger.figure_values import OTHER, ModelUsage
from ledger.figures import usage_by_model
from ledger.money import format_usdc
from ledger.periods import period_back
from ledger.transaction_search import SEVERAL, FoundLine, FoundPage, export_statement, search_statement

LINES_SHOWN: Final = 50
POSTED_SECONDS_MAX: Final = 2.0
OFFERED_MAX: Final = 100  # models and workspaces that the form offers; others can be looked for by name
OFFERED_DAYS: Final = 30
COLUMNS: Final = (
    "id", "created_at", "type", "kind", "usdc_amount", "balance_after", "request_id", "provider", "model", "input_tokens", "output_tokens",
    "cache_write_tokens", "cache_read_tokens", "estimated", "workspace", "workspace_id", "task_type",
)  # fmt: skip

type Options = list[tuple[str, str]]


async def transactions_page(request: Request) -> Response:
    """Show a page of the statement."""
    visitor, asked = await visit(request), read_asked(request.query_params)
    is_whole = await _wait_posted(visitor)
    found = await search_statement(visitor.context.pool, visitor.account.id, asked.wanted, before=asked.before, after=asked.after, limit=LINES_SHOWN)
    models, providers = await _offered(visitor, asked)
    return render(
        request,
        "dashboard/transactions.html",
        title="Transactions",
        visitor=visitor,
        asked=asked,
        lines=found.lines,
        newer=None if found.newer is None else _address(visitor, asked, after=found.newer),
        older=None if found.older is None else _address(visitor, asked, before=found.older),
        stopped_at=found.stopped_at,
        export=f"{visitor.address}/transactions.csv{asked.query()}",
        words=_words(found),
        types=[("", "Everything"), *TYPES.items()],
        models=models,
        providers=providers,
        workspaces=await _workspaces(visitor, asked),
        is_whole=is_whole,
    )


async def export(request: Request) -> Response:
    """Give all lines that are asked for as CSV, oldest first, however many they are."""
    visitor, asked = await visit(request), read_asked(request.query_params)
    if not await _wait_posted(visitor):
        raise NotPostedYet("the journal is behind the balances")
    lines = export_statement(visitor.context.pool, visitor.account.id, asked.wanted)
    first: list[FoundLine] = await anext(lines, [])  # what can fail is answered as a failure, before the file begins
    take_time(request.scope)
    headers = {"Content-Disposition": 'attachment; filename="transactions.csv"'}
    return StreamingResponse(_csv(first, lines), headers=headers, media_type="text/csv; charset=utf-8")


async def _csv(first: list[FoundLine], lines: AsyncIterator[list[FoundLine]]) -> AsyncIterator[str]:
    yield csv_lines([COLUMNS, *map(_row, first)])
    async for part in lines:
        yield csv_lines(map(_row, part))


def _row(line: FoundLine) -> list[Cell]:
    """Return the cells of one line under COLUMNS; amounts are USDC with six decimals."""
    known: dict[str, Cell] = {
        "created_at": line.created_at.astimezone(UTC).isoformat(),
        "usdc_amount": format_usdc(line.usdc_amount),
        "balance_after": format_usdc(line.balance_after),
    }
    return [known[name] if name in known else cell(getattr(line, name)) for name in COLUMNS]


async def _wait_posted(visitor: Visitor) -> bool:
    """Wait until the journal has what Redis had charged just now; tell whether it has."""
    context, shard = visitor.context, visitor.account.shard
    try:
        meta = await read_open_meta(context.balances, shard)
        await wait_posted(context.pool, shard, epoch=meta.epoch, seq=meta.seq, seconds_max=POSTED_SECONDS_MAX)
    except (NotPostedYet, BalanceUnavailable):
        return False
    return True


async def _offered(visitor: Visitor, asked: Asked) -> tuple[Options, Options]:
    """Return the models and providers that the form offers: those of the last month, and what was asked for."""
    try:
        used = await usage_by_model(visitor.context.pool, visitor.account.id, period_back(timedelta(days=OFFERED_DAYS), datetime.now(UTC)))
    except JournalUnavailable:
        used = list[ModelUsage]()
    models = dict.fromkeys([*(each.model for each in used if each.model != OTHER), *filter(None, [asked.model])])
    providers = dict.fromkeys([*(each.provider for each in used if each.provider != OTHER), *filter(None, [asked.provider])])
    return _options(models, "All models", asked.model), _options(providers, "All providers", asked.provider)


def _options(names: Iterable[str], everything: str, chosen: str) -> Options:
    offered = sorted(list(names)[:OFFERED_MAX])
    if chosen and chosen not in offered:
        offered.append(chosen)
    return [("", everything), *((name, name) for name in offered)]


async def _workspaces(visitor: Visitor, asked: Asked) -> Options:
    present = (await visitor.context.workspaces.list(visitor.account.id))[:OFFERED_MAX]
    if not present:
        return []
    options = [("", "All workspaces"), *((workspace.id, workspace.name) for workspace in present), (SEVERAL, "Several at once")]
    known = {value for value, _ in options}
    return options if asked.workspace in known else [*options, (asked.workspace, asked.workspace)]


def _address(visitor: Visitor, asked: Asked, **places: int | None) -> str:
    return f"{visitor.address}/transactions{asked.query(**places)}"


def _words(found: FoundPage) -> str:
    """Say which lines these are."""
    if not found.lines:
        return ""
    newest, oldest = found.lines[0].id, found.lines[-1].id
    return f"line {newest:,}" if newest == oldest else f"lines {newest:,} to {oldest:,}"
