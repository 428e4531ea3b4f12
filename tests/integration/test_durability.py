"""What is said of a Redis that could lose or evict balances."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cli.embedded import EmbeddedValkey, choose_service_user, own_folder
from ledger.balances import Balances, connect_redis
from ledger.durability import durability_findings
from ledger.entries import AccountId
from ledger.errors import BalanceUnavailable
from tests.fakes.appliance import free_ports


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


@pytest.fixture
def replicated(store_home: Path) -> Iterator[tuple[EmbeddedValkey, EmbeddedValkey]]:
    """A primary and its replica."""
    port = str(free_ports(1)[0])
    servers = []
    for options in (("--port", port, "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"), ("--replicaof", f"127.0.0.1 {port}")):
        home = own_folder(Path(tempfile.mkdtemp(prefix="vr-", dir=store_home)), None, mode=0o711)
        servers.append(EmbeddedValkey(home, user=choose_service_user(), options=options))
        servers[-1].start()
        servers[-1].wait_until_ready()
    yield servers[0], servers[1]
    for server in servers:
        server.stop()


async def test_with_replicas_a_change_counts_only_when_one_has_it(replicated: tuple[EmbeddedValkey, EmbeddedValkey]) -> None:
    primary, replica = (connect_redis(server.url, command_seconds_max=10) for server in replicated)
    async with asyncio.timeout(30):
        while (await replica.info("replication"))["master_link_status"] != "up":
            await asyncio.sleep(0.05)
    books = Balances(primary, instance="i")
    await books.open_shard(0, epoch=1, seq=0, due_seq=0, posted=0, instance="i", mode="sandbox")
    await books.load()

    await books.redis.script_flush()
    assert await books.apply_change(0, due_seq=1, account=AccountId(1), key="credit:1", amount=5, fields={}, detail="{}") == "ok"
    assert await replica.hget("l5:{0}:e1:a:1", "balance") == b"5"
    replicated[1].stop()
    with pytest.raises(BalanceUnavailable):
        await books.apply_change(0, due_seq=2, account=AccountId(1), key="credit:2", amount=5, fields={}, detail="{}")
    assert await books.account_state(AccountId(1), 0) == (2, 10)
    for client in (primary, replica):
        await client.aclose()


async def test_a_redis_that_is_away_is_unavailable(redis: Redis, valkey_server: object) -> None:
    valkey_server.stop()  # type: ignore[attr-defined]

    with pytest.raises(BalanceUnavailable):
        await durability_findings(redis)
