"""The money side of a running request: larger holds while it streams, and its one ending."""

import time

from addons.endings import Facts, Verdict, judge, judge_usage
from addons.exchange import READ_ON_OVER, Exchange
from addons.records import charge_for, count_doubts, hold_lines, record_usage
from addons.request_figures import count_charges
from ledger.entries import ChargeRecord
from ledger.errors import BalanceUnavailable, HoldUnknown, InsufficientFunds
from ledger.settlement import Settler
from metering.pricing import RateCard
from metering.usage import Usage
from telemetry import metrics
from telemetry.logs import log
from telemetry.tallies import tallies

EXTENSION_RETRY_SECONDS = 1.0
BYTES_PER_TOKEN = 2  # as few as tokens have: the watch on a hold must rather look too often than too late


class Lifecycle:
    """Tracks holds and ends them, each exactly once."""

    def __init__(self, *, settler: Settler, card: RateCard, extension_tokens: int, overdraft_max: int) -> None:
        self._settler, self._card = settler, card
        self._extension_tokens, self._overdraft_max = extension_tokens, overdraft_max

    def watch(self, exchange: Exchange) -> None:
        """Begin to renew a hold with its checkpoint, and to watch a stream's charge where its hold may be too small."""
        hold, bounds = exchange.hold, exchange.bounds
        if hold is None or bounds is None:
            return
        self._settler.track(hold, lambda: self._checkpoint(exchange))
        self.watch_growth(exchange)

    def watch_growth(self, exchange: Exchange) -> None:
        """Watch a stream's charge where its hold may be too small, also after its bounds have changed."""
        hold, bounds = exchange.hold, exchange.bounds
        if hold is not None and bounds is not None and hold.amount < bounds.worst:
            exchange.extension_needed = _HoldWatch(exchange, self._card)

    def _checkpoint(self, exchange: Exchange) -> tuple[int, str]:
        usage = exchange.meter.checkpoint() if exchange.meter is not None else None
        if usage is None:
            return 0, ""
        record = record_usage(exchange, usage, card=self._card, estimated=not usage.final)
        return record.amount, record.to_json()

    async def widen(self, exchange: Exchange, amount: int) -> None:
        """Let the hold of a request that has not begun to be answered grow to `amount` in total, all of it or nothing.

        Raises:
            InsufficientFunds: the account cannot cover it; the hold stays as it was.
            HoldUnknown, BalanceUnavailable: the hold is gone, or nobody knows.
        """
        if exchange.hold is None:
            return
        exchange.hold = await self._settler.extend(exchange.hold, amount, overdraft_max=self._overdraft_max)
        exchange.standing = exchange.hold.standing

    async def extend(self, exchange: Exchange) -> bool:
        """Let a stream's hold grow by a step over what has been used; False when the account cannot cover it."""
        hold, bounds = exchange.hold, exchange.bounds
        watch = exchange.extension_needed
        if hold is None or bounds is None or not isinstance(watch, _HoldWatch):
            return True
        step = -(-self._extension_tokens * bounds.output_per_mtok // 1_000_000)
        try:
            exchange.hold = await self._settler.extend(hold, max(hold.amount, watch.used) + step, overdraft_max=self._overdraft_max)
        except InsufficientFunds:
            return False
        except (BalanceUnavailable, HoldUnknown):
            # No answer is not a refusal: a stream goes on, and asks again.
            watch.rest(EXTENSION_RETRY_SECONDS)
            return True
        exchange.standing = exchange.hold.standing
        watch.grown()
        return True

    async def end(self, exchange: Exchange) -> None:
        """End a request: settle or void its hold. Only the first call does anything; it returns when the books have answered."""
        if exchange.ending is not None:
            return
        exchange.ending = "ending"  # before anything is awaited, so that no second ending can begin
        try:
            await self._end_hold(exchange)
        except Exception:
            exchange.ending = "failed"
            log.error("ending_failed", request_id=exchange.request_id, exc_info=True)
        finally:
            exchange.body_gone()
            exchange.conclude()

    async def _end_hold(self, exchange: Exchange) -> None:
        hold = exchange.hold
        if hold is None:
            exchange.ending = "relayed"
            return
        exact = judge_usage(exchange.meter.reading()) if exchange.meter is not None and exchange.sent_at is not None else None
        verdict = exact or judge(facts_of(exchange))  # nearly every request needs the first alone
        exchange.reason = verdict.reason
        if not verdict.charged:
            await self._settler.void(hold)
            exchange.ending = "voided"
            return
        record = self._record(exchange, verdict)
        exchange.record = record
        settlement = await self._settler.settle(hold, record)
        exchange.ending, exchange.settlement = "settled", settlement
        _count(exchange, record, verdict)

    def _record(self, exchange: Exchange, verdict: Verdict) -> ChargeRecord:
        if verdict.usage is not None:
            return record_usage(exchange, verdict.usage, card=self._card, estimated=verdict.estimated)
        return charge_for(exchange, hold_lines(exchange, self._card), card=self._card, estimated=True)


class _HoldWatch:
    """Tells cheaply, for each piece of a stream, whether the charge so far comes near the hold."""

    def __init__(self, exchange: Exchange, card: RateCard) -> None:
        self._exchange, self._card = exchange, card
        self.used = 0
        self._look_at = 0
        self._rest_until = 0.0
        self.grown()

    def __call__(self) -> bool:
        meter = self._exchange.meter
        if meter is None or meter.output_bytes_most < self._look_at or time.monotonic() < self._rest_until:
            return False
        return self._look(meter.checkpoint(), meter.output_bytes)

    def _look(self, usage: Usage | None, output_bytes: int) -> bool:
        hold, bounds = self._exchange.hold, self._exchange.bounds
        if usage is None or hold is None or bounds is None:
            return False
        self.used = record_usage(self._exchange, usage, card=self._card, estimated=True).amount
        left = hold.amount - self.used
        if left <= 0:
            return True
        tokens = left * 1_000_000 // max(bounds.output_per_mtok, 1)
        self._look_at = output_bytes + max(tokens * BYTES_PER_TOKEN // 2, 1)
        return False

    def grown(self) -> None:
        """The hold is larger: look again soon, which then says when next."""
        self._look_at = 0

    def rest(self, seconds: float) -> None:
        """Do not ask again for a while."""
        self._rest_until = time.monotonic() + seconds


def _count(exchange: Exchange, record: ChargeRecord, verdict: Verdict) -> None:
    tallies.gather(count_charges, record)
    count_doubts(exchange, record, verdict.usage)
    if verdict.estimated:
        metrics.estimated_charges_total.labels(reason=verdict.reason).inc()


def facts_of(exchange: Exchange) -> Facts:
    """Return what happened, from our own flags only."""
    meter = exchange.meter
    return Facts(
        sent=exchange.sent_at is not None,
        status=exchange.provider_status,
        reading=meter.reading() if meter is not None else None,
        broken=exchange.failed or (meter is not None and meter.broken),
        client_left=exchange.client_left,
        read_on_over=exchange.timed_out == READ_ON_OVER or (exchange.client_left and exchange.stopped),
    )
