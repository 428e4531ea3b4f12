"""What counts as well, and how a poster that does not run shows."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from control import health
from control.health import HealthMonitor
from ledger.deposit_values import ChainStatus
from ledger.entries import SHARDS
from ledger.holds import ShardMeta


def a_meta(seq: int = 0, posted: int = 0, *, state: str = "open", epoch: int = 1) -> ShardMeta:
    return ShardMeta(epoch=epoch, state=state, seq=seq, due_seq=0, posted=posted, instance="i", mode="real")


@dataclass
class Stores:
    """Both stores, as well or as ill as a test wants them."""

    metas: dict[int, ShardMeta | None] = field(default_factory=lambda: {shard: a_meta() for shard in range(SHARDS)})
    redis_error: Exception | None = None
    postgres_error: Exception | None = None
    hangs: bool = False
    reads: int = 0

    async def read_all_meta(self) -> dict[int, ShardMeta | None]:
        self.reads += 1
        if self.redis_error:
            raise self.redis_error
        return self.metas

    async def fetchval(self, query: str, *, timeout: float) -> Any:
        if self.hangs:
            await asyncio.sleep(60)
        if self.postgres_error:
            raise self.postgres_error
        return 1


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def monitor(stores: Stores, clock: Clock) -> HealthMonitor:
    return HealthMonitor(stores, stores, clock)


def failing(components: Mapping[str, bool]) -> set[str]:
    return {name for name, works in components.items() if not works}


async def test_all_is_well(monitor: HealthMonitor) -> None:
    state = await monitor.look()

    assert state.is_ok
    assert set(state.components) == {"redis", "postgres", "poster", "shards"}
    assert state.shards_open == SHARDS


async def test_redis_away_is_the_only_failing_component_that_can_be_told(monitor: HealthMonitor, stores: Stores) -> None:
    stores.redis_error = ConnectionError("redis://user:secret@host")

    state = await monitor.look()

    assert failing(state.components) == {"redis"}


async def test_postgres_away_fails_that_component_alone(monitor: HealthMonitor, stores: Stores) -> None:
    stores.postgres_error = OSError("away")

    state = await monitor.look()

    assert failing(state.components) == {"postgres"}


async def test_a_store_that_hangs_is_given_up_after_a_time(monitor: HealthMonitor, stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS_MAX", 0.01)
    stores.hangs = True

    state = await asyncio.wait_for(monitor.look(), 5)

    assert failing(state.components) == {"postgres"}


@pytest.mark.parametrize("meta", [None, a_meta(state="closed")])
async def test_a_shard_that_is_not_open_is_degraded(monitor: HealthMonitor, stores: Stores, meta: ShardMeta | None) -> None:
    stores.metas[5] = meta

    state = await monitor.look()

    assert failing(state.components) == {"shards"}
    assert state.shards_open == SHARDS - 1


async def test_a_change_that_stays_unposted_shows_that_the_poster_does_not_run(monitor: HealthMonitor, stores: Stores, clock: Clock) -> None:
    stores.metas[5] = a_meta(seq=7, posted=3)
    first = await monitor.look()
    clock.now = 31.0
    second = await monitor.look()

    assert first.is_ok
    assert first.outbox_depth == 4
    assert failing(second.components) == {"poster"}
    assert second.poster_lag_seconds == 31


async def test_a_busy_poster_that_keeps_up_is_well(monitor: HealthMonitor, stores: Stores, clock: Clock) -> None:
    for step in range(20):
        clock.now = step * 10.0
        stores.metas[5] = a_meta(seq=100 + step * 10, posted=95 + step * 10)
        assert (await monitor.look()).is_ok


async def test_many_who_ask_at_once_share_one_look(monitor: HealthMonitor, stores: Stores, clock: Clock) -> None:
    await asyncio.gather(*(monitor.look() for _ in range(50)))
    assert stores.reads == 1

    clock.now = 2.0
    await monitor.look()
    assert stores.reads == 2


async def test_a_change_of_state_is_logged_without_being_shown_to_callers(monitor: HealthMonitor, stores: Stores, clock: Clock) -> None:
    await monitor.look()
    stores.redis_error = ConnectionError("away")
    clock.now = 2.0

    state = await monitor.look()

    assert state.problems == ("redis: ConnectionError: away",)


@dataclass
class Statuses:
    """What the watcher last said, as a test wants it."""

    said: ChainStatus | None = None
    error: Exception | None = None

    async def status(self) -> ChainStatus | None:
        if self.error:
            raise self.error
        return self.said


def said(state: str, *, at: float = 1000.0) -> ChainStatus:
    return ChainStatus(
        state=state, reasons=("why",), finalized_slot=1, lag_seconds=0.0, backlog=0, oldest_pending_seconds=0.0, vault_on_chain=None, updated_at=int(at * 1000)
    )


def watching(stores: Stores, clock: Clock, statuses: Statuses) -> HealthMonitor:
    return HealthMonitor(stores, stores, clock, chain=statuses, time=lambda: 1000.0 + clock.now)


@pytest.mark.parametrize("state", ["ok", "frozen", "starting"])
async def test_a_watcher_that_does_its_work_is_well(stores: Stores, clock: Clock, state: str) -> None:
    health = await watching(stores, clock, Statuses(said(state))).look()

    assert health.is_ok
    assert health.components["chainwatch"]


@pytest.mark.parametrize("state", ["stopped", "error"])
async def test_a_watcher_that_stopped_crediting_or_fails_is_degraded_and_says_why(stores: Stores, clock: Clock, state: str) -> None:
    health = await watching(stores, clock, Statuses(said(state))).look()

    assert failing(health.components) == {"chainwatch"}
    assert health.problems == ("chainwatch: why",)


@pytest.mark.parametrize("statuses", [Statuses(), Statuses(said("ok"))])
async def test_a_watcher_that_is_silent_is_degraded_once_it_had_its_time(stores: Stores, clock: Clock, statuses: Statuses) -> None:
    monitor = watching(stores, clock, statuses)
    first = await monitor.look()
    clock.now = 31.0

    assert first.is_ok
    assert failing((await monitor.look()).components) == {"chainwatch"}


async def test_a_watchers_word_that_cannot_be_read_is_the_stores_fault_and_not_its(stores: Stores, clock: Clock) -> None:
    health = await watching(stores, clock, Statuses(error=OSError("away"))).look()

    assert "chainwatch" not in health.components
    assert health.is_ok


async def test_a_forward_proxy_is_well_when_it_lets_itself_be_called(stores: Stores) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()[:2]

    called = await HealthMonitor(stores, stores, forward=address).look()
    server.close()
    await server.wait_closed()
    refused = await HealthMonitor(stores, stores, forward=address).look()

    assert called.components["forward"]
    assert failing(refused.components) == {"forward"}
