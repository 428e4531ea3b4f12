"""The fast lane: what it serves, what it hands over, what it leaves behind."""

import asyncio
import gc
import json
from collections.abc import Iterator
from contextlib import contextmanager

import mitmproxy.http
import pytest

from addons.answer_reading import AnswerReader
from addons.lane_heads import NotHere, read_request_head
from addons.request_reading import BadChunks, ChunkedBody, SizedBody
from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage


@pytest.fixture
def data_path() -> str:
    """These are the lane's own tests."""
    return "lane"


OURS = ("addons.", "ledger.", "metering.")


@contextmanager
def nothing_left_to_collect(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail where what happens in this block leaves objects of ours that only a garbage collector would end."""
    # Without -O mitmproxy checks every field by catching exceptions, whose frames hold what we look for.
    monkeypatch.setattr(mitmproxy.http.MessageData, "__post_init__", lambda self: None, raising=False)
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield
        gc.collect()
    finally:
        gc.set_debug(0)
        left = {type(found).__qualname__ for found in gc.garbage if type(found).__module__.startswith(OURS)}
        gc.garbage.clear()
    assert left == set()


async def test_a_finished_request_needs_no_garbage_collector(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()
    await stage.messages(account)
    await asyncio.sleep(0.1)

    with nothing_left_to_collect(monkeypatch):
        for _ in range(5):
            assert (await stage.messages(account)).status_code == 200
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("head", ["Connection: close", "Connection: keep-alive"])
async def test_an_ended_connection_needs_no_garbage_collector(stage: Stage, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    account = await stage.open_account()
    body = json.dumps({"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]})
    request = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\n{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    await stage.exchange_raw(request, seconds=1)
    await asyncio.sleep(0.1)

    with nothing_left_to_collect(monkeypatch):
        for _ in range(3):
            assert (await stage.exchange_raw(request, seconds=1)).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    "head",
    [
        b"POST /v1/messages HTTP/1.0\r\nHost: x\r\n\r\n",
        b"POST  /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n",
        b"HEAD /v1/messages HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST http://x/v1/messages HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: x-y\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 05\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close, te\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost : x\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\nHost: x\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\nX: y\r\n\r\n",
        b"POST /v1/messages HTTP/1.1\r\nHost: x\x00\r\n\r\n",
    ],
)
def test_a_head_that_is_not_of_the_plain_kind_is_left_to_others(head: bytes) -> None:
    with pytest.raises(NotHere):
        read_request_head(head)


def test_a_plain_head_is_read_as_it_is() -> None:
    request, length, closes = read_request_head(
        b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nX-One:  two \t\r\nContent-Length: 12\r\nConnection: Close\r\n\r\n"
    )

    assert (request.method, request.path, length, closes) == ("POST", "/v1/messages?beta=true", 12, True)
    assert request.headers.fields == ((b"Host", b"x"), (b"X-One", b"two"), (b"Content-Length", b"12"), (b"Connection", b"Close"))


ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
    "chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nTrailer: z\r\n\r\n", True),
    "interim": (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", True),
    "closing": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", False),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_answer_is_the_same_however_it_is_cut(name: str, size: int) -> None:
    data, reusable = ANSWERS[name]
    reader, body = AnswerReader(), b""

    for at in range(0, len(data), size):
        assert not reader.complete
        reader.feed(data[at : at + size])
        body += reader.take_body()

    assert (body, reader.complete, reader.reusable) == (b"hello", True, reusable)
    assert reader.head is not None
    assert reader.head.status_code == 200


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nhel")
    reader.feed(b"lo")

    assert (reader.complete, reader.take_body(), reader.close(), reader.reusable) == (False, b"hello", True, False)


def test_an_answer_that_stops_short_has_not_ended() -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")

    assert not reader.close()


@pytest.mark.parametrize(
    "data",
    [
        b"what is this\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 199 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n",
        b"HTTP/1.1 099 Early\r\n\r\n",
        b"HTTP/1.0 100 Continue\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_said_so_without_a_quote(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"interim|not valid|switched"):
        AnswerReader().feed(data)


def test_a_second_answer_on_the_same_connection_spoils_it() -> None:
    reader = AnswerReader()

    with pytest.raises(ValueError, match="not valid"):
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nho")

    assert (reader.complete, reader.reusable, reader.take_body()) == (True, False, b"hi")


async def test_requests_of_many_clients_share_one_connection_to_the_provider(stage: Stage) -> None:
    account = await stage.open_account()

    for _ in range(5):
        head = await stage.exchange_raw(
            stage.raw_request(
                account, b'{"model":"claude-sonnet-4-6","max_tokens":5,"messages":[{"role":"user","content":"x"}]}', headers="connection: close\r\n"
            )
        )
        assert head.startswith(b"HTTP/1.1 200")

    assert stage.provider.connections == 1


async def test_a_connection_that_its_provider_has_closed_is_not_used_again(stage: Stage) -> None:
    account = await stage.open_account()
    assert (await stage.messages(account)).status_code == 200
    stage.provider.hang_up()
    async with asyncio.timeout(10):
        while any(stage.master.pool._idle.values()):
            await asyncio.sleep(0.01)

    assert (await stage.messages(account)).status_code == 200
    assert stage.provider.connections == 2


async def test_a_connection_serves_plain_requests_and_then_others(stage: Stage) -> None:
    account = await stage.open_account()
    body = b'{"model":"claude-sonnet-4-6","max_tokens":5,"messages":[{"role":"user","content":"x"}]}'
    other = (
        f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\nKeep-Alive: timeout=5\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )

    received = await stage.exchange_raw(stage.raw_request(account, body) + other.encode() + body)

    assert received.count(b"HTTP/1.1 200") == 2
    assert len(stage.provider.asked) == 2


CHUNKED_BODY = b'{"model":"claude-sonnet-4-6","max_tokens":5,"messages":[{"role":"user","content":"x"}]}'
CHUNKS = b"10;a=b\r\n%s\r\n%x\r\n%s\r\n0\r\nx-trailer: y\r\n\r\n" % (CHUNKED_BODY[:16], len(CHUNKED_BODY) - 16, CHUNKED_BODY[16:])


def chunked_head(account: NewAccount, *, connection: str = "close") -> bytes:
    head = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: {connection}\r\n\r\n"
    return head.encode()


def read_all(body: SizedBody | ChunkedBody, pieces: list[bytes]) -> bytes:
    found = b""
    for piece in pieces:
        body.add(piece)
        while (data := body.next_piece()) is not None:
            found += data
    return found


@pytest.mark.parametrize("cut", range(0, len(CHUNKS), 3))
def test_chunks_cut_anywhere_give_the_same_body_and_leave_what_follows(cut: int) -> None:
    for body, wire in ((ChunkedBody(), CHUNKS), (SizedBody(len(CHUNKED_BODY)), CHUNKED_BODY)):
        data = wire + b"GET /next"

        assert read_all(body, [data[:cut], data[cut:]]) == CHUNKED_BODY
        assert (body.complete, body.rest()) == (True, b"GET /next")


@pytest.mark.parametrize("endless", [b"5;" + b"a" * 200_000, b"0\r\n" + b"x: y\r\n" * 20_000])
def test_framing_that_does_not_end_is_not_kept(endless: bytes) -> None:
    with pytest.raises(BadChunks):
        read_all(ChunkedBody(), [endless[at : at + 4096] for at in range(0, len(endless), 4096)])


async def test_chunked_requests_share_a_connection_with_others_and_leave_as_one_length(stage: Stage) -> None:
    account = await stage.open_account()

    wire = chunked_head(account, connection="keep-alive") + CHUNKS + stage.raw_request(account, CHUNKED_BODY) + chunked_head(account) + CHUNKS
    received = await stage.exchange_raw(wire)

    assert received.count(b"HTTP/1.1 200") == 3
    assert [asked.body for asked in stage.provider.asked] == [CHUNKED_BODY] * 3
    assert {asked.header("transfer-encoding") for asked in stage.provider.asked} == {None}
    assert stage.provider.connections == 1  # which only the lane keeps for the next request
    await stage.settled(account, charges=3)


async def test_a_request_whose_chunks_are_damaged_ends_its_connection_and_costs_nothing(stage: Stage) -> None:
    account = await stage.open_account()

    received = await stage.exchange_raw(chunked_head(account) + b"5\r\nhello\r\nzz\r\n" + stage.raw_request(account, CHUNKED_BODY))

    assert b"HTTP/1.1 200" not in received
    assert stage.provider.asked == []
    await stage.settled(account, charges=0)


async def test_control_hears_a_chunked_request_whole(stage: Stage) -> None:
    wire = b"POST /v1/usage HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + CHUNKS

    await stage.exchange_raw(wire)

    (asked,) = stage.control.asked
    assert asked.body == CHUNKED_BODY
