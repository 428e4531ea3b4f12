"""A process killed at every statement of recording and crediting: nothing is half done, and the next one finishes."""

from collections.abc import AsyncIterator, Sequence
from itertools import count

import pytest

from ledger.account_values import Account
from ledger.deposit_values import Deposit, Move
from ledger.deposits import Deposits
from ledger.errors import AlreadyAssigned
from ledger.reconcile import verify
from tests.fakes.books import Books, open_books
from tests.fakes.dying import survives
from tests.fakes.vaults import VAULT, History, catch_up, cursor_at

DUST_BELOW = 10
CALLS_MIN = 8  # fewer would mean that nothing was counted


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.fixture
def stores(database_url: str, redis_url: str) -> tuple[str, str]:
    return (database_url, redis_url)


async def assert_whole(books: Books) -> None:
    await books.drain()
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []


async def open_it(deposits: Deposits, opening: int) -> None:
    await deposits.open_vault(VAULT, opening=opening)


async def record_it(deposits: Deposits, moves: Sequence[Move]) -> None:
    await deposits.record_page(VAULT, moves, cursor=cursor_at(moves), set_aside_min=DUST_BELOW)


async def credit_it(deposits: Deposits) -> None:
    await deposits.credit_due()


async def assign_it(deposits: Deposits, deposit: Deposit, account: Account) -> None:
    await deposits.assign(deposit, account, actor="anna", reason="ticket 7")


async def test_a_first_start_killed_anywhere_is_finished_by_the_next(books: Books, stores: tuple[str, str]) -> None:
    for lives in count():
        if await survives(open_it, 100, stores=stores, lives=lives):
            break
        assert await Deposits(books.pool, books.balances).vault() in (None, VAULT)

    assert lives >= CALLS_MIN
    history = History(opening=100)
    history.arrive(30)
    await catch_up(Deposits(books.pool, books.balances), history, opening=100)
    assert (await Deposits(books.pool, books.balances).figures()).vault_balance == 130
    await assert_whole(books)


async def test_a_page_killed_anywhere_is_written_whole_or_not_at_all(books: Books, stores: tuple[str, str]) -> None:
    deposits, history, new = Deposits(books.pool, books.balances), History(opening=100), await books.open_account()
    await deposits.open_vault(VAULT, opening=100)
    for lives in count():
        before = len(history.moves)
        history.arrive(20, to=new.account.deposit_code)
        history.arrive(30)
        history.arrive(1)
        history.withdraw(25)
        done = await survives(record_it, history.moves[before:], stores=stores, lives=lives)

        recorded = (await deposits.figures()).moves_count
        assert recorded in ((len(history.moves),) if done else (before, len(history.moves)))
        await catch_up(deposits, history, opening=100, set_aside_min=DUST_BELOW)
        figures = await deposits.figures()
        assert (figures.moves_count, figures.vault_balance, figures.dust_count) == (len(history.moves), history.balance, len(history.moves) // 4)
        if done:
            break

    assert lives >= CALLS_MIN
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind IN ('arrival', 'withdrawal', 'dust')") == len(history.moves)
    await assert_whole(books)


async def test_a_credit_killed_anywhere_is_made_once(books: Books, stores: tuple[str, str]) -> None:
    deposits, history = Deposits(books.pool, books.balances), History()
    news = [await books.open_account() for _ in range(2)]
    for lives in count():
        for new in news:
            history.arrive(20, to=new.account.deposit_code)
        await catch_up(deposits, history)
        done = await survives(credit_it, stores=stores, lives=lives)

        figures = await deposits.figures()
        assert figures.credited + figures.due == history.balance
        await deposits.credit_due()
        assert (await deposits.figures()).credited == history.balance == sum([await books.journal_balance(new) for new in news])
        if done:
            break

    assert lives >= 2 * CALLS_MIN
    await books.drain()
    assert [await books.balance(new) for new in news] == [history.balance // 2] * 2
    await assert_whole(books)


async def test_an_operator_killed_anywhere_asks_again_or_finds_it_done(books: Books, stores: tuple[str, str]) -> None:
    deposits, history = Deposits(books.pool, books.balances), History()
    first, second = await books.open_account(), await books.open_account()
    given = 0
    for lives in count():
        move = history.arrive(20)
        await catch_up(deposits, history)
        deposit = await deposits.find(move.signature)
        done = await survives(assign_it, deposit, first.account, stores=stores, lives=lives)
        try:
            await deposits.assign(deposit, second.account, actor="bert", reason="ticket 8")
        except AlreadyAssigned:
            given += 1
        if done:
            break

    await books.drain()
    assert 1 <= given < len(history.moves)
    assert [await books.balance(new) for new in (first, second)] == [20 * given, history.balance - 20 * given]
    assert await books.pool.fetchval("SELECT count(*) FROM audit WHERE action = 'deposit_assigned'") == len(history.moves)
    await assert_whole(books)
