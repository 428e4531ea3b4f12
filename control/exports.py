"""`GET /v1/usage/export.csv`, `.json` and `.focus.csv`: all usage events of an account, streamed, or page by page behind a cursor.

They come in the order of their arrival, so that the cursor of the last one is where the next export goes on.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from control.accounts import owner_standing
from control.context import ControlContext, context_of
from control.errors import ApiError
from control.export_formats import COLUMNS, FOCUS_COLUMNS, Cell, csv_lines, csv_row, focus_row, json_row
from control.ingest import UNKNOWN_KEY, bearer_key
from control.middleware import take_time
from control.reading import read_query
from control.usage_schemas import ExportQuery
from ledger.account_values import Account
from ledger.tokens import parse_token
from ledger.usage_export import UsageEvent, read_cursor, usage_events

CHUNK: Final = 500  # events written at once
TOKEN_PREFIX: Final = b"l5_"

Events = AsyncIterator[UsageEvent]


async def export_csv(request: Request) -> Response:
    """Serve the events as CSV."""
    return await _export(request, "usage.csv", lambda _account, events, _cursor: _csv(COLUMNS, csv_row, events))


async def export_focus(request: Request) -> Response:
    """Serve the events as CSV with the columns of FOCUS."""
    return await _export(request, "usage.focus.csv", lambda account, events, _cursor: _csv(FOCUS_COLUMNS, focus_row(account.public_id, account.name), events))


async def export_json(request: Request) -> Response:
    """Serve the events as one JSON object."""
    return await _export(request, "usage.json", _json)


async def _export(request: Request, name: str, write: Callable[[Account, Events, str | None], AsyncIterator[str]]) -> Response:
    """Read what was asked for up to its first event, so that what can fail is answered as a failure, and stream the rest."""
    context = context_of(request)
    account = await _account(request, context)
    query = read_query(request, ExportQuery)
    if query.cursor is not None:
        try:
            read_cursor(query.cursor)
        except ValueError as error:
            raise ApiError(400, "invalid_request", message=f"cursor: {error}.") from None
    # One more than asked for tells whether there is more.
    limit = None if query.limit is None else query.limit + 1
    events = usage_events(context.pool, context.balances, account, since=query.since, until=query.until, cursor=query.cursor, limit=limit)
    cursor = None
    if query.limit is None:
        first = await anext(events, None)
        rest = _chain([] if first is None else [first], events)
        take_time(request.scope)
    else:
        page = [event async for event in events]
        cursor = page[query.limit - 1].cursor if len(page) > query.limit else None
        rest = _chain(page[: query.limit], None)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', **({"X-Next-Cursor": cursor} if cursor else {})}
    media_type = "application/json" if name.endswith(".json") else "text/csv; charset=utf-8"
    return StreamingResponse(write(account, rest, cursor), headers=headers, media_type=media_type)


async def _account(request: Request, context: ControlContext) -> Account:
    """Return the account whose ingest key or api_token the request bears.

    Raises:
        ApiError: 401 where it bears neither.
        UnknownKey, UnknownToken, InactiveAccount: it is none, or not any more.
    """
    header = request.headers.get("authorization", "").encode("latin-1", "replace")
    credential = header.strip().partition(b" ")[2].strip()
    if credential.startswith(TOKEN_PREFIX):
        token = parse_token(credential.decode("latin-1"))
        await owner_standing(context, token)
        return await context.accounts.find(str(token.account))
    key = bearer_key(header)
    if key is None:
        raise ApiError(401, "invalid_key", message=UNKNOWN_KEY, headers={"WWW-Authenticate": "Bearer"})
    await context.usage.recorder.ingest.read_standing(key)
    return await context.accounts.find(str(key.account))


async def _chain(first: list[UsageEvent], rest: Events | None) -> Events:
    for event in first:
        yield event
    if rest is not None:
        async for event in rest:
            yield event


async def _csv(columns: tuple[str, ...], row: Callable[[UsageEvent], list[Cell]], events: Events) -> AsyncIterator[str]:
    rows: list[list[Cell] | tuple[str, ...]] = [columns]
    async for event in events:
        rows.append(row(event))
        if len(rows) >= CHUNK:
            yield csv_lines(rows)
            rows = []
    yield csv_lines(rows)


async def _json(account: Account, events: Events, cursor: str | None) -> AsyncIterator[str]:
    """Write the count behind the events: it is not known before."""
    count, rows, before = 0, list[str](), f'{{"org_id": "{account.public_id}", "events": ['
    async for event in events:
        rows.append(json_row(event))
        count += 1
        if len(rows) >= CHUNK:
            yield before + ",\n".join(rows)
            rows, before = [], ",\n"
    text = before + ",\n".join(rows) if rows or count == 0 else ""
    yield text + f'], "count": {count}, "next_cursor": {"null" if cursor is None else f'"{cursor}"'}}}'
