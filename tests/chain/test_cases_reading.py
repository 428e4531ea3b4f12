"""Cases 32 to 45 over the simulated cluster, as far as they are more than `test_watcher_reading.py` has: volume, transport, sockets, lies."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair

from chainwatch.errors import ChainError, Disagreement, ProviderFailure, Throttled, Unavailable
from chainwatch.hints import Hints
from cli.embedded import EmbeddedPostgres
from ledger.accounts import NewAccount
from ledger.base58 import encode_base58
from sandbox.chain.keys import MEMO_V2_PROGRAM
from sandbox.chain.records import Record
from tests.fakes.cases import balances, call, code_of, credited, fate, open_module, reference_of, require_level, settle, spam
from tests.fakes.chain import USDC, VAULT
from tests.fakes.sbf_event import Act, deposit_event
from tests.fakes.watching import Watching, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROVIDERS = (1, 2)
LARGE = 500 * USDC  # above what one provider is believed


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Watching]:
    async with open_module(postgres_server, store_home) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def watching(shared: Watching) -> AsyncIterator[Watching]:
    """The watcher of all cases here; after each of them, with honest providers, the books are level with the chain."""
    yield shared
    for number in PROVIDERS:
        shared.chain.faults(number).clear()
    await shared.settle()
    await require_level(shared)


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 2000])
async def test_case_40_a_payment_below_any_number_of_newer_rows_is_found(watching: Watching, rows: int) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    paid = chain.pay(payer, 3 * USDC, code_of(account))
    if rows:
        chain.advance()
        spam(chain, chain.fail(payer, 1 * USDC, code_of(account)), rows - 1)

    assert await settle(watching, paid) == [credited("memo", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_40_rows_that_come_between_two_pages_hurt_nobody(watching: Watching, monkeypatch: pytest.MonkeyPatch) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    for number in PROVIDERS:
        chain.faults(number).page_max = 3
    records = []
    for _ in range(8):
        records.append(chain.pay(payer, 1 * USDC, code_of(account)))
        chain.advance()
    chain.finalize()
    reader = watching.providers.all[0]
    ask, late = reader.call, list[Record]()

    async def call_and_pay(method: str, *params: Any) -> Any:
        answer = await ask(method, *params)
        if method == "getSignaturesForAddress" and len(late) < 4:
            late.append(chain.pay(payer, 2 * USDC, code_of(account)))
            chain.finalize()
        return answer

    monkeypatch.setattr(reader, "call", call_and_pay)
    await watching.turn()
    monkeypatch.undo()

    assert [await fate(watching, record) for record in records] == [credited("memo", 1 * USDC)] * 8
    assert await settle(watching, *late) == [credited("memo", 2 * USDC)] * 4
    assert await watching.balance(account) == 16 * USDC


@pytest.mark.parametrize(("word", "kind"), [("429", Throttled), ("cut", Unavailable), ("reset", Unavailable)])
async def test_case_43_a_limit_or_a_cut_connection_is_told_as_such_and_survived(watching: Watching, word: str, kind: type[ProviderFailure]) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    paid = chain.pay(payer, 3 * USDC, code_of(account))
    chain.finalize()
    await watching.rest()
    for number in PROVIDERS:
        chain.faults(number).http = [word]

    with pytest.raises(kind):
        await watching.providers.all[0].call("getSlot")
    with suppress(ChainError):  # the one may be left alone for a while, and the other fails now
        await watching.watcher.turn()

    assert await settle(watching, paid) == [credited("memo", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_45_hints_that_are_late_or_of_a_fork_that_lost_change_nothing(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    await watching.settle()
    chain.faults(1).socket_copies, chain.faults(1).socket_late_seconds = 2, 0.2
    hints: list[int] = []
    task = asyncio.ensure_future(Hints(chain.ws_url(), str(VAULT), hint=lambda: hints.append(chain.slot)).run())

    async def hinted(count: int) -> None:
        async def is_hinted() -> bool:
            return len(hints) >= count

        await eventually(is_hinted, "there is no hint")

    try:
        await hinted(1)  # it is connected
        payment = chain.build([chain.transfer(payer, 3 * USDC), chain.memo(code_of(account))], [payer])
        chain.land(payment)
        chain.advance(2)
        chain.fork(3)
        await hinted(len(hints) + 1)  # of what is gone by now
        await watching.turn()
        dropped = (await watching.balance(account), await watching.deposits.pending_by_account())
        landed = chain.land(payment)
        chain.finalize()
        for _ in range(3):
            await hinted(len(hints))
            await watching.turn()
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert dropped == (0, {})
    assert await fate(watching, landed) == credited("memo", 3 * USDC)
    assert await watching.balance(account) == 3 * USDC


def with_inner_memo(record: Record, text: str) -> dict[str, Any]:
    """Return metadata in which the first call of a program wrote a memo."""
    meta = record.read_meta()
    [group] = meta["innerInstructions"]
    group["instructions"].append(
        {"programIdIndex": record.keys.index(str(MEMO_V2_PROGRAM)), "accounts": [], "data": encode_base58(text.encode()), "stackHeight": 2}
    )
    return {"innerInstructions": meta["innerInstructions"]}


def with_loaded_reference(record: Record, account: NewAccount) -> dict[str, Any]:
    """Return metadata in which a lookup table has the account's reference in place of another key."""
    loaded = record.read_meta()["loadedAddresses"]
    return {"loadedAddresses": {**loaded, "readonly": [str(reference_of(account)), *loaded["readonly"][1:]]}}


def with_logged_event(record: Record, event: bytes, told: bytes) -> dict[str, Any]:
    """Return metadata in whose log the program tells another event."""
    before, after = (f"Program data: {base64.b64encode(one).decode()}" for one in (event, told))
    lines = record.read_meta()["logMessages"]
    assert before in lines
    return {"logMessages": [after if line == before else line for line in lines]}


@pytest.mark.parametrize("lie", ["inner_memo", "reference", "log"])
async def test_case_36_a_lie_about_whom_a_large_payment_names_is_held_back(watching: Watching, lie: str) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    thief = await watching.books.open_account()
    record, claimed = lied(watching, payer, thief, lie=lie)
    assert record.fault is None
    chain.faults(1).meta_lies = {record.signature: claimed}
    chain.finalize()

    await watching.refused(Disagreement)
    held = await fate(watching, record)
    chain.faults(1).clear()

    assert held is None
    [found] = await settle(watching, record)
    assert found is not None
    assert found[0] == "aside"  # as it is in truth: nobody is named
    assert await balances(watching, thief) == [0]


def lied(watching: Watching, payer: Keypair, thief: NewAccount, *, lie: str) -> tuple[Record, dict[str, Any]]:
    """Let somebody pay much without naming anybody; return that, and the metadata by which it would be the thief's."""
    chain, nobody = watching.chain, "00112233445566FF"
    if lie == "inner_memo":
        record = chain.send([call(chain, payer, Act.TRANSFER, code=nobody, amount=LARGE)], [payer])
        return record, with_inner_memo(record, code_of(thief))
    if lie == "reference":
        other = Keypair().pubkey()
        record = chain.send([chain.transfer(payer, LARGE, references=(other,))], [payer], tables=[chain.lookup_table(other)])
        return record, with_loaded_reference(record, thief)
    own, forged = (deposit_event(owner=payer.pubkey(), mint=chain.mint, code=code, amount=LARGE) for code in (nobody, code_of(thief)))
    record = chain.send([call(chain, payer, Act.TRANSFER | Act.LOG, code=nobody, amount=LARGE)], [payer])
    return record, with_logged_event(record, own, forged)
