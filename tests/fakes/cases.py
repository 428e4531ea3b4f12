"""The numbered cases of the watcher: one cluster and one set of books for many of them, and what must hold at the end of each."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha512
from pathlib import Path
from typing import Any

from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cli.embedded import EmbeddedPostgres
from ledger.accounts import NewAccount
from ledger.base58 import encode_base58
from ledger.deposit_values import Deposit, deposit_reference
from ledger.errors import UnknownDeposit
from ledger.reconcile import verify
from sandbox.chain.records import Record
from tests.fakes.chain import EVENT_PROGRAM, VAULT, Chain
from tests.fakes.control import own_stores
from tests.fakes.sbf_event import Act, call_event_program, deposit_event
from tests.fakes.watching import Watching, open_watching

type Fate = tuple[str, str, int]  # the deposit's state; its source, or why it is set aside; microunits

NOTHING = None  # it is no deposit at all


def credited(source: str, amount: int) -> Fate:
    return ("credited", source, amount)


def aside(reason: str, amount: int) -> Fate:
    return ("aside", reason, amount)


@asynccontextmanager
async def open_module(postgres_server: EmbeddedPostgres, store_home: Path, **changes: Any) -> AsyncIterator[Watching]:
    """Open a cluster with the event program, books and a watcher for all tests of a module."""
    async with own_stores(postgres_server, store_home) as (database_url, redis_url), open_cases(database_url, redis_url, **changes) as watching:
        yield watching


@asynccontextmanager
async def open_cases(database_url: str, redis_url: str, **changes: Any) -> AsyncIterator[Watching]:
    """The same on given stores. At the end everything must be whole."""
    async with open_watching(database_url, redis_url, **{"event_program": str(EVENT_PROGRAM), **changes}) as watching:
        watching.chain.event_program()
        yield watching
        await require_proof(watching)


def code_of(account: NewAccount) -> str:
    return account.account.deposit_code


def reference_of(account: NewAccount) -> Pubkey:
    """Return the account's Solana Pay reference."""
    return Pubkey(deposit_reference(code_of(account)))


async def settle(watching: Watching, *records: Record) -> list[Fate | None]:
    """Let everything become final, look once, and return what became of these transactions."""
    outcome = await watching.settle()
    assert outcome.faults == ()
    return [await fate(watching, record) for record in records]


async def fate(watching: Watching, record: Record) -> Fate | None:
    try:
        deposit = await watching.deposits.find(record.signature)
    except UnknownDeposit:
        return NOTHING
    return (deposit.state, deposit.aside or deposit.source, deposit.amount)


async def balances(watching: Watching, *accounts: NewAccount) -> list[int]:
    return [await watching.balance(account) for account in accounts]


async def require_level(watching: Watching, *, vault: Pubkey = VAULT) -> None:
    """Journal, moves and deposits come to what the vault holds on chain, to the microunit."""
    figures, on_chain = await watching.deposits.figures(), watching.chain.amount(vault)
    assert figures.vault_balance == figures.opening + figures.arrived - figures.withdrawn == on_chain
    assert figures.arrived == figures.credited + figures.due + figures.set_aside + figures.dust


async def require_proof(watching: Watching, *, vault: Pubkey = VAULT) -> None:
    """The books are level with the chain, and whole from their first row on."""
    await require_level(watching, vault=vault)
    await watching.books.drain()
    report = await verify(watching.books.pool, watching.books.balances, vault_on_chain=watching.chain.amount(vault))
    assert [finding.text for finding in report.findings] == []


async def require_level_again(watching: Watching) -> None:
    """Once all providers are honest and well, a round makes everything level, whatever was before."""
    for number in range(1, len(watching.providers.all) + 1):
        watching.chain.faults(number).clear()
    await watching.settle()
    await watching.settle()
    await require_level(watching)


def call(chain: Chain, wallet: Keypair, acts: Act, *, code: str, amount: int, program: Pubkey = EVENT_PROGRAM, **changes: Any) -> Instruction:
    """Return a call of the event program with which the wallet pays `amount`, and whose event says `claimed` of `event_mint`."""
    claimed, mint = changes.pop("claimed", amount), changes.pop("event_mint", chain.mint)
    event = deposit_event(owner=wallet.pubkey(), mint=mint, code=code, amount=claimed)
    own: dict[str, Any] = {"source": chain.token_account(wallet), "mint": chain.mint, "target": VAULT, "authority": wallet.pubkey(), "event": event}
    return call_event_program(program, amount=amount, acts=acts, **own, **changes)


def spam(chain: Chain, record: Record, count: int) -> None:
    """Let `count` copies of a failed transaction land in the current slot. Nobody fetches them, so nothing but their rows is there."""
    assert record.fault is not None
    cluster = chain.cluster
    for number in range(cluster._order, cluster._order + count):
        signature = encode_base58(sha512(f"copy {number} of {record.signature}".encode()).digest())
        cluster.records.add(replace(record, signature=signature, slot=chain.slot, order=number))
    cluster._order += count


def told(deposits: Sequence[Deposit]) -> set[tuple[object, ...]]:
    """Return what deposits say apart from who the accounts are in these books, and when they were recorded."""
    return {(one.signature, one.slot, one.amount, one.senders, one.deposit_code, one.source, one.state, one.aside) for one in deposits}
