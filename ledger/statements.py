"""What a customer sees of the books: the numbered lines of one account."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from ledger.accounts import Account
from ledger.balances import Balances
from ledger.changes import read_open_meta, wait_posted
from ledger.journal import COMMAND_SECONDS_MAX, Pool, journal_answers
from ledger.queries import SQL

LIMIT_MAX: Final = 200
POSTED_SECONDS_MAX: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEntry:
    """One line: `id` counts the account's changes from 1, amounts are microunits, a charge is negative.

    Token counts are None where the answer reported none, and on lines that are no charge.
    """

    id: int
    type: str
    usdc_amount: int
    balance_after: int
    request_id: str | None
    provider: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    estimated: bool
    created_at: datetime


async def transactions(
    pool: Pool,
    balances: Balances | None,
    account: Account,
    *,
    page: int = 1,
    limit: int = 50,
    order: Literal["asc", "desc"] = "desc",
    before: int | None = None,
    type: str | Sequence[str] | None = None,  # noqa: A002  # the name of the API's own parameter
    model: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[StatementEntry]:
    """Return a page of the account's lines, newest first, with everything that Redis had charged when this was called.

    `before` leaves out that line and later ones; `since` is inclusive, `until` is not. Without `balances` nothing is awaited.

    Raises:
        NotPostedYet: the journal is more than two seconds behind Redis.
        BalanceUnavailable, JournalUnavailable: a store did not answer.
        ValueError: `page` or `limit` is out of range.
    """
    if page < 1 or not 1 <= limit <= LIMIT_MAX:
        raise ValueError(f"page begins at 1 and limit is 1 to {LIMIT_MAX}")
    if balances is not None:
        meta = await read_open_meta(balances, account.shard)
        await wait_posted(pool, account.shard, epoch=meta.epoch, seq=meta.seq, seconds_max=POSTED_SECONDS_MAX)
    types = [type] if isinstance(type, str) else list(type) if type is not None else None
    query = SQL["statement_ascending"] if order == "asc" else SQL["statement_descending"]
    async with journal_answers():
        rows = await pool.fetch(query, account.id, before, types, model, since, until, limit, (page - 1) * limit, timeout=COMMAND_SECONDS_MAX)
    return [StatementEntry(**dict(row)) for row in rows]
