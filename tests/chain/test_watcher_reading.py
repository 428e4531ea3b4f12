"""What providers may do wrong in reading: hide, lie, prune, reorder, fall behind. Nothing is credited wrongly, nothing is lost."""

from collections.abc import AsyncIterator

import pytest

from chainwatch import watcher as watcher_module
from chainwatch.errors import ChainBroken, ChainError, Disagreement, NoProvider, SecondProviderMissing
from ledger.errors import UnknownDeposit
from tests.fakes.cases import require_level_again
from tests.fakes.chain import USDC
from tests.fakes.watching import Watching, open_watching, watch


@pytest.fixture
async def watching(database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    async with open_watching(database_url, redis_url) as made:
        yield made
        await require_level_again(made)


@pytest.fixture
async def alone(database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    """A watcher with one provider only."""
    async with open_watching(database_url, redis_url, providers=1) as made:
        yield made
        await require_level_again(made)


async def is_known(watching: Watching, signature: str) -> bool:
    try:
        await watching.deposits.find(signature)
    except UnknownDeposit:
        return False
    return True


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_case_32_a_payment_that_one_provider_hides_is_read_from_the_other(watching: Watching, place: int) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    payments = []
    for amount in (3, 4, 5):
        payments.append(watching.chain.pay(payer, amount * USDC, account.account.deposit_code))
        watching.chain.advance()
    watching.chain.faults(1).hidden = {payments[place].signature}

    outcome = await watching.settle()

    assert await watching.balance(account) == 12 * USDC
    assert await watching.recorded() == 12 * USDC
    assert outcome.faults == ()


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_case_32_a_payment_that_the_only_provider_hides_stops_the_reading_before_it(alone: Watching, place: int) -> None:
    account, payer = await alone.books.open_account(), alone.chain.wallet()
    payments = []
    for amount in (3, 4, 5):
        payments.append(alone.chain.pay(payer, amount * USDC, account.account.deposit_code))
        alone.chain.advance()
    alone.chain.faults(1).hidden = {payments[place].signature}
    alone.chain.finalize()

    if place == 2:  # nothing comes after it: only the vault's balance shows it
        assert (await alone.turn()).faults
    else:
        await alone.refused(ChainBroken)
    before = await alone.balance(account)
    alone.chain.faults(1).clear()
    await alone.turn()

    assert before <= 12 * USDC
    assert await alone.balance(account) == 12 * USDC


async def test_case_33_a_listed_transaction_that_is_not_given_is_asked_for_elsewhere(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    paid = watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.faults(1).unreadable = {paid.signature}

    await watching.settle()

    assert await watching.balance(account) == 3 * USDC


async def test_case_33_a_listed_transaction_that_nobody_gives_is_never_passed_over(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 2 * USDC, account.account.deposit_code)
    watching.chain.advance()
    paid = watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.advance()
    watching.chain.pay(payer, 4 * USDC, account.account.deposit_code)
    for number in (1, 2):
        watching.chain.faults(number).unreadable = {paid.signature}
    watching.chain.finalize()

    await watching.refused()
    held = await watching.balance(account)
    for number in (1, 2):
        watching.chain.faults(number).clear()
    await watching.turn()

    assert held == 2 * USDC
    assert await watching.balance(account) == 9 * USDC


async def test_case_34_a_pruned_provider_is_not_believed_that_history_ends_there(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    await watching.settle()
    watching.chain.pay(payer, 4 * USDC, account.account.deposit_code)
    watching.chain.advance(5)
    watching.chain.pay(payer, 5 * USDC, account.account.deposit_code)
    watching.chain.faults(1).pruned_below = watching.chain.slot

    await watching.settle()

    assert await watching.balance(account) == 12 * USDC


async def test_case_34_the_whole_history_of_a_pruned_provider_alone_is_refused(alone: Watching) -> None:
    account, payer = await alone.books.open_account(), alone.chain.wallet()
    alone.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    alone.chain.advance(5)
    alone.chain.pay(payer, 4 * USDC, account.account.deposit_code)
    alone.chain.faults(1).pruned_below = alone.chain.slot
    alone.chain.finalize()

    await alone.refused(ChainBroken)

    assert await alone.recorded() == 0


async def test_case_34_a_hole_in_all_lists_is_filled_from_the_blocks(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "ROUNDS_BEFORE_PATCH", 1)
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    await watching.settle()
    hole = watching.chain.pay(payer, 4 * USDC, account.account.deposit_code)
    watching.chain.advance(2)
    watching.chain.pay(payer, 5 * USDC, account.account.deposit_code)
    watching.chain.finalize()
    listed = watcher_module.VaultReader.read

    async def read(*given: object, **named: object) -> object:
        for number in (1, 2):
            watching.chain.faults(number).hidden = set() if named.get("patch") else {hole.signature}
        return await listed(*given, **named)  # type: ignore[arg-type]

    async def find_patch(*given: object, **named: object) -> object:
        for number in (1, 2):
            watching.chain.faults(number).hidden = set()
        return await found(*given, **named)  # type: ignore[arg-type]

    found = watcher_module.find_patch
    monkeypatch.setattr(watcher_module.VaultReader, "read", read)
    monkeypatch.setattr(watcher_module, "find_patch", find_patch)

    await watching.refused(ChainBroken)

    assert await watching.balance(account) == 12 * USDC


async def test_case_35_providers_may_order_a_slot_differently(watching: Watching) -> None:
    account, payer, other = await watching.books.open_account(), watching.chain.wallet(), watching.chain.wallet(0)
    for amount in (5, 4, 3, 2):
        watching.chain.pay(payer, amount * USDC, account.account.deposit_code)
    watching.chain.withdraw(6 * USDC, other)
    watching.chain.pay(payer, 1 * USDC, account.account.deposit_code)
    watching.chain.faults(1).reversed_in_slot = True
    await watching.settle()
    watching.chain.faults(1).always = "503"
    await watching.settle()

    assert await watching.balance(account) == 15 * USDC
    assert await watching.recorded() == 9 * USDC


async def test_case_36_a_lie_about_the_amount_is_held_back_while_two_providers_differ(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    paid = watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.faults(1).gain_lies = {paid.signature: 1000 * USDC}
    watching.chain.finalize()

    await watching.refused(Disagreement)
    held = await watching.balance(account)
    watching.chain.faults(1).clear()
    await watching.turn()

    assert held == 0
    assert await watching.balance(account) == 3 * USDC


async def test_case_36_two_providers_outvote_a_third_one(database_url: str, redis_url: str) -> None:
    async with open_watching(database_url, redis_url, providers=3) as watching:
        account, payer = await watching.books.open_account(), watching.chain.wallet()
        paid = watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
        watching.chain.faults(1).gain_lies = {paid.signature: 1000 * USDC}

        await watching.settle()

        assert await watching.balance(account) == 3 * USDC


@pytest.mark.parametrize("lie", [-2 * USDC, 50 * USDC])
async def test_case_36_a_lie_of_the_only_provider_breaks_the_chain_and_is_not_recorded(alone: Watching, lie: int) -> None:
    account, payer = await alone.books.open_account(), alone.chain.wallet()
    paid = alone.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    alone.chain.advance()
    alone.chain.pay(payer, 4 * USDC, account.account.deposit_code)
    alone.chain.faults(1).gain_lies = {paid.signature: lie}
    alone.chain.finalize()

    await alone.refused(ChainBroken)
    held = await alone.balance(account)
    alone.chain.faults(1).clear()
    await alone.turn()

    assert held == 0
    assert await alone.balance(account) == 7 * USDC


async def test_case_37_success_that_is_told_of_a_failed_payment_credits_nothing(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    failed = watching.chain.fail(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.faults(1).fault_lies = {failed.signature: None}

    await watching.settle()

    assert await watching.balance(account) == 0
    assert not await is_known(watching, failed.signature)


async def test_case_37_a_payment_that_one_provider_tells_to_have_failed_is_held_back_and_not_lost(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    paid = watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.faults(1).fault_lies = {paid.signature: "InsufficientFundsForFee"}

    outcome = await watching.settle()
    held = await watching.balance(account)
    watching.chain.faults(1).clear()
    await watching.turn()

    assert outcome.faults
    assert held == 0
    assert await watching.balance(account) == 3 * USDC


async def test_case_38_other_bytes_than_the_asked_transaction_are_refused(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    paid = watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    other = watching.chain.pay(payer, 4 * USDC, account.account.deposit_code)
    watching.chain.faults(1).swapped = {paid.signature: other.signature}

    await watching.settle()

    assert await watching.balance(account) == 7 * USDC


@pytest.mark.parametrize("manner", ["error", "empty", "ignore"])
async def test_case_39_a_provider_that_does_not_know_the_page_before_hides_nothing(watching: Watching, manner: str) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 1 * USDC, account.account.deposit_code)
    await watching.settle()
    payments = []
    for _ in range(6):
        payments.append(watching.chain.pay(payer, 1 * USDC, account.account.deposit_code))
        watching.chain.advance()
    faults = watching.chain.faults(1)
    faults.page_max, faults.unknown_before = 2, manner  # type: ignore[assignment]
    faults.hidden = {payments[3].signature}

    await watching.settle()

    assert await watching.balance(account) == 7 * USDC


async def test_case_41_a_provider_whose_slot_goes_backwards_hurts_nobody(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.faults(1).backwards = 10
    for _ in range(3):
        watching.chain.pay(payer, 1 * USDC, account.account.deposit_code)
        watching.chain.advance(3)
        await watching.settle()

    watching.chain.faults(1).clear()
    await watching.turn()

    assert await watching.balance(account) == 3 * USDC


async def test_case_42_a_provider_that_is_stuck_at_an_old_slot_is_not_used(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.faults(1).stuck_at = watching.chain.slot
    watching.chain.advance(100)
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)

    outcome = await watching.settle()

    assert await watching.balance(account) == 3 * USDC
    assert outcome.reader is watching.providers.all[1]
    assert any("slots behind" in fault for fault in watching.providers.faults())


@pytest.mark.parametrize("word", ["429", "503", "cut", "reset", "bad_json", "empty", "error:-32019", "error:-32020", "error:-32429", "error:-32016"])
async def test_case_44_a_provider_that_fails_in_any_way_is_survived(watching: Watching, word: str) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.faults(1).always = word

    await watching.settle()

    assert await watching.balance(account) == 3 * USDC


async def test_case_44_all_providers_away_is_told_and_survived(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    for number in (1, 2):
        watching.chain.faults(number).always = "503"
    watching.chain.finalize()

    for _ in range(4):
        try:
            await watching.watcher.turn()
        except NoProvider:
            continue
        except ChainError:
            continue
    for number in (1, 2):
        watching.chain.faults(number).clear()
    await watching.turn()

    assert await watching.balance(account) == 3 * USDC


async def test_a_large_payment_waits_for_a_second_provider_and_is_credited_when_there_is_one(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.advance()
    watching.chain.pay(payer, 500 * USDC, account.account.deposit_code)
    watching.chain.faults(2).always = "503"
    watching.chain.finalize()

    reason = await watching.refused(SecondProviderMissing)
    held = await watching.balance(account)
    watching.chain.faults(2).clear()
    await watching.turn()

    assert held == 3 * USDC
    assert "second RPC provider" in str(reason)
    assert await watching.balance(account) == 503 * USDC


async def test_one_provider_is_believed_whatever_the_amount_where_no_limit_is_given(database_url: str, redis_url: str) -> None:
    async with open_watching(database_url, redis_url, providers=1, cross_check_above=None) as watching:
        account = await watching.books.open_account()
        watching.chain.pay(watching.chain.wallet(), 500 * USDC, account.account.deposit_code)

        await watching.settle()

        assert await watching.balance(account) == 500 * USDC


async def test_case_46_and_47_a_payment_dropped_by_a_fork_disappears_and_is_credited_once_when_it_lands_again(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.advance()
    payment = watching.chain.build([watching.chain.transfer(payer, 3 * USDC), watching.chain.memo(account.account.deposit_code)], [payer])
    watching.chain.land(payment)
    watching.chain.advance()
    await watching.turn()
    seen = await watching.deposits.pending_by_account()
    watching.chain.fork(2)
    watching.chain.advance()
    await watching.turn()
    dropped = await watching.deposits.pending_by_account()
    watching.chain.land(payment)
    await watching.settle()
    await watching.settle()

    assert seen == {account.account.id: 3 * USDC}
    assert dropped == {}
    assert await watching.balance(account) == 3 * USDC


async def test_case_49_two_watchers_at_once_credit_once(watching: Watching) -> None:
    import asyncio

    account, payer = await watching.books.open_account(), watching.chain.wallet()
    async with watch(watching.chain, watching.books) as other:
        for amount in range(1, 9):
            watching.chain.pay(payer, amount * USDC, account.account.deposit_code)
            watching.chain.finalize()
            await asyncio.gather(watching.turn(), other.turn(), return_exceptions=True)
        await watching.turn()
        await other.turn()

    assert await watching.balance(account) == 36 * USDC
    assert await watching.recorded() == 36 * USDC


async def test_case_51_a_history_that_is_read_again_credits_nothing_twice(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    for amount in (3, 4, 5):
        watching.chain.pay(payer, amount * USDC, account.account.deposit_code)
        watching.chain.advance()
    await watching.settle()
    await watching.deposits.rewind(watching.vault)

    outcome = await watching.turn()

    assert await watching.balance(account) == 12 * USDC
    assert await watching.recorded() == 12 * USDC
    assert outcome.faults == ()


async def test_only_what_comes_from_now_on_is_read_where_the_settings_say_so(database_url: str, redis_url: str) -> None:
    from tests.fakes.books import open_books
    from tests.fakes.chain import open_chain

    async with open_chain(providers=2) as chain, open_books(database_url, redis_url) as books:
        account, payer = await books.open_account(), chain.wallet()
        chain.pay(payer, 3 * USDC, account.account.deposit_code)
        chain.finalize()
        async with watch(chain, books, history="from_now") as watching:
            chain.pay(payer, 4 * USDC, account.account.deposit_code)
            first = await watching.settle()
            figures = await watching.deposits.figures()
        async with watch(chain, books, history="from_now") as again:
            chain.pay(payer, 5 * USDC, account.account.deposit_code)
            second = await again.settle()

            assert (figures.opening, figures.arrived) == (3 * USDC, 4 * USDC)
            assert (first.faults, second.faults) == ((), ())
            assert await again.balance(account) == 9 * USDC
            await again.deposits.rewind(again.vault)
            assert (await again.turn()).faults == ()
            assert await again.balance(account) == 9 * USDC
