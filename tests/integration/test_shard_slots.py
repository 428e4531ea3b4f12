"""Every call of a shard stays in one slot, so that shards can be spread over the nodes of a cluster."""

import asyncio
import re
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis.exceptions import ResponseError

from cli.embedded import EmbeddedValkey, choose_service_user, own_folder
from ledger.balances import AccountRow, Balances, HoldPolicy, Renewal, connect_redis
from ledger.entries import SHARDS, AccountId, ChargeRecord, UsageLine
from ledger.errors import ShardClosed
from ledger.money import Microunits
from ledger.shard_link import meta_key
from ledger.tokens import TokenState, mint_token, new_request_id

SHARD = 17
ACCOUNT = AccountId(9)
POLICY = HoldPolicy(overdraft_max=10, concurrent_max=9, ttl_ms=60_000, outbox_max=1000)


async def use_everything(books: Balances) -> None:
    """Call every operation of a shard at least once, with keys there and not."""
    await books.open_shard(SHARD, epoch=1, seq=0, due_seq=0, posted=0, instance="i", mode="sandbox")
    await books.load()
    token = mint_token(ACCOUNT, SHARD)[1]
    fields = {"status": "active", "line": "", f"t:{token.digest}": "1"}
    await books.apply_change(SHARD, due_seq=1, account=ACCOUNT, key="open:x", amount=1000, fields=fields, detail="{}")
    holds = [await books.place_hold(token, new_request_id(), minimum=1, amount=100, policy=POLICY) for _ in range(3)]
    await books.extend(holds[0], 120, overdraft_max=10)
    records = [
        ChargeRecord(
            request_id=hold.request_id, provider="openai", model="m", operation="responses", lines=(UsageLine(provider="openai", model="m"),),
            amount=Microunits(5), provider_leg=Microunits(5), numerator=0, list_numerator=0, rate_card="c", started_at=0,
        )
        for hold in holds
    ]  # fmt: skip
    await books.renew([Renewal(hold=holds[2], charge=Microunits(9), detail=records[2].to_json())], ttl_ms=0)
    await asyncio.sleep(0.002)
    assert await books.expire(SHARD) == 1
    await books.settle(holds[0], records[0])
    await books.settle(holds[2], records[2])
    await books.void(holds[1])
    assert await books.authenticate(token)
    assert await books.account_state(ACCOUNT, SHARD)
    await books.mark_posted(SHARD, 1, 2)
    await books.trim_outbox(SHARD, 2)
    await books.read_outbox(SHARD, after=0, count=10)
    await books.close_shard(SHARD)
    await books.write_accounts(SHARD, 2, [AccountRow(account=ACCOUNT, balance=1, n=1, charged=0, status="active", tokens={token.digest: TokenState.ACTIVE})])
    await books.account_totals(SHARD, 2)
    await books.open_shard(SHARD, epoch=2, seq=4, due_seq=1, posted=4, instance="i", mode="sandbox")
    with pytest.raises(ShardClosed):
        await books.settle(holds[0], records[0])
    await books.replace_hold(holds[0], policy=POLICY)
    await books.drop_epoch(SHARD, 1)


async def test_every_key_of_a_shard_lies_in_its_slot(redis_url: str) -> None:
    redis, watcher = connect_redis(redis_url, command_seconds_max=10), connect_redis(redis_url, command_seconds_max=10)
    seen: list[str] = []
    async with watcher.monitor() as monitor:
        await use_everything(Balances(redis, instance="i"))
        await redis.set("the-end", 1)
        while "the-end" not in (line := str((await monitor.next_command())["command"])):
            seen.append(line)
    keys = {key for line in seen if "SCRIPT LOAD" not in line for key in re.findall(r"l5:[^\s\"']+", line)}
    await redis.aclose()
    await watcher.aclose()

    own = {key for key in keys if not re.fullmatch(r"l5:\{\d+\}:meta", key) or key == meta_key(SHARD)}
    kinds = {re.sub(r"[0-9a-f-]{36}$|(?<=:a:)\d+$", "*", key.removeprefix(f"l5:{{{SHARD}}}:")) for key in own}
    assert kinds == {"meta", "out", "e1:a:*", "e1:h:*", "e1:d:*", "e1:holds", "e1:accounts", "e2:a:*", "e2:h:*", "e2:d:*", "e2:holds", "e2:accounts"}
    assert {key_slot(key.encode()) for key in own} == {key_slot(str(SHARD).encode())}


def test_shards_are_spread_over_many_slots() -> None:
    assert len({key_slot(meta_key(shard).encode()) for shard in range(SHARDS)}) == SHARDS


@pytest.fixture
async def cluster_node(store_home: Path) -> AsyncIterator[EmbeddedValkey]:
    """A Valkey in cluster mode that owns all slots and refuses any script that leaves its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1] % 40_000 + 10_000)
    home = own_folder(Path(tempfile.mkdtemp(prefix="vc-", dir=store_home)), None, mode=0o711)
    server = EmbeddedValkey(home, user=choose_service_user(), options=("--cluster-enabled", "yes", "--port", port, "--bind", "127.0.0.1"))
    server.start()
    server.wait_until_ready()
    yield server
    server.stop()


async def test_a_clustered_redis_takes_every_script(cluster_node: EmbeddedValkey) -> None:
    redis = connect_redis(cluster_node.url, command_seconds_max=10)
    await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    async with asyncio.timeout(30):
        while "cluster_state:ok" not in str(await redis.execute_command("CLUSTER", "INFO")):
            await asyncio.sleep(0.1)

    await use_everything(Balances(redis, instance="i"))

    assert await redis.dbsize() > 0
    with pytest.raises(ResponseError, match="slot"):
        await redis.eval("#!lua\nreturn redis.call('SET', 'elsewhere', '1')", 1, meta_key(SHARD))
    await redis.aclose()
