"""What stops crediting and what refuses to start: the vault, the mint, the cluster, and a vault that differs from the journal."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chainwatch.errors import ChainError, Unavailable, WrongCluster, WrongVault
from chainwatch.founding import choose_mint, found
from chainwatch.guard import OWN_STOP, ROUNDS_BEFORE_STOP, Verdict
from config.chain import CLUSTERS, USDC_MINTS, ChainSettings
from ledger.deposits import Deposits
from ledger.errors import WrongStore
from sandbox.chain.keys import keypair_of
from telemetry import metrics
from tests.fakes.books import open_books
from tests.fakes.chain import USDC, open_chain
from tests.fakes.watching import Watching, chain_settings, open_watching, providers_of

STRANGER = keypair_of("level5 test stranger").pubkey()
MAINNET = next(genesis for genesis, name in CLUSTERS.items() if name == "mainnet")
DEVNET = next(genesis for genesis, name in CLUSTERS.items() if name == "devnet")


@pytest.fixture
async def watching(database_url: str, redis_url: str) -> AsyncIterator[Watching]:
    async with open_watching(database_url, redis_url) as made:
        yield made


async def rounds(watching: Watching, count: int) -> None:
    for _ in range(count):
        try:
            await watching.settle()
        except ChainError:
            continue


async def test_case_57_a_frozen_vault_is_told_and_nothing_is_lost(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    watching.chain.freeze()

    await watching.settle()

    assert watching.watcher.verdict == Verdict(is_frozen=True)
    assert await watching.balance(account) == 3 * USDC


async def test_case_57_a_delegate_stops_crediting_until_it_is_gone(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.delegate(STRANGER, 10 * USDC)
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)

    first = await watching.settle()
    await rounds(watching, ROUNDS_BEFORE_STOP)
    held, reason = await watching.balance(account), await watching.deposits.stopped()

    assert "delegate" in first.faults[0]
    assert held == 0
    assert reason is not None
    assert reason.startswith(OWN_STOP)
    assert await watching.recorded() == 3 * USDC


async def test_case_57_a_close_authority_stops_crediting(watching: Watching) -> None:
    watching.chain.set_close_authority(STRANGER)
    await rounds(watching, ROUNDS_BEFORE_STOP)

    assert "close authority" in (await watching.deposits.stopped() or "")


async def test_case_57_a_vault_with_another_owner_stops_crediting(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.set_owner(STRANGER)
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    await rounds(watching, ROUNDS_BEFORE_STOP)

    assert "owner" in (await watching.deposits.stopped() or "")
    assert await watching.balance(account) == 0


async def test_case_59_a_vault_that_differs_from_the_journal_stops_crediting_and_goes_on_when_it_is_level_again(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    for number in (1, 2):
        watching.chain.faults(number).balance_lies = {str(watching.chain.vault): 9 * USDC}
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)
    await rounds(watching, ROUNDS_BEFORE_STOP)
    held, reason = await watching.balance(account), await watching.deposits.stopped()
    difference = metrics.chain_difference_microunits._value.get()
    for number in (1, 2):
        watching.chain.faults(number).clear()
    await watching.settle()
    still = await watching.deposits.stopped()
    await watching.settle()

    assert held == 0
    assert reason is not None
    assert "9000000 microunits more in the vault" in reason
    assert difference == 9 * USDC
    assert still is not None  # one good round is not enough
    assert await watching.deposits.stopped() is None
    assert await watching.balance(account) == 3 * USDC


async def test_case_59_what_an_operator_stopped_stays_stopped(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    await watching.deposits.stop_crediting("the operator wants to look")
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)

    await rounds(watching, 4)

    assert await watching.deposits.stopped() == "the operator wants to look"
    assert await watching.balance(account) == 0
    await watching.deposits.resume_crediting()
    await watching.turn()
    assert await watching.balance(account) == 3 * USDC


async def test_one_round_that_differs_credits_nothing_and_stops_nothing(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    for number in (1, 2):
        watching.chain.faults(number).balance_lies = {str(watching.chain.vault): -1}
    watching.chain.pay(payer, 3 * USDC, account.account.deposit_code)

    await watching.settle()

    assert await watching.deposits.stopped() is None
    assert "less in the vault" in (await watching.turn()).faults[0]


async def test_tokens_in_other_accounts_of_the_treasury_are_told(watching: Watching) -> None:
    beside = keypair_of("level5 test account beside the vault")
    from solders.system_program import CreateAccountParams, create_account

    from tests.fakes.chain import FAUCET

    program = watching.chain.cluster.accounts.now(str(watching.chain.vault)).owner  # type: ignore[union-attr]
    params = CreateAccountParams(from_pubkey=FAUCET.pubkey(), to_pubkey=beside.pubkey(), lamports=10**9, space=165, owner=program)
    from solders.instruction import AccountMeta, Instruction

    opening = Instruction(
        program,
        bytes([18]) + bytes(watching.chain.treasury.pubkey()),
        [AccountMeta(beside.pubkey(), False, True), AccountMeta(watching.chain.mint, False, False)],
    )
    assert watching.chain.send([create_account(params), opening], [FAUCET, beside]).fault is None
    watching.chain.mint_to(4 * USDC, beside.pubkey())

    await watching.settle()

    assert metrics.chain_stray_microunits._value.get() == 4 * USDC


@asynccontextmanager
async def founding(database_url: str, redis_url: str, **changes: Any) -> AsyncIterator[Any]:
    """Yield what settles the vault for settings that may not fit the chain."""
    async with open_chain(providers=2) as chain, open_books(database_url, redis_url) as books:
        chain.finalize()
        settings = chain_settings(chain, **{name: change(chain) if callable(change) else change for name, change in changes.items()})
        providers = providers_of(settings)
        try:
            yield chain, lambda: found(settings, providers, Deposits(books.pool, books.balances))
        finally:
            await providers.close()


async def test_case_60_a_cluster_whose_usdc_is_unknown_needs_its_mint_named(database_url: str, redis_url: str) -> None:
    async with founding(database_url, redis_url, usdc_mint=None) as (_, start):
        with pytest.raises(WrongCluster, match=r"set chain\.usdc_mint"):
            await start()


async def test_case_60_a_mint_that_does_not_exist_there_is_refused(database_url: str, redis_url: str) -> None:
    async with founding(database_url, redis_url, usdc_mint=str(STRANGER)) as (_, start):
        with pytest.raises(WrongVault, match="does not exist"):
            await start()


async def test_case_60_a_mint_that_is_no_mint_is_refused(database_url: str, redis_url: str) -> None:
    async with founding(database_url, redis_url, usdc_mint=lambda chain: str(chain.vault)) as (_, start):
        with pytest.raises(WrongVault, match="no mint"):
            await start()


async def test_case_60_another_vault_than_the_treasurys_is_refused(database_url: str, redis_url: str) -> None:
    async with founding(database_url, redis_url, vault=lambda chain: str(chain.token_account(chain.wallet()))) as (chain, start):
        chain.finalize()
        with pytest.raises(WrongVault, match="owner"):
            await start()


async def test_a_vault_that_does_not_exist_yet_is_waited_for(database_url: str, redis_url: str) -> None:
    async with founding(database_url, redis_url, treasury=str(STRANGER)) as (chain, start):
        with pytest.raises(Unavailable, match="does not exist on chain yet"):
            await start()
        chain.open_account(STRANGER, chain.mint)
        chain.finalize()

        assert (await start()).owner == str(STRANGER)


async def test_case_60_books_of_another_cluster_are_refused(watching: Watching) -> None:
    async with open_chain(providers=2) as other:
        other.finalize()
        settings = chain_settings(other)
        providers = providers_of(settings)
        with pytest.raises(WrongCluster, match="these books belong to"):
            await found(settings, providers, watching.deposits)
        await providers.close()


async def test_books_that_watch_another_vault_are_refused(watching: Watching) -> None:
    watching.chain.open_account(STRANGER, watching.chain.mint)
    watching.chain.finalize()
    settings = chain_settings(watching.chain, treasury=str(STRANGER))

    with pytest.raises(WrongStore):
        await found(settings, watching.providers, watching.deposits)


def test_usdc_is_pinned_where_money_is_real() -> None:
    def settings(mint: str | None) -> ChainSettings:
        return ChainSettings.model_validate({"treasury": str(STRANGER), "usdc_mint": mint, "rpc_urls": "http://127.0.0.1:9"})

    assert choose_mint(settings(None), MAINNET) == USDC_MINTS["mainnet"]
    assert choose_mint(settings(USDC_MINTS["mainnet"]), MAINNET) == USDC_MINTS["mainnet"]
    assert choose_mint(settings(None), DEVNET) == USDC_MINTS["devnet"]
    assert choose_mint(settings(str(STRANGER)), DEVNET) == str(STRANGER)
    with pytest.raises(WrongCluster, match="leave it unset"):
        choose_mint(settings(str(STRANGER)), MAINNET)
