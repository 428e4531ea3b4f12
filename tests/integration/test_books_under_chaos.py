"""Workers, posters, appliers and the reaper at once, while a store loses what it had: in the end every balance is right."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cli.embedded import EmbeddedPostgres, EmbeddedValkey
from ledger.accounts import NewAccount
from ledger.balances import Balances, Hold, HoldPolicy, connect_redis
from ledger.changes import LateJournal
from ledger.errors import JournalUnavailable, LedgerError
from ledger.money import Microunits
from ledger.poster import run_poster
from ledger.reaper import reap_forever
from ledger.reconcile import verify
from ledger.settlement import Settler
from ledger.spool import Spool
from ledger.stores import redis_command
from ledger.tokens import new_request_id, parse_token
from tests.fakes.books import Books, open_books, record_of
from tests.integration.test_rebuild import copy_database, copy_redis, restore_database, restore_redis

POLICY = HoldPolicy(overdraft_max=0, concurrent_max=64, ttl_ms=1200, outbox_max=100_000)
START = 10_000_000

type Chaos = Callable[[], Awaitable[None]]


class Traffic:
    """Requests of many kinds on a few accounts, and what they truly cost."""

    def __init__(self, settler: Settler, balances: Balances, accounts: list[NewAccount], *, seed: int) -> None:
        self.settler, self.balances, self.accounts, self.random = settler, balances, accounts, random.Random(seed)
        self.spent: Counter[int] = Counter()
        self.stop = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(self._worker())

    async def _worker(self) -> None:
        while not self.stop.is_set():
            new = self.random.choice(self.accounts)
            hold = await self._hold(new)
            if hold is None:
                await asyncio.sleep(0.02)
                continue
            amount = self.random.randint(10, 500)
            checkpoint = record_of(hold.request_id, amount // 2 or 1, estimated=True)
            self.settler.track(hold, lambda record=checkpoint: (record.amount, record.to_json()))  # type: ignore[misc]
            await asyncio.sleep(self.random.choice((0, 0.01, 0.05, 0.6)))
            if self.random.random() < 0.2:
                await self.settler.void(hold)
                continue
            if self.random.random() < 0.1:
                self.settler.untrack(hold)  # cut off from Redis: the reaper may be first
                await asyncio.sleep(1.5)
            self.spent[new.account.id] += amount
            await self.settler.settle(hold, replace(record_of(hold.request_id, amount), amount=Microunits(amount)))

    async def _hold(self, new: NewAccount) -> Hold | None:
        token, request_id = parse_token(new.api_token), new_request_id()
        try:
            return await self.balances.place_hold(token, request_id, minimum=500, amount=500, policy=POLICY)
        except LedgerError:
            await self.settler.void_unplaced(token, request_id)
            return None


@asynccontextmanager
async def other_process(books: Books, redis_url: str) -> AsyncIterator[Balances]:
    redis = connect_redis(redis_url, command_seconds_max=10)
    balances = Balances(redis, instance=books.balances.instance)
    await balances.load()
    yield balances
    await redis.aclose()


async def survive(books: Books, redis_url: str, spool: Path, *, chaos: Chaos, seed: int) -> None:
    """Run traffic with `chaos` in its middle, let everything settle, and compare with what was truly spent."""
    await asyncio.to_thread(spool.mkdir)
    accounts = [await books.open_account(START) for _ in range(4)]
    await books.drain()
    async with other_process(books, redis_url) as worker, other_process(books, redis_url) as poster:
        settler = Settler(worker, Spool(spool), LateJournal(books.pool, worker), policy=POLICY)
        traffic = Traffic(settler, worker, accounts, seed=seed)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            running = group.create_task(settler.run())
            for _ in range(2):
                group.create_task(run_poster(books.pool, poster, retention_hours=48, stop=stop))
            group.create_task(reap_forever(poster, stop, rest_seconds=1.0))
            requests = group.create_task(traffic.run())
            await asyncio.sleep(1.0)
            await chaos()
            await asyncio.sleep(1.5)
            traffic.stop.set()
            await requests
            async with asyncio.timeout(60):
                while not (settler.idle and await level(books)):
                    await asyncio.sleep(0.1)
            stop.set()
            running.cancel()
    await books.balances.load()
    for new in accounts:
        expected = START - traffic.spent[new.account.id]
        assert (await books.balance(new), await books.journal_balance(new)) == (expected, expected)
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []
    assert sum(traffic.spent.values()) > 0
    assert await books.pool.fetchval("SELECT count(*) FROM audit WHERE action = 'rebuild'") > 0


async def level(books: Books) -> bool:
    with suppress(LedgerError):
        return await books.is_level()
    return False


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.mark.parametrize("seed", [1, 2])
async def test_redis_emptied_in_the_middle_of_traffic(books: Books, redis_url: str, tmp_path: Path, seed: int) -> None:
    async def empty() -> None:
        await redis_command(books.balances, "FLUSHALL")

    await survive(books, redis_url, tmp_path / "spool", chaos=empty, seed=seed)


async def test_redis_rolled_back_in_the_middle_of_traffic(books: Books, redis_url: str, valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    async def roll_back() -> None:
        snapshot = await asyncio.to_thread(copy_redis, valkey_server)
        await asyncio.sleep(1.0)
        await asyncio.to_thread(restore_redis, valkey_server, snapshot)

    await survive(books, redis_url, tmp_path / "spool", chaos=roll_back, seed=3)


async def test_the_database_restored_in_the_middle_of_traffic(
    books: Books, redis_url: str, database_url: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    async def restore() -> None:
        copy = await copy_when_idle(database_url, postgres_server, books)
        await asyncio.sleep(1.0)
        await restore_database(database_url, postgres_server, to=copy)

    await survive(books, redis_url, tmp_path / "spool", chaos=restore, seed=4)


async def copy_when_idle(database_url: str, postgres_server: EmbeddedPostgres, books: Books) -> str:
    """A database is copied only while nobody is connected; the posters come back at once, so it is tried until it fits."""
    import asyncpg

    for _ in range(50):
        with suppress(asyncpg.ObjectInUseError, JournalUnavailable):
            return await copy_database(database_url, postgres_server, books)
    raise TimeoutError("the database is never idle")
