"""A poster with nothing to do: it rests, and is awake at once when there is something."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from ledger import resting
from ledger.errors import BalanceUnavailable
from ledger.poster import Poster
from tests.fakes.books import Books, open_books

SECONDS_MAX = 20.0


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


class CountingPoster(Poster):
    """Counts how often it has looked."""

    turns = 0

    async def turn(self, group: asyncio.TaskGroup) -> float:
        self.turns += 1
        return await super().turn(group)


@asynccontextmanager
async def running(poster: Poster) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(poster.run(stop))
        yield
        stop.set()


async def until(condition: Callable[[], Coroutine[object, object, bool]]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while not await condition():
            await asyncio.sleep(0.005)


async def test_a_poster_with_nothing_to_do_looks_seldom(books: Books) -> None:
    await books.open_account(1000)
    poster = CountingPoster(books.pool, books.balances, retention_hours=48)

    async with running(poster):
        await until(books.is_level)
        before = poster.turns
        await asyncio.sleep(2.0)

    assert poster.turns - before <= 6


async def test_a_charge_wakes_the_poster_long_before_it_would_look_by_itself(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "REST_SECONDS_MAX", 60.0)
    new = await books.open_account(1000)

    async with running(Poster(books.pool, books.balances, retention_hours=48)):
        await until(books.is_level)
        await asyncio.sleep(0.5)  # it rests by now
        await books.spend(new, 330)
        await until(books.is_level)

    assert await books.journal_balance(new) == 670


async def test_what_the_journal_owes_is_applied_by_a_poster_that_rested(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    new = await books.open_account(1000)

    async def dies_before_it_is_applied(*_: object) -> int:
        raise BalanceUnavailable("away")

    async with running(Poster(books.pool, books.balances, retention_hours=48)):
        await until(books.is_level)
        with monkeypatch.context() as patch:
            patch.setattr("ledger.account_changes.apply_due", dies_before_it_is_applied)
            await books.accounts.credit(new.account, 500, reason="test", actor="tester")
        await until(books.is_level)

    assert await books.balance(new) == 1500


async def test_a_poster_that_rests_stops_at_once_when_asked(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resting, "REST_SECONDS_MAX", 60.0)

    async with running(Poster(books.pool, books.balances, retention_hours=48)):
        await until(books.is_level)
        await asyncio.sleep(0.5)
        asked = time.monotonic()

    assert time.monotonic() - asked < SECONDS_MAX
