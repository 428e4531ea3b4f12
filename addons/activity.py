"""What this worker saw of its traffic: counted in memory as requests end, brought to Redis every few seconds, never in anybody's way.

Counters, not books: what a worker that is killed had not brought yet is lost. An account is named only where it proved itself, so that
nobody can count for another; all others are counted for the house alone.
"""

import asyncio
import contextlib
from bisect import bisect_left
from typing import Final

from addons.exchange import Exchange, Kind
from ledger.activity import ClientKey, Sighting, TallyKey, record_activity
from ledger.activity_values import FIRST_BYTE_PLACE, LATENCY_BOUNDS_MS, LATENCY_PLACE, NO_MODEL, OTHER_MODEL, SIZE, Outcome
from ledger.balances import Balances
from ledger.entries import HOUSE_SHARD
from ledger.errors import LedgerError
from telemetry.logs import log

FLUSH_SECONDS: Final = 5.0
LAST_FLUSH_SECONDS_MAX: Final = 3.0
KEYS_MAX: Final = 20_000  # tallies of one worker between two flushes; beyond, models are not told apart, then accounts
HOUR_MS: Final = 3_600_000
_BOUNDS: Final = tuple(bound / 1000 for bound in LATENCY_BOUNDS_MS)


class GatheredActivity:
    """The counters of one worker. Used from its loop's thread alone."""

    def __init__(self) -> None:
        self._tallies: dict[TallyKey, list[int]] = {}
        self._clients: dict[ClientKey, Sighting] = {}

    def note(self, exchange: Exchange, seconds: float) -> None:
        """Count one request that has ended, `seconds` after its head came."""
        token, outcome = exchange.token, outcome_of(exchange)
        proven = token is not None and (exchange.standing is not None or exchange.balance_heard is not None)
        if not proven and exchange.kind is Kind.LOCAL and outcome is Outcome.OK:
            return  # somebody looks whether the gateway is there
        shard, account = (token.shard, token.account) if proven and token is not None else (HOUSE_SHARD, 0)
        started_at, rate = exchange.started_at, exchange.rate
        counters = self._counters(shard, account, started_at // HOUR_MS, NO_MODEL if rate is None else rate.model)
        counters[outcome] += 1
        if exchange.provider_status is not None:
            counters[LATENCY_PLACE + bisect_left(_BOUNDS, seconds)] += 1
            if exchange.answered_at is not None:
                counters[FIRST_BYTE_PLACE + bisect_left(_BOUNDS, exchange.answered_at - exchange.started)] += 1
        self._see(shard, account, exchange.head.family, started_at)

    def _counters(self, shard: int, account: int, hour: int, model: str) -> list[int]:
        key = (shard, account, hour, model)
        counters = self._tallies.get(key)
        if counters is None:
            if len(self._tallies) >= KEYS_MAX:
                key = (shard, account, hour, OTHER_MODEL) if len(self._tallies) < 2 * KEYS_MAX else (HOUSE_SHARD, 0, hour, OTHER_MODEL)
            counters = self._tallies.setdefault(key, [0] * SIZE)
        return counters

    def _see(self, shard: int, account: int, family: str, at_ms: int) -> None:
        seen = self._clients.get((shard, account, family))
        if seen is not None:
            seen[0] += 1
            seen[1] = at_ms
        elif len(self._clients) < KEYS_MAX:
            self._clients[shard, account, family] = [1, at_ms]

    async def flush(self, balances: Balances) -> None:
        """Bring to Redis what was counted since the last time. What cannot be brought now is kept for the next time, as far as there is room."""
        tallies, self._tallies = self._tallies, {}
        clients, self._clients = self._clients, {}
        if not tallies and not clients:
            return
        left_tallies, left_clients = await record_activity(balances, tallies, clients)
        for (shard, account, hour, model), counters in left_tallies.items():
            kept = self._counters(shard, account, hour, model)
            kept[:] = map(int.__add__, kept, counters)
        for (shard, account, family), (count, at_ms) in left_clients.items():
            self._see(shard, account, family, at_ms)
            self._clients.get((shard, account, family), [0, 0])[0] += count - 1

    async def keep_flushing(self, balances: Balances) -> None:
        """Flush every few seconds until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                try:
                    await self.flush(balances)
                except LedgerError as error:
                    log.debug("activity_not_flushed", reason=str(error))
                except Exception:
                    log.exception("activity_broken")
        finally:
            with contextlib.suppress(LedgerError, TimeoutError):
                async with asyncio.timeout(LAST_FLUSH_SECONDS_MAX):
                    await self.flush(balances)


def outcome_of(exchange: Exchange) -> Outcome:
    """Return how a request ended, from its client's point of view."""
    status, reason = exchange.status, exchange.reason
    if status is not None and status < 400:
        if exchange.cut_message is None and reason not in _BROKEN:
            return Outcome.OK
        return _broken_off(exchange)
    if exchange.client_left or status == 499:
        return Outcome.CLIENT_LEFT
    if status is None:
        return Outcome.TIMEOUT if exchange.timed_out else Outcome.PROVIDER_ERROR
    if status >= 500:
        if exchange.refusal_code == "temporarily_unavailable":
            return Outcome.UNAVAILABLE
        return Outcome.TIMEOUT if status == 504 else Outcome.PROVIDER_ERROR
    if status == 429:
        return Outcome.RATE_LIMITED
    return Outcome.BALANCE if exchange.refusal_code == "insufficient_balance" else Outcome.CLIENT_ERROR


_BROKEN: Final = frozenset({"cut", "error", "client_left", "provider_error"})


def _broken_off(exchange: Exchange) -> Outcome:
    """Return why a stream that had begun well did not end so."""
    if exchange.client_left:
        return Outcome.CLIENT_LEFT
    if exchange.timed_out:
        return Outcome.TIMEOUT
    if exchange.cut_message is not None and b"insufficient" in exchange.cut_message:
        return Outcome.BALANCE
    return Outcome.PROVIDER_ERROR if exchange.reason in ("error", "provider_error") else Outcome.CUT


activity: Final = GatheredActivity()
