"""The wire to Redis: against a real Valkey that is killed, stopped and restarted, and against servers that misbehave."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.x509 import DNSName
from mitmproxy.certs import CertStore
from redis.exceptions import AuthenticationError, InvalidResponse, NoScriptError, OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cli.embedded import EmbeddedValkey
from ledger.redis_client import connect_redis, wires_of
from ledger.redis_wire import RedisWire
from ledger.wire_address import WireAddress
from ledger.wire_line import IN_FLIGHT_MAX

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def wire_to(url: str, *, seconds: float = 10) -> RedisWire:
    wire, _ = wires_of(connect_redis(url, command_seconds_max=seconds))
    assert wire is not None
    return wire


@pytest.fixture
async def wire(redis_url: str) -> AsyncIterator[RedisWire]:
    wire = wire_to(redis_url)
    yield wire
    await wire.aclose()


@pytest.fixture
async def hasty(redis_url: str) -> AsyncIterator[RedisWire]:
    """A wire that waits a fifth of a second at most."""
    wire = wire_to(redis_url, seconds=0.2)
    yield wire
    await wire.aclose()


@pytest.fixture
def frozen(valkey_server: EmbeddedValkey) -> Iterator[Callable[[bool], None]]:
    """Stops the server as it stands, and lets it go on."""
    process = valkey_server.process
    assert process is not None

    def freeze(still: bool) -> None:
        process.send_signal(signal.SIGSTOP if still else signal.SIGCONT)

    yield freeze
    with contextlib.suppress(ProcessLookupError):
        freeze(False)


@asynccontextmanager
async def fake_server(serve: Serve, *, seconds: float = 0.5) -> AsyncIterator[RedisWire]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    address = WireAddress(host="127.0.0.1", port=server.sockets[0].getsockname()[1], connect_seconds_max=1, command_seconds_max=seconds)
    wire = RedisWire(address)
    yield wire
    await wire.aclose()
    server.close()


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (await read_command(reader))[0] != b"PING":
        writer.write(b"+OK\r\n")
    writer.write(b"+PONG\r\n")


async def outcomes(*asking: Awaitable[object]) -> list[object]:
    async with asyncio.timeout(20):
        return [result if not isinstance(result, BaseException) else type(result) for result in await asyncio.gather(*asking, return_exceptions=True)]


async def test_every_kind_of_reply_comes_back_as_it_is(wire: RedisWire) -> None:
    assert await wire.ask("SET", "key", "Preis: 5 €") == b"OK"
    assert await wire.ask("GET", "key") == "Preis: 5 €".encode()
    assert await wire.ask("GET", "none") is None
    assert await wire.ask("INCRBY", "sum", 2**53) == 2**53
    assert await wire.ask("EVAL", "return {1, {'two'}, false}", 0) == [1, [b"two"], None]
    assert await wire.ask("ECHO", b"\x00\r\n\xff") == b"\x00\r\n\xff"


async def test_refusals_are_told_apart(wire: RedisWire) -> None:
    with pytest.raises(NoScriptError):
        await wire.ask("EVALSHA", "f" * 40, 0)
    with pytest.raises(ResponseError, match="unknown command"):
        await wire.ask("PAY")
    await wire.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(OutOfMemoryError):
        await wire.ask("SET", "key", "value")
    assert await wire.ask("PING") == b"PONG"


async def test_each_of_thousands_of_commands_gets_its_own_reply(wire: RedisWire) -> None:
    count = 5000
    assert await asyncio.gather(*(wire.ask("ECHO", number) for number in range(count))) == [str(number).encode() for number in range(count)]


async def test_one_turn_of_the_loop_is_one_write(wire: RedisWire) -> None:
    await wire.ask("PING")
    before = await reads_of(wire)
    await asyncio.gather(*(wire.ask("PING") for _ in range(200)))

    assert await reads_of(wire) - before <= 4


async def reads_of(wire: RedisWire) -> int:
    stats = dict(line.split(":", 1) for line in (await wire.ask("INFO", "stats")).decode().split("\r\n") if ":" in line)
    return int(stats["total_reads_processed"])


async def test_more_than_may_wait_is_refused_at_once(wire: RedisWire) -> None:
    await wire.ask("PING")
    results = await outcomes(*(wire.ask("PING") for _ in range(IN_FLIGHT_MAX + 10)))

    assert results.count(b"PONG") == IN_FLIGHT_MAX
    assert results.count(RedisConnectionError) == 10
    assert await wire.ask("PING") == b"PONG"


async def test_cancelled_callers_do_not_shift_the_replies_of_others(wire: RedisWire) -> None:
    await wire.ask("PING")
    tasks = [asyncio.create_task(wire.ask("ECHO", number)) for number in range(1000)]
    await asyncio.sleep(0)  # all are on their way
    for task in tasks[::3]:
        task.cancel()

    results = await asyncio.gather(*tasks, return_exceptions=True)

    for number, result in enumerate(results):
        assert isinstance(result, asyncio.CancelledError) if number % 3 == 0 else result == str(number).encode()
    assert await wire.ask("ECHO", "next") == b"next"


async def test_a_caller_cancelled_while_connecting_leaves_the_connection_to_the_others(wire: RedisWire) -> None:
    first, second = asyncio.create_task(wire.ask("ECHO", 1)), asyncio.create_task(wire.ask("ECHO", 2))
    await asyncio.sleep(0)
    first.cancel()

    assert await outcomes(first, second) == [asyncio.CancelledError, b"2"]


async def test_a_server_that_hangs_is_given_up_and_found_again(hasty: RedisWire, frozen: Callable[[bool], None]) -> None:
    await hasty.ask("SET", "key", "old")
    frozen(True)
    assert await outcomes(*(hasty.ask("INCR", "count") for _ in range(50))) == [RedisTimeoutError] * 50
    assert await outcomes(hasty.ask("PING")) == [RedisTimeoutError]  # the next connection is not greeted
    frozen(False)
    await asyncio.sleep(0.1)

    assert await hasty.ask("GET", "key") == b"old"


async def test_a_younger_command_behind_one_that_timed_out_is_told_that_the_connection_was_lost(hasty: RedisWire, frozen: Callable[[bool], None]) -> None:
    await hasty.ask("PING")
    frozen(True)
    older = asyncio.create_task(hasty.ask("ECHO", "older"))
    await asyncio.sleep(0.15)
    younger = asyncio.create_task(hasty.ask("ECHO", "younger"))

    assert await outcomes(older, younger) == [RedisTimeoutError, RedisConnectionError]


async def test_a_late_reply_is_never_taken_for_anothers() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        while True:
            word = (await read_command(reader))[1]
            if word == b"slow":
                await asyncio.sleep(0.4)
            writer.write(b"$%d\r\n%s\r\n" % (len(word), word))

    async with fake_server(serve, seconds=0.2) as wire:
        assert await outcomes(wire.ask("ECHO", "slow")) == [RedisTimeoutError]
        for number in range(30):
            assert await wire.ask("ECHO", number) == str(number).encode()
            await asyncio.sleep(0.01)


async def test_slow_replies_within_the_time_are_waited_for(wire: RedisWire) -> None:
    await wire.ask("SET", "key", 1)
    slow = wire.ask("EVAL", "for _ = 1, 2e7 do end return 'done'", 0)

    assert await outcomes(slow, wire.ask("GET", "key")) == [b"done", b"1"]


async def test_a_loop_that_was_busy_itself_still_finds_its_answer(hasty: RedisWire) -> None:
    await hasty.ask("PING")
    asking = asyncio.create_task(hasty.ask("ECHO", "here"))
    await asyncio.sleep(0.01)
    asking2 = asyncio.create_task(hasty.ask("ECHO", "here"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(busy)

    assert await outcomes(asking, asking2) == [b"here", b"here"]


def busy() -> None:
    import time

    time.sleep(0.5)


async def test_a_server_killed_in_mid_command_loses_the_connection_and_nothing_else(wire: RedisWire, valkey_server: EmbeddedValkey) -> None:
    await wire.ask("SET", "key", "value")
    assert valkey_server.process is not None
    slow = asyncio.create_task(wire.ask("EVAL", "while true do end", 0))
    others = [asyncio.create_task(wire.ask("GET", "key")) for _ in range(100)]
    await asyncio.sleep(0.1)
    valkey_server.process.kill()
    assert await outcomes(slow, *others) == [RedisConnectionError] * 101
    assert await outcomes(wire.ask("GET", "key")) == [RedisConnectionError]
    valkey_server.process.wait()
    valkey_server.start()
    valkey_server.wait_until_ready()

    assert await wire.ask("GET", "key") == b"value"


async def test_many_restarts_under_load_give_everybody_an_answer_of_his_own(wire: RedisWire, valkey_server: EmbeddedValkey) -> None:
    answered = lost = 0

    async def ask_on(caller: int) -> None:
        nonlocal answered, lost
        for number in range(300):
            word = f"{caller}-{number}"
            try:
                assert await wire.ask("ECHO", word) == word.encode()
                answered += 1
            except RedisConnectionError:
                lost += 1
            await asyncio.sleep(0.005)

    async def restart() -> None:
        for _ in range(3):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(kill_and_start, valkey_server)

    await asyncio.gather(restart(), *(ask_on(caller) for caller in range(20)))

    assert answered > 1000
    assert lost > 0


def kill_and_start(server: EmbeddedValkey) -> None:
    assert server.process is not None
    server.process.kill()
    server.process.wait()
    server.start()
    server.wait_until_ready()


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-5\r\n", b"*99999999999\r\n", b"+fine\r\n+unasked\r\n", b"\x16\x03\x01\x02"])
async def test_garbage_ends_the_connection(garbage: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await read_command(reader)
        writer.write(garbage)
        await reader.read()

    async with fake_server(serve) as wire:
        assert (await outcomes(wire.ask("PING")))[0] in ({b"fine"} if b"fine" in garbage else {InvalidResponse})
        assert (await outcomes(wire.ask("PING")))[0] in ({b"fine"} if b"fine" in garbage else {InvalidResponse})


async def test_an_answer_without_end_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await read_command(reader)
        writer.write(b"$100000000\r\n")
        while True:
            writer.write(b"x" * 1024)
            await writer.drain()

    monkeypatch.setattr("ledger.wire_line.REPLY_BYTES_MAX", 100_000)
    async with fake_server(serve, seconds=5) as wire:
        with pytest.raises(InvalidResponse, match="too long"):
            await wire.ask("PING")


async def test_commands_that_nobody_takes_off_are_refused_beyond_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        await asyncio.sleep(60)

    monkeypatch.setattr("ledger.wire_line.UNSENT_BYTES_MAX", 1_000_000)
    async with fake_server(serve) as wire:
        first = [asyncio.create_task(wire.ask("ECHO", "x" * 1_000_000)) for _ in range(20)]
        await asyncio.sleep(0.1)
        with pytest.raises(RedisConnectionError, match="wait for Redis already"):
            await wire.ask("PING")
        oldest, *younger = await outcomes(*first)
        assert oldest is RedisTimeoutError
        assert set(younger) <= {RedisTimeoutError, RedisConnectionError}  # whose own time was over too, and whose was not


async def test_a_primary_that_became_a_replica_is_left(wire: RedisWire) -> None:
    await wire.ask("PING")
    line = wire._line
    await wire.ask("REPLICAOF", "127.0.0.1", 1)
    with pytest.raises(ReadOnlyError):
        await wire.ask("SET", "key", 1)
    await wire.ask("REPLICAOF", "NO", "ONE")

    assert await wire.ask("SET", "key", 1) == b"OK"
    assert line is not None
    assert line.ended
    assert wire._line is not line


async def test_the_user_of_the_url_is_authenticated(redis_url: str) -> None:
    admin = wire_to(redis_url)
    await admin.ask("ACL", "SETUSER", "books", "on", ">pass word", "~l5:*", "+get", "+select")
    path = redis_url.removeprefix("unix://")
    wire = wire_to(f"unix://books:pass%20word@{path}?db=3&client_name=till")
    assert await wire.ask("GET", "l5:x") is None
    assert b"name=level5" in await admin.ask("CLIENT", "LIST")
    with pytest.raises(ResponseError):
        await wire.ask("GET", "other")
    for wrong in (wire_to(f"unix://books:wrong@{path}"), wire_to(f"unix://:wrong@{path}")):
        with pytest.raises(AuthenticationError) as caught:
            await wrong.ask("GET", "l5:x")
        assert "wrong" not in str(caught.value)
        await wrong.aclose()
    await admin.ask("CONFIG", "SET", "requirepass", "operator")
    bare, named = wire_to(redis_url), wire_to(f"unix://:operator@{path}?db=2&client_name=till")
    with pytest.raises(AuthenticationError, match="required"):
        await bare.ask("GET", "l5:x")
    assert b"name=till" in await named.ask("CLIENT", "INFO")
    assert b"db=2" in await named.ask("CLIENT", "INFO")
    for each in (admin, wire, bare, named):
        await each.aclose()


async def test_tls_is_checked_as_redis_py_would(tmp_path: Path, redis_url: str) -> None:
    store = CertStore.from_store(tmp_path, "mitmproxy", 2048)
    entry = store.get_cert("localhost", [DNSName("localhost")])
    pem = tmp_path / "server.pem"
    pem.write_bytes(entry.cert.to_pem())
    key = tmp_path / "mitmproxy-ca.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_unix_connection(redis_url.removeprefix("unix://"))
        await asyncio.gather(pass_on(reader, outer), pass_on(inner, writer))

    server = await asyncio.start_server(relay, "localhost", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    trusting, distrusting = wire_to(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path}/mitmproxy-ca-cert.pem"), wire_to(f"rediss://localhost:{port}")
    assert await asyncio.gather(*(trusting.ask("ECHO", number) for number in range(100))) == [str(number).encode() for number in range(100)]
    with pytest.raises(RedisConnectionError, match="certificate"):
        await distrusting.ask("PING")
    await trusting.aclose()
    await distrusting.aclose()
    server.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


async def test_a_closed_wire_stays_closed(wire: RedisWire) -> None:
    asking = asyncio.create_task(wire.ask("ECHO", 1))
    await asyncio.sleep(0)
    await wire.aclose()

    assert await outcomes(asking, wire.ask("PING")) == [RedisConnectionError] * 2


async def test_a_server_that_is_away_is_asked_for_no_more_than_its_turn(redis_url: str, valkey_server: EmbeddedValkey) -> None:
    valkey_server.stop()
    wire = wire_to(redis_url)
    dialled = 0
    dial = wire._dial

    async def count() -> object:
        nonlocal dialled
        dialled += 1
        return await dial()

    wire._dial = count  # type: ignore[method-assign, assignment]
    async with asyncio.timeout(20):
        with contextlib.suppress(asyncio.CancelledError):
            for _ in range(4):
                assert set(await outcomes(*(wire.ask("PING") for _ in range(500)))) == {RedisConnectionError}
    assert dialled == 4
    await wire.aclose()


async def test_a_cluster_is_named_as_the_reason() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        for text in (b"MOVED 3999 127.0.0.1:6381", b"MASTERDOWN Link with MASTER is down", b"LOADING Valkey is loading the dataset in memory"):
            await read_command(reader)
            writer.write(b"-%s\r\n" % text)
        await reader.read()

    async with fake_server(serve) as wire:
        with pytest.raises(ResponseError, match="is a cluster"):
            await wire.ask("GET", "key")
        with pytest.raises(ResponseError, match="lost its primary"):
            await wire.ask("GET", "key")
        with pytest.raises(RedisConnectionError, match="loading"):
            await wire.ask("GET", "key")


def test_an_address_does_not_show_its_password() -> None:
    address = WireAddress(password="operator-password", connect_seconds_max=1, command_seconds_max=1)
    assert "operator-password" not in repr(replace(address, username="books"))
