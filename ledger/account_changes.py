"""Recording what changes an account besides its usage: once in the journal, and in Redis at once where it answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog

from ledger.account_values import KeyReused
from ledger.balances import Balances
from ledger.change_rows import Change, record_change
from ledger.changes import apply_due, require_current
from ledger.errors import BalanceUnavailable, JournalUnavailable
from ledger.holds import ShardMeta
from ledger.journal import Connection, JournalWriter, Pool, driver, journal_transaction, lock_shards, read_figures
from ledger.money import AMOUNT_MAX
from ledger.postings import body_digest, key_digest
from ledger.queries import SQL

log = structlog.get_logger("ledger")

type Guard = Callable[[Connection], Awaitable[None]]

APPLY_TRIES: Final = 4
APPLY_PAUSE_SECONDS: Final = 0.1
TOO_MUCH: Final = "a credit is above zero, and no account can hold 2^53 microunits"


class AccountChanges:
    """Writes changes of accounts and has Redis take them.

    Any method raises JournalUnavailable where Postgres does not answer; repeating is then right.
    """

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances = pool, balances

    async def record(self, shard: int, change: Change, *, meta: ShardMeta | None = None, guard: Guard | None = None) -> int | None:
        """Write a change; return the journal's balance after it, or None where the key is known with the same content.

        `guard` looks behind the lock of the shard, and refuses by raising.
        """
        try:
            return await self._record_once(shard, change, meta=meta, guard=guard)
        except driver.UniqueViolationError:
            # Another shard's change took the same key meanwhile; it is known now.
            return await self._record_once(shard, change, meta=meta, guard=guard)

    async def _record_once(self, shard: int, change: Change, *, meta: ShardMeta | None, guard: Guard | None) -> int | None:
        hot = meta or await self._glance(shard)
        async with journal_transaction(self._pool) as connection:
            positions = await lock_shards(connection, [shard])
            require_current(positions[shard], hot)
            known = await connection.fetchrow(SQL["known_keys"], [key_digest(change.key)])
            if known is not None:
                await self._require_same(connection, change)
                return None
            if guard is not None:
                await guard(connection)
            writer = JournalWriter(connection, positions, await read_figures(connection, [change.account]))
            if change.amount and writer.figures[change.account].balance + change.amount > AMOUNT_MAX:
                raise ValueError(TOO_MUCH)  # Redis would refuse it, and with it every later change of the shard
            await record_change(writer, shard, change)
            await writer.flush()
            return writer.figures[change.account].balance

    async def _require_same(self, connection: Any, change: Change) -> None:
        """Compare with what the key stands for; a repeat has another time only."""
        row = (await connection.fetch(SQL["journal_by_key"], [key_digest(change.key)]))[0]
        again = Change(
            account=change.account, key=change.key, amount=change.amount, fields=change.fields,
            detail={**change.detail, "created_at": json.loads(row["detail"])["created_at"]},
        )  # fmt: skip
        if body_digest(again.transaction) != row["body_sha256"]:
            raise KeyReused(f"{change.key} was given before, for something else")

    async def _glance(self, shard: int) -> ShardMeta | None:
        try:
            return await self._balances.read_meta(shard)
        except BalanceUnavailable:
            return None

    async def apply(self, shard: int, *, required: bool = False) -> bool:
        """Apply what is due at once; without an answer the poster does it later.

        Raises:
            BalanceUnavailable: it is `required` and Redis did not take it.
        """
        for attempt in range(APPLY_TRIES):
            try:
                await apply_due(self._pool, self._balances, shard)
            except (BalanceUnavailable, JournalUnavailable) as error:
                if not required:
                    log.warning("change_waits", shard=shard, error=str(error))
                    return False
                if attempt == APPLY_TRIES - 1:
                    raise
                await asyncio.sleep(APPLY_PAUSE_SECONDS)
            else:
                return True
        return False
