"""The settler: keeps the holds of running requests alive, and never loses a charge.

One per process. `run` renews open holds every quarter of their life, places them again after a rebuild,
and delivers what could not be settled at once.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from ledger.balances import Balances
from ledger.delivery import Delivery, LateCharges
from ledger.entries import ChargeRecord, RequestId
from ledger.errors import BalanceUnavailable, BooksUnderPressure, BrokenInvariant, HoldEnded, HoldUnknown, LedgerError, ShardClosed
from ledger.holds import Hold, HoldPolicy, Renewal, Settlement
from ledger.money import Microunits
from ledger.spool import Spool, UnpostedCharge
from ledger.tokens import ApiToken
from telemetry import metrics
from telemetry.tallies import tallies

__all__ = ["Checkpoint", "LateCharges", "Settler"]

log = structlog.get_logger("ledger")

ROUND_SECONDS = 1.0
PROBE_SECONDS = 5.0
EPOCHS_SECONDS = 30.0
UNVOIDED_MAX = 10_000

# Finding a counter by its labels costs more than counting.
_SETTLED, _VOIDED = (metrics.holds_total.labels(ending=ending) for ending in ("settled", "voided"))

Checkpoint = Callable[[], tuple[int, str]]


@dataclass(slots=True)
class OpenHold:
    """A hold whose request is running; `lost` tells that its shard no longer knows it."""

    hold: Hold
    checkpoint: Checkpoint
    lost: bool = False


class Settler:
    """Settles and voids holds so that nothing is lost when Redis, the journal or this process fails.

    Memory is bounded: at most `ledger.delivery.REMEMBERED_MAX` settled charges that are not posted yet (beyond
    it they go to disk), `UNVOIDED_MAX` voids to repeat (beyond it the reaper releases the hold), and one
    entry per running request.
    """

    def __init__(self, balances: Balances, spool: Spool, late: LateCharges | None, *, policy: HoldPolicy) -> None:
        self._balances, self._spool, self._late, self._policy = balances, spool, late, policy
        self._delivery = Delivery(balances, spool, late)
        self._open: dict[RequestId, OpenHold] = {}
        self._unvoided: dict[RequestId, Hold] = {}
        self._spool_writable = True
        self._stopped = False

    @property
    def accepting(self) -> bool:
        """Whether new requests may be taken: what they cost could be kept if Redis went away (else answer 503)."""
        return self._spool_writable and not self._stopped and self._delivery.unspooled == 0

    @property
    def idle(self) -> bool:
        """Whether every charge is known to be in the journal and no hold is open."""
        return self._delivery.idle and not self._open and not self._unvoided

    def track(self, hold: Hold, checkpoint: Checkpoint) -> None:
        """Keep a hold alive until it is settled, voided or untracked; call again with a hold that was extended.

        `checkpoint` returns the charge for what came back so far and its record as JSON, or (0, "").
        """
        self._open[hold.request_id] = OpenHold(hold, checkpoint)

    def untrack(self, hold: Hold) -> None:
        """Stop keeping a hold alive: unless it is settled or voided, the reaper will end it."""
        self._open.pop(hold.request_id, None)

    def current(self, hold: Hold) -> Hold:
        """Return the hold as it is now: extended, or placed again by a rebuild."""
        tracked = self._open.get(hold.request_id)
        return hold if tracked is None else tracked.hold

    async def extend(self, hold: Hold, amount: int, *, overdraft_max: int) -> Hold:
        """Extend as `Balances.extend` does, in whatever epoch the hold is in now."""
        extended = await self._balances.extend(self.current(hold), amount, overdraft_max=overdraft_max)
        tracked = self._open.get(hold.request_id)
        if tracked is not None and tracked.hold.epoch == extended.epoch:
            tracked.hold = extended
        return extended

    async def settle(self, hold: Hold, record: ChargeRecord) -> Settlement | None:
        """Charge what a request used. None where Redis could not take it now: it is kept and will be charged.

        A hold that outlived a rebuild is charged the late way, because only the journal knows whether the
        request's checkpoint was charged before the rebuild.
        """
        tracked = self._open.pop(hold.request_id, None)
        if tracked is not None:
            hold = tracked.hold
        if hold.replaced:
            await self._delivery.defer(_unposted(hold, record))
            await self.void(hold)
            return None
        server = self._delivery.server
        try:
            settlement = await self._balances.settle(hold, record)
        except LedgerError as error:
            log.warning("settlement_deferred", request_id=hold.request_id, shard=hold.token.shard, reason=str(error) or type(error).__name__)
            await self._delivery.defer(_unposted(hold, record))
            return None
        except BaseException:
            self._delivery.defer_now(_unposted(hold, record))  # cancelled, or worse: nobody will come back for this charge
            raise
        tallies.count(_SETTLED)
        if self._delivery.remember(_unposted(hold, record, seq=settlement.seq, server=server)):
            await self._delivery.make_room()
        return settlement

    async def void(self, hold: Hold) -> None:
        """Release a hold because nothing was served. Repeated later where Redis does not answer; never raises a LedgerError."""
        hold = self.current(hold)
        self.untrack(hold)
        try:
            await self._balances.void(hold)
        except ShardClosed:
            log.debug("void_needless", request_id=hold.request_id)  # a rebuild forgets every hold of the epoch before
        except LedgerError:
            if len(self._unvoided) < UNVOIDED_MAX:
                self._unvoided[hold.request_id] = hold
        tallies.count(_VOIDED)

    async def void_unplaced(self, token: ApiToken, request_id: RequestId) -> None:
        """Make sure that a `place_hold` without an answer leaves no hold; never raises a LedgerError."""
        try:
            await self._balances.void_request(request_id, account=token.account, shard=token.shard)
        except LedgerError:
            log.debug("void_unanswered", request_id=request_id)  # the reaper ends the hold, if there is one

    async def run(self) -> None:
        """Renew, repeat and deliver until cancelled. Nothing that goes wrong in a round ends it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self.renew_holds, self._policy.ttl_ms / 4000))
                tasks.create_task(self._repeat(self.deliver, ROUND_SECONDS))
                tasks.create_task(self._repeat(self.probe_spool, PROBE_SECONDS))
                if self._late is not None:
                    tasks.create_task(self._repeat(self.trust_journal, EPOCHS_SECONDS))
        finally:
            self._stopped = True

    def close(self) -> None:
        """Put what is not known to be posted on disk, for whoever comes next. Call it when `run` has ended.

        Raises:
            OSError: the spool could not be written.
        """
        self._stopped = True
        self._delivery.close()

    async def renew_holds(self) -> None:
        """Renew every open hold with its checkpoint, and place those again that a rebuild has forgotten.

        Raises:
            BalanceUnavailable: some holds were not renewed.
        """
        failure: BalanceUnavailable | None = None
        renewals = [_renewal(tracked) for tracked in self._open.values() if not tracked.lost]
        try:
            unknown = await self._balances.renew(renewals, ttl_ms=self._policy.ttl_ms)
        except BalanceUnavailable as error:
            unknown, failure = set(), error
        for request_id in unknown & self._open.keys():
            self._open[request_id].lost = True  # expired: its exact settlement will be an adjustment
            log.warning("hold_expired_while_running", request_id=request_id)
        for tracked in list(self._open.values()):
            if tracked.hold.epoch < self._balances.epoch(tracked.hold.token.shard):
                await self._replace(tracked)
        if failure is not None:
            raise failure

    async def deliver(self) -> None:
        """Do one round of repeated voids, late charges and spooled charges, and show how many holds are open."""
        metrics.holds_open.set(len(self._open))
        for request_id, hold in list(self._unvoided.items()):
            try:
                await self._balances.void(hold)
            except (ShardClosed, BrokenInvariant) as error:
                log.debug("void_needless", request_id=request_id, reason=str(error))
            self._unvoided.pop(request_id, None)
        await self._delivery.round()

    async def probe_spool(self) -> None:
        """Find out whether the spool could be written."""
        self._spool_writable = await asyncio.to_thread(self._spool.writable)

    async def trust_journal(self) -> None:
        """Learn the journal's epochs, so that a restored copy of Redis with an older one is not believed."""
        if self._late is not None:
            self._balances.trust_epochs(await self._late.epochs())

    async def _replace(self, tracked: OpenHold) -> None:
        old = tracked.hold
        try:
            hold = await self._balances.replace_hold(old, policy=self._policy)
        except (ShardClosed, BooksUnderPressure):
            return
        except (HoldEnded, HoldUnknown):
            # Nothing to renew there; still the journal has to be asked when it is settled.
            tracked.hold, tracked.lost = replace(old, epoch=self._balances.epoch(old.token.shard), replaced=True), True
            return
        if self._open.get(old.request_id) is not tracked:
            await self.void(hold)  # it was settled or voided while we asked
            return
        tracked.hold, tracked.lost = hold, False
        log.info("hold_replaced", request_id=old.request_id, epoch=hold.epoch)

    async def _repeat(self, step: Callable[[], Coroutine[Any, Any, None]], seconds: float) -> None:
        while True:
            pause = seconds
            try:
                await step()
            except LedgerError as error:
                log.warning("settler_step_failed", step=step.__name__, reason=str(error) or type(error).__name__)
                pause = min(seconds, ROUND_SECONDS)
            except Exception:
                log.exception("settler_step_broken", step=step.__name__)
            # Spread over time, so that many workers do not ask at the same instant.
            await asyncio.sleep(pause * random.uniform(0.9, 1.0))  # noqa: S311


def _unposted(hold: Hold, record: ChargeRecord, *, seq: int = 0, server: str = "") -> UnpostedCharge:
    token = hold.token
    return UnpostedCharge(record=record, account=token.account, shard=token.shard, epoch=hold.epoch, seq=seq, server=server, late=hold.replaced)


def _renewal(tracked: OpenHold) -> Renewal:
    try:
        charge, detail = tracked.checkpoint()
    except Exception:
        # A faulty tally must not let the hold expire; without a checkpoint the last one stands.
        log.exception("checkpoint_failed", request_id=tracked.hold.request_id)
        charge, detail = 0, ""
    return Renewal(hold=tracked.hold, charge=Microunits(charge), detail=detail)
