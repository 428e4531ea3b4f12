"""Reports that wait at the same time travel together, and come out as if each had gone alone."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ledger.errors import BalanceUnavailable, RequestEnded, UnknownKey
from ledger.ingest_groups import GROUP_MAX
from ledger.ingest_values import IngestOutcome
from ledger.keys import mint_key
from ledger.reconcile import verify
from ledger.shard_link import Answer, outbox_key
from ledger.tokens import new_request_id
from tests.fakes.books import Books, open_books
from tests.fakes.reports import FLAG, Reporter, item, items, open_reporter


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


async def warm(reporter: Reporter) -> None:
    """Report once, so that nothing has to be looked up any more and what follows in one turn stays in its order."""
    await reporter.report(0, tokens=0)


def count_calls(books: Books, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note of every call that charges how many requests went with it."""
    calls, run = list[int](), books.balances.run

    async def counted(name: str, shard: int, *words: str | int, epoch: int | None = None) -> Answer:
        answer = await run(name, shard, *words, epoch=epoch)
        if name == "charge_usage":
            calls.append(len(answer) - 6)
        return answer

    monkeypatch.setattr(books.balances, "run", counted)
    return calls


async def test_requests_of_one_turn_go_in_one_call_and_stay_transactions_of_their_own(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = await open_reporter(books, 1_000_000)
    await warm(reporter)
    calls = count_calls(books, monkeypatch)

    outcomes = await asyncio.gather(*(reporter.report(number, tokens=2) for number in range(1, 101)))

    assert calls == [GROUP_MAX, 100 - GROUP_MAX]
    assert [outcome.balance for outcome in outcomes] == [1_000_000 - sum(range(1, number + 1)) for number in range(1, 101)]
    assert [outcome.tokens_mtd for outcome in outcomes] == list(range(2, 202, 2))
    assert len({outcome.items[0].event_id for outcome in outcomes}) == 100
    await books.drain()
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind = 'usage'") == 101
    lines = await books.pool.fetch("SELECT n, amount FROM statement WHERE kind = 'usage' ORDER BY n")
    assert [line["amount"] for line in lines] == [-number for number in range(1, 101)]
    assert [line["n"] for line in lines] == list(range(lines[0]["n"], lines[0]["n"] + 100))
    assert (await verify(books.pool, books.balances)).findings == []


async def test_money_that_suffices_for_some_of_them_is_given_first_come_first_served(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await warm(reporter)

    outcomes = await asyncio.gather(*(reporter.report(*costs) for costs in ((600,), (500, 300), (200,), (100,), (1,), (0,))))

    assert [[one.recorded for one in outcome.items] for outcome in outcomes] == [[True], [False, True], [False], [True], [False], [True]]
    assert [outcome.balance for outcome in outcomes] == [400, 100, 100, 0, 0, 0]
    await books.drain()
    assert (await verify(books.pool, books.balances)).findings == []


async def test_each_hears_what_became_of_it_however_the_others_fare(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await warm(reporter)
    await books.drain()
    twice, ended = new_request_id(), new_request_id()
    assert await reporter.ingest.is_recorded(reporter.key, ended) is None

    async def charge(request_id: Any, *costs: int) -> IngestOutcome:
        return await reporter.ingest.charge_usage(reporter.key, request_id, items(*costs), policy=FLAG)

    results = await asyncio.gather(charge(twice, 10), charge(ended, 20), charge(twice, 10), charge(new_request_id(), 40), return_exceptions=True)

    first, given_up, again, last = results
    assert isinstance(given_up, RequestEnded)
    assert isinstance(first, IngestOutcome)
    assert isinstance(again, IngestOutcome)
    assert isinstance(last, IngestOutcome)
    assert (first.repeated, again.repeated, again.items) == (False, True, first.items)
    assert (first.balance, last.balance) == (990, 950)
    await books.drain()
    assert (await verify(books.pool, books.balances)).findings == []


async def test_a_key_that_is_none_is_told_to_all_who_brought_it(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await warm(reporter)
    stranger = Reporter(books, reporter.ingest, mint_key(reporter.key.account, reporter.key.shard)[1])

    results = await asyncio.gather(stranger.report(1), stranger.report(2), reporter.report(3), return_exceptions=True)

    assert [type(result) for result in results] == [UnknownKey, UnknownKey, IngestOutcome]


async def test_one_that_is_given_up_takes_no_other_with_it(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await warm(reporter)
    tasks = [asyncio.create_task(reporter.report(cost)) for cost in (1, 2, 4)]
    await asyncio.sleep(0)

    tasks[0].cancel()

    assert [(await task).recorded for task in tasks[1:]] == [1, 1]


async def test_large_requests_do_not_keep_small_ones_in_one_long_call(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    reporter = await open_reporter(books, 1_000_000)
    await warm(reporter)
    calls = count_calls(books, monkeypatch)
    large = [item(line, cost=1, external_ref="r" * 200) for line in range(1000)]

    await asyncio.gather(
        *(reporter.ingest.charge_usage(reporter.key, new_request_id(), sent, policy=FLAG) for sent in (large, items(1), large, items(1), items(1)))
    )

    assert calls == [1, 1, 1, 2]


async def test_where_the_outbox_refuses_them_nothing_of_any_is_done(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await warm(reporter)
    shard, requests = reporter.key.shard, [new_request_id() for _ in range(4)]
    meta = await books.balances.read_meta(shard)
    assert meta is not None
    await books.balances.redis.xadd(outbox_key(shard), {"kind": "stray"}, id=f"{meta.seq + 3}-0")

    results = await asyncio.gather(*(reporter.ingest.charge_usage(reporter.key, one, items(100), policy=FLAG) for one in requests), return_exceptions=True)

    assert all(isinstance(result, BalanceUnavailable) for result in results)
    after = await books.balances.read_meta(shard)
    assert after is not None
    assert after.seq == meta.seq
    assert (await reporter.ingest.read_standing(reporter.key)).balance == 1000
