"""Migrations and the claim on both stores."""

import asyncio
from dataclasses import replace

import asyncpg
import pytest

import ledger.migrate
import ledger.stores
from ledger.balances import Balances, connect_redis
from ledger.errors import WrongStore
from ledger.journal import open_pool
from ledger.migrate import migrate, read_migrations
from ledger.queries import read_queries
from ledger.stores import claim_stores, redis_command
from tests.fakes.books import open_books


async def test_two_starters_apply_each_migration_once(bare_database_url: str) -> None:
    applied = await asyncio.gather(*(migrate(bare_database_url) for _ in range(3)))

    assert sorted(name for names in applied for name in names) == [migration.name for migration in read_migrations()]
    assert await migrate(bare_database_url) == []


async def test_a_migration_that_was_changed_afterwards_is_refused(bare_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await migrate(bare_database_url)
    changed = [replace(migration, checksum="0") for migration in read_migrations()]
    monkeypatch.setattr(ledger.migrate, "read_migrations", lambda: changed)

    with pytest.raises(WrongStore, match=r"0001_journal\.sql was changed"):
        await migrate(bare_database_url)


async def test_a_database_of_a_newer_program_is_refused(bare_database_url: str) -> None:
    await migrate(bare_database_url)
    connection = await asyncpg.connect(bare_database_url)
    await connection.execute("INSERT INTO schema_versions (version, name, checksum) VALUES (9999, '9999_future.sql', '')")
    await connection.close()

    with pytest.raises(WrongStore, match="9999_future"):
        await migrate(bare_database_url)


async def test_a_migration_that_fails_leaves_nothing_behind(bare_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = read_migrations()
    broken = [*shipped, replace(shipped[0], version=len(shipped) + 1, name="0002_broken.sql", text="CREATE TABLE half (); SELECT nonsense")]
    monkeypatch.setattr(ledger.migrate, "read_migrations", lambda: broken)
    with pytest.raises(asyncpg.PostgresError):
        await migrate(bare_database_url)

    connection = await asyncpg.connect(bare_database_url)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT count(*) FROM schema_versions") == len(shipped)
    await connection.close()


async def test_new_stores_are_claimed_and_opened_and_claimed_again(database_url: str, redis_url: str) -> None:
    async with open_books(database_url, redis_url) as first:
        instance = first.balances.instance
        assert all(
            meta is not None and (meta.state, meta.epoch, meta.mode) == ("open", 1, "sandbox") for meta in (await first.balances.read_all_meta()).values()
        )
    async with open_books(database_url, redis_url) as second:
        assert second.balances.instance == instance


async def test_two_starters_claim_the_same_instance(database_url: str, redis_url: str) -> None:
    await migrate(database_url)
    pool, redis = await open_pool(database_url), connect_redis(redis_url, command_seconds_max=10)

    claims = await asyncio.gather(*(claim_stores(pool, Balances(redis, instance=""), mode="real") for _ in range(3)))

    assert len(set(claims)) == 1
    await redis.aclose()
    await pool.close()


@pytest.mark.parametrize("reading", ["read_redis", "_read_metas", "_read_journal"])
async def test_a_starter_that_another_overtakes_between_two_readings_joins_it(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    await migrate(database_url)
    pool, redis = await open_pool(database_url), connect_redis(redis_url, command_seconds_max=10)
    read, overtaken_by = getattr(ledger.stores, reading), list[str]()

    async def read_and_be_overtaken(store: object) -> object:
        found = await read(store)
        if not overtaken_by:
            overtaken_by.append("")  # the other starter reads undisturbed
            overtaken_by.append(await claim_stores(pool, Balances(redis, instance=""), mode="real"))
        return found

    monkeypatch.setattr(ledger.stores, reading, read_and_be_overtaken)
    assert await claim_stores(pool, Balances(redis, instance=""), mode="real") == overtaken_by[-1]
    await redis.aclose()
    await pool.close()


async def test_stores_of_another_mode_chain_or_instance_are_refused(database_url: str, redis_url: str) -> None:
    async with open_books(database_url, redis_url) as books:
        other = Balances(books.balances.redis, instance="")
        with pytest.raises(WrongStore, match="sandbox books, and this is real mode"):
            await claim_stores(books.pool, other, mode="real")
        await books.pool.execute("UPDATE instance SET genesis = 'the-chain'")
        with pytest.raises(WrongStore, match="belongs to chain the-chain, not to another-chain"):
            await claim_stores(books.pool, other, mode="sandbox", genesis="another-chain")
        await redis_command(other, "HSET", "l5:{64}:identity", "instance", "foreign")
        with pytest.raises(WrongStore, match="Redis belongs to instance foreign"):
            await claim_stores(books.pool, other, mode="sandbox")
        await redis_command(other, "DEL", "l5:{64}:identity")
        await redis_command(other, "HSET", "l5:{3}:meta", "instance", "foreign")
        with pytest.raises(WrongStore, match="shard 3 in Redis belongs to instance foreign"):
            await claim_stores(books.pool, other, mode="sandbox")


async def test_an_empty_database_beside_a_full_redis_is_refused_with_advice(database_url: str, redis_url: str) -> None:
    async with open_books(database_url, redis_url) as books:
        await books.open_account(5)
        await books.drain()
        instance = books.balances.instance
        await books.pool.execute("TRUNCATE instance")

        with pytest.raises(WrongStore, match="restore the backup"):
            await claim_stores(books.pool, Balances(books.balances.redis, instance=""), mode="sandbox")
        await redis_command(books.balances, "DEL", "l5:{64}:identity")
        with pytest.raises(WrongStore, match=instance):
            await claim_stores(books.pool, Balances(books.balances.redis, instance=""), mode="sandbox")


async def test_an_empty_redis_beside_a_full_database_is_rebuilt_and_not_an_error(database_url: str, redis_url: str) -> None:
    async with open_books(database_url, redis_url) as books:
        new = await books.open_account(5)
        await books.drain()
        await redis_command(books.balances, "FLUSHALL")
        name = new.account.public_id
    async with open_books(database_url, redis_url) as again:
        await again.drain()
        assert await again.balance(new) == (await again.accounts.find(name)).balance == 5


async def test_a_redis_that_may_evict_is_refused(database_url: str, redis_url: str) -> None:
    redis = connect_redis(redis_url, command_seconds_max=10)
    await redis.config_set("maxmemory-policy", "allkeys-lru")  # type: ignore[no-untyped-call]
    await redis.aclose()

    with pytest.raises(WrongStore, match="maxmemory-policy"):
        async with open_books(database_url, redis_url):
            raise AssertionError("it was accepted")


def test_a_query_name_that_occurs_twice_is_refused() -> None:
    assert read_queries("-- name: a\nSELECT 1;\n\n-- name: b\nSELECT 2;\n") == {"a": "SELECT 1", "b": "SELECT 2"}
    with pytest.raises(ValueError, match="twice"):
        read_queries("-- name: a\nSELECT 1;\n-- name: a\nSELECT 2;\n")


def test_what_queries_have_in_common_stands_once() -> None:
    assert read_queries("-- name: a\nSELECT {{c}} FROM t;\n-- part: c   of t\nx, y;\n") == {"a": "SELECT x, y FROM t"}
    with pytest.raises(ValueError, match="no part d"):
        read_queries("-- name: a\nSELECT {{d}};\n-- part: c\nx;\n")
