"""`level5 deposits`: what an operator sees and does about money that arrived on chain."""

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import sha256
from typing import Any

import pytest

from ledger.base58 import encode_base58
from ledger.deposit_values import Cursor, Move, Naming, Vault
from ledger.deposits import Deposits
from tests.fakes.books import Books, open_books
from tests.fakes.terminal import Terminal

TREASURY, MINT, ADDRESS, SENDER = (encode_base58(sha256(text).digest()) for text in (b"treasury", b"mint", b"vault", b"sender"))
VAULT = Vault(genesis="G" * 32, address=ADDRESS, owner=TREASURY, mint=MINT, token_program="TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
NAMED, LOST, STRAY = (encode_base58(sha256(text).digest() * 2) for text in (b"named", b"lost", b"stray"))

type Work[Result] = Callable[[Books, Deposits], Coroutine[Any, Any, Result]]


class Chain:
    """The books of a test, worked on as the watcher does."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._urls = (database_url, redis_url)

    def do[Result](self, work: Work[Result]) -> Result:
        async def run() -> Result:
            async with open_books(*self._urls) as books:
                return await work(books, Deposits(books.pool, books.balances))

        return asyncio.run(run())


@pytest.fixture
def chain(database_url: str, redis_url: str) -> Chain:
    return Chain(database_url, redis_url)


@pytest.fixture
def terminal(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.setenv("LEVEL5_DATABASE_URL", database_url)
    monkeypatch.setenv("LEVEL5_REDIS_URL", redis_url)
    monkeypatch.setenv("LEVEL5_MODE", "sandbox")
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def code(chain: Chain) -> str:
    """The deposit code of an account; one deposit names it, one has no memo, one another's code."""

    async def work(books: Books, deposits: Deposits) -> str:
        new = await books.open_account()
        await deposits.open_vault(VAULT, opening=None)
        moves = [
            a_move(NAMED, pre=0, amount=1_000_000, naming=Naming(deposit_code=new.account.deposit_code, source="memo")),
            a_move(LOST, pre=1_000_000, amount=2_500_000, naming=Naming(aside="no_code")),
            a_move(STRAY, pre=3_500_000, amount=500_000, naming=Naming(deposit_code="0" * 16, source="memo"), senders=()),
        ]
        await deposits.record_page(VAULT, moves, cursor=Cursor(signature=STRAY, slot=9, balance=4_000_000), set_aside_min=0)
        await deposits.credit_due()
        return new.account.deposit_code

    return chain.do(work)


def a_move(signature: str, *, pre: int, amount: int, naming: Naming, senders: tuple[str, ...] = (SENDER,)) -> Move:
    return Move(signature=signature, slot=9, block_time=1_772_600_767, pre=pre, post=pre + amount, senders=senders, naming=naming)


def test_deposits_are_listed_newest_first_and_by_state(terminal: Terminal, code: str) -> None:
    everything = terminal.ask("deposits", "list")
    aside = terminal.ask("deposits", "list", "--state", "aside")

    assert [(one["signature"], one["state"]) for one in everything] == [(STRAY, "aside"), (LOST, "aside"), (NAMED, "credited")]
    assert [one["signature"] for one in aside] == [STRAY, LOST]
    assert [one["signature"] for one in terminal.ask("deposits", "list", "--limit", "1")] == [STRAY]
    assert terminal.ask("deposits", "list", "--state", "due") == []


def test_people_read_amounts_times_and_reasons_in_words(terminal: Terminal, code: str) -> None:
    said = terminal.run("deposits", "list")

    words = " ".join(said.split())
    assert "It names no account: it has no memo" in words
    assert "Its deposit code belongs to no account." in words
    assert "Its memo names the account." in words
    assert "It names no account: it has no memo and no reference that is known here." in terminal.run("deposits", "show", LOST)
    assert "2.500000" in said
    assert "2026-03-04 05:06:07" in said
    assert all(signature in said for signature in (NAMED, LOST, STRAY))


def test_one_deposit_is_shown_with_its_sender(terminal: Terminal, code: str) -> None:
    said = terminal.run("deposits", "show", NAMED)

    assert SENDER in said
    assert code in said
    assert "1.000000 USDC" in said
    assert "nobody" in terminal.run("deposits", "show", STRAY)
    assert terminal.ask("deposits", "show", LOST)["senders"] == [SENDER]


def test_what_named_nobody_is_given_to_its_owner_once(terminal: Terminal, chain: Chain, code: str) -> None:
    said = terminal.run("deposits", "assign", LOST, code, "--reason", "ticket 7")
    again = terminal.run("deposits", "assign", LOST, code, "--reason", "ticket 7")

    assert said.startswith("2.500000 USDC credited to account")
    assert "its balance is 3.500000 USDC" in said
    assert "nothing was added" in again
    assert terminal.ask("accounts", "show", code)["balance"] == 3_500_000
    assert "An operator assigned it." in terminal.run("deposits", "show", LOST)


def test_what_is_anothers_is_not_given_away(terminal: Terminal, code: str) -> None:
    other = terminal.ask("accounts", "create")["deposit_code"]

    assert "is credited to org_" in terminal.failure("deposits", "assign", NAMED, other, "--reason", "mistake")
    assert terminal.ask("accounts", "show", other)["balance"] == 0


def test_a_closed_account_gets_nothing(terminal: Terminal, code: str) -> None:
    other = terminal.ask("accounts", "create")["deposit_code"]
    terminal.run("accounts", "close", other, "--reason", "asked for")

    assert "is closed; nothing was credited" in terminal.failure("deposits", "assign", LOST, other, "--reason", "x")


def test_where_crediting_is_stopped_a_decision_waits_until_it_is_resumed(terminal: Terminal, chain: Chain, code: str) -> None:
    async def stop(_: Books, deposits: Deposits) -> None:
        await deposits.stop_crediting("the vault has 3 microunits less")

    async def credit(_: Books, deposits: Deposits) -> int:
        return await deposits.credit_due()

    chain.do(stop)
    waiting = terminal.run("deposits", "assign", LOST, code, "--reason", "ticket 7")
    resumed = terminal.run("deposits", "resume")

    assert "will be credited" in waiting
    assert resumed == "crediting goes on; it was stopped because: the vault has 3 microunits less\n"

    async def who_resumed(books: Books, _: Deposits) -> str:
        actor: str = await books.pool.fetchval("SELECT actor FROM audit WHERE action = 'crediting_resumed'")
        return actor

    assert chain.do(credit) == 1
    assert chain.do(who_resumed) == "command line"
    assert terminal.ask("accounts", "show", code)["balance"] == 3_500_000
    assert terminal.run("deposits", "resume") == "crediting was not stopped\n"


def test_a_rescan_credits_nothing_twice(terminal: Terminal, chain: Chain, code: str) -> None:
    said = terminal.run("deposits", "rescan")

    async def cursor(_: Books, deposits: Deposits) -> Cursor:
        return await deposits.open_vault(VAULT, opening=None)

    assert VAULT.address in said
    assert chain.do(cursor).signature is None
    assert terminal.ask("accounts", "show", code)["balance"] == 1_000_000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("show", "1" * 64), "no deposit came by transaction"),
        (("assign", "1" * 64, "1", "--reason", "x"), "no deposit came by transaction"),
        (("assign", LOST, "999999", "--reason", "x"), "no account has this id"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(terminal: Terminal, code: str, arguments: tuple[str, ...], text: str) -> None:
    assert text in terminal.failure("deposits", *arguments)


@pytest.mark.parametrize("command", ["rescan", "resume"])
def test_without_a_vault_there_is_nothing_to_read_or_resume(terminal: Terminal, chain: Chain, command: str) -> None:
    async def nothing(_: Books, __: Deposits) -> None:
        """Books that no watcher has met."""

    chain.do(nothing)

    assert "no vault was opened" in terminal.failure("deposits", command)


def test_every_command_has_help(terminal: Terminal) -> None:
    for command in ("list", "show", "assign", "rescan", "resume"):
        assert "Usage" in terminal.run("deposits", command, "--help")
