"""Charges until the journal has them: remembered in memory, then on disk, and sent the late way when Redis lost them.

A settlement that Redis answered is only as safe as Redis. So every charge is kept here until the shard's
posted watermark has passed it. When the shard's epoch changes first, the charge goes to the journal itself,
which knows for ever whether it was charged before. When Redis was started anew, perhaps with older data,
the charge is settled again, which changes nothing where Redis still has it: without that, others could
move a rolled-back shard past the charge's number, and the watermark would speak for another charge.
"""

import asyncio
from dataclasses import replace
from typing import Protocol

import structlog

from ledger.balances import Balances
from ledger.entries import AccountId, ChargeRecord, RequestId
from ledger.errors import BalanceUnavailable, BrokenInvariant, HoldUnknown, LedgerError, ShardClosed
from ledger.spool import Spool, SpoolFile, UnpostedCharge
from telemetry import metrics

log = structlog.get_logger("ledger")

# About 2 KiB each: some 10 MiB in the worst case. Beyond it all but the newest half as many go to disk.
REMEMBERED_MAX = 5_000
DELIVERIES_PER_ROUND_MAX = 200
FILES_PER_ROUND_MAX = 4
FAILURES_MAX = 3  # refusals after which a round gives up, so that one bad charge does not keep the others
LATE_SECONDS_MAX = 10.0


class LateCharges(Protocol):
    """The late way into the books: straight to the journal, under the shard's lock."""

    async def charge_late(self, record: ChargeRecord, *, account: AccountId, shard: int, hold_epoch: int) -> None:
        """Charge `record` unless the journal has it, or the difference to what it has. Repeating is harmless.

        Raises:
            LedgerError: not now (no journal, or the shard is not open in a way that would make it safe).
        """
        ...

    async def epochs(self) -> dict[int, int]:
        """Return the epoch of every shard as the journal knows it."""
        ...


class Delivery:
    """Keeps charges until they are in the journal. `round` does one step of everything that is due."""

    def __init__(self, balances: Balances, spool: Spool, late: LateCharges | None) -> None:
        self._balances, self._spool, self._late = balances, spool, late
        self._remembered: dict[RequestId, UnpostedCharge] = {}  # settled, not known to be posted
        self._homeless: dict[RequestId, UnpostedCharge] = {}  # not settled, and the disk refused them
        self._server = ""
        self._posted: dict[int, tuple[int, int]] = {}  # by shard: epoch and watermark, all read from `_server`
        self._failures = 0
        self._refused_until = 0  # so many are remembered before a disk that refused them is asked again
        self._disk = asyncio.Lock()
        self._turn = 0

    @property
    def idle(self) -> bool:
        """Whether nothing waits here, in memory or on disk."""
        return not self._remembered and not self._homeless and self._spool.depth == 0

    @property
    def unspooled(self) -> int:
        """How many charges are neither settled nor on disk; only a spool that cannot be written leaves any.

        Their number is bounded by the requests that were running when the spool failed.
        """
        return len(self._homeless)

    @property
    def server(self) -> str:
        """The run of Redis that was last heard of. Read it before settling, so that it is never too new for the charge."""
        return self._server

    def remember(self, charge: UnpostedCharge) -> bool:
        """Keep a settled charge until its seq is posted. True where that makes too many: `make_room`."""
        self._remembered[charge.record.request_id] = charge
        return self._is_crowded()

    async def defer(self, charge: UnpostedCharge) -> None:
        """Keep a charge that Redis did not take: on disk first, and in memory alone where the disk refuses it."""
        try:
            async with self._disk:
                await asyncio.to_thread(self._spool.append_all, [charge])
        except OSError:
            log.exception("spool_append_failed", request_id=charge.record.request_id)
            self._homeless[charge.record.request_id] = charge
        metrics.holds_total.labels(ending="spooled").inc()
        metrics.spool_depth.set(self._spool.depth)

    def defer_now(self, charge: UnpostedCharge) -> None:
        """Keep a charge whose caller is being cancelled and cannot wait."""
        try:
            self._spool.append_all([charge])
        except OSError:
            log.exception("spool_append_failed", request_id=charge.record.request_id)
            self._homeless[charge.record.request_id] = charge

    def close(self) -> None:
        """Put on disk what the journal is not known to have; whoever comes next delivers it.

        Raises:
            OSError: the spool could not be written.
        """
        if self._remembered or self._homeless:
            self._spool.append_all([*self._homeless.values(), *self._remembered.values()])
            self._remembered.clear()
            self._homeless.clear()
        self._spool.close()

    async def round(self) -> None:
        """Learn how far the journal is, forget what it has, and deliver what Redis or the journal can take now.

        Raises:
            BalanceUnavailable: Redis is away; all is kept.
        """
        files = await asyncio.to_thread(self._spool.replay)
        if not files and not self._remembered and not self._homeless:
            return
        await self._learn_watermarks()
        self._failures = 0
        self._forget_posted()
        for charge in list(self._homeless.values()):
            if await self._deliver(charge):
                del self._homeless[charge.record.request_id]
        moving = [charge for charge in self._remembered.values() if self._is_lost(charge) or charge.server != self._server]
        for charge in moving[:DELIVERIES_PER_ROUND_MAX]:
            if await self._deliver(charge) and self._remembered.get(charge.record.request_id) is charge:
                del self._remembered[charge.record.request_id]
        for file in self._next_files(files):
            await self._replay(file)
        metrics.spool_depth.set(self._spool.depth)
        if self._failures:
            raise BalanceUnavailable("Redis refused some charges; they are kept")

    async def _learn_watermarks(self) -> None:
        """Read the watermarks, then the server's name: with an unchanged name they are of the run that gave the seqs."""
        metas = await self._balances.read_all_meta()
        self._server = await self._balances.server_id()
        self._posted = {shard: (meta.epoch, meta.posted) for shard, meta in metas.items() if meta is not None}

    def _forget_posted(self) -> None:
        for identity in [identity for identity, charge in self._remembered.items() if self._is_posted(charge)]:
            del self._remembered[identity]

    def _next_files(self, files: list[SpoolFile]) -> list[SpoolFile]:
        """Return the files whose turn it is: no file that cannot be delivered may keep others from it."""
        moving = [file for file in files if self._may_move(file)]
        start = self._turn % max(1, len(moving))
        self._turn += FILES_PER_ROUND_MAX
        return (moving[start:] + moving[:start])[:FILES_PER_ROUND_MAX]

    def _is_crowded(self) -> bool:
        return len(self._remembered) > max(REMEMBERED_MAX, self._refused_until)

    async def make_room(self) -> None:
        """Bring to disk what is too much to be remembered, the oldest first. Who calls meanwhile waits for it, which also slows down those who are too fast."""
        async with self._disk:
            if not self._is_crowded():
                return  # somebody else has made room
            crowd = list(self._remembered.items())
            older = crowd[: len(crowd) - REMEMBERED_MAX // 2]
            try:
                await asyncio.to_thread(self._spool.append_all, [charge for _, charge in older])
            except OSError:
                self._refused_until = len(crowd) + REMEMBERED_MAX // 2  # to ask a full disk with every charge would cost more than all charges
                log.exception("spool_append_failed", charges=len(older))
                return
            self._refused_until = 0
            for request_id, charge in older:
                if self._remembered.get(request_id) is charge:
                    del self._remembered[request_id]

    async def _replay(self, file: SpoolFile) -> None:
        charges = await asyncio.to_thread(self._spool.read, file)
        waiting: dict[tuple[int, int, str], int] = {}
        stuck = False
        for charge in charges:
            request_id = charge.record.request_id
            if request_id in file.delivered:
                continue
            seq, server = file.settled.get(request_id, (charge.seq, charge.server))
            if await self._deliver(replace(charge, seq=seq, server=server), file):
                file.delivered.add(request_id)
                continue
            seq, server = file.settled.get(request_id, (seq, server))
            stuck = stuck or seq == 0
            place = (charge.shard, charge.epoch, server)
            waiting[place] = min(waiting.get(place, seq), seq)
        file.waiting = None if stuck else waiting
        if len(file.delivered) >= len({charge.record.request_id for charge in charges}):
            await asyncio.to_thread(self._spool.remove, file, delivered=len(charges))

    def _may_move(self, file: SpoolFile) -> bool:
        """Tell whether a file is worth reading: all of it may just wait for the journal."""
        if not file.waiting:
            return True
        return any(
            server != self._server or self._balances.epoch(shard) > epoch or self._has_passed(shard, epoch, seq)
            for (shard, epoch, server), seq in file.waiting.items()
        )

    async def _deliver(self, charge: UnpostedCharge, file: SpoolFile | None = None) -> bool:
        """Do the next thing for one charge; True when it need not be kept here any longer."""
        if self._is_posted(charge):
            return True
        if self._failures >= FAILURES_MAX:
            return False
        try:
            if charge.late or self._is_lost(charge):
                return await self._charge_late(charge)
            return (charge.seq == 0 or charge.server != self._server) and await self._settle(charge, file)
        except HoldUnknown:
            return await self._charge_late(charge)
        except ShardClosed:
            return False  # until it is rebuilt; then the charge counts as lost
        except BalanceUnavailable as error:
            self._failures += 1
            log.warning("charge_waits", request_id=charge.record.request_id, shard=charge.shard, reason=str(error))
        except BrokenInvariant:
            log.exception("charge_refused", request_id=charge.record.request_id, shard=charge.shard)
        return False

    async def _settle(self, charge: UnpostedCharge, file: SpoolFile | None) -> bool:
        """Settle a kept charge. One from memory is then remembered like any other; one on disk stays there until it is posted."""
        server = self._server
        settlement = await self._balances.settle_charge(charge.record, account=charge.account, shard=charge.shard, epoch=charge.epoch)
        settled = replace(charge, seq=settlement.seq, server=server)
        if charge.seq == 0:
            metrics.holds_total.labels(ending="settled").inc()
        if file is None:
            if self.remember(settled):
                await self.make_room()
            return charge.seq == 0
        file.settled[charge.record.request_id] = (settlement.seq, server)
        return self._is_posted(settled)

    def _is_posted(self, charge: UnpostedCharge) -> bool:
        return charge.seq > 0 and charge.server == self._server and self._has_passed(charge.shard, charge.epoch, charge.seq)

    def _has_passed(self, shard: int, epoch: int, seq: int) -> bool:
        known, posted = self._posted.get(shard, (0, 0))
        return known == epoch and posted >= seq

    def _is_lost(self, charge: UnpostedCharge) -> bool:
        """A newer epoch was opened before the journal was seen to have the charge: Redis may have lost it."""
        return self._balances.epoch(charge.shard) > charge.epoch

    async def _charge_late(self, charge: UnpostedCharge) -> bool:
        """Send a charge the late way. In the shard's present epoch the request is voided first, so that from
        then on nothing but the journal can charge it.
        """
        if self._late is None:
            return False
        record = charge.record
        try:
            if not self._is_lost(charge):
                await self._balances.void_request(record.request_id, account=charge.account, shard=charge.shard, epoch=charge.epoch)
            async with asyncio.timeout(LATE_SECONDS_MAX):
                await self._late.charge_late(record, account=charge.account, shard=charge.shard, hold_epoch=charge.epoch)
        except (LedgerError, TimeoutError) as error:
            log.warning("late_charge_waits", request_id=record.request_id, shard=charge.shard, reason=str(error) or type(error).__name__)
            return False
        metrics.holds_total.labels(ending="late").inc()
        log.info("late_charge_posted", request_id=record.request_id, account_id=charge.account, charge=record.amount)
        return True
