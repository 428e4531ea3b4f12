"""What is said of a Redis that could lose or evict balances."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ledger.balances import connect_redis
from ledger.durability import durability_findings
from ledger.errors import BalanceUnavailable


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = connect_redis(redis_url, command_seconds_max=10)
    yield client
    await client.aclose()


async def findings(redis: Redis) -> dict[str, bool]:
    return {finding.setting: finding.refuse for finding in await durability_findings(redis)}


async def test_our_own_redis_is_durable_and_never_evicts(redis: Redis) -> None:
    await redis.config_set("maxmemory", "1gb")

    assert await findings(redis) == {}


@pytest.mark.parametrize(
    ("setting", "value", "refuse"),
    [
        ("maxmemory-policy", "allkeys-lru", True),
        ("maxmemory-policy", "volatile-ttl", True),
        ("maxmemory", "0", False),
        ("appendonly", "no", False),
        ("appendfsync", "everysec", False),
    ],
)
async def test_a_setting_that_risks_balances_is_told(redis: Redis, setting: str, value: str, *, refuse: bool) -> None:
    await redis.config_set("maxmemory", "1gb")
    await redis.config_set(setting, value)

    assert await findings(redis) == {setting: refuse}


async def test_a_replica_is_refused(redis: Redis) -> None:
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")

    assert (await findings(redis))["role"]


async def test_a_redis_that_hides_its_settings_is_told(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(_: str) -> None:
        raise ResponseError("unknown command 'CONFIG'")

    monkeypatch.setattr(redis, "config_get", refuse)

    assert await findings(redis) == {"config": False}


async def test_a_primary_with_replicas_must_wait_for_one(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    async def info(section: str) -> dict[str, object]:
        return {"role": "master", "connected_slaves": 2} if section == "replication" else {"aof_last_write_status": "err"}

    monkeypatch.setattr(redis, "info", info)
    await redis.config_set("maxmemory", "1gb")

    assert await findings(redis) == {"min-replicas-to-write": True, "aof_last_write_status": True}


async def test_a_redis_that_is_away_is_unavailable(redis: Redis, valkey_server: object) -> None:
    valkey_server.stop()  # type: ignore[attr-defined]

    with pytest.raises(BalanceUnavailable):
        await durability_findings(redis)
