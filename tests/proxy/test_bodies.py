"""Bodies of requests: they come in time, and whoever sends one has room for it that is nobody else's."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.gateway import Stage

BODY = json.dumps({"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}).encode()


def head_of(token: str, framing: str) -> bytes:
    return f"POST /proxy/{token}/v1/messages HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\n{framing}\r\n\r\n".encode()


@pytest.mark.parametrize("size", [50_000, 500_000], ids=["small", "large"])
@pytest.mark.parametrize("trickles", [False, True], ids=["silent", "trickling"])
async def test_a_body_that_does_not_come_in_time_is_refused(make_stage: Callable[..., Any], size: int, trickles: bool) -> None:
    stage: Stage = await make_stage(gateway={"body_seconds_max": 0.5})
    account = await stage.open_account()
    reader, writer = await stage.connect()
    writer.write(head_of(account.api_token, f"content-length: {size}") + BODY[:20])

    async def trickle() -> None:
        while trickles:
            await asyncio.sleep(0.1)
            writer.write(b" ")

    trickling = asyncio.create_task(trickle())
    try:
        answered = await asyncio.wait_for(reader.readuntil(b"\r\n"), 0.5 + size / (32 * 1024) + 5)
    finally:
        trickling.cancel()
        writer.transport.abort()

    assert b" 408 " in answered
    assert stage.provider.asked == []
    await stage.settled(account, charges=0)


async def test_a_stranger_cannot_use_up_an_accounts_room_for_bodies(make_stage: Callable[..., Any]) -> None:
    stage: Stage = await make_stage(gateway={"buffered_bytes_max": 400_000})  # of which an account may have a quarter
    account = await stage.open_account()
    last = account.api_token[-1]
    forged = account.api_token[:-1] + ("a" if last != "a" else "b")  # the account that it claims stands in it; its secret is wrong
    writers = []
    for _ in range(3):
        _, writer = await stage.connect()
        writer.write(head_of(forged, "content-length: 50000") + b"x" * 49_990)
        writers.append(writer)
    await asyncio.sleep(0.3)

    response = await stage.messages(account)

    for writer in writers:
        writer.transport.abort()
    assert response.status_code == 200


async def test_a_body_that_is_too_large_by_its_own_word_is_refused_before_anybody_is_asked(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(type(stage.assembly.gateway._admission), "authenticate", lambda _, exchange: asked.append(exchange))
    account = await stage.open_account()
    reader, writer = await stage.connect()

    writer.write(head_of(account.api_token, "content-length: 2000000000"))

    assert b" 413 " in await asyncio.wait_for(reader.readuntil(b"\r\n"), 5)
    assert asked == []
    writer.transport.abort()
