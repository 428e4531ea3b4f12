"""Workspaces within a tier's cap, and reading events out again."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ledger.errors import WorkspaceRefused
from ledger.ingest_values import Workspace
from ledger.journal import now_ms
from ledger.keys import IngestKey
from ledger.tokens import new_request_id
from ledger.usage_export import read_cursor, usage_events
from ledger.workspaces import Workspaces, slug_of
from tests.fakes.books import Books, open_books
from tests.fakes.reports import FLAG, Reporter, item, items, open_reporter

CAPS = {"free": 1, "pro": 3, "team": None}


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


async def resolve(books: Books, key: IngestKey, name: str, *, refuse: bool = False) -> tuple[Workspace, bool]:
    """As a process does that has just been started."""
    found = await Workspaces(books.pool, books.balances).resolve(key.account, key.shard, name, caps=CAPS, refuse_beyond_cap=refuse)
    return found.workspace, found.folded


@pytest.mark.parametrize(
    ("name", "slug"), [("Conformance WS", "conformance-ws"), ("  a__B.c ", "a-b-c"), ("Tübingen 7", "tübingen-7"), ("日本", "日本")], ids=str
)
def test_a_name_has_a_slug(name: str, slug: str) -> None:
    assert slug_of(name) == slug


def test_names_without_letters_and_long_ones_have_slugs_of_their_own() -> None:
    assert slug_of("!!!") != slug_of("???")
    assert slug_of("x" * 200) != slug_of("x" * 199)
    assert len(slug_of("x" * 200)) <= 60


async def test_a_workspace_is_found_by_name_slug_and_id(books: Books) -> None:
    reporter = await open_reporter(books)
    made, folded = await resolve(books, reporter.key, "Conformance WS")

    assert not folded
    assert (made.name, made.slug, made.id[:3]) == ("Conformance WS", "conformance-ws", "ws_")
    for name in ("Conformance WS", "conformance-ws", made.id):
        assert await resolve(books, reporter.key, name) == (made, False)


async def test_beyond_the_cap_events_count_for_the_oldest_workspace_or_are_refused(books: Books) -> None:
    reporter = await open_reporter(books)
    oldest, _ = await resolve(books, reporter.key, "prod")

    assert await resolve(books, reporter.key, "test") == (oldest, True)
    with pytest.raises(WorkspaceRefused) as refusal:
        await resolve(books, reporter.key, "test", refuse=True)
    assert refusal.value.cap == 1


async def test_many_at_once_do_not_pass_the_cap(books: Books) -> None:
    reporter = await open_reporter(books)
    await books.accounts.set_tier(books.opened[0].account, "pro", "test")

    found = await asyncio.gather(*(resolve(books, reporter.key, f"ws {number % 6}") for number in range(24)))

    names = {workspace.id for workspace, _ in found}
    listed = await Workspaces(books.pool, books.balances).list(reporter.key.account)
    assert len(listed) == 3
    assert names <= {workspace.id for workspace in listed}
    assert {workspace.id for workspace, folded in found if folded} == {listed[0].id}


async def test_a_workspace_comes_back_from_the_outbox(books: Books) -> None:
    reporter = await open_reporter(books)
    await resolve(books, reporter.key, "prod")

    [entry] = [one for one in await books.balances.read_outbox(reporter.key.shard, after=0, count=100) if one.key.startswith("workspace:")]

    assert '"slug":"prod"' in entry.detail


async def some_events(books: Books, reporter: Reporter) -> list[str]:
    ids = list[str]()
    for number in range(3):
        sent = [item(line, input_tokens=number, cost=line, external_ref=f"{number}.{line}", occurred_at=now_ms() - 1000) for line in range(4)]
        outcome = await reporter.ingest.charge_usage(reporter.key, new_request_id(), sent, policy=FLAG)
        ids += [one.event_id or "" for one in outcome.items]
        await asyncio.sleep(0.003)
    await books.drain()
    return ids


async def test_events_are_read_in_the_order_of_their_arrival_page_by_page(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.usage_export.PAGE", 5)
    reporter, other = await open_reporter(books), await open_reporter(books)
    ids = await some_events(books, reporter)
    await some_events(books, other)
    account = books.opened[0].account

    events = [event async for event in usage_events(books.pool, books.balances, account)]
    behind = [event async for event in usage_events(books.pool, books.balances, account, cursor=events[4].cursor)]
    few = [event async for event in usage_events(books.pool, books.balances, account, limit=7)]

    assert [event.event_id for event in events] == ids
    assert [event.external_ref for event in events] == [f"{number}.{line}" for number in range(3) for line in range(4)]
    assert (behind, few) == (events[5:], events[:7])
    assert all(event.reported and event.cost == index % 4 for index, event in enumerate(events))


async def test_events_are_read_between_two_times(books: Books) -> None:
    reporter = await open_reporter(books)
    await some_events(books, reporter)
    account = books.opened[0].account
    events = [event async for event in usage_events(books.pool, None, account)]
    since, until = events[4].received_at, events[8].received_at

    between = [event async for event in usage_events(books.pool, None, account, since=since, until=until)]

    assert between == events[4:8]
    assert [event async for event in usage_events(books.pool, None, account, since=datetime.now(UTC) + timedelta(days=1))] == []


async def test_what_passed_the_gateway_is_among_the_events(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await books.spend(books.opened[0], 100)
    await reporter.ingest.charge_usage(reporter.key, new_request_id(), items(5), policy=FLAG)
    await books.drain()

    events = [event async for event in usage_events(books.pool, books.balances, books.opened[0].account)]

    assert [(event.reported, event.cost, event.operation) for event in events] == [(False, 100, "messages"), (False, 0, "messages"), (True, 5, "reported")]
    assert [event.cache_write_tokens for event in events] == [5, 0, 0]
    assert events[0].event_id[:-3] == events[1].event_id[:-3]


@pytest.mark.parametrize("text", ["", "x", "äöü", "MS4y", "LTEuMS4x"])
def test_a_strange_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        read_cursor(text)
