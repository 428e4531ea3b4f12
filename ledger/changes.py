"""Journal to Redis: applying what is due, and charges that reach the journal by the late way."""

import asyncio
import json
import time
from typing import Final

from ledger.balances import Balances
from ledger.change_rows import Change, record_change
from ledger.entries import HOUSE_SHARD, AccountId, ChargeRecord
from ledger.errors import BalanceUnavailable, BrokenInvariant, JournalUnavailable, NotPostedYet, ShardClosed
from ledger.holds import ShardMeta
from ledger.journal import JournalWriter, Pool, ShardPosition, journal_answers, journal_transaction, lock_shards, now_ms, read_figures
from ledger.posting import Posting
from ledger.queries import SQL

CHANGES_MAX: Final = 500  # read at a time
GAPS_MAX: Final = 5
WATERMARK_SECONDS_MAX: Final = 5.0
WATERMARK_PAUSES: Final = (0.005, 0.01, 0.02, 0.05)


async def read_open_meta(balances: Balances, shard: int) -> ShardMeta:
    """Return what Redis knows of a shard that is open there.

    Raises:
        ShardClosed: it is missing or closed.
        BalanceUnavailable: Redis did not answer.
    """
    meta = await balances.read_meta(shard)
    if meta is None or meta.state != "open":
        raise ShardClosed(shard)
    return meta


def require_current(position: ShardPosition, hot: ShardMeta | None) -> None:
    """Refuse changes on a journal that was restored from a backup until it has replayed what it lacks.

    A new account could else get an id that Redis knows as another's. `hot` was read before the position.

    Raises:
        JournalUnavailable: Redis has seen more of this shard's journal than there is.
    """
    if hot is not None and (hot.posted > position.posted_seq or hot.due_seq > position.due_seq):
        raise JournalUnavailable("the journal is older than the hot balances and is being brought up to date; ask again shortly")


async def apply_due(pool: Pool, balances: Balances, shard: int) -> int:
    """Apply every change that Redis is owed, strictly in order; return how many were new to it.

    Any number of appliers may run at once: a change at or below Redis's `due_seq` is done already.

    Raises:
        ShardClosed: the shard is not open; its rebuild takes the changes along.
        BalanceUnavailable, JournalUnavailable: a store did not answer; repeating is harmless.
    """
    applied, gaps = 0, 0
    while gaps < GAPS_MAX:
        meta = await read_open_meta(balances, shard)
        async with journal_answers():
            rows = await pool.fetch(SQL["dues_after"], shard, meta.due_seq, CHANGES_MAX)
        if not rows:
            return applied
        for row in rows:
            status = await balances.apply_change(
                shard, due_seq=row["due_seq"], account=AccountId(row["account_id"]), key=row["key"], amount=row["amount"],
                fields=json.loads(row["fields"]), detail=row["detail"], epoch=meta.epoch,
            )  # fmt: skip
            applied += status == "ok"
            if status == "gap":
                gaps += 1
                break
    raise BrokenInvariant(f"the changes that shard {shard} is owed have a gap")


async def wait_posted(pool: Pool, shard: int, *, epoch: int, seq: int, seconds_max: float) -> None:
    """Wait until the journal has everything up to `seq`, or the shard has moved on to a newer epoch.

    Raises:
        NotPostedYet: not within `seconds_max`.
        JournalUnavailable: Postgres did not answer.
    """
    deadline = time.monotonic() + seconds_max
    for attempt in range(1_000_000):
        async with journal_answers():
            position = await pool.fetchrow(SQL["posted_position"], shard)
        if position is not None and (position["posted_seq"] >= seq or position["epoch"] > epoch):
            return
        pause = WATERMARK_PAUSES[min(attempt, len(WATERMARK_PAUSES) - 1)]
        if time.monotonic() + pause > deadline:
            break
        await asyncio.sleep(pause)
    raise NotPostedYet(f"shard {shard} is not posted up to {seq}")


class LateJournal:
    """Charges for holds that Redis no longer knows: decided by the journal, which never forgets a key."""

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances = pool, balances

    async def epochs(self) -> dict[int, int]:
        """Return the journal's epoch of every shard that is open there.

        Raises:
            JournalUnavailable: Postgres did not answer.
        """
        async with journal_answers():
            rows = await self._pool.fetch(SQL["read_shards"])
        return {row["shard"]: row["epoch"] for row in rows if row["state"] == "open" and row["shard"] != HOUSE_SHARD}

    async def charge_late(self, record: ChargeRecord, *, account: AccountId, shard: int, hold_epoch: int) -> None:
        """Charge `record` unless the journal has it; where it has another figure, adjust by the difference, once.

        First everything that the shard's Redis has taken so far is awaited in the journal: the charge may be among it.
        Repeating is harmless. On return the charge is in the journal; Redis has it too, or will when it answers.

        Raises:
            ShardClosed: the shard is being rebuilt, or the journal is older than the hold; ask again.
            NotPostedYet: the journal is behind; ask again.
            BalanceUnavailable, JournalUnavailable: a store did not answer; ask again.
        """
        meta = await read_open_meta(self._balances, shard)
        if meta.epoch < hold_epoch:
            raise ShardClosed(shard)
        await wait_posted(self._pool, shard, epoch=meta.epoch, seq=meta.seq, seconds_max=WATERMARK_SECONDS_MAX)
        if not await self._record(record, account=account, shard=shard, epoch=meta.epoch):
            return
        try:
            await apply_due(self._pool, self._balances, shard)
        except BalanceUnavailable:
            return  # the poster applies it when the shard is open again

    async def _record(self, record: ChargeRecord, *, account: AccountId, shard: int, epoch: int) -> bool:
        async with journal_transaction(self._pool) as connection:
            positions = await lock_shards(connection, [shard])
            if positions[shard].state != "open" or positions[shard].epoch != epoch:
                raise ShardClosed(shard)
            posting = Posting(JournalWriter(connection, positions, await read_figures(connection, [account])))
            if account not in posting.writer.figures:
                raise BrokenInvariant(f"a late charge names account {account}, which the journal does not know")
            kind, amount = await self._what_is_missing(posting, record)
            if kind == "":
                return False
            at = now_ms()
            seq = await posting.add_charge(shard, record, account=account, kind=kind, amount=amount, at=at, line=False)
            detail = {"kind": kind, "created_at": at, "record": json.loads(record.to_json())}
            change = Change(account=account, key=f"{kind}:{record.request_id}", amount=-amount, fields={}, detail=detail, journal_seq=seq)
            await record_change(posting.writer, shard, change)
            await posting.writer.flush()
            return True

    async def _what_is_missing(self, posting: Posting, record: ChargeRecord) -> tuple[str, int]:
        charged = await posting.charge_of(record.request_id)
        if charged is None:
            return "charge", record.amount
        key = f"adjust:{record.request_id}"
        await posting.learn_keys([key])
        if key in posting.known or charged.amount == record.amount:
            return "", 0
        return "adjust", record.amount - charged.amount
