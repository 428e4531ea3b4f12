"""Telling a watermark that a crash left behind from a Redis that went back in time."""

from typing import Final

from ledger.balances import Balances
from ledger.holds import OutboxEntry
from ledger.journal import Pool, journal_answers
from ledger.moments import milliseconds
from ledger.postings import key_digest
from ledger.queries import SQL

PAGE: Final = 500


async def tail_matches(pool: Pool, balances: Balances, shard: int, *, after: int, through: int) -> bool:
    """Tell whether the outbox entries behind `after` up to `through` are the very ones that the journal has.

    Keys alone do not tell: a Redis that went back settles the same requests again, at other times.
    """
    while after < through:
        page = await balances.read_outbox(shard, after=after, count=min(PAGE, through - after))
        if not page or [entry.seq for entry in page] != list(range(after + 1, after + 1 + len(page))):
            return False
        if not await _all_posted(pool, [entry for entry in page if entry.kind != "apply"]):
            return False
        after = page[-1].seq
    return True


async def _all_posted(pool: Pool, entries: list[OutboxEntry]) -> bool:
    async with journal_answers():
        rows = await pool.fetch(SQL["journal_by_key"], [key_digest(entry.key) for entry in entries])
    posted = {row["key"]: (milliseconds(row["settled_at"]), row["detail"]) for row in rows}
    return all(posted.get(entry.key) == (entry.at, entry.detail) for entry in entries)
