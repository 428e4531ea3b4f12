"""Changes that wait for a replica, with a real primary and replica: confirmed in batches, and never for nothing."""

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError

from cli.embedded import EmbeddedValkey, choose_service_user, own_folder
from ledger.redis_client import BooksRedis, connect_redis
from ledger.replicated_wire import GATHERED_MAX, ReplicatedWire
from tests.fakes.appliance import free_ports


@dataclass
class Pair:
    """A primary with its replica, and a client of the primary."""

    primary: EmbeddedValkey
    replica: EmbeddedValkey
    client: BooksRedis
    wire: ReplicatedWire


@pytest.fixture
def servers(store_home: Path) -> Iterator[tuple[EmbeddedValkey, EmbeddedValkey]]:
    port = str(free_ports(1)[0])
    made = []
    for options in (("--port", port, "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0"), ("--replicaof", f"127.0.0.1 {port}")):
        home = own_folder(Path(tempfile.mkdtemp(prefix="vw-", dir=store_home)), None, mode=0o711)
        made.append(EmbeddedValkey(home, user=choose_service_user(), options=options))
        made[-1].start()
        made[-1].wait_until_ready()
    yield made[0], made[1]
    for server in made:
        if server.process is not None:
            with contextlib.suppress(ProcessLookupError):
                server.process.send_signal(signal.SIGCONT)
        server.stop()


@pytest.fixture
async def pair(servers: tuple[EmbeddedValkey, EmbeddedValkey]) -> AsyncIterator[Pair]:
    primary, replica = servers
    client, watcher = connect_redis(primary.url, command_seconds_max=5), connect_redis(replica.url)
    async with asyncio.timeout(30):
        while (await watcher.info("replication"))["master_link_status"] != "up":
            await asyncio.sleep(0.05)
    await watcher.aclose()
    assert isinstance(client, BooksRedis)
    assert client.replicated is not None
    yield Pair(primary, replica, client, client.replicated)
    await client.aclose()


async def waits_of(pair: Pair) -> int:
    stats = await pair.client.info("commandstats")
    return int(stats.get("cmdstat_wait", {}).get("calls", 0))


async def test_many_changes_are_confirmed_by_few_questions(pair: Pair) -> None:
    replies = await asyncio.gather(*(pair.wire.ask("INCRBY", f"sum-{number}", number) for number in range(1000)))

    assert replies == [(number, 1) for number in range(1000)]
    assert await waits_of(pair) <= 3
    assert await pair.wire.ask("INCR", "next") == (1, 1)


async def test_a_refused_change_does_not_trouble_the_others_of_its_batch(pair: Pair) -> None:
    asking = [pair.wire.ask("EVALSHA", "f" * 40, 0), pair.wire.ask("INCR", "sum")]
    refused, taken = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(refused, NoScriptError)
    assert taken == (1, 1)


async def test_a_change_that_cannot_be_written_down_does_not_trouble_the_others(pair: Pair) -> None:
    asking = [pair.wire.ask("SET", "key", "\ud800"), pair.wire.ask("INCR", "sum")]
    broken, taken = await asyncio.gather(*asking, return_exceptions=True)

    assert isinstance(broken, UnicodeEncodeError)
    assert taken == (1, 1)


async def test_changes_that_no_replica_has_are_told_so_and_later_ones_are_not_held_up_for_long(pair: Pair) -> None:
    assert pair.replica.process is not None
    await pair.wire.ask("INCR", "sum")
    pair.replica.process.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(3):
        first = asyncio.gather(*(pair.wire.ask("INCR", "sum") for _ in range(100)))
        await asyncio.sleep(0.1)
        assert await pair.wire.ask("INCR", "sum") == (102, 0)
        assert {copies for _, copies in await first} == {0}
    pair.replica.process.send_signal(signal.SIGCONT)

    assert (await pair.wire.ask("INCR", "sum"))[0] == 103


async def test_cancelled_callers_leave_the_others_their_own_replies(pair: Pair) -> None:
    tasks = [asyncio.create_task(pair.wire.ask("INCRBY", f"sum-{number}", number)) for number in range(300)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()

    for number, result in enumerate(await asyncio.gather(*tasks, return_exceptions=True)):
        assert isinstance(result, asyncio.CancelledError) if number % 2 == 0 else result == (number, 1)


async def test_a_primary_that_dies_before_the_replicas_answered_confirms_nothing(pair: Pair) -> None:
    assert pair.primary.process is not None
    assert pair.replica.process is not None
    await pair.wire.ask("INCR", "sum")
    pair.replica.process.send_signal(signal.SIGSTOP)
    asking = [asyncio.create_task(pair.wire.ask("INCR", "sum")) for _ in range(50)]
    await asyncio.sleep(0.1)
    pair.primary.process.kill()

    assert {type(result) for result in await asyncio.gather(*asking, return_exceptions=True)} == {RedisConnectionError}
    with pytest.raises(RedisConnectionError):
        await pair.wire.ask("INCR", "sum")


async def test_more_than_may_gather_is_refused_and_closing_tells_those_that_wait(pair: Pair) -> None:
    asking = [asyncio.create_task(pair.wire.ask("INCR", "sum")) for _ in range(GATHERED_MAX + 1)]
    await asyncio.sleep(0)
    assert isinstance((await asyncio.gather(asking.pop(), return_exceptions=True))[0], RedisConnectionError)
    await pair.client.aclose()

    assert {type(result) for result in await asyncio.gather(*asking, return_exceptions=True)} == {RedisConnectionError}
