"""What of a request stays in memory while its answer is under way. An agent sends its whole history each time, and a stream may run for minutes."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import Asked, RawProvider, Script, chunk, message_events, stream_head

HISTORY_BYTES = 1_500_000
OURS = ("/addons/", "/ledger/", "/metering/", "/mitmproxy/")


@pytest.fixture
def kept() -> Iterator[Callable[[], int]]:
    """How many bytes of large blocks the gateway's own code has made that are still there."""

    def large_blocks() -> int:
        gc.collect()
        traces = tracemalloc.take_snapshot().traces
        return sum(trace.size for trace in traces if trace.size > HISTORY_BYTES // 20 and any(part in trace.traceback[0].filename for part in OURS))

    tracemalloc.start()
    yield large_blocks
    tracemalloc.stop()


@pytest.fixture
async def upstream() -> AsyncIterator[RawProvider]:
    provider = RawProvider()
    await provider.start()
    yield provider
    await provider.stop()


def holds_after_its_first_event(go_on: asyncio.Event, begun: asyncio.Event) -> Script:
    """A provider that sends the head and the first event of a stream, and all else when it is told to."""
    first, *rest = message_events()

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        asked.body = b""
        writer.write(stream_head() + chunk(first))
        await writer.drain()
        begun.set()
        await go_on.wait()
        writer.write(b"".join(map(chunk, rest)) + chunk(b""))

    return script


@pytest.mark.parametrize("retries", [0, 2], ids=["sent-once", "may-be-sent-again"])
async def test_the_text_of_a_request_is_let_go_once_it_cannot_be_sent_again(
    make_stage: Callable[..., Any], upstream: RawProvider, kept: Callable[[], int], retries: int
) -> None:
    stage: Stage = await make_stage(providers={"anthropic": {"base_url": upstream.url, "api_key": "key-one", "retries": retries}})
    account, go_on, begun = await stage.open_account(), asyncio.Event(), asyncio.Event()
    upstream.script = holds_after_its_first_event(go_on, begun)
    history = [{"role": "user", "content": "ä" * 1000}] * (HISTORY_BYTES // 2000)
    body = {"model": "claude-sonnet-4-6", "max_tokens": 50, "stream": True, "messages": history}
    reader, writer = await stage.connect()

    for _ in range(2):  # the second time over a provider connection that is open
        begun.clear()
        go_on.clear()
        writer.write(stage.raw_request(account, json.dumps(body, ensure_ascii=False).encode()))
        await asyncio.wait_for(begun.wait(), 20)
        await asyncio.wait_for(reader.readuntil(b"message_start"), 20)
        stays = kept()
        go_on.set()
        await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 20)

        assert stays < HISTORY_BYTES // 4
    writer.close()
    await stage.settled(account, charges=2)
