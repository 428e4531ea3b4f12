"""What the doctor finds about deposits, on a simulated cluster and on real books."""

import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair

from cli.chain_checks import check_chain, check_watcher
from cli.doctor import check_deposits
from cli.findings import Finding
from config.settings import Settings, load_settings
from ledger.base58 import encode_base58
from ledger.deposit_values import ChainStatus, Cursor, Move, Naming, Vault
from ledger.deposits import Deposits
from sandbox.chain.faucet import Payment, pay
from sandbox.chain.genesis import FAUCET_ACCOUNT, VAULT
from sandbox.chain.keys import MINT, TREASURY
from sandbox.chain.serving import RunningChain, run_chain
from tests.fakes.books import open_books

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "a-key-that-nobody-is-to-read"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain() -> AsyncIterator[RunningChain]:
    async with run_chain(None) as running:
        pay(running.cluster, Payment(usdc=5_000_000, deposit_code="0" * 16, wallet=None))
        running.cluster.finalize()
        yield running


@pytest.fixture(autouse=True)
def healthy_providers(chain: RunningChain) -> None:
    for number in (1, 2):
        chain.provider(number).faults.change({"always": "", "account_lies": {}, "lag": 0, "genesis": None})


def settings_of(chain: RunningChain, *providers: int, **changes: Any) -> Settings:
    urls = ",".join(f"{chain.rpc_url(number)}?api-key={KEY}" for number in providers or (1, 2))
    flags = {"rpc_urls": urls, "treasury": str(TREASURY.pubkey()), "usdc_mint": str(MINT.pubkey()), **changes}
    return load_settings({f"chain.{name}": value for name, value in flags.items()}, environment={})


async def look(settings: Settings) -> dict[str, Finding]:
    findings = await check_chain(settings)
    assert not [one for one in findings if KEY in one.text]
    return {one.what: one for one in findings}


async def test_two_providers_mint_and_vault_in_order_are_said_to_be(chain: RunningChain) -> None:
    found = await look(settings_of(chain))

    assert {one.state for one in found.values()} == {"ok"}, found
    assert set(found) == {"rpc provider 1", "rpc provider 2", "mint", "vault"}
    assert str(VAULT) in found["vault"].text
    assert "5.000000 USDC" in found["vault"].text


async def test_one_provider_alone_is_warned_of_except_in_the_sandbox(chain: RunningChain) -> None:
    found = await look(settings_of(chain, 1))
    sandbox = load_settings({"mode": "sandbox", "chain.rpc_urls": chain.rpc_url()}, environment={})

    assert found["rpc providers"].state == "warning"
    assert {one.state for one in (await look(sandbox)).values()} == {"ok"}


async def test_a_provider_that_lags_is_down_or_of_another_cluster_is_named(chain: RunningChain) -> None:
    chain.cluster.advance(100)
    chain.provider(2).faults.change({"lag": 90})
    lagging = await look(settings_of(chain))
    chain.provider(2).faults.change({"lag": 0, "always": "503"})
    down = await look(settings_of(chain))
    chain.provider(1).faults.change({"always": "503"})
    dark = await look(settings_of(chain))
    chain.provider(1).faults.change({"always": ""})
    chain.provider(2).faults.change({"always": "", "genesis": encode_base58(sha256(b"another").digest())})
    split = await look(settings_of(chain))

    assert lagging["rpc provider 2"].state == "warning"
    assert "90 slots behind" in lagging["rpc provider 2"].text
    assert (down["rpc provider 1"].state, down["rpc provider 2"].state, down["vault"].state) == ("ok", "warning", "ok")
    assert dark["cluster"].state == split["cluster"].state == "fault"
    assert "no RPC provider answers" in dark["cluster"].text


async def test_a_mint_or_vault_that_is_not_there_is_a_fault_that_says_what_to_do(chain: RunningChain) -> None:
    stranger = str(Keypair.from_seed(sha256(b"a treasury without a vault").digest()).pubkey())

    no_vault = await look(settings_of(chain, treasury=stranger))
    no_mint = await look(settings_of(chain, usdc_mint=stranger))

    assert no_vault["vault"].state == "fault"
    assert f"--owner {stranger}" in no_vault["vault"].text
    assert no_mint["mint"].state == "fault"


async def test_a_vault_of_somebody_else_is_a_fault_and_one_beside_the_treasurys_own_a_warning(chain: RunningChain) -> None:
    findings = await check_chain(settings_of(chain, vault=str(FAUCET_ACCOUNT)))

    states = {(one.state, one.text.split(" ", 2)[1]) for one in findings if one.what == "vault"}
    assert ("fault", "owner") in states
    assert any(one.state == "warning" and "associated account" in one.text for one in findings)


@pytest.mark.parametrize(("missing", "named"), [("treasury", "LEVEL5_CHAIN__TREASURY"), ("rpc_urls", "LEVEL5_CHAIN__RPC_URLS")])
async def test_what_switches_deposits_off_is_named(chain: RunningChain, missing: str, named: str) -> None:
    [finding] = check_deposits(settings_of(chain, **{missing: None}), running=True)

    assert finding.state == "warning"
    assert named in finding.text


async def test_the_sandboxs_chain_is_not_asked_while_it_does_not_run() -> None:
    [finding] = check_deposits(load_settings({"mode": "sandbox"}, environment={}), running=False)

    assert finding.state == "ok"


async def test_the_watchers_word_a_stop_and_what_is_set_aside_are_told(chain: RunningChain, database_url: str, redis_url: str) -> None:
    settings = settings_of(chain)
    vault = Vault(genesis="G" * 32, address=str(VAULT), owner=str(TREASURY.pubkey()), mint=str(MINT.pubkey()), token_program="T" * 32)
    async with open_books(database_url, redis_url) as books:
        deposits = Deposits(books.pool, books.balances)

        async def ask() -> dict[str, Finding]:
            return {one.what: one for one in await check_watcher(books.pool, books.balances, settings)}

        before = await ask()
        await deposits.open_vault(vault, opening=None)
        move = Move(signature="5" * 64, slot=1, block_time=None, pre=0, post=70_000, senders=(), naming=Naming(aside="no_code"))
        await deposits.record_page(vault, [move], cursor=Cursor(signature="5" * 64, slot=1, balance=70_000), set_aside_min=0)
        await deposits.report(a_status("ok"))
        well = await ask()
        await deposits.stop_crediting("the vault has less than the journal")
        await deposits.report(a_status("stopped", "the vault has less than the journal"))
        stopped = await ask()
        await deposits.report(a_status("ok", seconds_ago=100))
        silent = await ask()

    assert before["watcher"].state == "warning"
    assert (well["watcher"].state, well["set aside"].state) == ("ok", "warning")
    assert "1 deposits" in well["set aside"].text
    assert (stopped["watcher"].state, stopped["crediting"].state) == ("fault", "fault")
    assert "level5 deposits resume" in stopped["crediting"].text
    assert "said nothing" in silent["watcher"].text


def a_status(state: str, *reasons: str, seconds_ago: int = 0) -> ChainStatus:
    at = time.time_ns() // 1_000_000 - seconds_ago * 1000
    return ChainStatus(
        state=state, reasons=reasons, finalized_slot=7, lag_seconds=0.4, backlog=0, oldest_pending_seconds=0.0, vault_on_chain=70_000, updated_at=at
    )
