"""`verify` and the reconciler on deposits: whole ones pass while traffic flows, and each kind of tampering is found."""

import asyncio
from collections.abc import AsyncIterator

import pytest

import ledger.deposit_audit
from ledger.deposit_values import ChainStatus
from ledger.deposits import Deposits
from ledger.findings import Fault, Report
from ledger.journal import now_ms
from ledger.poster import run_poster
from ledger.reconcile import Reconciler, verify
from tests.fakes.books import Books, open_books
from tests.fakes.vaults import History, catch_up


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.fixture
async def deposits(books: Books) -> Deposits:
    return Deposits(books.pool, books.balances)


async def some_deposits(books: Books, deposits: Deposits) -> History:
    """One credited, one set aside, two of dust, one withdrawal, and an opening."""
    new, history = await books.open_account(), History(opening=500)
    history.arrive(100, to=new.account.deposit_code)
    history.arrive(70)
    history.arrive(2)
    history.arrive(3)
    history.withdraw(40)
    await catch_up(deposits, history, opening=500, set_aside_min=10)
    await deposits.credit_due()
    await books.drain()
    return history


def faults(report: Report) -> set[Fault]:
    return {finding.fault for finding in report.findings}


def said(slot: int, vault: int | None, *, updated_at: int | None = None) -> ChainStatus:
    return ChainStatus(
        state="ok", reasons=(), finalized_slot=slot, lag_seconds=0.4, backlog=0, oldest_pending_seconds=0.0, vault_on_chain=vault,
        updated_at=now_ms() if updated_at is None else updated_at,
    )  # fmt: skip


async def test_whole_deposits_pass_and_are_counted(books: Books, deposits: Deposits) -> None:
    history = await some_deposits(books, deposits)
    await deposits.report(said(history.slot, history.balance))

    report = await verify(books.pool, books.balances)

    assert [finding.text for finding in report.findings] == []
    assert {name: report.checked.get(name) for name in ("moves", "deposits", "vaults_on_chain")} == {"moves": 5, "deposits": 2, "vaults_on_chain": 1}
    assert (await Reconciler(books.pool, books.balances).round()).whole


@pytest.mark.parametrize(
    ("statements", "fault"),
    [
        (("UPDATE house_balances SET balance = balance + 5 WHERE account = 'vault:usdc'",), Fault.VAULT_DIFFERS),
        (("UPDATE vaults SET balance = balance + 5",), Fault.VAULT_DIFFERS),
        (("UPDATE vault_moves SET post = post + 5 WHERE kind = 'withdrawal'",), Fault.VAULT_DIFFERS),
        (("UPDATE vault_moves SET post = post + 5 WHERE kind = 'withdrawal'",), Fault.MOVE_DIFFERS),
        (("UPDATE vault_moves SET post = post + 1 WHERE kind = 'dust'",), Fault.MOVE_DIFFERS),
        (("DELETE FROM vault_moves WHERE kind = 'withdrawal'",), Fault.MOVE_DIFFERS),
        (("UPDATE vault_moves SET journal_seq = journal_seq + 50 WHERE kind = 'arrival'",), Fault.MOVE_DIFFERS),
        (("UPDATE house_balances SET balance = balance + 5 WHERE account = 'unattributed'",), Fault.UNATTRIBUTED_DIFFERS),
        (("UPDATE deposits SET amount = amount + 5 WHERE state = 'aside'",), Fault.UNATTRIBUTED_DIFFERS),
        (("UPDATE deposits SET amount = amount + 5 WHERE state = 'aside'",), Fault.DEPOSIT_DIFFERS),
        (("DELETE FROM deposits WHERE state = 'credited'",), Fault.DEPOSIT_DIFFERS),
        (("UPDATE deposits SET state = 'credited', aside = '', account_id = 1, credited_at = now() WHERE state = 'aside'",), Fault.DEPOSIT_DIFFERS),
        (("UPDATE deposits SET state = 'due', credited_at = NULL WHERE state = 'credited'",), Fault.DEPOSIT_DIFFERS),
        (("UPDATE deposits SET account_id = 2 WHERE state = 'credited'",), Fault.DEPOSIT_DIFFERS),
    ],
)
async def test_tampering_with_deposits_is_found(books: Books, deposits: Deposits, statements: tuple[str, ...], fault: Fault) -> None:
    await some_deposits(books, deposits)
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)

    report = await verify(books.pool, None)

    assert fault in faults(report)
    assert all(finding.difference >= 0 for finding in report.findings)


async def test_the_reconciler_finds_sums_that_differ(books: Books, deposits: Deposits) -> None:
    await some_deposits(books, deposits)
    await books.pool.execute("UPDATE vaults SET balance = balance + 5")

    report = await Reconciler(books.pool, books.balances).round()

    assert [(finding.fault, finding.difference) for finding in report.findings] == [(Fault.VAULT_DIFFERS, 5)]


async def test_a_vault_that_stays_another_one_on_chain_is_found(books: Books, deposits: Deposits, monkeypatch: pytest.MonkeyPatch) -> None:
    history = await some_deposits(books, deposits)
    monkeypatch.setattr(ledger.deposit_audit, "CHAIN_PAUSE_SECONDS", 0.01)
    stop = asyncio.Event()

    async def go_on_reporting() -> None:
        while not stop.is_set():
            await deposits.report(said(history.slot, history.balance - 9))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(go_on_reporting())
        while await deposits.status() is None:
            await asyncio.sleep(0.01)
        report = await verify(books.pool, None)
        stop.set()

    assert [(finding.fault, finding.difference) for finding in report.findings] == [(Fault.VAULT_DIFFERS, 9)]


@pytest.mark.parametrize("ago_ms", [0, 70_000], ids=["silent", "long_silent"])
async def test_a_difference_without_a_watcher_to_confirm_it_is_no_fault(books: Books, deposits: Deposits, monkeypatch: pytest.MonkeyPatch, ago_ms: int) -> None:
    history = await some_deposits(books, deposits)
    monkeypatch.setattr(ledger.deposit_audit, "CHAIN_SECONDS_MAX", 0.2)
    await deposits.report(said(history.slot, history.balance - 9, updated_at=now_ms() - ago_ms))

    report = await verify(books.pool, None)

    assert report.whole
    assert "vaults_on_chain" not in report.checked


async def test_what_came_after_the_watchers_look_is_left_out(books: Books, deposits: Deposits) -> None:
    history = await some_deposits(books, deposits)
    await deposits.report(said(history.slot, history.balance))
    history.arrive(1000)
    await catch_up(deposits, history)

    report = await verify(books.pool, None)

    assert report.whole
    assert report.checked["vaults_on_chain"] == 1


async def test_there_is_no_false_alarm_while_money_comes_in_and_the_watcher_is_behind(books: Books, deposits: Deposits) -> None:
    history = await some_deposits(books, deposits)
    new = books.opened[0]
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            history.arrive(10, to=new.account.deposit_code)
            await deposits.report(said(history.slot, history.balance))  # sooner than it has recorded what it saw
            await catch_up(deposits, history)
            await deposits.credit_due()
            if history.made % 5 == 0:
                history.withdraw(30)

    async with asyncio.TaskGroup() as group:
        group.create_task(run_poster(books.pool, books.balances, retention_hours=48, stop=stop))
        group.create_task(watch())
        reports = [await verify(books.pool, books.balances) for _ in range(2)] + [await Reconciler(books.pool, books.balances).round()]
        stop.set()

    assert [finding.text for report in reports for finding in report.findings] == []
