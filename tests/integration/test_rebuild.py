"""Stores that lose what they had: Redis emptied or rolled back, Postgres restored from a backup."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from cli.embedded import EmbeddedPostgres, EmbeddedValkey
from ledger.changes import LateJournal
from ledger.errors import BrokenInvariant, JournalUnavailable, ShardClosed
from ledger.rebuild import rebuild_shard, shards_by_activity
from ledger.reconcile import verify
from ledger.statements import transactions
from ledger.stores import redis_command
from ledger.tokens import TokenScope, parse_token
from tests.fakes.books import POLICY, Books, open_books, record_of


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


def database_name(url: str) -> str:
    return urlsplit(url).path.strip("/")


async def restore_database(url: str, postgres: EmbeddedPostgres, *, to: str) -> None:
    """Put the database of `url` back to the copy named `to`."""
    name = database_name(url)
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {to}")
    finally:
        await connection.close()


async def copy_database(url: str, postgres: EmbeddedPostgres, books: Books) -> str:
    name = database_name(url)
    await books.pool.expire_connections()
    connection = await asyncpg.connect(postgres.url)
    try:
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
        await connection.execute(f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    finally:
        await connection.close()
    return f"{name}_copy"


def copy_redis(server: EmbeddedValkey) -> Path:
    """Copy the data while the server stands still, as a file system snapshot would."""
    copy = server.home / "snapshot"
    server.stop()
    subprocess.run(["cp", "-a", str(server.data), str(copy)], check=True)
    server.start()
    server.wait_until_ready()
    return copy


def restore_redis(server: EmbeddedValkey, copy: Path) -> None:
    server.stop()
    shutil.rmtree(server.data)
    subprocess.run(["cp", "-a", str(copy), str(server.data)], check=True)
    server.start()
    server.wait_until_ready()


async def until_connected(call, *arguments: object, **options: object) -> None:  # type: ignore[no-untyped-def]
    """Repeat a call whose pooled connections died with the database that was replaced."""
    for _ in range(20):
        try:
            return await call(*arguments, **options)
        except JournalUnavailable as error:
            if "older" in str(error):
                raise
    raise TimeoutError


async def assert_whole(books: Books) -> None:
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []


async def test_an_emptied_redis_is_rebuilt_with_balances_tokens_and_lines(books: Books) -> None:
    news = [await books.open_account(1000) for _ in range(5)]
    for new in news:
        await books.spend(new, 100)
    text, token_id = await books.accounts.create_token(news[0].account)
    await books.accounts.revoke_token(token_id)
    to_look, _ = await books.accounts.create_token(news[0].account, scope=TokenScope.READ_ONLY)
    await books.accounts.set_line(news[1].account, 55)
    await books.drain()
    await redis_command(books.balances, "FLUSHALL")
    with pytest.raises(ShardClosed):
        await books.balance(news[0])

    await books.drain()

    assert [await books.balance(new) for new in news] == [900] * 5
    assert (await books.reload(news[0])).shard in await shards_by_activity(books.pool, range(64))
    assert (await books.balances.standing(parse_token(text))).status == "revoked"
    assert (await books.balances.standing(parse_token(to_look))).read_only
    standing = await books.balances.standing(parse_token(news[1].api_token))
    assert (standing.line, standing.charged) == (55, 100)
    await books.spend(news[0], 1)
    await books.drain()
    assert await books.journal_balance(news[0]) == 899
    await assert_whole(books)


async def test_charges_that_an_emptied_redis_took_along_come_back_the_late_way(books: Books) -> None:
    new = await books.open_account(1000)
    await books.drain()
    record = await books.spend(new, 100)
    open_hold = await books.hold(new, 50)
    await redis_command(books.balances, "FLUSHALL")
    late = LateJournal(books.pool, books.balances)
    with pytest.raises(ShardClosed):
        await late.charge_late(record, account=new.account.id, shard=new.account.shard, hold_epoch=1)
    await books.drain()

    placed = await books.balances.replace_hold(open_hold, policy=POLICY)
    await asyncio.gather(
        late.charge_late(record, account=new.account.id, shard=new.account.shard, hold_epoch=1),
        late.charge_late(record, account=new.account.id, shard=new.account.shard, hold_epoch=1),
    )
    await books.balances.settle(placed, record_of(placed.request_id, 40))
    await books.drain()

    assert await books.balance(new) == await books.journal_balance(new) == 860
    await assert_whole(books)


async def test_a_credit_made_while_redis_is_gone_is_in_the_rebuilt_balance(books: Books) -> None:
    new = await books.open_account(10)
    await redis_command(books.balances, "FLUSHALL")

    assert not (await books.accounts.credit(new.account, 5, reason="x", actor="tester")).applied
    await books.drain()

    lines = await transactions(books.pool, books.balances, new.account, order="asc")
    assert [(line.id, line.usdc_amount, line.balance_after) for line in lines] == [(1, 10, 10), (2, 5, 15)]
    assert await books.balance(new) == 15
    await assert_whole(books)


async def test_a_redis_that_went_back_is_rebuilt_and_its_own_changes_are_kept(books: Books, valkey_server: EmbeddedValkey) -> None:
    new = await books.open_account(1000)
    early = await books.hold(new, 100)
    await books.drain()
    snapshot = copy_redis(valkey_server)
    record = await asyncio.wait_for(settle(books, early, 60), 5)
    for _ in range(3):
        await books.spend(new, 10)
    await books.drain()
    assert await books.balance(new) == 910
    restore_redis(valkey_server, snapshot)

    async with open_books_again(books) as again:  # processes that saw nothing of the future: they serve the old state for a moment
        divergent = await again.spend(new, 7)
        await again.balances.settle(early, record_of(early.request_id, 60))
        await again.drain()

    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE key = ANY($1)", [f"charge:{divergent.request_id}", f"charge:{record}"]) == 2
    async with open_books_again(books) as again:
        assert await again.balance(new) == await again.journal_balance(new) == 903
        await assert_whole(again)


async def settle(books: Books, hold, amount: int) -> str:  # type: ignore[no-untyped-def]
    await books.balances.settle(hold, record_of(hold.request_id, amount))
    return str(hold.request_id)


def open_books_again(books: Books):  # type: ignore[no-untyped-def]
    """The same stores as another process sees them, that knows nothing yet."""
    from contextlib import asynccontextmanager

    from ledger.accounts import Accounts
    from ledger.balances import Balances

    @asynccontextmanager
    async def opened():  # type: ignore[no-untyped-def]
        balances = Balances(books.balances.redis, instance=books.balances.instance)
        await balances.load()
        yield Books(books.pool, balances, Accounts(books.pool, balances))

    return opened()


async def test_a_redis_that_went_back_and_overtook_the_journal_again_is_found_out(books: Books, valkey_server: EmbeddedValkey) -> None:
    new = await books.open_account(1000)
    other = await books.open_account(1000)
    while other.account.shard != new.account.shard:
        other = await books.open_account(1000)
    await books.drain()
    snapshot = copy_redis(valkey_server)
    for _ in range(3):
        await books.spend(new, 10)
    await books.drain()
    restore_redis(valkey_server, snapshot)

    async with open_books_again(books) as again:
        for _ in range(6):
            await again.spend(other, 1)
        await again.drain()
        assert (await again.balance(new), await again.balance(other)) == (970, 994)
        await assert_whole(again)


async def test_an_exact_settlement_that_only_a_restored_redis_saw_replaces_the_estimate(books: Books, valkey_server: EmbeddedValkey) -> None:
    from ledger.balances import Renewal
    from ledger.money import Microunits

    new = await books.open_account(1000)
    hold = await books.hold(new, 100)
    await books.drain()
    snapshot = copy_redis(valkey_server)
    await books.balances.renew([Renewal(hold=hold, charge=Microunits(60), detail=record_of(hold.request_id, 60, estimated=True).to_json())], ttl_ms=1)
    await asyncio.sleep(0.01)
    await books.balances.expire(new.account.shard)
    await books.drain()
    restore_redis(valkey_server, snapshot)

    async with open_books_again(books) as again:
        await again.balances.settle(hold, record_of(hold.request_id, 75))
        await again.drain()
        assert await again.balance(new) == await again.journal_balance(new) == 925
        await assert_whole(again)


async def test_a_database_restored_from_a_backup_replays_itself(books: Books, database_url: str, postgres_server: EmbeddedPostgres) -> None:
    old = await books.open_account(1000)
    await books.drain()
    copy = await copy_database(database_url, postgres_server, books)
    await books.spend(old, 100)
    new = await books.open_account(500)
    await books.accounts.credit(old.account, 77, reason="later", actor="tester")
    _, token_id = await books.accounts.create_token(new.account, "further")
    await books.accounts.revoke_token(token_id)
    to_look, _ = await books.accounts.create_token(new.account, "to look", scope=TokenScope.READ_ONLY)
    await books.accounts.set_status(old.account, "suspended", "later")
    late = record_of(await a_request_id(), 9)
    await books.drain()
    await LateJournal(books.pool, books.balances).charge_late(late, account=new.account.id, shard=new.account.shard, hold_epoch=1)
    await books.spend(new, 30)
    await books.drain()
    await books.spend(new, 1)  # not posted when the database is lost
    before = {row["account_id"]: row["lines"] for row in await books.pool.fetch(_LINES)}

    await restore_database(database_url, postgres_server, to=copy)
    await books.drain()

    assert (await books.balance(old), await books.journal_balance(old)) == (977, 977)
    assert (await books.balance(new), await books.journal_balance(new)) == (460, 460)
    again = await books.reload(new)
    assert (again.id, again.shard, again.deposit_code, again.charged) == (new.account.id, new.account.shard, new.account.deposit_code, 40)
    assert (await books.reload(old)).status == "suspended"
    tokens = await books.accounts.list_tokens(again)
    assert [token.revoked_at is None for token in tokens] == [True, False, True]
    assert [(token.scope, token.hint) for token in tokens][::2] == [("full", new.api_token[-4:]), ("read_only", to_look[-4:])]
    after = {row["account_id"]: row["lines"] for row in await books.pool.fetch(_LINES)}
    assert after[old.account.id] == before[old.account.id]
    assert after[new.account.id][: len(before[new.account.id])] == before[new.account.id]
    newest = await books.open_account(1)
    assert newest.account.id > new.account.id
    await books.drain()
    await assert_whole(books)


_LINES = "SELECT account_id, array_agg(amount ORDER BY n) AS lines FROM statement GROUP BY account_id"


async def a_request_id():  # type: ignore[no-untyped-def]
    from ledger.tokens import new_request_id

    return new_request_id()


async def test_changes_on_a_restored_database_wait_until_it_has_replayed(books: Books, database_url: str, postgres_server: EmbeddedPostgres) -> None:
    old = await books.open_account(1000)
    await books.drain()
    copy = await copy_database(database_url, postgres_server, books)
    await books.spend(old, 100)
    await books.drain()
    await restore_database(database_url, postgres_server, to=copy)

    with pytest.raises(JournalUnavailable, match="older"):
        await until_connected(books.accounts.credit, old.account, 1, reason="x", actor="tester")
    await books.drain()
    await books.accounts.credit(old.account, 1, reason="x", actor="tester")
    await books.drain()
    assert await books.balance(old) == await books.journal_balance(old) == 901


async def test_a_backup_older_than_the_outbox_keeps_the_shard_closed_until_the_loss_is_accepted(
    books: Books, database_url: str, postgres_server: EmbeddedPostgres
) -> None:
    old = await books.open_account(1000)
    await books.drain()
    copy = await copy_database(database_url, postgres_server, books)
    await books.spend(old, 100)
    await books.spend(old, 10)
    await books.drain()
    await redis_command(books.balances, "XDEL", f"l5:{{{old.account.shard}}}:out", "3-0")
    await restore_database(database_url, postgres_server, to=copy)

    with pytest.raises(BrokenInvariant, match="3 to 3"):
        await until_connected(rebuild_shard, books.pool, books.balances, old.account.shard)
    with pytest.raises(ShardClosed):
        await books.balance(old)
    await rebuild_shard(books.pool, books.balances, old.account.shard, accept_loss=True)

    assert await books.balance(old) == await books.journal_balance(old) == 990
    await books.drain()
    await assert_whole(books)


async def test_a_rebuild_that_was_broken_off_is_begun_again(books: Books) -> None:
    new = await books.open_account(1000)
    await books.drain()
    await books.pool.execute("UPDATE shards SET state = 'rebuilding', epoch = epoch + 1 WHERE shard = $1", new.account.shard)

    await books.drain()

    assert await books.balance(new) == 1000
    assert books.balances.epoch(new.account.shard) == 3


async def test_only_one_process_rebuilds_a_shard(books: Books) -> None:
    new = await books.open_account(1000)
    await books.drain()

    outcomes = await asyncio.gather(*(rebuild_shard(books.pool, books.balances, new.account.shard) for _ in range(3)))

    assert outcomes.count(True) >= 1
    assert await books.balance(new) == 1000
    assert not await rebuild_shard(books.pool, books.balances, new.account.shard, forced=False)
