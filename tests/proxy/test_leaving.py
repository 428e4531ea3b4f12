"""Clients that hang up: what nobody has seen yet is read to its end and charged as it was, what was shown is paid as far as it came."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import Asked, answer, chat_chunks, chunk, event, message, says, stream_head, streams

MESSAGES = ("/v1/messages", {"model": "claude-sonnet-4-6", "max_tokens": 4000, "messages": [{"role": "user", "content": "Say hi"}]})
CHAT = ("/v1/chat/completions", {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "Say hi"}]})
RESPONSES = ("/v1/responses", {"model": "gpt-5.2", "max_output_tokens": 4000, "input": "Say hi"})
THINKING: dict[str, Any] = {"thinking": {"type": "enabled", "budget_tokens": 3000}}

Wanted = tuple[str, dict[str, Any]]


async def leave(stage: Stage, account: NewAccount, wanted: Wanted, *, until: bytes = b"", after: float = 0.0, **fields: Any) -> None:
    """Send a request, wait for these bytes of its answer, then hang up."""
    path, body = wanted
    reader, writer = await stage.connect()
    writer.write(stage.raw_request(account, json.dumps(body | fields).encode(), path=path))
    received = b""
    while until not in received:
        received += await asyncio.wait_for(reader.read(65536), 5)
    await asyncio.sleep(after)
    writer.close()


def held_back(events: list[bytes], *, shown: int) -> Callable[..., Any]:
    """A script that streams `shown` events, waits until the client can have gone, and then streams the rest if anybody still listens."""

    async def script(asked: Asked, writer: Any) -> None:
        writer.write(stream_head() + b"".join(chunk(one) for one in events[:shown]))
        await writer.drain()
        await asyncio.sleep(0.5)
        if not writer.is_closing():
            writer.write(b"".join(chunk(one) for one in events[shown:]) + b"0\r\n\r\n")

    return script


def delta(index: int, **content: str) -> bytes:
    return event("content_block_delta", {"type": "content_block_delta", "index": index, "delta": content})


def thinking_events() -> list[bytes]:
    """A message that thinks for 3,000 tokens, of which a stream shows a few words, and then says one."""
    begun = {**message(input_tokens=1000, output_tokens=1), "content": [], "stop_reason": None}
    thinking, text = {"type": "thinking", "thinking": "", "signature": ""}, {"type": "text", "text": ""}
    return [
        event("message_start", {"type": "message_start", "message": begun}),
        event("content_block_start", {"type": "content_block_start", "index": 0, "content_block": thinking}),
        delta(0, type="thinking_delta", thinking="Let me see."),
        delta(0, type="thinking_delta", thinking="A summary."),
        delta(0, type="signature_delta", signature="s" * 12_000),
        event("content_block_stop", {"type": "content_block_stop", "index": 0}),
        event("content_block_start", {"type": "content_block_start", "index": 1, "content_block": text}),
        delta(1, type="text_delta", text="word"),
        event("content_block_stop", {"type": "content_block_stop", "index": 1}),
        event("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 3_010}}),
        event("message_stop", {"type": "message_stop"}),
    ]


def response_events() -> list[bytes]:
    """A response of a model that reasons without showing it."""
    begun: dict[str, Any] = {"id": "resp_1", "object": "response", "status": "in_progress", "model": "gpt-5.2", "output": [], "usage": None}
    usage = {"input_tokens": 1000, "output_tokens": 2_500, "total_tokens": 3_500, "output_tokens_details": {"reasoning_tokens": 2_490}}
    return [
        event("response.created", {"type": "response.created", "response": begun}),
        event("response.in_progress", {"type": "response.in_progress", "response": begun}),
        event("response.output_text.delta", {"type": "response.output_text.delta", "item_id": "msg_1", "delta": "word"}),
        event("response.completed", {"type": "response.completed", "response": begun | {"status": "completed", "usage": usage}}),
    ]


@pytest.mark.parametrize("shown", [1, 2, 3, 4, 5])
async def test_a_client_that_leaves_while_a_model_thinks_pays_all_of_its_thinking(stage: Stage, shown: int) -> None:
    account = await stage.open_account()
    events = thinking_events()
    stage.provider.script = held_back(events, shown=shown)

    await leave(stage, account, MESSAGES, until=events[shown - 1][-40:], stream=True, **THINKING)

    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].input_tokens, record.lines[0].output_tokens) == (False, 1000, 3_010)


async def test_once_it_speaks_a_client_that_leaves_pays_what_was_thought_and_said(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = held_back(thinking_events(), shown=8)

    await leave(stage, account, MESSAGES, until=b"word", stream=True, **THINKING)

    await asyncio.wait_for(stage.provider.closed.wait(), 2)
    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].input_tokens) == (True, 1000)
    assert record.lines[0].output_tokens >= 2_900


@pytest.mark.parametrize("shown", [1, 2, 3])
async def test_a_client_that_leaves_a_model_which_reasons_unseen_pays_the_whole_usage(stage: Stage, shown: int) -> None:
    account = await stage.open_account()
    events = response_events()
    stage.provider.script = held_back(events, shown=shown)

    await leave(stage, account, RESPONSES, until=events[shown - 1][-40:], stream=True)

    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].input_tokens, record.lines[0].output_tokens) == (False, 1000, 2_500)


async def test_a_client_that_leaves_before_the_first_word_of_a_chat_pays_the_whole_usage(stage: Stage) -> None:
    account = await stage.open_account()
    role = {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    stage.provider.script = held_back([event(None, role), *chat_chunks(prompt=100, completion=40)], shown=1)

    await leave(stage, account, CHAT, until=b"assistant", stream=True)

    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].input_tokens, record.lines[0].output_tokens) == (False, 100, 40)


async def test_a_client_that_leaves_an_unstreamed_response_pays_its_usage(stage: Stage) -> None:
    account = await stage.open_account()
    usage = {"input_tokens": 1000, "output_tokens": 200, "total_tokens": 1200}

    async def late(asked: Asked, writer: Any) -> None:
        await asyncio.sleep(0.4)
        writer.write(answer({"id": "resp_1", "object": "response", "status": "incomplete", "model": "gpt-5.2", "output": [], "usage": usage}))

    stage.provider.script = late

    await leave(stage, account, RESPONSES, after=0.2)

    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].output_tokens) == (False, 200)


async def test_a_turn_that_is_tried_thirty_times_holds_nothing_in_between(stage: Stage) -> None:
    account = await stage.open_account(1_000_000)
    stage.provider.script = says(answer({"error": {"message": "overloaded", "type": "server_error"}}, status=503))
    path, body = RESPONSES

    for _ in range(30):
        response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}{path}", json=body)
        assert (response.status_code, response.headers["x-balance-remaining"]) == (503, "1000000")
        assert await stage.standing(account) == (1_000_000, 0)
    await stage.settled(account, charges=0)


async def test_an_attempt_that_breaks_off_before_its_first_byte_holds_nothing(stage: Stage) -> None:
    account = await stage.open_account(1_000_000)
    stage.provider.script = says(close=True)
    path, body = RESPONSES

    for _ in range(3):
        response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}{path}", json=body | {"stream": True})
        assert response.status_code == 502
        assert await stage.standing(account) == (1_000_000, 0)
    stage.provider.script = streams(response_events())
    assert (await stage.client.post(f"{stage.url}/proxy/{account.api_token}{path}", json=body | {"stream": True})).status_code == 200
    await stage.settled(account, charges=1)
