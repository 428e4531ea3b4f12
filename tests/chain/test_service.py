"""The watcher's process: it waits, hears hints, tells how it is, stops when asked, and outlives what it stands on."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chainwatch.errors import WrongVault
from chainwatch.hints import Hints
from chainwatch.service import Service
from cli.embedded import EmbeddedValkey
from config.settings import Settings, settings_environment
from ledger.deposit_values import ChainStatus
from ledger.deposits import Deposits
from ledger.errors import LedgerError
from ledger.stores import claim_stores
from sandbox.chain.keys import keypair_of
from tests.fakes.books import Books, open_books
from tests.fakes.chain import USDC, Chain, open_chain
from tests.fakes.interpreter import module_command
from tests.fakes.watching import chain_settings, eventually, providers_of


def settings_of(chain: Chain, **changes: Any) -> Settings:
    return Settings.model_validate({"chain": chain_settings(chain, **changes).model_dump()})


@asynccontextmanager
async def serving(chain: Chain, books: Books, settings: Settings) -> AsyncIterator[Deposits]:
    """Run a watcher as its process does."""
    stop, deposits, providers = asyncio.Event(), Deposits(books.pool, books.balances), providers_of(settings.chain)

    async def claim() -> None:
        await claim_stores(books.pool, books.balances, mode="sandbox")

    task = asyncio.ensure_future(Service(deposits, providers, settings, claim=claim).run(stop))
    try:
        yield deposits
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)
        await providers.close()


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    async with open_chain(providers=2) as made:
        made.finalize()
        yield made


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as made:
        yield made


async def do_nothing() -> None:
    """Claim nothing: the books are ours."""


async def status_of(deposits: Deposits) -> ChainStatus:
    status = await deposits.status()
    assert status is not None
    return status


async def test_a_payment_is_credited_and_the_state_is_told(chain: Chain, books: Books) -> None:
    account, payer = await books.open_account(), chain.wallet()
    async with serving(chain, books, settings_of(chain)) as deposits:
        chain.pay(payer, 3 * USDC, account.account.deposit_code)
        chain.finalize()

        async def is_credited() -> bool:
            return await books.balance(account) == 3 * USDC

        async def is_level() -> bool:
            return (await status_of(deposits)).vault_on_chain == 3 * USDC

        await eventually(is_credited, "the payment is not credited")
        await eventually(is_level, "the state is not told")
        status = await status_of(deposits)

        assert (status.state, status.reasons, status.backlog) == ("ok", (), 0)


async def test_a_chain_that_comes_up_late_is_waited_for(chain: Chain, books: Books) -> None:
    for number in (1, 2):
        chain.faults(number).always = "503"
    async with serving(chain, books, settings_of(chain)) as deposits:

        async def is_starting() -> bool:
            status = await deposits.status()
            return status is not None and status.state == "starting" and "no RPC provider answers" in " ".join(status.reasons)

        async def is_well() -> bool:
            return (await status_of(deposits)).state == "ok"

        await eventually(is_starting, "it does not say that it waits")
        for number in (1, 2):
            chain.faults(number).clear()
        await eventually(is_well, "it does not start")


async def test_settings_that_do_not_fit_the_chain_end_it_with_a_sentence(chain: Chain, books: Books) -> None:
    stranger = str(keypair_of("level5 test stranger").pubkey())

    providers = providers_of(settings_of(chain, usdc_mint=stranger).chain)
    service = Service(Deposits(books.pool, books.balances), providers, settings_of(chain, usdc_mint=stranger), claim=do_nothing)

    with pytest.raises(WrongVault, match="does not exist"):
        await asyncio.wait_for(service.run(asyncio.Event()), 20)

    assert (await status_of(Deposits(books.pool, books.balances))).state == "faulty"
    await providers.close()


async def test_a_vault_that_is_not_in_order_is_told_at_once_and_until_it_was_seen_to_be(chain: Chain, books: Books) -> None:
    stranger = keypair_of("level5 test stranger").pubkey()

    async def says(deposits: Deposits, state: str) -> None:
        async def is_said() -> bool:
            status = await deposits.status()
            return status is not None and status.state == state

        await eventually(is_said, f"it does not say {state}")

    settings = settings_of(chain, poll_seconds=30.0)  # one look, so that crediting is not stopped for good yet
    chain.delegate(stranger, 10 * USDC)
    chain.finalize()
    async with serving(chain, books, settings) as deposits:
        await says(deposits, "faulty")
        assert "delegate" in " ".join((await status_of(deposits)).reasons)
        assert await deposits.stopped() is None
    for number in (1, 2):
        chain.faults(number).always = "503"
    async with serving(chain, books, settings_of(chain)) as deposits:
        said = (await status_of(deposits)).updated_at

        async def is_told_again() -> bool:
            return (await status_of(deposits)).updated_at > said

        await eventually(is_told_again, "the new one says nothing")
        assert (await status_of(deposits)).state == "faulty"  # it has not seen the vault yet
        for number in (1, 2):
            chain.faults(number).clear()
        chain.revoke()
        chain.finalize()
        await says(deposits, "ok")
        chain.freeze()
        chain.finalize()
        await says(deposits, "frozen")
        for number in (1, 2):
            chain.faults(number).always = "503"

        async def is_failing() -> bool:
            return "no RPC provider" in " ".join((await status_of(deposits)).reasons)

        await eventually(is_failing, "its failure is not told")
        assert (await status_of(deposits)).state == "frozen"


async def test_a_large_payment_with_one_provider_is_told_to_the_operator(chain: Chain, books: Books) -> None:
    account, payer = await books.open_account(), chain.wallet()
    chain.pay(payer, 500 * USDC, account.account.deposit_code)
    chain.finalize()
    async with serving(chain, books, settings_of(chain, providers=1)) as deposits:

        async def is_told() -> bool:
            status = await deposits.status()
            return status is not None and status.state == "error" and "second RPC provider" in " ".join(status.reasons)

        await eventually(is_told, "nobody is told that the payment waits")
        assert await books.balance(account) == 0


async def test_a_redis_that_is_away_is_waited_for(chain: Chain, books: Books, valkey_server: EmbeddedValkey) -> None:
    account, payer = await books.open_account(), chain.wallet()
    async with serving(chain, books, settings_of(chain)) as deposits:

        async def is_well() -> bool:
            status = await deposits.status()
            return status is not None and status.state == "ok"

        async def is_credited() -> bool:
            try:
                return await books.balance(account) == 3 * USDC
            except LedgerError:
                return False

        await eventually(is_well, "it does not start")
        valkey_server.stop()
        chain.pay(payer, 3 * USDC, account.account.deposit_code)
        chain.finalize()
        await asyncio.sleep(0.5)
        valkey_server.start()
        valkey_server.wait_until_ready()
        await eventually(is_credited, "the payment is not credited")

        assert (await deposits.figures()).credited_count == 1


@pytest.mark.parametrize("fault", ["socket_silent", "socket_refused", "socket_copies"])
async def test_case_45_sockets_may_be_silent_refused_or_repeat_themselves(chain: Chain, books: Books, fault: str) -> None:
    for number in (1, 2):
        setattr(chain.faults(number), fault, 3 if fault == "socket_copies" else True)
    account, payer = await books.open_account(), chain.wallet()
    async with serving(chain, books, settings_of(chain, ws_url=chain.ws_url())):
        chain.pay(payer, 3 * USDC, account.account.deposit_code)
        chain.finalize()

        async def is_credited() -> bool:
            return await books.balance(account) == 3 * USDC

        await eventually(is_credited, "the payment is not credited")


async def test_a_hint_comes_with_every_payment_and_after_a_lost_connection(chain: Chain) -> None:
    hints: list[int] = []
    payer = chain.wallet()
    task = asyncio.ensure_future(Hints(chain.ws_url(), str(chain.vault), hint=lambda: hints.append(1)).run())
    try:

        async def is_connected() -> bool:
            return len(hints) > 0

        async def is_hinted() -> bool:
            return len(hints) > before

        await eventually(is_connected, "it does not connect")
        before = len(hints)
        chain.pay(payer, 1 * USDC)
        chain.finalize()
        await eventually(is_hinted, "a payment gives no hint")
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_hint_makes_it_look_at_once(chain: Chain, books: Books) -> None:
    account, payer = await books.open_account(), chain.wallet()
    async with serving(chain, books, settings_of(chain, ws_url=chain.ws_url(), poll_seconds=60)) as deposits:

        async def is_watching() -> bool:
            status = await deposits.status()
            return status is not None and status.state == "ok"

        async def is_credited() -> bool:
            return await books.balance(account) == 3 * USDC

        await eventually(is_watching, "it does not start")
        await asyncio.sleep(1)
        chain.pay(payer, 3 * USDC, account.account.deposit_code)
        chain.finalize()
        await eventually(is_credited, "only polling finds the payment", seconds_max=20)


def environment(chain: Chain, database_url: str, redis_url: str) -> dict[str, str]:
    chosen = Settings.model_validate(
        {"mode": "sandbox", "chain": chain_settings(chain).model_dump(), "database_url": database_url, "redis_url": redis_url},
    )  # fmt: skip
    return {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")} | settings_environment(chosen)


async def start(chain: Chain, database_url: str, redis_url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(*module_command("chainwatch"), env=environment(chain, database_url, redis_url), stdout=asyncio.subprocess.PIPE)


async def until_ready(process: asyncio.subprocess.Process) -> None:
    """Read its log until it hears signals."""
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while b"chainwatch_ready" not in (line := await process.stdout.readline()):
            assert line, "it ended"


async def test_case_48_a_watcher_that_is_killed_at_any_moment_credits_once(chain: Chain, books: Books, database_url: str, redis_url: str) -> None:
    account, payer = await books.open_account(), chain.wallet()
    for _ in range(60):
        chain.pay(payer, 1 * USDC, account.account.deposit_code)
        chain.advance()
    chain.finalize()
    for pause in (0.6, 0.75, 0.9, 1.1, 1.4):
        process = await start(chain, database_url, redis_url)
        await asyncio.sleep(pause)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    process = await start(chain, database_url, redis_url)
    await until_ready(process)

    async def is_credited() -> bool:
        return await books.balance(account) >= 60 * USDC

    await eventually(is_credited, "not all is credited")
    process.send_signal(signal.SIGTERM)

    assert await asyncio.wait_for(process.wait(), 20) == 0
    assert await books.balance(account) == 60 * USDC
    assert (await Deposits(books.pool, books.balances).figures()).credited_count == 60


def test_without_a_treasury_it_says_what_is_missing() -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}

    done = subprocess.run([sys.executable, "-m", "chainwatch"], env=plain, capture_output=True, text=True, timeout=60)

    assert done.returncode == 2
    assert done.stderr == "deposits on chain are off: set LEVEL5_CHAIN__TREASURY and LEVEL5_CHAIN__RPC_URLS\n"
