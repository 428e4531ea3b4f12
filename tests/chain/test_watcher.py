"""The watcher over a real SVM and real books: what arrives is credited once, whatever providers, forks and stores do."""

from collections.abc import AsyncIterator

import pytest

from tests.fakes.chain import USDC
from tests.fakes.watching import Watching, open_watching


@pytest.fixture
async def watching(database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    async with open_watching(database_url, redis_url) as made:
        yield made


async def test_a_payment_with_a_code_is_credited_once_it_is_final(watching: Watching) -> None:
    account = await watching.books.open_account()
    payer = watching.chain.wallet()
    watching.chain.pay(payer, 5 * USDC, account.account.deposit_code)
    watching.chain.advance(2)

    early = await watching.turn()
    before = await watching.balance(account)
    pending = await watching.deposits.pending_by_account()
    late = await watching.settle()

    assert (before, pending) == (0, {account.account.id: 5 * USDC})
    assert await watching.balance(account) == 5 * USDC
    assert await watching.deposits.pending_by_account() == {}
    assert (early.faults, late.faults, late.amount) == ((), (), 5 * USDC)


async def test_a_round_with_nothing_new_costs_one_call_for_each_provider_and_one_more(watching: Watching) -> None:
    await watching.settle()
    await watching.turn()
    before = [len(watching.chain.calls(number)) for number in (1, 2)]

    for _ in range(10):
        await watching.turn()

    assert [len(watching.chain.calls(number)) - calls for number, calls in zip((1, 2), before, strict=True)] == [20, 10]
