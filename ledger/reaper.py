"""The reaper: ends holds that nobody renewed. It needs Redis alone, not Postgres."""

import asyncio

import structlog

from ledger.balances import Balances
from ledger.entries import SHARDS
from ledger.errors import BalanceUnavailable, LedgerError, ShardClosed
from telemetry import metrics

log = structlog.get_logger("ledger")

PAUSE_SECONDS = 1.0


async def reap(balances: Balances) -> int:
    """Go round all shards once; return how many holds ended. Closed shards are passed over.

    Raises:
        BalanceUnavailable: Redis is away.
    """
    ended = 0
    for shard in range(SHARDS):
        try:
            expired = await balances.expire(shard)
        except ShardClosed:
            continue
        if expired:
            log.warning("holds_expired", shard=shard, holds=expired)
            metrics.holds_total.labels(ending="expired").inc(expired)
        ended += expired
    return ended


async def reap_forever(balances: Balances, stop: asyncio.Event) -> None:
    """Reap once a second until `stop` is set. A Redis that is away is waited for."""
    while not stop.is_set():
        try:
            await reap(balances)
        except BalanceUnavailable as error:
            log.warning("reaper_waits", reason=str(error))
        except LedgerError:
            log.exception("reaper_stopped_short")
        try:
            async with asyncio.timeout(PAUSE_SECONDS):
                await stop.wait()
        except TimeoutError:
            continue
