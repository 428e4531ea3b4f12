"""What somebody who pays in is shown of the deposits: their own, what is on its way, and what their wallet sent without a name."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ledger.deposit_reads import PaymentTrace
from ledger.deposit_values import Pending
from ledger.deposits import Deposits
from tests.fakes.books import Books, open_books
from tests.fakes.vaults import SENDER, VAULT, History, address, record


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.fixture
async def deposits(books: Books) -> Deposits:
    deposits = Deposits(books.pool, books.balances)
    await deposits.open_vault(VAULT, opening=None)
    return deposits


async def test_an_account_sees_its_own_deposits_newest_first_and_page_by_page(books: Books, deposits: Deposits) -> None:
    one, other, history = await books.open_account(), await books.open_account(), History()
    for amount in (1_000_000, 2_000_000, 3_000_000):
        history.arrive(amount, to=one.account.deposit_code)
    history.arrive(9_000_000, to=other.account.deposit_code)
    history.arrive(8_000_000)
    await record(deposits, history.moves)
    await deposits.credit_due()

    first = await deposits.of_account(one.account.id, limit=2)
    rest = await deposits.of_account(one.account.id, before=first[-1].id, limit=2)

    assert [each.amount for each in first + rest] == [3_000_000, 2_000_000, 1_000_000]
    assert {each.state for each in first + rest} == {"credited"}


async def test_a_payment_is_on_its_way_until_it_is_recorded(books: Books, deposits: Deposits) -> None:
    one, history = await books.open_account(), History()
    history.arrive(4_000_000, to=one.account.deposit_code)
    [move] = history.moves
    payment = Pending(signature=move.signature, slot=move.slot, amount=move.amount, deposit_code=one.account.deposit_code, seen_at=1)
    await deposits.set_pending(VAULT, [payment])
    before, traced_before = await deposits.on_their_way(one.account.id), await deposits.trace(move.signature)

    await record(deposits, history.moves)
    after, traced_after = await deposits.on_their_way(one.account.id), await deposits.trace(move.signature)

    assert (before, after) == ([payment], [])
    assert traced_before == PaymentTrace(pending=payment)
    assert traced_after.pending is None
    assert traced_after.deposit is not None
    assert traced_after.deposit.state == "due"


async def test_a_transaction_that_is_unknown_or_no_deposit_is_told_apart(deposits: Deposits) -> None:
    history = History()
    history.arrive(500_000)
    history.arrive(3)  # below what is set aside
    history.withdraw(1_000)
    await record(deposits, history.moves, set_aside_min=10_000)

    traces = [await deposits.trace(move.signature) for move in history.moves] + [await deposits.trace("1" * 88)]

    assert [trace.move for trace in traces] == [None, "dust", "withdrawal", None]
    assert [trace.deposit.state if trace.deposit else None for trace in traces] == ["aside", None, None, None]


async def test_what_a_wallet_sent_alone_and_without_a_name_is_found_by_its_address(books: Books, deposits: Deposits) -> None:
    one, history = await books.open_account(), History()
    history.arrive(1_000_000)
    history.arrive(2_000_000, to=one.account.deposit_code)
    together = replace(history.arrive(3_000_000), senders=(SENDER, address("another wallet")))
    await record(deposits, [*history.moves[:-1], together])

    found = await deposits.set_aside_from(SENDER)
    others = await deposits.set_aside_from(address("another wallet"))

    assert [each.amount for each in found] == [1_000_000]
    assert others == []
