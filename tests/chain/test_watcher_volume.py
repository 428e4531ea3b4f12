"""Much at once: thousands of payments missed, spam that hides a payment, and what a deposit costs in calls."""

import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chainwatch import paging
from chainwatch.pacing import TokenBucket
from chainwatch.providers import Provider, Providers
from chainwatch.watcher import Watcher
from config.chain import ChainSettings
from ledger.deposits import Deposits
from tests.fakes.books import Books, open_books
from tests.fakes.chain import USDC
from tests.fakes.listed import MINT, OWNER, VAULT, ListedHistory
from tests.fakes.watching import open_watching


@asynccontextmanager
async def listed(database_url: str, redis_url: str, history: ListedHistory) -> AsyncIterator[tuple[Books, Deposits, Watcher]]:
    """A watcher over a made-up history."""
    settings = ChainSettings.model_validate({"rpc_urls": "http://127.0.0.1:9", "treasury": OWNER, "usdc_mint": MINT})
    async with open_books(database_url, redis_url) as books:
        providers = Providers([Provider(history, requests_per_second=100_000)])  # type: ignore[arg-type]  # a client without a network
        await providers.pin("")
        deposits = Deposits(books.pool, books.balances)
        await deposits.open_vault(VAULT, opening=None)
        yield books, deposits, Watcher(deposits, providers, VAULT, settings=settings, cross_check_above=None)


@pytest.mark.timeout(300)
async def test_case_50_ten_thousand_missed_payments_are_read_after_a_restart_in_bounded_memory(database_url: str, redis_url: str) -> None:
    history = ListedHistory()
    async with listed(database_url, redis_url, history) as (books, deposits, watcher):
        accounts = [await books.open_account() for _ in range(5)]
        for number in range(10_000):  # one in fifty names an account: the others are recorded and set aside
            code = accounts[number // 50 % 5].account.deposit_code if number % 50 == 0 else None
            history.add(20_000 + number, code, same_slot=number % 3 == 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.monotonic()

        outcome = await watcher.turn()

        seconds, grown = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        figures = await deposits.figures()
        print(f"{10_000 / seconds:.0f} payments a second, {grown} KiB more, {len(history.calls) / 10_000:.2f} calls a payment")
        assert outcome.faults == ()
        assert (figures.credited_count, figures.set_aside_count) == (200, 9800)
        assert figures.credited + figures.set_aside == figures.vault_balance == history.balance
        assert sum([await books.balance(one) for one in accounts]) == figures.credited
        assert history.calls.count("getTransaction") == 10_000
        assert grown < 200_000


async def test_case_58_five_thousand_rows_of_dust_do_not_starve_a_payment(database_url: str, redis_url: str) -> None:
    history = ListedHistory()
    async with listed(database_url, redis_url, history) as (books, deposits, watcher):
        account = await books.open_account()
        for number in range(5000):
            history.add(number % 2, failed=number % 3 == 0, same_slot=number % 10 != 0)
        history.add(7 * USDC, account.account.deposit_code)

        outcome = await watcher.turn()

        assert await books.balance(account) == 7 * USDC
        assert outcome.faults == ()
        assert history.calls.count("getTransaction") <= 3400  # failed ones are never fetched
        assert [one.amount for one in await deposits.list()] == [7 * USDC]


async def test_a_history_longer_than_what_is_held_is_read_in_several_rounds(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    history = ListedHistory()
    monkeypatch.setattr(paging, "ROWS_HELD_MAX", 100)
    async with listed(database_url, redis_url, history) as (books, _, watcher):
        account = await books.open_account()
        for _ in range(250):
            history.add(1 * USDC, account.account.deposit_code)
        seen = []
        for _ in range(4):
            await watcher.turn()
            seen.append(await books.balance(account) // USDC)

    assert seen == [100, 200, 250, 250]


async def test_a_call_at_its_rate_is_all_that_a_backlog_may_cost_a_provider(database_url: str, redis_url: str) -> None:
    async with open_watching(database_url, redis_url) as watching:
        account, payer = await watching.books.open_account(), watching.chain.wallet()
        for one in watching.providers.all:
            one.bucket = TokenBucket(40)
        for _ in range(60):
            watching.chain.pay(payer, 1 * USDC, account.account.deposit_code)
        watching.chain.finalize()
        begun, before = time.monotonic(), sum(len(watching.chain.calls(number)) for number in (1, 2))

        await watching.turn()

        calls = sum(len(watching.chain.calls(number)) for number in (1, 2)) - before
        assert await watching.balance(account) == 60 * USDC
        assert calls <= 2 * 40 * (time.monotonic() - begun + 1) + 2
        assert min(len(watching.chain.calls(number)) for number in (1, 2)) > 20  # both took their share
