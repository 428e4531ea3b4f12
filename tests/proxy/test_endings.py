"""Every way a request can end, each with its one charge: the table of endings, row by row."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import Asked, answer, chunk, event, message, message_events, says, stream_head, streams

BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
STREAM = BODY | {"stream": True}
IN, OUT = 3_300_000, 16_500_000


def price(input_tokens: int, output_tokens: int) -> int:
    return -(-(input_tokens * IN + output_tokens * OUT) // 1_000_000)


async def read_stream(stage: Stage, account: NewAccount, body: dict[str, Any] | None = None) -> tuple[bytes, bool]:
    """Return what a streamed request brought, and whether its body ended as a body should."""
    received = b""
    try:
        async with stage.client.stream("POST", f"{stage.url}/proxy/{account.api_token}/v1/messages", json=body or STREAM) as response:
            async for piece in response.aiter_raw():
                received += piece
    except httpx.RemoteProtocolError:
        return received, False
    return received, True


@pytest.mark.parametrize("status", [400, 404, 413, 422, 429, 500, 529])
async def test_a_providers_error_passes_with_status_and_body_and_costs_nothing(stage: Stage, status: int) -> None:
    account = await stage.open_account(5_000_000)
    body = {"type": "error", "error": {"type": "some_error", "message": "no"}}
    stage.provider.script = says(answer(body, status=status, more="retry-after: 7\r\n"))

    response = await stage.messages(account)

    assert (response.status_code, response.json()) == (status, body)
    assert response.headers["retry-after"] == "7"
    assert response.headers["x-balance-remaining"] == "5000000"
    assert await stage.settled(account, charges=0) == []
    assert await stage.standing(account) == (5_000_000, 0)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, {"type": "authentication_error", "message": "invalid x-api-key of org Operator"}),
        (403, {"type": "permission_error", "message": "Operator may not"}),
        (402, {"type": "billing_error", "message": "Operator owes"}),
        (400, {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Operator API"}),
        (429, {"type": "insufficient_quota", "code": "insufficient_quota", "message": "Operator exceeded"}),
    ],
)
async def test_the_operators_own_troubles_are_a_502_without_a_word_about_them(stage: Stage, status: int, error: dict[str, str]) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer({"type": "error", "error": error}, status=status))

    response = await stage.messages(account)

    assert response.status_code == 502
    assert response.json()["error"]["type"] == "api_error"
    assert "Operator" not in response.text
    assert response.headers["x-should-retry"] == "false"
    await stage.settled(account, charges=0)


async def test_a_provider_that_refuses_connections_costs_nothing(stage: Stage) -> None:
    account = await stage.open_account()
    await stage.provider.stop()

    for _ in range(2):
        response = await stage.messages(account)
        assert response.status_code == 502
        assert response.json()["type"] == "error"
        assert response.headers["x-balance-remaining"] == "10000000"
    await stage.settled(account, charges=0)


async def test_after_a_failed_connect_the_same_client_connection_reaches_a_provider_that_is_back(stage: Stage) -> None:
    account = await stage.open_account()
    port = stage.provider.port
    await stage.provider.stop()
    assert (await stage.messages(account)).status_code == 502

    server = await asyncio.start_server(stage.provider._serve, "127.0.0.1", port)
    response = await stage.messages(account)
    server.close()

    assert response.status_code == 200
    await stage.settled(account, charges=1)


async def test_a_provider_that_does_not_begin_in_time_costs_nothing(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(gateway={"first_byte_seconds_max": 0.3})
    account = await stage.open_account()
    stage.provider.script = says(pause=10)

    async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    stage.provider.script = silence

    response = await stage.messages(account)

    assert response.status_code == 504
    assert response.json()["error"]["type"] == "timeout_error"
    await asyncio.wait_for(stage.provider.closed.wait(), 2)
    await stage.settled(account, charges=0)


async def test_a_stream_that_stalls_is_cut_and_charged_for_what_came(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(gateway={"stall_seconds_max": 0.3})
    account = await stage.open_account()
    events = message_events(input_tokens=1000)

    async def stall(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + b"".join(chunk(one) for one in events[:4]))
        await asyncio.sleep(10)

    stage.provider.script = stall

    received, whole = await read_stream(stage, account)

    assert (received, whole) == (b"".join(events[:4]), False)
    [record] = await stage.settled(account, charges=1)
    assert record.estimated
    assert record.lines[0].input_tokens == 1000
    assert record.lines[0].output_tokens >= 2


@pytest.mark.parametrize("how", ["reset", "polite"])
async def test_a_stream_without_its_terminal_event_is_cut_not_ended_and_charged_upwards(stage: Stage, how: str) -> None:
    account = await stage.open_account()
    events = message_events(input_tokens=1000)
    stage.provider.script = streams(events[:5], end=how == "polite")

    received, whole = await read_stream(stage, account)

    assert (received, whole) == (b"".join(events[:5]), False)
    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].input_tokens) == (True, 1000)


async def test_a_stream_to_the_end_of_the_connection_is_known_as_cut(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events(input_tokens=1000)
    stage.provider.script = says(stream_head(chunked=False), *events[:5], close=True)

    received, whole = await read_stream(stage, account)

    assert (received, whole) == (b"".join(events[:5]), False)
    [record] = await stage.settled(account, charges=1)
    assert record.estimated


async def test_a_whole_stream_to_the_end_of_the_connection_ends_well(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events(input_tokens=1000, output_tokens=20)
    stage.provider.script = says(stream_head(chunked=False), *events, close=True)

    received, whole = await read_stream(stage, account)

    assert (received, whole) == (b"".join(events), True)
    [record] = await stage.settled(account, charges=1)
    assert record.amount == price(1000, 20)


async def test_a_terminal_event_before_a_connection_that_stays_open_is_not_kept_waiting(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events()

    async def linger(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + b"".join(chunk(one) for one in events))
        await asyncio.sleep(10)

    stage.provider.script = linger
    received = b""
    async with asyncio.timeout(3):
        async with stage.client.stream("POST", f"{stage.url}/proxy/{account.api_token}/v1/messages", json=STREAM) as response:
            async for piece in response.aiter_raw():
                received += piece
                if received == b"".join(events):
                    break
    await stage.settled(account, charges=1)


async def test_a_stream_of_one_error_event_costs_nothing(stage: Stage) -> None:
    account = await stage.open_account()
    error = event("error", {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})
    stage.provider.script = streams([error])

    received, whole = await read_stream(stage, account)

    assert (received, whole) == (error, True)
    await stage.settled(account, charges=0)


async def test_a_whole_answer_cut_in_its_body_is_a_502(stage: Stage) -> None:
    account = await stage.open_account()
    whole = answer(message())
    stage.provider.script = says(whole[:-30], close=True)

    response = await stage.messages(account)

    assert response.status_code == 502
    await stage.settled(account, charges=1)


async def test_an_answer_without_readable_usage_is_estimated(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer({"content": [{"type": "text", "text": "word " * 50}], "usage": {"input_tokens": "many"}}))

    response = await stage.messages(account)

    assert response.status_code == 200
    [record] = await stage.settled(account, charges=1)
    assert record.estimated
    assert record.amount > 0


async def test_an_error_in_a_200_costs_nothing(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer({"error": {"code": 502, "message": "bad upstream"}}))

    response = await stage.messages(account)

    assert response.status_code == 200
    await stage.settled(account, charges=0)


async def leave(stage: Stage, account: NewAccount, body: dict[str, Any], *, until: bytes = b"", after: float = 0.0, reached: bool = True) -> None:
    """Send a request, wait until it has reached its provider and for these bytes of the answer, then hang up."""
    reader, writer = await stage.connect()
    asked, received = len(stage.provider.asked), b""
    writer.write(stage.raw_request(account, json.dumps(body).encode()))
    async with asyncio.timeout(10):
        while reached and len(stage.provider.asked) == asked:
            await asyncio.sleep(0.01)
    while until not in received:
        received += await asyncio.wait_for(reader.read(65536), 5)
    await asyncio.sleep(after)
    writer.close()


async def test_a_client_that_leaves_after_output_pays_for_it_and_the_provider_is_hung_up_on_at_once(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events(input_tokens=1000, words=500)
    stage.provider.script = streams(events, pause=0.02)

    await leave(stage, account, STREAM, until=b"word3")

    await asyncio.wait_for(stage.provider.closed.wait(), 2)
    [record] = await stage.settled(account, charges=1)
    assert (record.estimated, record.lines[0].input_tokens) == (True, 1000)
    assert 4 <= record.lines[0].output_tokens < 100


async def test_a_client_that_leaves_before_the_answer_is_charged_its_exact_usage(stage: Stage) -> None:
    account = await stage.open_account()

    async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.6)
        writer.write(answer(message(input_tokens=1000, output_tokens=200)))

    stage.provider.script = late

    await leave(stage, account, BODY, after=0.2)

    [record] = await stage.settled(account, charges=1)
    assert (record.amount, record.estimated) == (price(1000, 200), False)


async def test_a_stream_left_before_it_began_is_read_to_its_end(stage: Stage) -> None:
    account = await stage.open_account()
    events = message_events(input_tokens=1000, output_tokens=77)

    async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await streams(events, pause=0.01)(asked, writer)

    stage.provider.script = late

    await leave(stage, account, STREAM, after=0.2)

    [record] = await stage.settled(account, charges=1)
    assert (record.amount, record.estimated) == (price(1000, 77), False)


async def test_reading_on_has_its_time_and_then_costs_the_hold(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(gateway={"read_on_seconds_max": 0.5})
    account = await stage.open_account()

    async def never(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(10)

    stage.provider.script = never

    await leave(stage, account, BODY, after=0.2)

    [record] = await stage.settled(account, charges=1)
    assert record.estimated
    assert record.amount >= price(0, 500) * 9 // 10
    await asyncio.wait_for(stage.provider.closed.wait(), 2)


async def test_a_client_that_leaves_within_its_request_pays_nothing(stage: Stage) -> None:
    account = await stage.open_account()
    _, writer = await stage.connect()
    writer.write(stage.raw_request(account, json.dumps(BODY).encode())[:-5])
    await asyncio.sleep(0.2)
    writer.close()

    await stage.settled(account, charges=0)
    assert stage.provider.asked == []


@asynccontextmanager
async def deaf_server() -> AsyncIterator[int]:
    """A server that takes connections and never says a word: TLS with it never gets anywhere."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


async def test_a_client_that_leaves_while_the_provider_is_dialled_pays_nothing(make_stage: Callable[..., Any]) -> None:
    async with deaf_server() as port:
        stage = await make_stage(providers={"anthropic": {"base_url": f"https://127.0.0.1:{port}", "api_key": "k"}})
        account = await stage.open_account()

        await leave(stage, account, BODY, after=0.3, reached=False)

        await stage.settled(account, charges=0)


async def test_tls_that_gets_nowhere_is_a_504_in_time(make_stage: Callable[..., Any]) -> None:
    async with deaf_server() as port:
        provider = {"base_url": f"https://127.0.0.1:{port}", "api_key": "k"}
        stage = await make_stage(providers={"anthropic": provider}, gateway={"connect_seconds_max": 0.4})
        account = await stage.open_account()

        response = await stage.messages(account)

        assert response.status_code == 504
        await stage.settled(account, charges=0)


async def test_sixty_clients_that_leave_all_end(stage: Stage) -> None:
    account = await stage.open_account(1_000_000_000)
    stage.provider.script = streams(message_events(words=50), pause=0.01)

    await asyncio.gather(*(leave(stage, account, STREAM, after=0.005 * number) for number in range(60)))

    async with asyncio.timeout(20):
        while (await stage.standing(account))[1] or stage.assembly.links.running:
            await asyncio.sleep(0.05)
    assert len(await stage.charges(account)) <= 60


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_error_in_a_200_about_the_operators_account_is_not_repeated(stage: Stage, streamed: bool) -> None:
    account = await stage.open_account()
    error = {"code": "insufficient_quota", "type": "insufficient_quota", "message": "Operator exceeded the current quota"}
    failed = {"type": "response.failed", "sequence_number": 1, "response": {"id": "r", "object": "response", "status": "failed", "error": error, "usage": None}}
    stage.provider.script = streams([event("response.failed", failed)]) if streamed else says(answer({"error": error}))

    response = await stage.client.post(
        f"{stage.url}/proxy/{account.api_token}/v1/responses", json={"model": "gpt-5.2", "input": "hi", "stream": streamed, "max_output_tokens": 50}
    )

    assert "Operator" not in response.text
    assert "response.failed" in response.text if streamed else response.status_code == 502
    await stage.settled(account, charges=0)


@pytest.mark.parametrize("data_path", ["stock"])
async def test_a_request_that_is_not_on_our_own_stream_is_not_served(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()
    monkeypatch.setattr(stage.assembly.links, "next_layer", lambda chosen: None)

    response = await stage.messages(account)

    assert response.status_code == 503
    assert stage.provider.asked == []


async def test_a_stream_whose_watch_fails_is_cut_and_charged(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(message_events(words=50), pause=0.01)

    def broken(*args: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(stage.assembly.gateway._answers, "begin", broken)

    response = await stage.messages(account, stream=True)

    assert response.status_code == 200
    [record] = await stage.settled(account, charges=1)
    assert record.estimated


async def test_a_tally_that_fails_passes_the_answer_and_charges_the_hold(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()
    events = message_events()
    stage.provider.script = streams(events)

    def broken(*args: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("metering.tally_core.StreamTally.feed", broken)

    received, _ = await read_stream(stage, account)

    assert received == b"".join(events)
    [record] = await stage.settled(account, charges=1)
    assert record.estimated
    assert record.amount > 0
