"""Which way a request takes is nobody's affair: each hook is called once, waits for as long as an addon wants, and what an addon does with the flow counts."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from mitmproxy import http

from addons.short_way import ShortWay
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import answer, message, message_events, says, streams

BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
HOOKS = ("requestheaders", "request", "responseheaders", "response")


class Witness:
    """An addon that writes down which hooks are called for a request, and does something in one of them."""

    def __init__(self, where: str = "", act: Callable[[http.HTTPFlow], Awaitable[None] | None] = lambda flow: None) -> None:
        self.seen: list[str] = []
        for name in (*HOOKS, "error"):
            setattr(self, name, self._handler(name, act if name == where else lambda flow: None))

    def _handler(self, name: str, act: Callable[[http.HTTPFlow], Awaitable[None] | None]) -> Callable[[http.HTTPFlow], Awaitable[None] | None]:
        def handle(flow: http.HTTPFlow) -> Awaitable[None] | None:
            self.seen.append(name)
            return act(flow)

        return handle


async def wait(flow: http.HTTPFlow) -> None:
    await asyncio.sleep(0.01)


def kill(flow: http.HTTPFlow) -> None:
    flow.kill()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps of the short way that were taken."""
    steps: list[str] = []

    def watch(name: str) -> None:
        method: Callable[..., Any] = getattr(ShortWay, name)

        def step(self: ShortWay, *arguments: Any) -> Any:
            steps.append(name)
            return method(self, *arguments)

        monkeypatch.setattr(ShortWay, name, step)

    for name in ("_end_body", "_end_answer", "_begin_stream", "_resume"):
        watch(name)
    return steps


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_plain_request_takes_the_short_way_where_there_is_one(stage: Stage, data_path: str, taken: list[str], *, stream: bool) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(message_events()) if stream else says(answer(message()))
    await stage.messages(account, stream=stream)  # opens the connection to the provider
    taken.clear()

    assert (await stage.messages(account, stream=stream)).status_code == 200

    assert taken == ([] if data_path == "stock" else ["_end_body", "_begin_stream" if stream else "_end_answer"])
    await stage.settled(account, charges=2)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("where", ["", *HOOKS])
async def test_an_addon_may_wait_in_any_hook_and_each_is_called_once(stage: Stage, where: str, *, stream: bool) -> None:
    account, witness = await stage.open_account(), Witness(where, wait)
    stage.provider.script = streams(message_events()) if stream else says(answer(message()))
    stage.master.addons.add(witness)

    answers = [await stage.messages(account, stream=stream) for _ in range(2)]

    assert [one.status_code for one in answers] == [200, 200]
    assert answers[0].content[-40:] == answers[1].content[-40:]
    assert witness.seen == [*HOOKS, *HOOKS]
    await stage.settled(account, charges=2)


@pytest.mark.parametrize("where", HOOKS)
async def test_a_flow_that_an_addon_kills_goes_no_further(stage: Stage, where: str) -> None:
    account = await stage.open_account()
    await stage.messages(account)
    witness = Witness(where, kill)
    stage.master.addons.add(witness)

    received = await stage.exchange_raw(stage.raw_request(account, json.dumps(BODY).encode()))

    assert received == b""
    called = [*HOOKS[: HOOKS.index(where) + 1]]
    assert witness.seen == (called if where == "response" else [*called, "error"])
    await stage.settled(account, charges=2 if where == "response" else 1)  # else nothing of an answer was seen


@pytest.mark.parametrize("where", ["requestheaders", "request"])
async def test_what_an_addon_answers_itself_goes_to_the_client_and_nowhere_else(stage: Stage, where: str) -> None:
    account = await stage.open_account()

    def refuse(flow: http.HTTPFlow) -> None:
        flow.response = http.Response.make(418, b"no tea")

    stage.master.addons.add(Witness(where, refuse))
    answered = await stage.messages(account)

    assert (answered.status_code, answered.content) == (418, b"no tea")
    assert stage.provider.asked == []
    await stage.settled(account, charges=0)


@pytest.mark.parametrize("cuts", [1, 7, 100])
async def test_a_request_may_come_in_any_pieces(stage: Stage, cuts: int) -> None:
    account = await stage.open_account()
    request = stage.raw_request(account, json.dumps(BODY).encode(), headers="connection: close\r\n")
    reader, writer = await stage.connect()

    for at in range(0, len(request), max(len(request) // cuts, 1)):
        writer.write(request[at : at + max(len(request) // cuts, 1)])
        await asyncio.sleep(0)
    received = await asyncio.wait_for(reader.read(), 10)
    writer.close()

    assert received.startswith(b"HTTP/1.1 200 ")
    await stage.settled(account, charges=1)


async def test_requests_sent_ahead_are_answered_in_their_order(stage: Stage) -> None:
    account = await stage.open_account()
    ask = stage.raw_request(account, json.dumps(BODY).encode())
    last = stage.raw_request(account, json.dumps(BODY).encode(), headers="connection: close\r\n")

    received = await stage.exchange_raw(ask + ask + last)

    assert received.count(b"HTTP/1.1 200 ") == 3
    await stage.settled(account, charges=3)


async def test_answers_whose_charges_become_known_together_arrive_whole_and_before_a_refusal_of_what_was_sent_after(stage: Stage) -> None:
    account = await stage.open_account(balance=5_000_000)
    asked = stage.raw_request(account, json.dumps(BODY).encode())
    refused = b"DELETE " + asked.partition(b" ")[2].partition(b"\r\n")[0] + b"\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"

    for _ in range(2):  # the second time over provider connections that are open
        received = await asyncio.gather(*(stage.exchange_raw(asked + refused) for _ in range(24)))
        assert [re.findall(rb"HTTP/1\.1 (\d+)", answers) for answers in received] == [[b"200", b"405"]] * 24
    await stage.settled(account, charges=48)
