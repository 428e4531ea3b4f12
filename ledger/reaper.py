"""The reaper: ends holds that nobody renewed. It needs Redis alone, not Postgres."""

import asyncio
import time

import structlog

from ledger.balances import Balances
from ledger.errors import BalanceUnavailable, LedgerError, ShardClosed
from telemetry import metrics

log = structlog.get_logger("ledger")

PAUSE_SECONDS = 1.0
REST_SECONDS = 5.0


async def reap(balances: Balances) -> int:
    """End the holds whose deadline has passed, in all shards; return how many ended. Closed shards are passed over.

    Raises:
        BalanceUnavailable: Redis is away.
    """
    ended = 0
    overdue = await balances.shards_overdue()
    if overdue:
        await balances.read_all_meta()  # closes the shards that are behind what this process has seen of them
    for shard in overdue:
        try:
            expired = await balances.expire(shard)
        except ShardClosed:
            continue
        if expired:
            log.warning("holds_expired", shard=shard, holds=expired)
            metrics.holds_total.labels(ending="expired").inc(expired)
        ended += expired
    return ended


async def reap_forever(balances: Balances, stop: asyncio.Event, *, rest_seconds: float = REST_SECONDS) -> None:
    """Reap once a second until `stop` is set. A Redis that is away is waited for, and one that is back is left to rest.

    A Redis that came back may have older data, in which holds stand again that were voided since: to end them with what
    their checkpoints say would charge them. The poster finds such data within moments of its first look.
    """
    server, rest_until = "", 0.0
    while not stop.is_set():
        try:
            present = await balances.server_id()
            if present != server:
                server, rest_until = present, time.monotonic() + rest_seconds
            if time.monotonic() >= rest_until:
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
