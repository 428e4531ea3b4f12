"""Providers that do what they should not: nothing of it is free, names the operator, or leaves a client waiting."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import LAST_CHUNK, Asked, answer, chunk, event, message, message_events, says, stream_head

BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}


async def ask_raw(stage: Stage, request: bytes, *, until: bytes, seconds: float = 5.0) -> bytes:
    """Return what comes up to `until`, or to the end of the connection."""
    reader, writer = await stage.connect()
    writer.write(request)
    received = b""
    async with asyncio.timeout(seconds):
        while not received.endswith(until) and (piece := await reader.read(65536)):
            received += piece
    writer.transport.abort()
    return received


@pytest.mark.parametrize("chunked", [True, False])
async def test_an_error_about_the_operator_is_hidden_however_long_it_is(stage: Stage, chunked: bool) -> None:
    account = await stage.open_account()
    error = {"type": "error", "error": {"type": "authentication_error", "message": "no such key of Operator", "more": "x" * 5_000_000}}
    raw = json.dumps(error).encode()
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {len(raw)}"
    head = f"HTTP/1.1 401 X\r\ncontent-type: application/json\r\nanthropic-organization-id: operator\r\n{framing}\r\n\r\n"
    stage.provider.script = says(head.encode(), chunk(raw) + LAST_CHUNK if chunked else raw)

    response = await stage.messages(account)

    assert response.status_code == 502
    assert "anthropic-organization-id" not in response.headers
    assert b"Operator" not in response.content
    await stage.settled(account, charges=0)


async def test_a_redirect_is_not_passed_on_however_long_it_is(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(b"x" * 5_000_000, status=302, more="location: https://elsewhere.example/\r\n"))

    response = await stage.messages(account)

    assert (response.status_code, response.headers.get("location")) == (502, None)
    await stage.settled(account, charges=0)


async def test_a_limit_that_names_the_operators_organisation_is_told_without_the_name(stage: Stage) -> None:
    account = await stage.open_account()
    text = "Rate limit reached for gpt-4o in organization org-AbCdEf0123456789AbCdEf01 on tokens per min. Limit: 30000."
    stage.provider.script = says(answer({"error": {"message": text, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}, status=429))

    response = await stage.client.post(
        f"{stage.url}/proxy/{account.api_token}/v1/chat/completions",
        json={"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]},
    )

    assert response.status_code == 429
    assert response.json()["error"]["message"] == text.replace("AbCdEf0123456789AbCdEf01", "hidden")


async def test_an_answer_too_large_to_keep_reaches_an_old_client_without_chunks(stage: Stage) -> None:
    account = await stage.open_account()
    raw = json.dumps(message(text="x" * 5_000_000)).encode()
    stage.provider.script = says(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(raw) + LAST_CHUNK)
    request = stage.raw_request(account, json.dumps(BODY).encode()).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)

    head, _, body = (await ask_raw(stage, request, until=b"never")).partition(b"\r\n\r\n")

    assert b"chunked" not in head.lower()
    assert body == raw
    await stage.settled(account, charges=1)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
async def test_an_answer_that_is_compressed_all_the_same_arrives_whole_and_costs_what_was_held_for_it(stage: Stage, stream: bool) -> None:
    account = await stage.open_account()
    raw = gzip.compress(b"".join(message_events()) if stream else json.dumps(message()).encode())
    kind = "text/event-stream" if stream else "application/json"
    stage.provider.script = says(answer(raw, kind=kind, more="content-encoding: gzip\r\n"))

    response = await stage.messages(account, stream=stream)

    assert response.content == gzip.decompress(raw)
    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.amount) == (True, record.hold)


@pytest.mark.parametrize("pings", [False, True], ids=["silent", "pinging"])
async def test_a_stream_whose_provider_does_not_end_it_after_its_terminal_event_is_ended(make_stage: Callable[..., Any], pings: bool) -> None:
    stage: Stage = await make_stage(gateway={"stall_seconds_max": 0.5})
    account, left = await stage.open_account(), asyncio.Event()

    async def linger(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + b"".join(map(chunk, message_events())))
        try:
            for _ in range(100):
                await writer.drain()
                await asyncio.sleep(0.1)
                if pings:
                    writer.write(chunk(event("ping", {"type": "ping"})))
        except ConnectionError:
            left.set()

    stage.provider.script = linger
    request = stage.raw_request(account, json.dumps(BODY | {"stream": True}).encode())
    for _ in range(2):  # the second time over a provider connection of its own: the first was not fit to be used again
        received = await ask_raw(stage, request, until=b"\r\n0\r\n\r\n")

        assert b"message_stop" in received
        assert received.endswith(b"\r\n0\r\n\r\n")
    assert stage.provider.connections == 2
    await stage.settled(account, charges=2)
    if pings:
        await asyncio.wait_for(left.wait(), 5)
