"""What a poster does beside posting: partitions ahead of time, chain heads kept elsewhere, old outbox entries forgotten."""

import time
from collections.abc import Mapping
from typing import Final

import structlog

from ledger.balances import Balances
from ledger.entries import SHARDS
from ledger.holds import ShardMeta
from ledger.hot_audit import write_heads
from ledger.journal import Pool, ShardPosition, journal_answers, now_ms
from ledger.queries import SQL
from ledger.stored_objects import KEPT_DAYS
from ledger.trimming import trim_shard

log = structlog.get_logger("ledger")

TRIM_SECONDS: Final = 60.0
MONTH_SECONDS: Final = 3600.0
HEADS_SECONDS: Final = 10.0
SHORT_RETENTION_MS: Final = 3_600_000  # while Redis is nearly full: serving comes before the memory of posted changes
SHORTEST_RETENTION_MS: Final = 60_000  # what it comes down to, by half each round of the shards, while Redis stays nearly full
CLAIMS_KEPT_DAYS: Final = 35


class Housekeeping:
    """The chores of one poster, each at its own pace."""

    def __init__(self, pool: Pool, balances: Balances, *, retention_ms: int) -> None:
        self._pool, self._balances, self._retention_ms = pool, balances, retention_ms
        self._trim_at, self._months_at, self._heads_at, self._trim_next = 0.0, 0.0, 0.0, 0
        self._heads: dict[int, int] = {}
        self._pressed = 0  # shards trimmed since Redis became nearly full

    async def round(self, positions: Mapping[int, ShardPosition], healthy: Mapping[int, ShardMeta]) -> None:
        """Do what is due: next months' partitions hourly, chain heads often, and one shard's outbox, each about once a minute."""
        now = time.monotonic()
        if now >= self._months_at:
            async with journal_answers():
                await self._pool.execute(SQL["ensure_months_ahead"])
                await self._pool.execute(SQL["forget_claims"], CLAIMS_KEPT_DAYS)
                await self._pool.execute(SQL["forget_stored"], KEPT_DAYS)
            self._months_at = now + MONTH_SECONDS
        if now >= self._heads_at:
            self._heads_at = now + HEADS_SECONDS
            await self._remember_heads(positions, healthy)
        if now >= self._trim_at:
            shard, self._trim_next = self._trim_next, (self._trim_next + 1) % SHARDS
            self._trim_at = now + TRIM_SECONDS / SHARDS
            if shard in healthy and healthy[shard].posted:
                await trim_shard(self._balances, shard, posted=healthy[shard].posted, before_ms=now_ms() - await self._kept_ms())

    async def _kept_ms(self) -> int:
        """Return how long posted changes stay in Redis at present."""
        if not await self._balances.under_pressure():
            self._pressed = 0
            return self._retention_ms
        self._pressed += 1
        return min(self._retention_ms, max(SHORTEST_RETENTION_MS, SHORT_RETENTION_MS >> min(self._pressed // SHARDS, 10)))

    def forget_head(self, shard: int) -> None:
        """Write this shard's head again: a rebuilt Redis has lost it."""
        self._heads.pop(shard, None)

    async def _remember_heads(self, positions: Mapping[int, ShardPosition], healthy: Mapping[int, ShardMeta]) -> None:
        """Keep the ends of the chains in Redis and in the log, so that a tail cut off the journal shows."""
        moved = [position for shard, position in positions.items() if shard in healthy and self._heads.get(shard, 0) != position.chain_seq]
        if not moved:
            return
        await write_heads(self._balances, moved)
        self._heads.update({position.shard: position.chain_seq for position in moved})
        log.info("chain_heads", heads={position.shard: f"{position.chain_seq}:{position.chain_head.hex()}" for position in moved})
