"""Deposits after a store lost what it had: an older Postgres, an empty Redis, a cursor that was forgotten. Nothing is credited twice."""

from collections.abc import AsyncIterator

import pytest

from cli.embedded import EmbeddedPostgres
from ledger.accounts import NewAccount
from ledger.deposits import Deposits
from ledger.errors import AlreadyAssigned, JournalUnavailable
from ledger.reconcile import verify
from ledger.stores import claim_stores, redis_command
from tests.fakes.books import Books, open_books
from tests.fakes.vaults import VAULT, History, catch_up, record
from tests.integration.test_rebuild import copy_database, restore_database, until_connected


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.fixture
async def deposits(books: Books) -> Deposits:
    return Deposits(books.pool, books.balances)


async def assert_whole(books: Books, **counts: int) -> None:
    await books.drain()
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []
    assert report.checked.get("credits_ahead_of_the_chain", 0) == counts.get("ahead", 0)


async def on_another_shard(books: Books, than: NewAccount) -> NewAccount:
    new = await books.open_account()
    while new.account.shard == than.account.shard:
        new = await books.open_account()
    return new


async def settle_all(books: Books, deposits: Deposits, history: History) -> None:
    await catch_up(deposits, history)
    await deposits.credit_due()
    await books.drain()


@pytest.mark.parametrize("opened_before", [True, False], ids=["backup_knows_the_vault", "backup_from_before_the_vault"])
async def test_a_restored_database_credits_nothing_twice(
    books: Books, deposits: Deposits, database_url: str, postgres_server: EmbeddedPostgres, opened_before: bool
) -> None:
    old, history = await books.open_account(), History()
    if opened_before:
        history.arrive(100, to=old.account.deposit_code)
        await settle_all(books, deposits, history)
    await books.drain()
    copy = await copy_database(database_url, postgres_server, books)
    late = await on_another_shard(books, old)
    history.arrive(20, to=old.account.deposit_code)
    history.arrive(30, to=late.account.deposit_code)
    chosen = history.arrive(40)
    history.arrive(3)
    history.withdraw(50)
    await until_connected(settle_all, books, deposits, history)
    await deposits.assign(await deposits.find(chosen.signature), late.account, actor="anna", reason="ticket 7")
    await books.spend(late, 1)
    await books.drain()
    before = await deposits.figures()
    balances = [await books.balance(new) for new in (old, late)]

    await restore_database(database_url, postgres_server, to=copy)
    with pytest.raises(JournalUnavailable, match="older"):
        await until_connected(catch_up, deposits, history)
    await books.drain()
    assert [await books.balance(new) for new in (old, late)] == balances
    await assert_whole(books, ahead=3)
    outcome = None if opened_before else await deposits.open_vault(VAULT, opening=None)
    assert outcome is None or outcome.signature is None
    await catch_up(deposits, history)

    assert await deposits.credit_due() == 0
    assert await deposits.figures() == before
    assert [await books.balance(new) for new in (old, late)] == balances
    again = await deposits.find(chosen.signature)
    assert (again.state, again.source, again.public_id) == ("credited", "operator", late.account.public_id)
    assert [each.state for each in await deposits.list(state="aside")] == ["aside"]
    await claim_stores(books.pool, books.balances, mode="sandbox")
    await assert_whole(books)


async def test_arrivals_that_are_read_again_before_the_outbox_is_replayed_are_marked_by_it(
    books: Books, deposits: Deposits, database_url: str, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, history = await books.open_account(), History()
    await deposits.open_vault(VAULT, opening=None)
    await books.drain()
    copy = await copy_database(database_url, postgres_server, books)
    history.arrive(10, to=new.account.deposit_code)
    chosen = history.arrive(20)
    await until_connected(settle_all, books, deposits, history)
    await deposits.assign(await deposits.find(chosen.signature), new.account, actor="anna", reason="ticket 7")
    await books.drain()
    await restore_database(database_url, postgres_server, to=copy)

    async def knows_nothing() -> dict[int, None]:
        return {}

    with monkeypatch.context() as redis_away:
        redis_away.setattr(deposits, "_glance", knows_nothing)
        await until_connected(catch_up, deposits, history)
    assert [each.state for each in await deposits.list()] == ["aside", "due"]
    with pytest.raises(JournalUnavailable, match="older"):
        await deposits.credit_due()
    with pytest.raises(JournalUnavailable, match="older"):
        await deposits.assign(await deposits.find(chosen.signature), new.account, actor="anna", reason="again")
    await books.drain()

    assert [(each.state, each.source) for each in await deposits.list()] == [("credited", "operator"), ("credited", "memo")]
    assert await deposits.credit_due() == 0
    assert await books.balance(new) == await books.journal_balance(new) == 30
    await assert_whole(books)


async def test_a_replay_never_credits_what_was_given_to_another_meanwhile(
    books: Books, deposits: Deposits, database_url: str, postgres_server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, history = await books.open_account(), History()
    second = await on_another_shard(books, first)
    history.arrive(10)
    await catch_up(deposits, history)
    await books.drain()
    copy = await copy_database(database_url, postgres_server, books)
    deposit = await deposits.find(history.moves[0].signature)
    await until_connected(deposits.assign, deposit, first.account, actor="anna", reason="ticket 7")
    await books.drain()
    await restore_database(database_url, postgres_server, to=copy)

    async def check_nothing(*_: object) -> None:
        return

    with monkeypatch.context() as rule_broken:
        rule_broken.setattr("ledger.deposit_credits.require_all_current", check_nothing)
        await until_connected(deposits.assign, deposit, second.account, actor="anna", reason="ticket 8")
    await books.drain()

    assert [await books.balance(new) for new in (first, second)] == [0, 10]
    with pytest.raises(AlreadyAssigned):
        await deposits.assign(deposit, first.account, actor="anna", reason="ticket 7")
    await assert_whole(books)


async def test_a_redis_that_lost_everything_gets_each_deposit_once(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    history.arrive(10, to=new.account.deposit_code)
    await settle_all(books, deposits, history)
    await redis_command(books.balances, "FLUSHALL")
    history.arrive(5, to=new.account.deposit_code)
    await catch_up(deposits, history)

    assert await deposits.credit_due() == 1
    await books.drain()

    assert await books.balance(new) == await books.journal_balance(new) == 15
    await claim_stores(books.pool, books.balances, mode="sandbox")
    await assert_whole(books)


async def test_a_history_read_again_from_its_start_changes_nothing(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    for number in range(20):
        history.arrive(10 + number, to=new.account.deposit_code if number % 2 else None, same_slot=number % 3 == 1)
    await settle_all(books, deposits, history)
    before = await deposits.figures()

    await deposits.rewind(VAULT)
    assert (await deposits.open_vault(VAULT, opening=None)).signature is None
    await settle_all(books, deposits, history)

    assert await deposits.figures() == before
    assert await books.balance(new) == sum(10 + number for number in range(1, 20, 2))
    await assert_whole(books)


async def test_payments_that_were_hidden_come_to_light_when_the_history_is_read_again(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    first = history.arrive(10)
    history.arrive(7, to=new.account.deposit_code)
    history.withdraw(7)
    last = history.arrive(1)
    await deposits.open_vault(VAULT, opening=None)
    await record(deposits, [first, last])  # a provider that hides two which cancel each other out

    await deposits.rewind(VAULT)
    await settle_all(books, deposits, history)

    assert await books.balance(new) == 7
    assert (await deposits.figures()).vault_balance == 11
    await assert_whole(books)
