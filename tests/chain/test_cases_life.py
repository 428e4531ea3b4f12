"""Cases 46 to 60 over the simulated cluster, as far as they are more than other files have: forks, kills, lost cursors, payers who die, claims."""

import asyncio
import base64
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from solana.rpc.async_api import AsyncClient
from solana.rpc.models import TxOpts
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from chainwatch.watcher import Watcher
from cli.embedded import EmbeddedPostgres
from ledger import asides
from ledger.balances import Balances
from ledger.deposits import Deposits
from ledger.errors import InsufficientFunds
from ledger.journal import open_pool
from sandbox.chain.instructions import readonly, transfer_checked, writable
from sandbox.chain.keys import TOKEN_PROGRAM
from tests.fakes.cases import NOTHING, aside, balances, call, code_of, credited, fate, open_cases, require_level, settle, spam
from tests.fakes.chain import USDC, VAULT
from tests.fakes.control import Control, control_settings, own_stores, running_control
from tests.fakes.sbf_event import Act
from tests.fakes.watching import Watching, chain_settings, watch

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[2]
PAYER_SECONDS_MAX = 60
CALLS_MIN = 12  # fewer would mean that nothing was counted
STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table")
WANTED = [*((asyncpg.Connection, name) for name in STATEMENTS), (Balances, "read_all_meta"), (Balances, "apply_change")]

# It broadcasts a signed transaction and, where it is told to, is killed before it hears whether that worked.
PAYER = """
import asyncio, base64, os, signal, sys
from solana.rpc.async_api import AsyncClient
from solana.rpc.models import TxOpts

async def main(url, wire, end):
    async with AsyncClient(url) as client:
        sending = asyncio.ensure_future(client.send_raw_transaction(base64.b64decode(wire), TxOpts(skip_preflight=True)))
        if end == "killed":
            await asyncio.wait([sending])
            os.kill(os.getpid(), signal.SIGKILL)
        print((await sending).value)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_stores(postgres_server, store_home) as addresses:
        yield addresses


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(stores: tuple[str, str]) -> AsyncIterator[Watching]:
    async with open_cases(*stores) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def watching(shared: Watching) -> AsyncIterator[Watching]:
    """The watcher of all cases here; after each of them the books are level with the chain."""
    yield shared
    await require_level(shared)


def paying(watching: Watching, payer: Keypair, amount: int, code: str) -> VersionedTransaction:
    """Return a payment that its payer has signed and nobody has sent."""
    return watching.chain.build([watching.chain.transfer(payer, amount), watching.chain.memo(code)], [payer])


async def broadcast(url: str, payment: VersionedTransaction, end: str = "") -> tuple[int | None, str]:
    """Let a process of its own broadcast a payment; return its exit code and what it heard."""
    program = [sys.executable, "-c", PAYER, url, base64.b64encode(bytes(payment)).decode(), end]
    process = await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdout=subprocess.PIPE)
    said, _ = await asyncio.wait_for(process.communicate(), PAYER_SECONDS_MAX)
    return process.returncode, said.decode().strip()


async def test_case_46_a_confirmed_payment_that_a_fork_drops_is_gone_without_a_trace(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    payment = paying(watching, payer, 3 * USDC, code_of(account))
    landed = watching.chain.land(payment)
    watching.chain.advance(2)
    await watching.turn()
    seen = await watching.deposits.pending_by_account()
    watching.chain.fork(3)

    assert await settle(watching, landed) == [NOTHING]
    assert (seen, await watching.deposits.pending_by_account()) == ({account.account.id: 3 * USDC}, {})
    assert await watching.balance(account) == 0


async def test_case_47_what_lands_again_after_a_fork_is_credited_once(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    payment = paying(watching, payer, 3 * USDC, code_of(account))
    for _ in range(3):
        watching.chain.land(payment)
        watching.chain.advance(2)
        await watching.turn()
        watching.chain.fork(3)
        await watching.turn()
    landed = watching.chain.land(payment)

    assert await settle(watching, landed) == [credited("memo", 3 * USDC)]
    await watching.settle()
    assert await watching.balance(account) == 3 * USDC


async def test_a_payment_that_an_event_names_is_shown_to_its_account_before_it_is_final(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    paid = chain.send([call(chain, payer, Act.TRANSFER | Act.LOG, code=code_of(account), amount=3 * USDC)], [payer])
    chain.advance(2)
    await watching.turn()

    assert await watching.deposits.pending_by_account() == {account.account.id: 3 * USDC}
    assert await settle(watching, paid) == [credited("event", 3 * USDC)]
    assert await watching.deposits.pending_by_account() == {}


class Killed(BaseException):
    """The process is gone; nothing in it runs any more."""


@pytest.fixture
def lives(monkeypatch: pytest.MonkeyPatch) -> "Lives":
    return Lives(monkeypatch)


class Lives:
    """Lets a watcher of its own do so many things with the stores, and not one more: no rollback, no goodbye."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch, self._left = monkeypatch, 0

    async def turn(self, watching: Watching, database_url: str, *, lives: int) -> bool:
        """Let a new watcher look once; whether it came to its end."""
        pool = await open_pool(database_url)
        deposits = Deposits(pool, watching.books.balances)
        dying = Watcher(deposits, watching.providers, watching.vault, settings=watching.settings, cross_check_above=1)
        try:
            with self._monkeypatch.context() as patched:
                self._left = lives
                for owner, name in WANTED:
                    patched.setattr(owner, name, self._counted(getattr(owner, name)))
                await dying.turn()
            return True
        except Killed:
            return False
        finally:
            pool.terminate()

    def _counted(self, do: Any) -> Any:
        async def counted(this: Any, *arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise Killed
            return await do(this, *arguments, **options)

        return counted


async def test_case_48_a_watcher_killed_before_anything_it_asks_of_a_store_credits_once(watching: Watching, stores: tuple[str, str], lives: Lives) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    before = (await watching.deposits.figures()).credited_count
    for number in count():
        named, nameless = chain.pay(payer, 2 * USDC, code_of(account)), chain.pay(payer, 1 * USDC)
        out = chain.withdraw(1 * USDC, payer)
        chain.finalize()

        done = await lives.turn(watching, stores[0], lives=number)

        figures = await watching.deposits.figures()
        assert figures.vault_balance == figures.opening + figures.arrived - figures.withdrawn
        assert figures.credited_count - before in ({number + 1} if done else {number, number + 1})
        assert await settle(watching, named, nameless, out) == [credited("memo", 2 * USDC), aside(asides.NO_CODE, 1 * USDC), NOTHING]
        assert await watching.books.journal_balance(account) == 2 * USDC * (number + 1)
        await require_level(watching)
        if done:
            break

    assert number >= CALLS_MIN
    await watching.books.drain()  # who dies between journal and Redis leaves the rest to the poster
    assert await watching.balance(account) == 2 * USDC * (number + 1)


async def test_case_49_two_watchers_in_step_credit_once(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    async with watch(chain, watching.books) as other:
        records = []
        for amount in range(1, 6):
            records += [chain.pay(payer, amount * USDC, code_of(account)), chain.withdraw(amount * USDC, payer)]
            chain.finalize()
            results = await asyncio.gather(watching.turn(), other.turn(), return_exceptions=True)
            assert not all(isinstance(one, BaseException) for one in results)

    assert (await settle(watching, *records))[::2] == [credited("memo", amount * USDC) for amount in range(1, 6)]
    assert await watching.balance(account) == 15 * USDC


async def test_case_51_a_lost_cursor_is_found_again_on_the_chain_and_nothing_is_credited_twice(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    first = chain.pay(payer, 3 * USDC, code_of(account))
    await watching.settle()
    before = await watching.deposits.figures()
    with pytest.raises(asyncpg.ForeignKeyViolationError):  # the row itself cannot be lost before all that it stands for
        await watching.books.pool.execute("DELETE FROM vaults")
    await watching.books.pool.execute("UPDATE vaults SET cursor_signature = NULL, cursor_slot = 0, cursor_balance = 0")
    second = chain.pay(payer, 4 * USDC, code_of(account))
    chain.finalize()
    async with watch(chain, watching.books) as again:  # as a start does
        assert (await again.turn()).faults == ()

    assert await settle(watching, first, second) == [credited("memo", 3 * USDC), credited("memo", 4 * USDC)]
    assert await watching.balance(account) == 7 * USDC
    assert (await watching.deposits.figures()).credited - before.credited == 4 * USDC


async def test_case_52_a_payer_who_dies_right_after_the_broadcast_has_paid(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    payment = paying(watching, payer, 3 * USDC, code_of(account))

    assert await broadcast(watching.chain.rpc_url(), payment, "killed") == (-signal.SIGKILL, "")
    landed = watching.chain.cluster.records.by_signature[str(payment.signatures[0])]
    assert await settle(watching, landed) == [credited("memo", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_53_one_signed_payment_sent_by_two_processes_to_two_providers_is_credited_once(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    payment = paying(watching, payer, 3 * USDC, code_of(account))
    signature = str(payment.signatures[0])

    heard = await asyncio.gather(*(broadcast(watching.chain.rpc_url(number), payment) for number in (1, 2)))

    assert heard == [(0, signature)] * 2  # both were told that it is sent
    assert await settle(watching, watching.chain.cluster.records.by_signature[signature]) == [credited("memo", 3 * USDC)]
    assert await broadcast(watching.chain.rpc_url(1), payment) == (0, signature)
    await watching.settle()
    assert await watching.balance(account) == 3 * USDC
    assert watching.chain.amount(watching.chain.token_account(payer)) == 1_000_000 * USDC - 3 * USDC


async def test_case_54_a_wallet_that_was_emptied_before_the_payment_landed_has_paid_nothing(watching: Watching) -> None:
    chain, account, payer, friend = watching.chain, await watching.books.open_account(), watching.chain.wallet(3 * USDC), watching.chain.wallet()
    payment = paying(watching, payer, 3 * USDC, code_of(account))
    async with AsyncClient(chain.rpc_url()) as client:
        simulated = await client.simulate_transaction(payment)
        chain.send([chain.transfer(payer, 3 * USDC, to=chain.token_account(friend))], [payer])
        await client.send_raw_transaction(bytes(payment), TxOpts(skip_preflight=True))
    landed = chain.cluster.records.by_signature[str(payment.signatures[0])]
    chain.advance(2)
    await watching.turn()

    assert simulated.value.err is None  # it would have been good then
    assert landed.fault is not None
    assert await watching.deposits.pending_by_account() == {}
    assert await settle(watching, landed) == [NOTHING]
    assert await watching.balance(account) == 0


async def test_case_55_what_is_confirmed_is_shown_and_never_spendable_and_a_fork_takes_it_away(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    landed = watching.chain.land(paying(watching, payer, 3 * USDC, code_of(account)))
    watching.chain.advance(5)
    await watching.turn()

    assert await watching.deposits.pending_by_account() == {account.account.id: 3 * USDC}
    assert await watching.balance(account) == 0
    with pytest.raises(InsufficientFunds):
        await watching.books.hold(account, 1)
    watching.chain.fork(6)
    assert await settle(watching, landed) == [NOTHING]
    assert await watching.deposits.pending_by_account() == {}
    assert await watching.balance(account) == 0


async def test_what_was_just_credited_is_not_shown_as_on_its_way_any_more(watching: Watching, control: Control) -> None:
    account, payer = await control.register(), watching.chain.wallet()
    await watching.settle()
    watching.chain.pay(payer, 3 * USDC, account["deposit_code"])
    watching.chain.advance(2)
    await watching.turn()
    await control.context.chain.refresh()
    first = await shown(control, account)
    await watching.settle()  # and the API has not looked since

    assert first == (0, 3 * USDC)
    assert await asyncio.gather(*(shown(control, account) for _ in range(5))) == [(3 * USDC, 0)] * 5


@pytest_asyncio.fixture(loop_scope="module")
async def control(watching: Watching, stores: tuple[str, str]) -> AsyncIterator[Control]:
    """The customers' API on the same stores."""
    chain = json.loads(chain_settings(watching.chain).model_dump_json()) | {"rpc_urls": watching.chain.rpc_url()}
    settings = control_settings(*stores, mode="sandbox", register={"rate_per_minute": 0}, public_url="https://pay.example.com", chain=chain)
    async with running_control(settings) as running:
        running.context.claim_limit.per_minute = 0
        await running.context.chain.refresh()
        yield running


async def claim(control: Control, account: dict[str, Any], signature: str) -> Any:
    return await control.client.post(f"/proxy/{account['api_token']}/claims", json={"signature": signature})


async def prove(control: Control, account: dict[str, Any], opened: dict[str, Any], wallet: Keypair) -> Any:
    proof = {"wallet_signature": str(wallet.sign_message(opened["text"].encode()))}
    return await control.client.post(f"/proxy/{account['api_token']}/claims/{opened['claim_id']}", json=proof)


async def shown(control: Control, account: dict[str, Any]) -> tuple[int, int]:
    """Return the balance as customers see it, and what is on its way."""
    answer = (await control.client.get(f"/proxy/{account['api_token']}/balance")).json()
    return answer["usdc_balance"], answer["pending_deposits"]


async def held(control: Control, account: dict[str, Any]) -> int:
    return (await shown(control, account))[0]


async def test_case_56_of_many_who_claim_a_payment_its_sender_gets_it_once(watching: Watching, control: Control) -> None:
    payer, stranger = watching.chain.wallet(), watching.chain.wallet()
    accounts = [await control.register() for _ in range(3)]
    paid = watching.chain.pay(payer, 3 * USDC)
    early = await claim(control, accounts[0], paid.signature)
    found = await settle(watching, paid)
    opened = [(await claim(control, account, paid.signature)).json() for account in accounts]

    assert early.status_code == 404  # it is not final yet
    assert found == [aside(asides.NO_CODE, 3 * USDC)]
    assert (await prove(control, accounts[0], opened[0], stranger)).status_code == 422
    assert (await prove(control, accounts[1], opened[0], payer)).status_code == 404  # another's claim
    race = await asyncio.gather(*(prove(control, account, one, payer) for account, one in zip(accounts, opened, strict=True) for _ in range(2)))
    assert sorted(answer.status_code for answer in race) == [200] + [409] * 5
    assert sorted([await held(control, account) for account in accounts]) == [0, 0, 3 * USDC]
    replays = [await prove(control, account, one, payer) for account, one in zip(accounts, opened, strict=True)]
    assert {answer.status_code for answer in replays} == {409}
    assert await settle(watching, paid) == [credited("claim", 3 * USDC)]
    assert sorted([await held(control, account) for account in accounts]) == [0, 0, 3 * USDC]


async def test_case_56_a_delegate_cannot_claim_what_is_the_owners_and_several_senders_cannot_claim_at_all(watching: Watching, control: Control) -> None:
    chain, owner, delegate = watching.chain, watching.chain.wallet(), watching.chain.wallet()
    account, own = await control.register(), chain.token_account(owner)
    amount = (3 * USDC).to_bytes(8, "little")
    chain.send([Instruction(TOKEN_PROGRAM, b"\4" + amount, [writable(own), readonly(delegate.pubkey()), readonly(owner.pubkey(), signer=True)])], [owner])
    by_delegate = chain.send([transfer_checked(own, VAULT, mint=chain.mint, authority=delegate.pubkey(), amount=3 * USDC)], [delegate])
    together = chain.send([chain.transfer(owner, 1 * USDC), chain.transfer(delegate, 1 * USDC)], [owner, delegate])
    minted = chain.mint_to(2 * USDC)

    assert await settle(watching, by_delegate, together, minted) == [aside(asides.NO_CODE, amount * USDC) for amount in (3, 2, 2)]
    opened = (await claim(control, account, by_delegate.signature)).json()
    assert opened["wallet"] == str(owner.pubkey())
    assert (await prove(control, account, opened, delegate)).status_code == 422
    for record in (together, minted):
        refused = await claim(control, account, record.signature)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "no_single_sender")
    assert await held(control, account) == 0
    assert (await prove(control, account, opened, owner)).status_code == 200
    assert await held(control, account) == 3 * USDC
    assert await fate(watching, by_delegate) == credited("claim", 3 * USDC)


async def test_case_58_five_thousand_rows_of_dust_do_not_keep_a_payment_waiting(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    before, calls = await watching.deposits.figures(), sum(chain.calls(number).count("getTransaction") for number in (1, 2))
    dust = [chain.pay(payer, 1) for _ in range(50)]
    spam(chain, chain.fail(payer, 1, code_of(account)), 2400)
    paid, crumb = chain.pay(payer, 3 * USDC, code_of(account)), chain.pay(payer, 1, code_of(account))
    for _ in range(50):
        chain.mention(payer)
    chain.advance()
    spam(chain, chain.fail(payer, 1), 2500)

    assert await settle(watching, paid, crumb, dust[0], dust[-1]) == [credited("memo", 3 * USDC), credited("memo", 1), NOTHING, NOTHING]
    after = await watching.deposits.figures()
    assert (after.dust_count - before.dust_count, after.dust - before.dust) == (50, 50)
    assert await watching.balance(account) == 3 * USDC + 1
    # Those that moved nothing are fetched once, those that moved something perhaps a second time to compare; failed ones never.
    assert sum(chain.calls(number).count("getTransaction") for number in (1, 2)) - calls <= 2 * (50 + 50 + 2)


async def test_case_50_what_was_missed_in_ten_thousand_rows_is_credited_after_a_restart(watching: Watching) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    accounts = [await watching.books.open_account() for _ in range(4)]
    await watching.settle()
    failed, records = chain.fail(payer, 1), []
    for number in range(100):
        records.append(chain.pay(payer, 1 * USDC, code_of(accounts[number % 4])))
        spam(chain, failed, 99)
        chain.advance()
    chain.finalize()
    async with watch(chain, watching.books) as restarted:
        assert (await restarted.turn()).faults == ()

    assert [await fate(watching, record) for record in records] == [credited("memo", 1 * USDC)] * 100
    assert await balances(watching, *accounts) == [25 * USDC] * 4
    await watching.settle()
