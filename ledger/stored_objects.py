"""What answers left at a provider, and whose it is: only the account that made an object may refer to it.

The settlement of an answer writes the digests of what it made into the account's shard, where they stay for a
day or two; the poster writes them beside the journal, where they stay for thirty. So Redis answers at once for what was
made lately, and what it does not know (older, or lost with a rebuild) the journal's database decides.
"""

from collections.abc import Sequence
from typing import Final

from ledger.balances import Balances
from ledger.entries import AccountId
from ledger.journal import ACQUIRE_SECONDS_MAX, Pool, journal_answers
from ledger.made_rows import read_digest, write_digest
from ledger.queries import SQL
from ledger.tokens import ApiToken

KEPT_DAYS: Final = 30
LOOKUP_SECONDS_MAX: Final = 5.0


class StoredObjects:
    """Tells who made an object, by the digest of its id (`ledger.entries.object_digest`)."""

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances = pool, balances

    async def not_made_lately(self, token: ApiToken, digests: Sequence[str]) -> frozenset[str]:
        """Return those of `digests` that the account did not make today or yesterday, as far as Redis knows.

        Raises:
            ShardClosed, BalanceUnavailable: Redis cannot tell.
        """
        made = await self._balances.made_lately(token.account, token.shard, digests)
        return frozenset(digests) - made

    async def never_made(self, account: AccountId, digests: Sequence[str]) -> frozenset[str]:
        """Return those of `digests` that the account did not make within thirty days, as far as it is posted.

        Raises:
            JournalUnavailable: Postgres did not answer, so nobody knows.
        """
        wanted = [read_digest(digest) for digest in digests]
        async with journal_answers(), self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
            rows = await connection.fetch(SQL["find_stored"], account, wanted, KEPT_DAYS, timeout=LOOKUP_SECONDS_MAX)
        return frozenset(digests) - {write_digest(row["digest"]) for row in rows}
