"""Who takes nothing of what is written to it is not waited for in memory: nobody reads on for it, and everybody goes on once it matters no more."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest

from addons.wire import Wire
from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import LAST_CHUNK, Asked, answer, chunk, message, message_events, says, stream_head

BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
LARGE = json.dumps(BODY | {"messages": [{"role": "user", "content": "x" * 12_000_000}]}).encode()
REFUSED = b"GET /proxy/nobody/v1/models HTTP/1.1\r\nHost: x\r\n\r\n"
FAILURE = {"type": "error", "error": {"type": "request_too_large", "message": "too large"}}

type Refuse = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def unread_bytes(stage: Stage) -> int:
    """What waits in the gateway to be written to its clients."""
    ios: list[Any] = [handler.transports.get(handler.client) for handler in stage.master.proxyserver.connections.values()]
    return sum(io.writer.get_write_buffer_size() for io in ios if io is not None and io.writer is not None)


@pytest.fixture
async def make_unread(make_stage: Callable[..., Any]) -> AsyncIterator[Callable[[Refuse], Awaitable[Stage]]]:
    """Make a gateway whose provider reads the heads of requests alone, and answers as it is told."""
    servers: list[asyncio.Server] = []

    async def make(refuse: Refuse) -> Stage:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
            await refuse(reader, writer)

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0, limit=1024))
        port = servers[0].sockets[0].getsockname()[1]
        stage: Stage = await make_stage(providers={"anthropic": {"base_url": f"http://127.0.0.1:{port}", "api_key": "key-one"}})
        return stage

    yield make
    for server in servers:
        server.close()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Return the head of the next answer, its body read too."""
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
    return head


async def ask_for_too_much(stage: Stage) -> tuple[NewAccount, asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a large request to a provider that refuses it; return whose it was, and its connection, which may carry another."""
    account = await stage.open_account(100_000_000_000)
    reader, writer = await stage.connect()
    writer.write(stage.raw_request(account, LARGE))
    assert b" 413 " in await read_answer(reader)
    return account, reader, writer


async def test_refusals_that_nobody_reads_do_not_pile_up(stage: Stage) -> None:
    _, writer = await stage.connect()
    most = 0
    for _ in range(15):
        if writer.transport.get_write_buffer_size() < 50_000:
            writer.write(REFUSED * 1000)
        await asyncio.sleep(0.1)
        most = max(most, unread_bytes(stage))
    writer.transport.abort()

    assert most < 1_000_000


async def test_whole_answers_that_nobody_reads_do_not_pile_up(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(message(text="x" * 1_000_000)))
    reader, writer = await stage.connect()
    reader._transport.pause_reading()  # type: ignore[attr-defined]

    writer.write(stage.raw_request(account, json.dumps(BODY).encode()) * 40)
    most = 0
    for _ in range(15):
        await asyncio.sleep(0.1)
        most = max(most, unread_bytes(stage))
    asked = len(stage.provider.asked)

    assert most < 5_000_000
    assert asked < 20
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(40):
        assert b" 200 " in await read_answer(reader)
    writer.close()
    await stage.settled(account, charges=40, seconds=20)


async def test_refusals_that_are_read_late_have_all_been_made(stage: Stage) -> None:
    reader, writer = await stage.connect()
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    asked = 5_000
    writer.write(REFUSED * asked)
    await asyncio.sleep(1)
    reader._transport.resume_reading()  # type: ignore[attr-defined]

    received = 0
    async with asyncio.timeout(60):
        while received < asked:
            await reader.readuntil(b"HTTP/1.1 401")
            received += 1
    writer.close()


@pytest.mark.parametrize("leaves", [False, True], ids=["provider-waits", "provider-leaves"])
async def test_a_provider_that_answers_without_taking_the_body_leaves_the_clients_connection_usable(
    make_unread: Callable[[Refuse], Awaitable[Stage]], leaves: bool
) -> None:
    release = asyncio.Event()

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(FAILURE, status=413, more="connection: close\r\n" if leaves else ""))
        await writer.drain()
        await asyncio.sleep(0.3)
        if not leaves:
            await release.wait()
        writer.transport.abort()

    stage = await make_unread(refuse)
    account, reader, writer = await ask_for_too_much(stage)
    await asyncio.sleep(0.5 if leaves else 0)

    writer.write(REFUSED)
    assert b" 401 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    release.set()
    writer.close()
    await stage.settled(account, charges=0)


async def test_a_slow_client_that_leaves_a_model_which_reasons_unseen_pays_its_usage_and_not_its_hold(make_stage: Callable[..., Any]) -> None:
    stage: Stage = await make_stage(gateway={"read_on_seconds_max": 5.0})
    account = await stage.open_account(100_000_000_000)
    flooding = asyncio.Event()
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "o4-mini"}

    def piece(choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> bytes:
        return b"data: " + json.dumps({**base, "choices": choices, "usage": usage}).encode() + b"\n\n"

    delta = piece([{"index": 0, "delta": {"content": "x" * 50_000}, "finish_reason": None}])
    end = piece([{"index": 0, "delta": {}, "finish_reason": "stop"}]) + piece([], {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150})

    async def flood(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head())
        for number in range(300):  # 15 MB: more than the buffers between them hold
            writer.write(chunk(delta))
            if number == 200:
                flooding.set()
        writer.write(chunk(end + b"data: [DONE]\n\n") + LAST_CHUNK)
        await writer.drain()

    stage.provider.script = flood
    body = {"model": "o4-mini", "stream": True, "max_completion_tokens": 100_000, "messages": [{"role": "user", "content": "hi"}]}
    _, writer = await stage.connect()
    writer.write(stage.raw_request(account, json.dumps(body).encode(), path="/v1/chat/completions"))
    await asyncio.wait_for(flooding.wait(), 10)
    await asyncio.sleep(0.5)
    writer.transport.abort()

    [record] = await stage.settled(account, charges=1, seconds=12)
    assert (record.estimated, record.lines[0].output_tokens) == (False, 50)


async def test_what_a_provider_did_not_take_is_dropped_once_nobody_needs_it(
    make_unread: Callable[[Refuse], Awaitable[Stage]], monkeypatch: pytest.MonkeyPatch, data_path: str
) -> None:
    release, closed = asyncio.Event(), list[Wire]()
    close = Wire.close

    def note(wire: Wire) -> None:
        closed.append(wire)
        close(wire)

    monkeypatch.setattr(Wire, "close", note)

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(FAILURE, status=413))
        await release.wait()
        writer.transport.abort()

    stage = await make_unread(refuse)
    _, _, writer = await ask_for_too_much(stage)
    writer.transport.abort()
    await asyncio.sleep(0.5)

    assert bool(closed) == (data_path == "lane")  # the other path has no such wires
    assert sum(wire.transport.get_write_buffer_size() for wire in closed) == 0
    release.set()


async def test_a_client_that_never_takes_the_last_answer_is_waited_for_a_while_and_no_longer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("addons.client_connections.LAST_WORDS_SECONDS_MAX", 0.3)
    account = await stage.open_account()
    stage.provider.script = says(answer(message(text="x" * 4_000_000)))  # kept back until it is charged
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect(("127.0.0.1", stage.port))
        reader, writer = await asyncio.open_connection(sock=small.dup())
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(0.1)
    [handler] = stage.master.proxyserver.connections.values()
    connection: Any = handler.transports[handler.client].writer

    writer.write(stage.raw_request(account, json.dumps(BODY).encode(), headers="connection: close\r\n"))
    await stage.settled(account, charges=1)
    async with asyncio.timeout(10):
        while connection.get_extra_info("socket").fileno() >= 0:
            await asyncio.sleep(0.02)
    assert connection.get_write_buffer_size() == 0
    writer.transport.abort()


async def test_an_http2_client_that_opens_no_window_slows_its_provider_and_gets_all_in_the_end(stage: Stage) -> None:
    account = await stage.open_account(100_000_000_000)
    sent, filler = 0, b": " + b"x" * 60_000 + b"\n\n"
    first, *rest = message_events()

    async def flood(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(stream_head() + chunk(first))
        for _ in range(400):  # 24 MB: more than the buffers between them hold
            writer.write(chunk(filler))
            await writer.drain()
            sent += len(filler)
        writer.write(b"".join(map(chunk, rest)) + LAST_CHUNK)

    stage.provider.script = flood
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.settings.forward.port)
    credentials = base64.b64encode(f"{account.api_token}:".encode()).decode()
    writer.write(f"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com:443\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
    assert b" 200 " in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    trust = stage.trust()
    trust.set_alpn_protocols(["h2"])
    await writer.start_tls(trust, server_hostname="api.anthropic.com")
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    client.local_settings = h2.settings.Settings(client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1000})
    client.initiate_connection()
    fields = [(":method", "POST"), (":path", "/v1/messages"), (":scheme", "https"), (":authority", "api.anthropic.com"), ("content-type", "application/json")]
    client.send_headers(1, fields)
    client.send_data(1, json.dumps(BODY | {"stream": True}).encode(), end_stream=True)
    writer.write(client.data_to_send())
    received, opened, ended, stopped_at = b"", False, False, -1
    async with asyncio.timeout(40):
        while not ended:
            try:
                data = await asyncio.wait_for(reader.read(65536), 0.5)
            except TimeoutError:
                assert not opened
                if sent == stopped_at:
                    assert sent < 16_000_000
                    opened = True
                    client.increment_flow_control_window(100_000_000)
                    client.increment_flow_control_window(100_000_000, stream_id=1)
                    writer.write(client.data_to_send())
                stopped_at = sent
                continue
            for happened in client.receive_data(data):
                received += happened.data if isinstance(happened, h2.events.DataReceived) else b""
                ended = ended or isinstance(happened, h2.events.StreamEnded)
            writer.write(client.data_to_send())
    writer.transport.abort()

    assert received == first + filler * 400 + b"".join(rest)
    await stage.settled(account, charges=1)
