"""Rebuilding a shard of Redis from the journal, after either store lost or went back on what it had.

The eight steps of the protocol. A crash anywhere leaves the shard `rebuilding` in Postgres and closed or missing
in Redis, and the next poster begins again in a newer epoch. Nothing is served from the shard meanwhile.
"""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from ledger.balances import Balances
from ledger.entries import AccountId
from ledger.errors import BrokenInvariant
from ledger.holds import AccountRow, OutboxEntry, ShardMeta
from ledger.journal import (
    ACQUIRE_SECONDS_MAX,
    LONG_READ_SECONDS_MAX,
    Connection,
    JournalWriter,
    Pool,
    ShardPosition,
    insert_audit,
    journal_answers,
    journal_transaction,
    lock_shards,
    read_figures,
)  # fmt: skip
from ledger.outbox_parts import in_parts
from ledger.posting import DueRow, Posting
from ledger.queries import SQL
from ledger.shard_link import meta_key, outbox_key
from ledger.stores import redis_command
from ledger.tokens import STATES, TokenScope, TokenState
from telemetry import metrics

log = structlog.get_logger("ledger")

JOURNAL_WENT_BACK: Final = "journal_went_back"
PAGE: Final = 1000
ACCOUNTS_PAGE: Final = 5000
_LOCK_CLASS: Final = 0x6C35  # advisory locks of this kind: one per shard


def needs_rebuild(position: ShardPosition, meta: ShardMeta | None) -> str:
    """Return why Redis's copy of a shard cannot stand beside the journal's, or nothing. `position` was read first."""
    if position.state != "open":
        return "unfinished_rebuild"
    if meta is None:
        return "missing"
    if meta.state != "open":
        return "closed"
    if meta.epoch != position.epoch:
        return "other_epoch"
    if meta.seq < position.posted_seq:
        return "redis_went_back"
    if meta.posted > position.posted_seq or meta.due_seq > position.due_seq:
        return JOURNAL_WENT_BACK
    return ""


async def rebuild_shard(pool: Pool, balances: Balances, shard: int, *, reason: str = "asked_for", forced: bool = True, accept_loss: bool = False) -> bool:
    """Rebuild one shard; return False where another process is at it, or (unless `forced`) nothing is wrong after all.

    Raises:
        BrokenInvariant: entries that the journal needs are no longer in Redis, so that money would be lost: restore a newer
            backup of Postgres, or accept the loss with `accept_loss`. The shard stays closed.
        BalanceUnavailable, JournalUnavailable: a store went away; the rebuild is begun again later.
    """
    async with _rebuild_lock(pool, shard) as locked:
        if not locked:
            return False
        began = time.monotonic()
        epoch = await _begin(pool, balances, shard, forced=forced)
        if epoch == 0:
            return False
        log.warning("rebuild_begun", shard=shard, epoch=epoch, reason=reason)
        await balances.close_shard(shard)
        meta = await balances.read_meta(shard)
        posted = await _post_rest(pool, balances, shard, epoch=epoch, meta=meta, accept_loss=accept_loss)
        position, rows = await _read_books(pool, shard, epoch=epoch)
        await _write_accounts(balances, shard, epoch=epoch, rows=rows)
        mode, instance = await _identity(pool)
        await balances.open_shard(
            shard, epoch=epoch, seq=position.posted_seq, due_seq=position.due_seq, posted=position.posted_seq, instance=instance, mode=mode
        )  # fmt: skip
        seconds = time.monotonic() - began
        await _finish(pool, shard, epoch=epoch, detail={"shard": shard, "epoch": epoch, "reason": reason, "entries": posted, "accounts": len(rows)})
        if meta is not None:
            await balances.drop_epoch(shard, meta.epoch)
        metrics.rebuilds_total.inc()
        log.warning("rebuild_finished", shard=shard, epoch=epoch, entries=posted, accounts=len(rows), seconds=round(seconds, 3))
        return True


async def shards_by_activity(pool: Pool, shards: Iterable[int]) -> list[int]:
    """Order shards so that those with recently active accounts come first."""
    async with journal_answers():
        rows = await pool.fetch(SQL["shards_by_activity"])
    active = [row["shard"] for row in rows]
    wanted = set(shards)
    return [shard for shard in active if shard in wanted] + sorted(wanted.difference(active))


@asynccontextmanager
async def _rebuild_lock(pool: Pool, shard: int) -> AsyncIterator[bool]:
    """Hold the shard's rebuild for one process: it ends with the connection, so a dead process leaves nothing behind."""
    async with journal_answers(), pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
        locked = await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _LOCK_CLASS, shard)
        try:
            yield bool(locked)
        finally:
            if locked:
                await connection.execute("SELECT pg_advisory_unlock($1, $2)", _LOCK_CLASS, shard)


async def _begin(pool: Pool, balances: Balances, shard: int, *, forced: bool) -> int:
    """Step 1: fence the journal's side with a newer epoch than either store has; return it, or 0 where all is well."""
    async with journal_transaction(pool) as connection:
        position = (await lock_shards(connection, [shard]))[shard]
        # Read while the row is locked: no poster can move the journal meanwhile.
        meta = (await balances.read_all_meta())[shard]
        if not forced and not needs_rebuild(position, meta):
            return 0
        # Its epoch is read past the checks of `read_all_meta`, which shows a shard that went back as missing.
        found = await redis_command(balances, "HGET", meta_key(shard), "epoch")
        epoch = max(position.epoch, balances.epoch(shard), int(found or 0)) + 1
        await connection.execute(SQL["begin_rebuild"], shard, epoch)
        return epoch


async def _post_rest(pool: Pool, balances: Balances, shard: int, *, epoch: int, meta: ShardMeta | None, accept_loss: bool) -> int:
    """Step 3: post what the retained outbox has and the journal has not, and number on from the higher of both.

    All of it is read, not only what is behind the journal's position: a Redis that went back gave numbers a second time.
    """
    after = posted = 0
    while page := await balances.read_outbox(shard, after=after, count=PAGE):
        for part in in_parts({shard: page}):
            posted += await _post_page(pool, shard, part[shard], epoch=epoch, accept_loss=accept_loss)
        after = page[-1].seq
    last = await _last_outbox_id(balances, shard)
    async with journal_transaction(pool) as connection:
        positions = await _lock_rebuilding(connection, shard, epoch=epoch)
        reached = max(last, meta.seq if meta else 0)
        if reached > positions[shard].posted_seq:
            _refuse_loss(shard, positions[shard].posted_seq + 1, reached, accept_loss=accept_loss)
            positions[shard].posted_seq = reached
            await JournalWriter(connection, positions, {}).flush()
    return posted


async def _post_page(pool: Pool, shard: int, page: Sequence[OutboxEntry], *, epoch: int, accept_loss: bool) -> int:
    async with journal_transaction(pool) as connection:
        positions = await _lock_rebuilding(connection, shard, epoch=epoch)
        position = positions[shard]
        posting = await Posting.prepare(connection, positions, {shard: page})
        before = position.chain_seq
        for entry in page:
            if entry.seq > position.posted_seq + 1:
                _refuse_loss(shard, position.posted_seq + 1, entry.seq - 1, accept_loss=accept_loss)
            await posting.repost(shard, entry)
            position.posted_seq = max(position.posted_seq, entry.seq)
        await posting.writer.flush()
        return position.chain_seq - before


def _refuse_loss(shard: int, first: int, last: int, *, accept_loss: bool) -> None:
    if not accept_loss:
        raise BrokenInvariant(
            f"shard {shard}: changes {first} to {last} are neither in the journal nor in Redis's outbox; "
            "restore a newer backup of Postgres, or accept the loss; the shard stays closed"
        )
    log.critical("loss_accepted", shard=shard, first=first, last=last)


async def _last_outbox_id(balances: Balances, shard: int) -> int:
    """Return the highest number the outbox ever gave: the next one must be above it."""
    newest = await redis_command(balances, "XREVRANGE", outbox_key(shard), "+", "-", "COUNT", 1)
    return int(newest[0][0].split(b"-")[0]) if newest else 0


async def _read_books(pool: Pool, shard: int, *, epoch: int) -> tuple[ShardPosition, list[AccountRow]]:
    """Step 4, one transaction: take every due change as applied, with its statement line, and read what Redis is to hold."""
    async with journal_transaction(pool) as connection:
        positions = await _lock_rebuilding(connection, shard, epoch=epoch)
        dues = [DueRow(**dict(row)) for row in await connection.fetch(SQL["dues_not_applied"], shard, positions[shard].due_seq)]
        posting = Posting(JournalWriter(connection, positions, await read_figures(connection, {due.account_id for due in dues})))
        for due in dues:
            posting.add_applied(due)
        await posting.writer.flush()
        return positions[shard], await _read_accounts(connection, shard)


async def _read_accounts(connection: Connection, shard: int) -> list[AccountRow]:
    tokens: dict[int, dict[str, TokenState]] = {}
    for row in await connection.fetch(SQL["rebuild_tokens"], shard, timeout=LONG_READ_SECONDS_MAX):
        state = TokenState.REVOKED if row["revoked"] else STATES[TokenScope(row["scope"])]
        tokens.setdefault(row["account_id"], {})[row["digest"]] = state
    keys: dict[int, dict[str, str]] = {}
    for row in await connection.fetch(SQL["rebuild_keys"], shard, timeout=LONG_READ_SECONDS_MAX):
        keys.setdefault(row["account_id"], {})[row["digest"]] = row["key_id"]
    months = {row["account_id"]: row for row in await connection.fetch(SQL["rebuild_months"], shard, timeout=LONG_READ_SECONDS_MAX)}
    accounts = []
    for row in await connection.fetch(SQL["rebuild_accounts"], shard, timeout=LONG_READ_SECONDS_MAX):
        if row["balance"] != row["statement_balance"]:
            raise BrokenInvariant(f"account {row['id']}: the journal says {row['balance']}, its statement {row['statement_balance']} microunits")
        month = months.get(row["id"])
        accounts.append(
            AccountRow(
                account=AccountId(row["id"]), balance=row["balance"], n=row["n"], charged=row["charged"],
                status=row["status"], line=row["line"], tokens=tokens.get(row["id"], {}), tier=row["tier"], org=row["public_id"], funded=row["funded"],
                month=month["month"] if month else 0, tracked=month["tokens"] if month else 0, keys=keys.get(row["id"], {}),
            )
        )  # fmt: skip
    return accounts


async def _write_accounts(balances: Balances, shard: int, *, epoch: int, rows: Sequence[AccountRow]) -> None:
    """Steps 5 and 6: write the accounts under the new epoch's names and compare count and sum.

    Raises:
        BrokenInvariant: Redis holds something else than was written.
    """
    for start in range(0, len(rows), ACCOUNTS_PAGE):
        await balances.write_accounts(shard, epoch, rows[start : start + ACCOUNTS_PAGE])
        if len(rows) > ACCOUNTS_PAGE:
            log.info("rebuild_progress", shard=shard, accounts=min(start + ACCOUNTS_PAGE, len(rows)), of=len(rows))
    expected = (len(rows), sum(row.balance for row in rows))
    if (found := await balances.account_totals(shard, epoch)) != expected:
        raise BrokenInvariant(f"shard {shard}: Redis holds {found} (accounts, microunits) after a rebuild, the journal {expected}")


async def _finish(pool: Pool, shard: int, *, epoch: int, detail: dict[str, object]) -> None:
    """Step 7, the journal's side, after Redis is open: a crash in between repeats the rebuild and loses nothing."""
    async with journal_transaction(pool) as connection:
        await lock_shards(connection, [shard])
        await connection.execute(SQL["finish_rebuild"], shard, epoch)
        await insert_audit(connection, actor="poster", action="rebuild", detail=detail)


async def _lock_rebuilding(connection: Connection, shard: int, *, epoch: int) -> dict[int, ShardPosition]:
    positions = await lock_shards(connection, [shard])
    if positions[shard].state != "rebuilding" or positions[shard].epoch != epoch:
        raise BrokenInvariant(f"shard {shard} was taken over by another rebuild")
    return positions


async def _identity(pool: Pool) -> tuple[str, str]:
    async with journal_answers():
        row = await pool.fetchrow(SQL["read_instance"])
    if row is None:
        raise BrokenInvariant("the database has no instance; claim the stores first")
    return row["mode"], row["instance_id"]
