"""HTTP as it may come: smuggling, odd framing, interim answers, trailers, large answers, slow readers."""

import asyncio
import json

import pytest

from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import LAST_CHUNK, Asked, answer, chunk, message, message_events, says, stream_head

BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
RAW = json.dumps(BODY).encode()


@pytest.mark.parametrize(
    "headers",
    [
        b"x-a: b\rContent-Length: 9\r\n",
        b"x-a: b\0c\r\n",
        b"x-a: b\r\n folded\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Content-Length: 5\r\nContent-Length: 5\r\n",
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: +5\r\n",
        b"x-a : b\r\n",
    ],
)
async def test_ambiguous_heads_are_refused_and_nothing_is_sent(stage: Stage, headers: bytes) -> None:
    account = await stage.open_account()
    head = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\n".encode()

    received = await stage.exchange_raw(head + headers + b"\r\nhello", seconds=3)

    assert received.startswith(b"HTTP/1.1 400")
    assert b"application/json" in received
    assert b"<html" not in received
    assert stage.provider.asked == []
    await stage.settled(account, charges=0)


@pytest.mark.parametrize(
    "line", ["POST http://evil.example/v1/messages HTTP/1.1", "POST /v1/messages HTTP/1.2", "PRI * HTTP/2.0", "CONNECT evil.example:443 HTTP/1.1"]
)
async def test_other_request_lines_never_reach_anybody(stage: Stage, line: str) -> None:
    received = await stage.exchange_raw(f"{line}\r\nHost: evil.example\r\n\r\n".encode(), seconds=3)

    assert received.startswith(b"HTTP/1.1 4")
    assert stage.provider.asked == []
    assert stage.control.asked == []


async def test_a_head_without_end_is_431(stage: Stage) -> None:
    received = await stage.exchange_raw(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-a: " + b"a" * 70_000, seconds=3)

    assert received.startswith(b"HTTP/1.1 431")


async def test_garbage_is_a_400_in_json(stage: Stage) -> None:
    received = await stage.exchange_raw(b"garbage\r\n\r\n", seconds=3)

    assert received.startswith(b"HTTP/1.1 400")
    assert b"<html" not in received


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 2])
async def test_interim_answers_are_not_taken_for_the_answer(stage: Stage, interim: bytes) -> None:
    account = await stage.open_account()
    stage.provider.script = says(interim, answer(message(input_tokens=7)), pause=0.05)

    response = await stage.messages(account)

    assert (response.status_code, response.json()["usage"]["input_tokens"]) == (200, 7)
    await stage.settled(account, charges=1)


async def test_a_provider_that_switches_protocols_is_a_502(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")

    response = await stage.messages(account)

    assert response.status_code == 502
    await stage.settled(account, charges=0)


@pytest.mark.parametrize(
    "said",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"a" * 300_000,
        b"HTTP/1.1 200 OK\r\nx: a\r\n folded\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 5\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        b"",
    ],
)
async def test_a_provider_that_does_not_speak_http_is_a_502_that_quotes_nothing(stage: Stage, said: bytes) -> None:
    account = await stage.open_account()
    stage.provider.script = says(said, close=True)

    response = await stage.messages(account)

    assert response.status_code == 502
    assert response.json()["type"] == "error"
    assert "garbage" not in response.text
    await stage.settled(account, charges=0)


async def test_after_an_answer_whose_head_is_refused_the_connection_goes_on(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    account = await stage.open_account()
    stage.provider.script = says(b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n" + LAST_CHUNK)
    two = stage.raw_request(account, RAW) + stage.raw_request(account, RAW, headers="Connection: close\r\n")

    received = await stage.exchange_raw(two)

    assert received.count(b"HTTP/1.1 502") == 2
    assert [record for record in caplog.records if "crashed" in record.message] == []
    await stage.settled(account, charges=0)


async def test_an_old_provider_is_no_reason_to_speak_old_http_to_the_client(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events()
    stage.provider.script = says(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", *events, close=True)

    received = await stage.exchange_raw(stage.raw_request(account, json.dumps(BODY | {"stream": True}).encode(), headers="Connection: close\r\n"))

    assert received.startswith(b"HTTP/1.1 200")
    assert b"transfer-encoding: chunked\r\n" in received
    await stage.settled(account, charges=1)


async def test_what_came_before_an_answer_went_wrong_is_charged(stage: Stage) -> None:
    account = await stage.open_account()
    raw = json.dumps(message(input_tokens=1000)).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    stage.provider.script = says(head + chunk(raw) + b"0\r\nx\0: y\r\n\r\n", close=True)

    response = await stage.messages(account)

    assert response.status_code == 502
    [record] = await stage.settled(account, charges=1)
    assert (record.lines[0].input_tokens, record.estimated) == (1000, False)


async def test_a_wish_to_close_is_heard_in_any_case(stage: Stage) -> None:
    account = await stage.open_account()

    received = await stage.exchange_raw(stage.raw_request(account, RAW, headers="Connection: CLOSE\r\n") + stage.raw_request(account, RAW), seconds=30)

    assert received.count(b"HTTP/1.1 200") == 1
    await stage.settled(account, charges=1)


async def test_a_redirect_is_not_followed(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(b"", status=307, more="location: http://evil.example/\r\n"))

    response = await stage.messages(account)

    assert response.status_code == 502
    assert "location" not in response.headers
    await stage.settled(account, charges=0)


async def test_trailers_in_an_answer_do_no_harm(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events()
    stage.provider.script = says(stream_head(), *(chunk(one) for one in events), b"0\r\nx-trailer: 1\r\n\r\n")

    response = await stage.messages(account, stream=True)

    assert response.content == b"".join(events)
    await stage.settled(account, charges=1)


async def test_trailers_in_a_request_do_no_harm(stage: Stage) -> None:
    account = await stage.open_account()
    head = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()

    received = await stage.exchange_raw(head + chunk(RAW) + b"0\r\nx-trailer: 1\r\n\r\n")

    assert received.startswith(b"HTTP/1.1 200")
    await stage.settled(account, charges=1)


async def test_a_chunked_whole_answer_leaves_with_its_exact_balance(stage: Stage) -> None:
    account = await stage.open_account()
    raw = json.dumps(message(input_tokens=1000)).encode()
    stage.provider.script = says(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n", chunk(raw[:50]), chunk(raw[50:]), LAST_CHUNK
    )

    response = await stage.messages(account)

    assert response.json()["usage"]["input_tokens"] == 1000
    assert response.headers["x-balance-remaining"] == str((await stage.standing(account))[0])
    await stage.settled(account, charges=1)


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_answer_too_large_to_keep_is_relayed_and_charged(stage: Stage, chunked: bool) -> None:
    account = await stage.open_account()
    raw = json.dumps(message(input_tokens=1000, text="x" * 6_000_000)).encode()
    whole = answer(raw)
    if chunked:
        whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(raw) + LAST_CHUNK
    stage.provider.script = says(whole)

    response = await stage.messages(account)

    assert response.content == raw
    [record] = await stage.settled(account, charges=1)
    assert (record.lines[0].input_tokens, record.estimated) == (1000, False)


async def test_events_leave_as_they_come(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events()
    gate = asyncio.Event()

    async def wait(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + b"".join(chunk(one) for one in events[:3]))
        await gate.wait()
        writer.write(b"".join(chunk(one) for one in events[3:]) + LAST_CHUNK)

    stage.provider.script = wait
    received = b""
    async with asyncio.timeout(5):
        async with stage.client.stream("POST", f"{stage.url}/proxy/{account.api_token}/v1/messages", json=BODY | {"stream": True}) as response:
            async for piece in response.aiter_raw():
                received += piece
                if received == b"".join(events[:3]):
                    gate.set()

    assert received == b"".join(events)


async def test_a_slow_reader_slows_the_provider(stage: Stage) -> None:
    account = await stage.open_account()
    sent = 0
    filler = b": " + b"x" * 60_000 + b"\n\n"

    async def flood(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(stream_head() + b"".join(chunk(one) for one in message_events()[:3]))  # with its first word: else it would be read on
        while sent < 200_000_000:
            writer.write(chunk(filler))
            await writer.drain()
            sent += len(filler)

    stage.provider.script = flood
    _, writer = await stage.connect()
    writer.write(stage.raw_request(account, json.dumps(BODY | {"stream": True}).encode()))
    stopped_at = -1
    async with asyncio.timeout(30):
        while sent != stopped_at or not sent:  # until it stands still for a while
            stopped_at = sent
            await asyncio.sleep(0.75)
    assert sent < 50_000_000
    writer.close()
    await stage.settled(account, charges=1)


async def test_an_old_client_gets_a_body_to_the_end_of_the_connection(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events()
    stage.provider.script = says(stream_head(), *(chunk(one) for one in events), LAST_CHUNK)
    raw = json.dumps(BODY | {"stream": True}).encode()
    head = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.0\r\nHost: x\r\nContent-Length: {len(raw)}\r\n\r\n".encode()

    received = await stage.exchange_raw(head + raw)

    assert received.endswith(b"\r\n\r\n" + b"".join(events))
    assert b"chunked" not in received
    await stage.settled(account, charges=1)


async def test_a_client_that_wants_to_close_is_closed(stage: Stage) -> None:
    account = await stage.open_account()

    received = await asyncio.wait_for(stage.exchange_raw(stage.raw_request(account, RAW, headers="Connection: close\r\n"), seconds=30), 5)

    assert received.startswith(b"HTTP/1.1 200")


async def test_empty_lines_before_a_request_are_skipped_however_many(stage: Stage) -> None:
    account = await stage.open_account()
    request = stage.raw_request(account, RAW, headers="Connection: close\r\n")

    received = await asyncio.wait_for(stage.exchange_raw(b"\r\n" + b"\n" * 500_000 + request, seconds=30), 10)

    assert received.startswith(b"HTTP/1.1 200")
    await stage.settled(account, charges=1)


async def test_pipelined_requests_are_answered_in_order(stage: Stage) -> None:
    account = await stage.open_account()
    two = stage.raw_request(account, RAW) + stage.raw_request(account, RAW, headers="Connection: close\r\n")

    received = await stage.exchange_raw(two)

    assert received.count(b"HTTP/1.1 200") == 2
    await stage.settled(account, charges=2)


async def test_a_provider_that_closes_between_requests_is_dialled_again(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(message(), more="connection: close\r\n"), close=True)

    for _ in range(3):
        assert (await stage.messages(account)).status_code == 200

    assert stage.provider.connections == 3
    await stage.settled(account, charges=3)


async def test_a_client_that_expects_100_gets_it_once_it_is_known(stage: Stage) -> None:
    account = await stage.open_account()
    reader, writer = await stage.connect()
    whole = stage.raw_request(account, RAW, headers="Expect: 100-continue\r\n")
    head, _, body = whole.partition(b"\r\n\r\n")
    writer.write(head + b"\r\n\r\n")
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)).startswith(b"HTTP/1.1 100")
    writer.write(body)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 3)).startswith(b"HTTP/1.1 200")
    writer.close()
    assert stage.provider.asked[0].header("expect") is None
    await stage.settled(account, charges=1)
