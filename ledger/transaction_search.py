"""Looking through an account's statement: by kind, model, provider, workspace and time, at a bounded cost however long it is.

Lines are numbered without a gap, so that a moment is found by halving and a search goes through a bounded number of lines at once; where
that is not enough for a page, it says where to go on.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ledger.entries import AccountId
from ledger.journal import COMMAND_SECONDS_MAX, Pool, journal_answers
from ledger.postings import key_digest
from ledger.queries import SQL
from ledger.statements import StatementEntry

LINES_MAX: Final = 200
SCAN_MAX: Final = 100_000  # lines that one search looks at
EXPORT_SCAN: Final = 20_000
SLACK: Final = 2_000  # lines by which a change that waited may be away from its time
SEVERAL: Final = "*"  # as workspace: lines of requests with events of several
_REQUEST_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEYS: Final = ("charge", "adjust", "usage")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFilter:
    """What to look for; None for all. `since` is inclusive, `until` is not. `text` is the beginning of a request id, or a part of a model or task type."""

    type: str | None = None
    provider: str | None = None
    model: str | None = None
    workspace_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLine(StatementEntry):
    """A line of the statement, with what it was for; `workspace_id` and `task_type` are `SEVERAL` where its events have several."""

    kind: str
    workspace_id: str | None
    workspace: str | None
    task_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPage:
    """Lines, newest first. `older` is where the next page begins (its `before`), `newer` where the one before does (its `after`); None at an end.

    `stopped_at` is the number of the line at which this search stopped looking, None where the page is full or all was looked through.
    """

    lines: tuple[FoundLine, ...]
    older: int | None
    newer: int | None
    stopped_at: int | None = None


async def search_statement(
    pool: Pool, account: AccountId, wanted: StatementFilter, *, before: int | None = None, after: int | None = None, limit: int = 50
) -> FoundPage:
    """Return a page of the lines that are wanted: the newest below `before`, or the oldest above `after`, or the newest of all.

    Raises:
        JournalUnavailable: Postgres did not answer.
        ValueError: `limit` is out of range.
    """
    if not 1 <= limit <= LINES_MAX:
        raise ValueError(f"a page has 1 to {LINES_MAX} lines")
    async with journal_answers():
        low, high = await _bounds(pool, account, wanted)
        if after is not None and before is None:
            return await _page_above(pool, account, wanted, low=max(low, after), high=high, limit=limit)
        return await _page_below(pool, account, wanted, low=low, high=min(high, before or high), limit=limit)


async def export_statement(pool: Pool, account: AccountId, wanted: StatementFilter) -> AsyncIterator[list[FoundLine]]:
    """Yield all lines that are wanted, oldest first, some at a time.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers():
        low, high = await _bounds(pool, account, wanted)
    while low + 1 < high:
        end = min(high, low + EXPORT_SCAN + 1)
        async with journal_answers():
            rows = await _rows(pool, "search_ascending", account, wanted, low=low, high=end, limit=1000)
        if rows:
            yield rows
        low = rows[-1].id if len(rows) == 1000 else end - 1


async def _page_below(pool: Pool, account: AccountId, wanted: StatementFilter, *, low: int, high: int, limit: int) -> FoundPage:
    bottom = max(low, high - SCAN_MAX - 1)
    rows = await _rows(pool, "search_descending", account, wanted, low=bottom, high=high, limit=limit + 1)
    lines, stopped_at = tuple(rows[:limit]), None
    older = lines[-1].id if len(rows) > limit else None
    if older is None and bottom > low:
        older = stopped_at = bottom + 1
    newer = await _has_newer(pool, account, wanted, above=lines[0].id if lines else high - 1)
    return FoundPage(lines=lines, older=older, newer=newer, stopped_at=stopped_at)


async def _page_above(pool: Pool, account: AccountId, wanted: StatementFilter, *, low: int, high: int, limit: int) -> FoundPage:
    top = min(high, low + SCAN_MAX + 1)
    rows = await _rows(pool, "search_ascending", account, wanted, low=low, high=top, limit=limit + 1)
    lines, stopped_at = tuple(reversed(rows[:limit])), None
    newer = lines[0].id if len(rows) > limit else None
    if newer is None and top < high:
        newer = stopped_at = top - 1
    older = lines[-1].id if lines else low + 1
    return FoundPage(lines=lines, older=older if older > 1 else None, newer=newer, stopped_at=stopped_at)


async def _has_newer(pool: Pool, account: AccountId, wanted: StatementFilter, *, above: int) -> int | None:
    """Return `above` where there are lines behind it within what is wanted."""
    _, high = await _bounds(pool, account, wanted)
    found = await _rows(pool, "search_ascending", account, wanted, low=above, high=min(high, above + SCAN_MAX), limit=1) if above + 1 < high else []
    return above if found else None


async def _bounds(pool: Pool, account: AccountId, wanted: StatementFilter) -> tuple[int, int]:
    """Return two numbers between which all lines lie that may be wanted."""
    last: int = await pool.fetchval(SQL["last_line"], account) or 0
    since, until = wanted.since, wanted.until
    if wanted.text is not None and _REQUEST_ID.fullmatch(wanted.text):
        keys = [key_digest(f"{kind}:{wanted.text}") for kind in _KEYS]
        moments = [row["settled_at"] for row in await pool.fetch(SQL["moments_of_request"], account, keys)]
        if not moments:
            return 0, 0
        low, high = await _line_before(pool, account, min(moments)), await _line_before(pool, account, max(moments))
        return max(0, low - SLACK), min(last, high + SLACK) + 1
    low = 0 if since is None else max(0, await _line_before(pool, account, since) - SLACK)
    high = last if until is None else min(last, await _line_before(pool, account, until) + SLACK)
    return low, high + 1


async def _line_before(pool: Pool, account: AccountId, moment: datetime) -> int:
    return await pool.fetchval(SQL["line_before"], account, moment, timeout=COMMAND_SECONDS_MAX) or 0


async def _rows(pool: Pool, name: str, account: AccountId, wanted: StatementFilter, *, low: int, high: int, limit: int) -> list[FoundLine]:
    text = None if wanted.text is None else wanted.text.lower()
    rows: list[Any] = await pool.fetch(
        SQL[name], account, low, high, wanted.type, wanted.provider, wanted.model, wanted.workspace_id, wanted.since, wanted.until, text, limit,
        timeout=COMMAND_SECONDS_MAX,
    )  # fmt: skip
    return [FoundLine(**dict(row)) for row in rows]
