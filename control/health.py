"""How the service is: the two stores, the open shards and how far the poster is behind. No check waits for long."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ledger.deposit_values import ChainStatus
from ledger.entries import SHARDS
from ledger.holds import ShardMeta
from telemetry.logs import get_log

CHECK_SECONDS_MAX = 2.0
SAMPLE_SECONDS = 5.0
SAMPLE_LIFE_SECONDS = 1.0
POSTER_LAG_SECONDS_MAX = 30.0
CHAIN_STATUS_SECONDS_MAX = 30.0
CHAIN_STATES_WELL = ("ok", "frozen", "starting")


class Metas(Protocol):
    """Where the state of all shards is read from."""

    async def read_all_meta(self) -> dict[int, ShardMeta | None]:
        """Return what Redis knows of every shard."""


class ChainStatuses(Protocol):
    """Where the watcher of deposits says how it is."""

    async def status(self) -> ChainStatus | None:
        """Return what it last said, however long ago."""


class Pool(Protocol):
    """The journal's connections."""

    def fetchval(self, query: str, *, timeout: float) -> Coroutine[Any, Any, Any]:  # asyncpg's own signature
        """Return one value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """One look at the service. `components` are True where they work."""

    components: Mapping[str, bool]
    outbox_depth: int = 0
    shards_open: int = 0
    poster_lag_seconds: int = 0
    problems: tuple[str, ...] = ()

    @property
    def is_ok(self) -> bool:
        """True when every component works."""
        return all(self.components.values())


@dataclass(slots=True)
class _Mark:
    """A change that was not posted when it was seen: shard seq and when that was."""

    epoch: int
    seq: int
    since: float


@dataclass(slots=True)
class HealthMonitor:
    """Looks at the stores when asked, at most once a second, and by itself while nobody asks.

    The poster counts as failed when a change is not posted half a minute after it was first seen: that is
    how a poster that does not run shows, wherever it should. The watcher of deposits, where `chain` is given, tells how it is
    itself, and counts as failed when it is silent. The forward proxy, where `forward` is its address, is well when it lets itself be called.
    """

    metas: Metas
    pool: Pool
    clock: Callable[[], float] = time.monotonic
    chain: ChainStatuses | None = None
    forward: tuple[str, int] | None = None
    time: Callable[[], float] = time.time
    _marks: dict[int, _Mark] = field(default_factory=dict)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _sample: tuple[float, Health] | None = None
    _question: asyncio.Task[Any] | None = None
    _asked_since: float | None = None

    async def look(self) -> Health:
        """Return the state, not older than a second; many callers at once share one look."""
        async with self._lock:
            if self._sample is None or self.clock() - self._sample[0] > SAMPLE_LIFE_SECONDS:
                health = await self._check()
                self._report_change(health)
                self._sample = (self.clock(), health)
            return self._sample[1]

    async def watch(self) -> None:
        """Look from time to time until cancelled, so that the poster's lag is known before anybody asks."""
        while True:
            await self.look()
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _check(self) -> Health:
        problems: list[str] = []
        metas, journal, forward = await asyncio.gather(self._read_metas(problems), self._ask_journal(problems), self._call_forward(problems))
        chain = forward | (await self._ask_watcher(problems) if self.chain is not None and journal else {})
        if metas is None:
            return Health(components={"redis": False, "postgres": journal, **chain}, problems=tuple(problems))
        lag = self._measure_lag(metas)
        shards_open = sum(1 for meta in metas.values() if meta is not None and meta.state == "open")
        return Health(
            components={"redis": True, "postgres": journal, "poster": lag <= POSTER_LAG_SECONDS_MAX, "shards": shards_open == SHARDS, **chain},
            outbox_depth=sum(meta.seq - meta.posted for meta in metas.values() if meta is not None and meta.seq > meta.posted),
            shards_open=shards_open,
            poster_lag_seconds=int(lag),
            problems=tuple(problems),
        )

    async def _read_metas(self, problems: list[str]) -> Mapping[int, ShardMeta | None] | None:
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                return await self.metas.read_all_meta()
        except Exception as error:  # whatever it is, Redis did not answer well; the cause goes to the log, not out
            problems.append(f"redis: {type(error).__name__}: {error}")
            return None

    async def _ask_journal(self, problems: list[str]) -> bool:
        """Ask in a task of its own: a database that hangs, instead of failing, also hangs the cancelling of a question."""
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self.pool.fetchval("SELECT 1 FROM instance LIMIT 1", timeout=CHECK_SECONDS_MAX))
            await asyncio.wait({self._question}, timeout=CHECK_SECONDS_MAX)
        if not self._question.done():
            problems.append("postgres: no answer")
            return False
        error = self._question.exception()
        if error is not None:  # a database without tables is as little use as none
            problems.append(f"postgres: {type(error).__name__}: {error}")
        return error is None

    async def _call_forward(self, problems: list[str]) -> dict[str, bool]:
        if self.forward is None:
            return {}
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                _, writer = await asyncio.open_connection(*self.forward)
        except (OSError, TimeoutError) as error:
            problems.append(f"forward: {type(error).__name__}: {error}")
            return {"forward": False}
        writer.close()
        return {"forward": True}

    async def _ask_watcher(self, problems: list[str]) -> dict[str, bool]:
        """Return whether the watcher is there and well; nothing where its word cannot be read, which is Postgres's fault and not its."""
        if self.chain is None:
            return {}
        try:
            async with asyncio.timeout(CHECK_SECONDS_MAX):
                status = await self.chain.status()
        except Exception as error:  # whatever it is, Postgres did not answer well
            problems.append(f"chainwatch: {type(error).__name__}: {error}")
            return {}
        now = self.time()
        self._asked_since = self._asked_since or now  # a watcher that starts with us gets its time
        said_at = status.updated_at / 1000 if status is not None else 0.0
        if now - said_at > CHAIN_STATUS_SECONDS_MAX:
            is_starting = now - self._asked_since <= CHAIN_STATUS_SECONDS_MAX
            problems.extend([] if is_starting else ["chainwatch: it does not say that it runs"])
            return {"chainwatch": is_starting}
        if status is not None and status.state not in CHAIN_STATES_WELL:
            problems.extend(f"chainwatch: {reason}" for reason in status.reasons or (status.state,))
            return {"chainwatch": False}
        return {"chainwatch": True}

    def _measure_lag(self, metas: Mapping[int, ShardMeta | None]) -> float:
        """Return the seconds since the oldest change that is still not posted was first seen."""
        now = self.clock()
        for shard, meta in metas.items():
            mark = self._marks.get(shard)
            if meta is None or meta.posted >= meta.seq:
                self._marks.pop(shard, None)
            elif mark is None or mark.epoch != meta.epoch or meta.posted >= mark.seq:
                self._marks[shard] = _Mark(meta.epoch, meta.seq, now)
        return max((now - mark.since for mark in self._marks.values()), default=0.0)

    def _report_change(self, health: Health) -> None:
        before = None if self._sample is None else self._sample[1]
        if before is None or before.components != health.components:
            write = get_log().info if health.is_ok else get_log().warning
            write("health_changed", components=dict(health.components), problems=health.problems, outbox_depth=health.outbox_depth)
