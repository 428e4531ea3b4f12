"""Reading usage events of an account for an export: page by page, in the order of their arrival, constant cost a page."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ledger.account_values import Account
from ledger.balances import Balances
from ledger.changes import read_open_meta, wait_posted
from ledger.entries import RequestId
from ledger.ingest_values import event_id
from ledger.journal import LONG_READ_SECONDS_MAX, Pool, journal_answers
from ledger.moments import milliseconds, moment
from ledger.queries import SQL

PAGE: Final = 1000
POSTED_SECONDS_MAX: Final = 2.0
REPORTED: Final = "reported"
_BEGINNING: Final = (datetime(1970, 1, 1, tzinfo=UTC), -1, -1)
_END: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """One usage event: reported, or metered by the gateway (`reported` false: then output contains reasoning, and what only reports have is None).

    `cost` is in microunits; a metered request has all of it on its first line. `cursor` goes on behind this event.
    """

    event_id: str
    request_id: str
    reported: bool
    provider: str
    model: str
    operation: str
    task_type: str | None
    source: str | None
    workspace_id: str | None
    workspace: str | None
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    cost: int
    estimated: bool
    unpriced: bool
    external_ref: str | None
    user_id: str | None
    occurred_at: datetime
    received_at: datetime
    cursor: str


async def usage_events(
    pool: Pool,
    balances: Balances | None,
    account: Account,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: int | None = None,
) -> AsyncIterator[UsageEvent]:
    """Yield the events that arrived from `since` on and before `until`, behind `cursor`, at most `limit`.

    With `balances` everything that was recorded when this was called is there.

    Raises:
        NotPostedYet: the journal is more than two seconds behind Redis.
        BalanceUnavailable, JournalUnavailable: a store did not answer.
        ValueError: the cursor is none of ours.
    """
    position = _BEGINNING if cursor is None else read_cursor(cursor)
    if balances is not None:
        meta = await read_open_meta(balances, account.shard)
        await wait_posted(pool, account.shard, epoch=meta.epoch, seq=meta.seq, seconds_max=POSTED_SECONDS_MAX)
    left = limit
    while left is None or left > 0:
        count = PAGE if left is None else min(PAGE, left)
        async with journal_answers():
            rows = await pool.fetch(
                SQL["export_usage"], account.id, max(since or position[0], position[0]), until or _END, *position, count, timeout=LONG_READ_SECONDS_MAX
            )
        for row in rows:
            yield _event(row)
        if len(rows) < count:
            return
        position = (rows[-1]["settled_at"], rows[-1]["seq"], rows[-1]["line"])
        left = None if left is None else left - len(rows)


def write_cursor(received_at: datetime, seq: int, line: int) -> str:
    """Return the place behind an event as a text for a URL."""
    return urlsafe_b64encode(f"{milliseconds(received_at)}.{seq}.{line}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> tuple[datetime, int, int]:
    """Read that text.

    Raises:
        ValueError: it is none of ours.
    """
    try:
        received_at, seq, line = (int(part) for part in urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split("."))
        if not (0 <= received_at < 10**14 and 0 <= seq < 2**63 and 0 <= line < 2**15):
            raise ValueError("out of range")
        return moment(received_at), seq, line
    except ValueError as error:
        raise ValueError("this cursor is none of ours") from error


def _event(row: Any) -> UsageEvent:
    return UsageEvent(
        event_id=event_id(RequestId(row["request_id"]), row["line"]),
        request_id=row["request_id"],
        reported=row["operation"] == REPORTED,
        provider=row["provider"],
        model=row["model"],
        operation=row["operation"],
        task_type=row["task_type"],
        source=row["source"],
        workspace_id=row["workspace_id"],
        workspace=row["workspace"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        reasoning_tokens=row["reasoning_tokens"] or 0,
        cache_write_tokens=(row["cache_write_5m_tokens"] or 0) + (row["cache_write_1h_tokens"] or 0),
        cache_read_tokens=row["cache_read_tokens"] or 0,
        cost=row["amount"],
        estimated=row["estimated"],
        unpriced=row["unpriced"],
        external_ref=row["external_ref"],
        user_id=row["user_id"],
        occurred_at=row["occurred_at"],
        received_at=row["settled_at"],
        cursor=write_cursor(row["settled_at"], row["seq"], row["line"]),
    )
