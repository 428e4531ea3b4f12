"""Looking through statements and reading receipts, on real stores."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import transaction_search
from ledger.receipts import read_receipt
from ledger.tokens import new_request_id
from ledger.transaction_search import FoundPage, StatementFilter, export_statement, search_statement
from tests.fakes.books import Books, open_books
from tests.fakes.reports import FLAG, Reporter, item, open_reporter


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


async def report(reporter: Reporter, *events: dict[str, Any]) -> str:
    request_id = new_request_id()
    await reporter.ingest.charge_usage(reporter.key, request_id, [item(line, **fields) for line, fields in enumerate(events)], policy=FLAG)
    return request_id


def ids(page: FoundPage) -> list[int]:
    return [line.id for line in page.lines]


async def test_pages_hold_every_line_once_in_both_directions(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transaction_search, "SCAN_MAX", 4)
    monkeypatch.setattr(transaction_search, "EXPORT_SCAN", 3)
    reporter = await open_reporter(books, 1_000)
    for number in range(9):
        await report(reporter, {"cost": 1, "model": f"m{number % 2}"})
    await books.drain()
    account = reporter.key.account

    first = await search_statement(books.pool, account, StatementFilter(), limit=3)
    second = await search_statement(books.pool, account, StatementFilter(), before=first.older, limit=3)
    back = await search_statement(books.pool, account, StatementFilter(), after=second.newer, limit=3)
    odd = await search_statement(books.pool, account, StatementFilter(model="m1"), limit=3)
    rest = await search_statement(books.pool, account, StatementFilter(model="m1"), before=odd.older, limit=3)
    lines = [line.id async for part in export_statement(books.pool, account, StatementFilter(model="m1")) for line in part]

    assert (ids(first), ids(second), ids(back)) == ([10, 9, 8], [7, 6, 5], [10, 9, 8])
    assert (first.newer, second.newer, second.older) == (None, 7, 5)
    assert (ids(odd), odd.stopped_at, odd.older) == ([9, 7], 7, 7)
    assert ids(rest) == [5, 3]
    assert lines == [3, 5, 7, 9]


async def test_lines_are_found_by_what_they_are_of(books: Books) -> None:
    reporter = await open_reporter(books, 1_000)
    one = await report(reporter, {"cost": 1, "model": "Gpt-5", "provider": "openai", "task_type": "review"})
    await report(reporter, {"cost": 1, "task_type": "a"}, {"cost": 1, "task_type": "b", "workspace_id": "ws_1"})
    charge = await books.spend(books.opened[0], 7)
    await books.drain()
    account = reporter.key.account
    stranger = (await books.open_account(5)).account.id

    async def found(**wanted: Any) -> list[int]:
        return ids(await search_statement(books.pool, account, StatementFilter(**wanted)))

    assert await found(text="gpt") == await found(provider="openai") == await found(model="Gpt-5") == await found(text="REVIEW") == [2]
    assert await found(text=one) == await found(text=one[:30]) == [2]
    assert await found(text=charge.request_id) == [4]
    assert await found(workspace_id="*") == [3]
    assert await found(type="CREDIT") == [1]
    assert await found(text="%") == await found(text=new_request_id()) == []
    assert ids(await search_statement(books.pool, stranger, StatementFilter(text=one))) == []
    now = datetime.now(UTC)
    assert await found(since=now - timedelta(hours=1), until=now + timedelta(hours=1)) == [4, 3, 2, 1]
    assert await found(until=now - timedelta(hours=1)) == await found(since=now + timedelta(hours=1)) == []


async def test_a_moment_is_found_by_halving_in_a_statement_of_any_length(books: Books) -> None:
    new = await books.open_account(5)
    await books.drain()
    account = new.account.id
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "INSERT INTO statement (account_id, n, amount, balance_after, kind, type, created_at, shard, seq)"
            " SELECT $1, n, 0, 5, 'charge', 'DEBIT', timestamptz '2020-01-01' + n * interval '1 minute', 1, n FROM generate_series(2, 50000) AS n",
            account,
        )
        await connection.execute("UPDATE accounts SET n = 50000 WHERE id = $1", account)

    since, until = datetime(2020, 1, 20, tzinfo=UTC), datetime(2020, 1, 20, 0, 3, tzinfo=UTC)
    page = await search_statement(books.pool, account, StatementFilter(since=since, until=until))

    first = int((since - datetime(2020, 1, 1, tzinfo=UTC)).total_seconds()) // 60
    assert ids(page) == [first + 2, first + 1, first]
    assert page.stopped_at is None


async def test_a_receipt_has_all_that_the_books_have_and_tells_when_a_row_was_changed(books: Books) -> None:
    reporter = await open_reporter(books, 1_000)
    request_id = await report(reporter, {"cost": 5, "external_ref": "r"}, {"cost": 1})
    charge = await books.spend(books.opened[0], 330)
    await books.drain()
    account = await books.reload(books.opened[0])

    credit, usage, metered = [await read_receipt(books.pool, account, n) for n in (1, 2, 3)]

    assert credit is not None
    assert usage is not None
    assert metered is not None
    assert (credit.type, credit.paid, credit.reason, credit.place.key.split(":")[0], credit.place.holds) == ("CREDIT", -1_000, "test", "credit", True)
    assert (usage.paid, usage.request_id, [event.amount for event in usage.events], usage.event_count) == (6, request_id, [5, 1], 2)
    assert (metered.paid, metered.record, metered.card_body, len(metered.events)) == (330, charge, None, 2)
    assert (metered.place.previous, metered.place.holds) == (usage.place.hash, True)
    assert await read_receipt(books.pool, account, 4) is None
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE journal SET occurred_at = now() WHERE key = $1", f"charge:{charge.request_id}")
    broken = await read_receipt(books.pool, account, 3)
    assert broken is not None
    assert not broken.place.holds
