"""The poster: drains the outbox of every shard into the journal, in order and once.

Its position is `shards.posted_seq`, moved in the transaction that writes the rows; so a crash at any point,
or a second poster beside it, repeats nothing. It refuses whatever does not continue the books exactly,
and has such a shard rebuilt.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from ledger.balances import Balances
from ledger.changes import apply_due
from ledger.entries import HOUSE_SHARD
from ledger.errors import BalanceUnavailable, BrokenInvariant, JournalUnavailable, LedgerError, NotPostedYet, WrongStore
from ledger.holds import OutboxEntry, ShardMeta
from ledger.housekeeping import Housekeeping
from ledger.journal import Pool, ShardPosition, journal_answers, journal_transaction, lock_shards, now_ms, read_shards
from ledger.outbox_parts import ReadPace, in_parts
from ledger.posting import Posting
from ledger.queries import SQL
from ledger.rebuild import JOURNAL_WENT_BACK, needs_rebuild, rebuild_shard, shards_by_activity
from ledger.resting import ends_at_rest, pause, rest
from ledger.watermarks import tail_matches
from telemetry import metrics

log = structlog.get_logger("ledger")

BATCH_MAX: Final = 1000  # entries in one transaction
SHARD_ENTRIES_MIN: Final = 20
BUSY_ENTRIES_MIN: Final = 400  # fewer are not worth a turn of their own: a turn looks at every shard
BUSY_PAUSE_SECONDS: Final = 0.005
CALM_PAUSE_SECONDS: Final = 0.04
IDLE_PAUSE_SECONDS: Final = 0.05
FAILURE_PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
REBUILDS_AT_ONCE: Final = 4
REBUILD_PAUSE_SECONDS_MAX: Final = 60.0
GAP_TRIES: Final = 5


@dataclass(slots=True)
class Batch:
    """What one transaction posted: new positions by shard, how many entries, and shards that do not continue, with the reason."""

    posted: dict[int, int] = field(default_factory=dict)
    entries: int = 0
    refused: dict[int, str] = field(default_factory=dict)


async def post_batch(pool: Pool, entries: Mapping[int, Sequence[OutboxEntry]], epochs: Mapping[int, int]) -> Batch:
    """Post entries of several shards in one transaction, each shard from its position on as far as it continues.

    A shard that another poster has moved on meanwhile, or that is in another epoch by now, is left alone.

    Raises:
        JournalUnavailable: Postgres did not answer; nothing was posted, or all of it was.
    """
    batch = Batch()
    async with journal_transaction(pool) as connection:
        locked = await lock_shards(connection, entries)
        positions = {
            shard: position
            for shard, position in locked.items()
            if position.state == "open" and position.epoch == epochs[shard] and entries[shard] and entries[shard][0].seq >= position.posted_seq + 1
        }
        posting = await Posting.prepare(connection, positions, {shard: entries[shard] for shard in positions})
        for shard, position in positions.items():
            reason = await _post_shard(posting, position, entries[shard])
            if reason:
                batch.refused[shard] = reason
            if position.posted_seq >= entries[shard][0].seq:
                batch.posted[shard] = position.posted_seq
                batch.entries += position.posted_seq - entries[shard][0].seq + 1
        await posting.writer.flush()
    return batch


async def _post_shard(posting: Posting, position: ShardPosition, entries: Sequence[OutboxEntry]) -> str:
    """Post as far as the entries continue the books; return why it stopped before their end, or nothing."""
    for entry in entries:
        if entry.seq != position.posted_seq + 1:
            return "gap"
        if entry.epoch != position.epoch:
            return "entry_of_another_epoch"
        try:
            if not await posting.post(position.shard, entry):
                return "does_not_continue"
        except BrokenInvariant as error:
            log.critical("entry_unreadable", shard=position.shard, seq=entry.seq, error=str(error))
            return "unreadable"
        position.posted_seq = entry.seq
    return ""


class Poster:
    """One running poster. Any number may run; each transition is safe against the others."""

    def __init__(self, pool: Pool, balances: Balances, *, retention_hours: int) -> None:
        self._pool, self._balances = pool, balances
        self._housekeeping = Housekeeping(pool, balances, retention_ms=retention_hours * 3_600_000)
        self._marked: dict[int, tuple[int, int]] = {}  # shard: epoch and watermark that this process has set
        self._gaps: dict[int, int] = {}
        self._rebuilding: set[int] = set()
        self._rebuild_slots = asyncio.Semaphore(REBUILDS_AT_ONCE)
        self._retry_at: dict[int, tuple[float, int]] = {}
        self._pace = ReadPace()
        self._ends: dict[int, int] = {}  # where the outboxes end while there is nothing to do

    async def run(self, stop: asyncio.Event) -> None:
        """Post until `stop` is set; a store that is away is awaited with growing pauses."""
        failures = 0
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                self._ends = {}
                try:
                    seconds = await self.turn(group)
                    failures = 0
                except (JournalUnavailable, BalanceUnavailable, NotPostedYet) as error:
                    seconds = FAILURE_PAUSES[min(failures, len(FAILURE_PAUSES) - 1)]
                    failures += 1
                    await self._measure_blind()
                    log.warning("poster_waits", reason=type(error).__name__, error=str(error), pause_seconds=seconds)
                except LedgerError as error:
                    seconds = FAILURE_PAUSES[-1]
                    log.critical("poster_refuses", reason=type(error).__name__, error=str(error))
                await pause(stop, seconds)
                if self._ends and not stop.is_set():
                    await rest(self._balances, self._ends, stop)

    async def turn(self, group: asyncio.TaskGroup) -> float:
        """Look at every shard once and post what there is; return how long to pause."""
        if not self._balances.instance:
            await self._learn_instance()
        async with journal_answers():
            positions = await read_shards(self._pool)  # before Redis, so that Redis can only be ahead of it
        metas = await self._balances.read_all_meta()
        if any(needs_rebuild(position, metas.get(shard)) == JOURNAL_WENT_BACK for shard, position in positions.items()):
            async with journal_answers():
                positions = await read_shards(self._pool)  # it may just be another poster that was faster
        healthy = await self._watch_health(group, positions, metas)
        waiting = {shard: meta for shard, meta in healthy.items() if meta.seq > positions[shard].posted_seq}
        entries = await self._read(group, positions, waiting)
        posted = await self._post(group, entries, {shard: healthy[shard].epoch for shard in entries})
        await self._apply(positions, healthy)
        await self._housekeeping.round(positions, healthy)
        self._measure(positions, healthy, entries)
        self._ends = ends_at_rest(positions, healthy)
        if posted == 0:
            return IDLE_PAUSE_SECONDS
        return BUSY_PAUSE_SECONDS if posted >= BUSY_ENTRIES_MIN else CALM_PAUSE_SECONDS

    async def _watch_health(
        self, group: asyncio.TaskGroup, positions: Mapping[int, ShardPosition], metas: Mapping[int, ShardMeta | None]
    ) -> dict[int, ShardMeta]:
        """Have broken shards rebuilt, those with recently active accounts first; return the others."""
        healthy: dict[int, ShardMeta] = {}
        broken: dict[int, tuple[str, bool]] = {}
        for shard, position in positions.items():
            meta = metas.get(shard)
            if shard == HOUSE_SHARD:
                continue
            if reason := needs_rebuild(position, meta):
                broken[shard] = (reason, False)
            elif meta is not None and (reason := await self._watermark_fault(shard, meta, position)):
                broken[shard] = (reason, True)
            elif meta is not None:
                healthy[shard] = meta
        metrics.shards_closed.set(len(broken))
        for shard in await shards_by_activity(self._pool, broken) if len(broken) > 1 else broken:
            self._begin_rebuild(group, shard, broken[shard][0], forced=broken[shard][1])
        return healthy

    async def _watermark_fault(self, shard: int, meta: ShardMeta, position: ShardPosition) -> str:
        """Tell what a watermark below the journal's position means: nothing after a crash (it is set now), or a Redis that went back."""
        epoch, marked = self._marked.get(shard, (0, 0))
        if epoch == meta.epoch and meta.posted < marked:
            return "watermark_fell"
        if meta.posted == position.posted_seq:
            return ""
        if not await tail_matches(self._pool, self._balances, shard, after=meta.posted, through=position.posted_seq):
            return "outbox_differs"
        await self._mark(shard, meta.epoch, position.posted_seq)
        return ""

    async def _read(self, group: asyncio.TaskGroup, positions: Mapping[int, ShardPosition], waiting: Mapping[int, ShardMeta]) -> dict[int, list[OutboxEntry]]:
        count = self._pace.count(max(SHARD_ENTRIES_MIN, BATCH_MAX // max(1, len(waiting))), shards=len(waiting))

        async def read(shard: int) -> list[OutboxEntry]:
            try:
                page = await self._balances.read_outbox(shard, after=positions[shard].posted_seq, count=count)
            except BrokenInvariant:
                self._refuse(group, shard, "unreadable")
                return []
            if not page:
                self._refuse(group, shard, "gap")
            return page

        pages = await asyncio.gather(*(read(shard) for shard in waiting))
        entries = {shard: page for shard, page in zip(waiting, pages, strict=True) if page}
        self._pace.learn(entries)
        return entries

    async def _post(self, group: asyncio.TaskGroup, entries: Mapping[int, Sequence[OutboxEntry]], epochs: Mapping[int, int]) -> int:
        posted, refused = 0, set[int]()
        for part in in_parts(entries):
            batch = await post_batch(self._pool, {shard: page for shard, page in part.items() if shard not in refused}, epochs)
            posted += batch.entries
            metrics.posted_total.inc(batch.entries)
            await asyncio.gather(*(self._mark(shard, epochs[shard], seq) for shard, seq in batch.posted.items()))
            for shard, reason in batch.refused.items():
                self._refuse(group, shard, reason)
            refused.update(batch.refused)
        return posted

    def _refuse(self, group: asyncio.TaskGroup, shard: int, reason: str) -> None:
        """Rebuild a shard that does not continue; a gap may be an answer cut short, so it is asked for again first."""
        if reason == "gap":
            self._gaps[shard] = self._gaps.get(shard, 0) + 1
            if self._gaps[shard] < GAP_TRIES:
                return
        log.error("shard_does_not_continue", shard=shard, reason=reason)
        self._begin_rebuild(group, shard, reason, forced=True)

    async def _mark(self, shard: int, epoch: int, posted: int) -> None:
        self._gaps.pop(shard, None)
        self._marked[shard] = (epoch, posted)
        try:
            await self._balances.mark_posted(shard, epoch, posted)
        except BalanceUnavailable as error:
            log.warning("watermark_not_set", shard=shard, error=str(error))
            self._marked.pop(shard)  # it is set, or the shard found to be broken, on the next turn

    async def _apply(self, positions: Mapping[int, ShardPosition], healthy: Mapping[int, ShardMeta]) -> None:
        for shard, meta in healthy.items():
            if positions[shard].due_seq > meta.due_seq:
                try:
                    await apply_due(self._pool, self._balances, shard)
                except (BalanceUnavailable, BrokenInvariant) as error:
                    log.warning("change_waits", shard=shard, error=str(error))

    def _begin_rebuild(self, group: asyncio.TaskGroup, shard: int, reason: str, *, forced: bool) -> None:
        if shard in self._rebuilding or time.monotonic() < self._retry_at.get(shard, (0.0, 0))[0]:
            return
        self._rebuilding.add(shard)
        group.create_task(self._rebuild(shard, reason, forced=forced))

    async def _rebuild(self, shard: int, reason: str, *, forced: bool) -> None:
        try:
            async with self._rebuild_slots:
                await rebuild_shard(self._pool, self._balances, shard, reason=reason, forced=forced)
            self._retry_at.pop(shard, None)
            self._marked.pop(shard, None)
            self._housekeeping.forget_head(shard)
        except LedgerError as error:
            failures = self._retry_at.get(shard, (0.0, 0))[1] + 1
            longest = REBUILD_PAUSE_SECONDS_MAX if isinstance(error, BrokenInvariant) else FAILURE_PAUSES[-1]
            pause = min(longest, 0.1 * 2 ** min(failures, 10))
            self._retry_at[shard] = (time.monotonic() + pause, failures)
            log.critical("rebuild_failed", shard=shard, reason=reason, error=str(error), pause_seconds=pause)
        finally:
            self._gaps.pop(shard, None)
            self._rebuilding.discard(shard)

    async def _learn_instance(self) -> None:
        """Take the instance from the journal: this process must never rebuild the shards of another one."""
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["read_instance"])
        if row is None:
            raise WrongStore("the database has no instance: start it with `level5 migrate` or `level5 up` first")
        self._balances.instance = row["instance_id"]

    async def _measure_blind(self) -> None:
        """Show how the outbox grows while the journal is away."""
        try:
            metas = await self._balances.read_all_meta()
        except LedgerError:
            return
        metrics.outbox_depth.set(sum(meta.seq - meta.posted for meta in metas.values() if meta is not None))

    def _measure(self, positions: Mapping[int, ShardPosition], healthy: Mapping[int, ShardMeta], entries: Mapping[int, Sequence[OutboxEntry]]) -> None:
        metrics.outbox_depth.set(sum(max(0, meta.seq - positions[shard].posted_seq) for shard, meta in healthy.items()))
        oldest = min((page[0].at for page in entries.values()), default=None)
        metrics.poster_lag_seconds.set(0 if oldest is None else max(0, now_ms() - oldest) / 1000)


async def run_poster(pool: Pool, balances: Balances, *, retention_hours: int, stop: asyncio.Event) -> None:
    """Run a poster until `stop` is set. Neither store going away ends it."""
    await Poster(pool, balances, retention_hours=retention_hours).run(stop)
