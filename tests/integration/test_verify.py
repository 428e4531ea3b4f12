"""`verify` and the reconciler: whole books pass while traffic flows, and each kind of tampering is found."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.entries import ChargeRecord
from ledger.findings import Fault, Report
from ledger.hot_audit import write_heads
from ledger.journal import read_shards, record_rate_card
from ledger.poster import run_poster
from ledger.reconcile import Reconciler, run_reconciler, verify
from ledger.stores import redis_command
from tests.fakes.books import Books, open_books


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


def price_of(record: ChargeRecord, _body: str) -> tuple[int, int]:
    """The price that `record_of` charges: one microunit a token of the first line's input."""
    amount = record.lines[0].input_tokens
    return amount, -(-amount * 10 // 11)


async def some_traffic(books: Books) -> None:
    await record_rate_card(books.pool, "card-1", "body")
    news = [await books.open_account(1000) for _ in range(3)]
    for new in news:
        for amount in (10, 20):
            await books.spend(new, amount)
    await books.drain()


def faults(report: Report) -> set[Fault]:
    return {finding.fault for finding in report.findings}


async def tamper(books: Books, *statements: str) -> None:
    """Change the journal as a superuser can who switches the triggers off."""
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)


async def test_whole_books_pass(books: Books) -> None:
    await some_traffic(books)

    report = await verify(books.pool, books.balances, price=price_of)

    assert [finding.text for finding in report.findings] == []
    assert report.whole
    assert {name: report.checked[name] for name in ("rows", "prices", "balances")} == {"rows": 12, "prices": 6, "balances": 3}


async def test_books_pass_while_traffic_flows(books: Books) -> None:
    news = [await books.open_account(100_000) for _ in range(4)]
    stop = asyncio.Event()

    async def spend() -> None:
        while not stop.is_set():
            await asyncio.gather(*(books.spend(new, 1) for new in news))

    async with asyncio.TaskGroup() as group:
        group.create_task(run_poster(books.pool, books.balances, retention_hours=48, stop=stop))
        group.create_task(spend())
        await asyncio.sleep(0.2)
        reports = [await verify(books.pool, books.balances), await Reconciler(books.pool, books.balances).round()]
        stop.set()

    assert [finding.text for report in reports for finding in report.findings] == []


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE journal SET detail = replace(detail, '\"output_tokens\":7', '\"output_tokens\":8') WHERE kind = 'charge'", Fault.CHAIN_BROKEN),
        ("UPDATE journal SET amounts = ARRAY[21, -20, -1] WHERE kind = 'charge' AND amounts[1] = 20", Fault.FIGURES_DIFFER),
        ("DELETE FROM journal WHERE kind = 'credit'", Fault.ROW_MISSING),
        ("DELETE FROM journal WHERE (shard, seq) IN (SELECT shard, chain_seq FROM shards WHERE chain_seq > 0 LIMIT 1)", Fault.TAIL_CUT),
        ("DELETE FROM journal_keys", Fault.KEY_MISSING),
        ("UPDATE accounts SET balance = balance + 5 WHERE id = 1", Fault.SUMS_DIFFER),
        ("UPDATE accounts SET charged = 0, n = n - 1", Fault.STATEMENT_BROKEN),
        ("DELETE FROM statement WHERE n = 2", Fault.STATEMENT_BROKEN),
        ("UPDATE statement SET balance_after = balance_after + 1 WHERE n = 3", Fault.BALANCE_DIFFERS),
        ("UPDATE house_balances SET balance = balance - 1 WHERE account = 'revenue:markup'", Fault.FIGURES_DIFFER),
        ("DELETE FROM rate_cards", Fault.PRICE_UNKNOWN),
    ],
)
async def test_tampering_is_found(books: Books, statement: str, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.hot_audit.POSTED_SECONDS_MAX", 0.1)
    await some_traffic(books)
    await tamper(books, statement)

    assert fault in faults(await verify(books.pool, books.balances, price=price_of))


async def test_a_tail_cut_off_together_with_its_figures_shows_in_redis_and_in_the_checkpoint(books: Books, tmp_path: Path) -> None:
    await some_traffic(books)
    checkpoint = tmp_path / "heads.json"
    assert (await verify(books.pool, books.balances, checkpoint=checkpoint)).whole
    assert len(json.loads(checkpoint.read_text())["heads"]) == 65
    await write_heads(books.balances, list((await read_shards(books.pool)).values()))
    shard, seq = await books.pool.fetchrow("SELECT shard, chain_seq FROM shards WHERE chain_seq > 2 LIMIT 1")
    await tamper(
        books,
        f"DELETE FROM journal WHERE shard = {shard} AND seq = {seq}",
        f"UPDATE shards SET chain_seq = {seq - 1}, chain_head = (SELECT hash FROM journal WHERE shard = {shard} AND seq = {seq - 1}) WHERE shard = {shard}",
    )

    found = await verify(books.pool, None, checkpoint=checkpoint)

    assert Fault.CHECKPOINT_DIFFERS in faults(found)
    assert Fault.TAIL_CUT in faults(await verify(books.pool, books.balances))
    checkpoint.write_text("{}")
    with pytest.raises(ValueError, match="checkpoint"):
        await verify(books.pool, None, checkpoint=checkpoint)


async def test_a_charge_that_its_rate_card_does_not_explain_is_found(books: Books) -> None:
    await some_traffic(books)

    def dearer(record: ChargeRecord, body: str) -> tuple[int, int]:
        amount, leg = price_of(record, body)
        return amount + 1, leg

    def impossible(record: ChargeRecord, body: str) -> tuple[int, int]:
        raise KeyError(record.model + body)

    assert faults(await verify(books.pool, None, price=dearer)) == {Fault.PRICE_DIFFERS}
    assert faults(await verify(books.pool, None, price=impossible)) == {Fault.PRICE_UNKNOWN}


async def test_a_balance_changed_in_redis_is_found_by_verify_and_put_right_by_the_reconciler(books: Books) -> None:
    await some_traffic(books)
    new = books.opened[0]
    await redis_command(books.balances, "HINCRBY", f"l5:{{{new.account.shard}}}:e1:a:{new.account.id}", "balance", 5)
    assert faults(await verify(books.pool, books.balances)) == {Fault.BALANCE_DIFFERS}

    report = await Reconciler(books.pool, books.balances).round()

    assert [(finding.fault, finding.difference) for finding in report.findings] == [(Fault.BALANCE_DIFFERS, 5)]
    assert (await verify(books.pool, books.balances)).whole


async def test_holds_that_nobody_ends_and_money_held_for_none_are_found(books: Books) -> None:
    await some_traffic(books)
    new = books.opened[0]
    prefix = f"l5:{{{new.account.shard}}}:e1:"
    hold = await books.hold(new, 5)
    assert (await verify(books.pool, books.balances)).whole
    await redis_command(books.balances, "ZADD", f"{prefix}holds", 1, hold.request_id)
    assert faults(await verify(books.pool, books.balances)) == {Fault.HOLD_OVERDUE}

    await redis_command(books.balances, "HINCRBY", f"{prefix}a:{books.opened[1].account.id}", "held", 3)
    assert Fault.HOLD_LEFT in faults(await verify(books.pool, books.balances)) or books.opened[1].account.shard != new.account.shard


async def test_a_closed_shard_and_a_vault_that_differs_from_the_chain_are_findings(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    await some_traffic(books)
    monkeypatch.setattr("ledger.reconcile.SHARD_PAUSE_SECONDS", 0.01)
    await books.balances.close_shard(books.opened[0].account.shard)

    report = await verify(books.pool, books.balances, vault_on_chain=1)

    assert faults(report) == {Fault.SHARD_CLOSED, Fault.SUMS_DIFFER}


async def test_the_reconciler_runs_until_it_is_stopped_and_sees_tampering_with_new_rows(books: Books) -> None:
    reconciler = Reconciler(books.pool, books.balances)
    assert (await reconciler.round()).whole
    await some_traffic(books)
    await tamper(books, "UPDATE journal SET occurred_at = occurred_at + interval '1 second' WHERE kind = 'credit'")
    assert faults(await reconciler.round()) == {Fault.CHAIN_BROKEN}

    stop = asyncio.Event()
    running = asyncio.create_task(run_reconciler(books.pool, books.balances, stop=stop, interval_seconds=0.01))
    await asyncio.sleep(0.1)
    stop.set()
    await asyncio.wait_for(running, 5)
