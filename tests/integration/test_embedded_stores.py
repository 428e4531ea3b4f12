"""The embedded servers: started without rights, found again, gone when their parent is gone."""

import asyncpg
from redis.asyncio import Redis


async def test_a_new_database_answers_queries(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    assert await connection.fetchval("SELECT 1 + 1") == 2

    await connection.close()


async def test_valkey_writes_every_change_to_disk_and_never_evicts(redis_url: str) -> None:
    client = Redis.from_url(redis_url, decode_responses=True)

    settings = await client.config_get("append*", "maxmemory-policy")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    await client.aclose()
