"""A provider that fails before its answer begins: the same request again, another key, another provider. Charged once, by who served."""

import asyncio
import base64
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from h2.connection import H2Connection
from structlog.testing import capture_logs

from addons import attempts
from addons.conduct import Interrupt
from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import Asked, RawProvider, Script, answer, chat_chunks, chunk, message, message_events, says, stream_head, streams

# What is tried, and at whose rate, is decided before the paths part; only sending again is each path's own.
any_path = pytest.mark.parametrize("data_path", ["lane"])
BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
OVERLOADED = answer({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, status=529)


def refused(status: int, kind: str, message: str = "no") -> bytes:
    return answer({"type": "error", "error": {"type": kind, "message": message}}, status=status)


def in_turn(*scripts: Script) -> Script:
    """Each request is answered by the next script, all further ones by the last."""
    left = list(scripts)

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(asked, writer)

    return script


async def silence(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "FIRST_PAUSE_SECONDS", 0.02)


@pytest.fixture
async def upstream() -> AsyncIterator[RawProvider]:
    provider = RawProvider(script=says(answer(message())))
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
async def aggregator() -> AsyncIterator[RawProvider]:
    provider = RawProvider(script=says(answer(message() | {"model": "anthropic/claude-sonnet-4.6"})))
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
async def make_resilient(make_stage: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider) -> Callable[..., Any]:
    """Start a gateway whose Anthropic and OpenAI are `upstream` with these settings; OpenRouter is `aggregator`."""

    async def make(ledger: dict[str, Any] | None = None, **section: Any) -> Stage:
        own = {"base_url": upstream.url, "api_key": "key-one"} | section
        openrouter = {"base_url": f"{aggregator.url}/api", "api_key": "key-openrouter"}
        stage: Stage = await make_stage(providers={"anthropic": own, "openai": own, "openrouter": openrouter}, ledger=ledger or {})
        return stage

    return make


# The same again


@pytest.mark.parametrize("status", [429, 503])
async def test_a_failure_that_passes_is_repeated_and_charged_once(make_resilient: Callable[..., Any], upstream: RawProvider, status: int) -> None:
    stage = await make_resilient(retries=2)
    account = await stage.open_account()
    upstream.script = in_turn(says(refused(status, "overloaded_error")), says(answer(message(input_tokens=100, output_tokens=50))))

    response = await stage.messages(account)

    assert response.status_code == 200
    assert len(upstream.asked) == 2
    assert upstream.asked[0].body == upstream.asked[1].body
    assert sorted(upstream.asked[0].headers) == sorted(upstream.asked[1].headers)
    [record] = await stage.settled(account, charges=1)
    assert (record.provider, record.lines[0].input_tokens, record.lines[0].output_tokens) == ("anthropic", 100, 50)
    assert int(response.headers["x-balance-remaining"]) == 10_000_000 - record.amount == (await stage.standing(account))[0]


@any_path
async def test_without_the_setting_nothing_is_repeated(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient()
    account = await stage.open_account()
    upstream.script = says(OVERLOADED)

    assert (await stage.messages(account)).status_code == 529
    assert len(upstream.asked) == 1
    await stage.settled(account, charges=0)


async def test_the_last_failure_is_the_clients(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=2)
    account = await stage.open_account()
    upstream.script = in_turn(says(refused(503, "api_error")), says(refused(500, "api_error")), says(OVERLOADED))

    with capture_logs() as lines:
        response = await stage.messages(account)
        await stage.settled(account, charges=0)

    assert (response.status_code, response.json()["error"]["message"]) == (529, "Overloaded")
    assert len(upstream.asked) == 3
    [closing] = [line for line in lines if line["event"] == "request_voided"]
    assert (closing["attempts"], closing["provider"]) == (3, "anthropic")
    assert closing["tried"] == ["anthropic key 1: status_5xx", "anthropic key 1: status_5xx"]


@pytest.mark.parametrize("first", [says(close=True), says(b"HTTP/1.1 200 O", close=True), says(b"what is this\r\n\r\n", close=True)])
async def test_a_connection_that_breaks_before_an_answer_is_followed_by_another(
    make_resilient: Callable[..., Any], upstream: RawProvider, first: Script
) -> None:
    stage = await make_resilient(retries=1)
    account = await stage.open_account()
    upstream.script = in_turn(first, streams(message_events(input_tokens=70)))

    response = await stage.messages(account, stream=True)

    assert response.content == b"".join(message_events(input_tokens=70))
    assert upstream.connections == 2
    [record] = await stage.settled(account, charges=1)
    assert record.lines[0].input_tokens == 70


async def test_an_error_whose_body_is_cut_is_repeated(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=1)
    account = await stage.open_account()
    upstream.script = in_turn(says(b"HTTP/1.1 503 X\r\ncontent-length: 500\r\n\r\nhalf", close=True), says(answer(message())))

    assert (await stage.messages(account)).status_code == 200
    assert (await stage.messages(account)).status_code == 200
    await stage.settled(account, charges=2)


async def test_a_provider_that_is_not_there_is_asked_as_often_as_is_set_and_costs_nothing(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=2)
    account = await stage.open_account()
    await upstream.stop()

    with capture_logs() as lines:
        response = await stage.messages(account)
        await stage.settled(account, charges=0)

    assert response.status_code == 502
    assert [line["reason"] for line in lines if line["event"] == "upstream_repeat"] == ["connection", "connection"]
    assert await stage.standing(account) == (10_000_000, 0)


async def test_a_provider_that_is_back_in_time_serves_the_repeat(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=10, retry_pause_seconds_max=0.2)
    account = await stage.open_account()
    await upstream.stop()

    asking = asyncio.create_task(stage.messages(account))
    await asyncio.sleep(0.2)
    server = await asyncio.start_server(upstream._serve, "127.0.0.1", upstream.port)
    response = await asking
    server.close()

    assert response.status_code == 200
    await stage.settled(account, charges=1)


async def test_an_answer_that_does_not_begin_in_the_providers_own_time_is_asked_for_again(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=1, first_byte_seconds_max=0.3)
    account = await stage.open_account()
    upstream.script = in_turn(silence, says(answer(message())))

    for _ in range(2):  # what the first connection still says must not reach the second attempt
        assert (await stage.messages(account)).status_code == 200

    assert len(upstream.asked) == 3
    await stage.settled(account, charges=2)


async def test_the_deadline_of_an_attempt_that_is_over_does_not_end_the_next(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=1)
    account = await stage.open_account()
    served = asyncio.Event()

    async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await served.wait()
        writer.write(answer(message()))

    upstream.script = in_turn(says(OVERLOADED), late)
    asking = asyncio.create_task(stage.messages(account))
    await until(lambda: len(upstream.asked) == 2)
    [exchange] = stage.assembly.links.running
    assert exchange.stream is not None

    await stage.master.proxyserver.connections[exchange.client_id].server_event(Interrupt(exchange.stream, "first_byte"))
    served.set()

    assert (await asking).status_code == 200
    await stage.settled(account, charges=1)


async def test_a_provider_has_its_own_time_to_connect(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    # It takes connections and never says a word of TLS.
    stage = await make_resilient(base_url=upstream.url.replace("http:", "https:"), retries=1, connect_seconds_max=0.3)
    account = await stage.open_account()

    began = time.monotonic()
    response = await stage.messages(account)

    assert response.status_code == 504
    assert time.monotonic() - began < 5
    assert upstream.connections == 2
    await stage.settled(account, charges=0)


async def test_a_provider_has_its_own_patience_with_silence_in_an_answer(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=3, stall_seconds_max=0.3)
    account = await stage.open_account()

    async def stall(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + b"".join(chunk(one) for one in message_events()[:4]))
        await asyncio.sleep(30)

    upstream.script = stall

    received = await stage.exchange_raw(stage.raw_request(account, json.dumps(BODY | {"stream": True}).encode()))

    assert received.count(b"HTTP/1.1") == 1
    assert not received.endswith(b"0\r\n\r\n")
    assert len(upstream.asked) == 1
    [record] = await stage.settled(account, charges=1)
    assert record.estimated


@any_path
@pytest.mark.parametrize(
    ("script", "status"),
    [
        (says(refused(400, "invalid_request_error")), 400),
        (says(refused(404, "not_found_error")), 404),
        (says(refused(501, "api_error")), 501),
        (says(answer({"error": {"message": "no"}}, status=503, more="x-should-retry: false\r\n")), 503),
        (says(answer({"error": {"message": "later"}}, status=429, more="retry-after: 60\r\n")), 429),
        (says(answer({}, status=307, more="location: http://elsewhere/\r\n")), 502),
    ],
)
async def test_what_a_repeat_would_not_change_is_not_repeated(make_resilient: Callable[..., Any], upstream: RawProvider, script: Script, status: int) -> None:
    stage = await make_resilient(retries=3)
    account = await stage.open_account()
    upstream.script = script

    response = await stage.messages(account)

    assert response.status_code == status
    assert response.headers.get("retry-after") == ("60" if status == 429 else None)
    assert len(upstream.asked) == 1
    await stage.settled(account, charges=0)


@any_path
async def test_a_provider_that_asks_for_a_pause_gets_it(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=1)
    account = await stage.open_account()
    upstream.script = in_turn(says(answer({}, status=503, more="retry-after-ms: 400\r\n")), says(answer(message())))

    began = time.monotonic()
    assert (await stage.messages(account)).status_code == 200

    assert time.monotonic() - began >= 0.4
    await stage.settled(account, charges=1)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_has_begun_well_is_never_asked_for_again(make_resilient: Callable[..., Any], upstream: RawProvider, stream: bool) -> None:
    stage = await make_resilient(retries=3, fallback="openrouter")
    account = await stage.open_account()
    whole = answer(message())
    cut = says(stream_head(), *(chunk(one) for one in message_events()[:4]), close=True) if stream else says(whole[:-10], close=True)
    upstream.script = cut

    received = await stage.exchange_raw(stage.raw_request(account, json.dumps(BODY | {"stream": stream}).encode(), headers="connection: close\r\n"))

    assert received.startswith(b"HTTP/1.1 200" if stream else b"HTTP/1.1 502")
    assert len(upstream.asked) == 1
    [record] = await stage.settled(account, charges=1)
    assert record.estimated
    assert record.provider == "anthropic"


async def test_a_client_that_leaves_during_a_pause_is_not_served_and_pays_nothing(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=3)
    account = await stage.open_account()
    upstream.script = says(answer({}, status=503, more="retry-after: 5\r\n"))
    _, writer = await stage.connect()
    writer.write(stage.raw_request(account, json.dumps(BODY).encode()))
    await until(lambda: len(upstream.asked) == 1)
    await asyncio.sleep(0.1)

    writer.close()

    await stage.settled(account, charges=0, seconds=3)
    assert len(upstream.asked) == 1
    assert await stage.standing(account) == (10_000_000, 0)


@any_path
async def test_a_gateway_that_stops_does_not_begin_another_attempt(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=3)
    account = await stage.open_account()
    upstream.script = says(answer({}, status=503, more="retry-after: 5\r\n"))
    asking = asyncio.create_task(stage.messages(account))
    await until(lambda: len(upstream.asked) == 1)
    await asyncio.sleep(0.1)

    stage.assembly.links.stop_all()

    assert (await asyncio.wait_for(asking, 3)).status_code == 503
    assert len(upstream.asked) == 1
    await stage.settled(account, charges=0)


@any_path
async def test_free_counts_are_repeated_as_well(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(retries=1)
    account = await stage.open_account()
    upstream.script = in_turn(says(OVERLOADED), says(answer({"input_tokens": 12})))

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/messages/count_tokens", json=BODY)

    assert (response.status_code, response.json()) == (200, {"input_tokens": 12})
    await stage.settled(account, charges=0)


# Several keys


def keys_asked(provider: RawProvider) -> list[str | None]:
    return [asked.header("x-api-key") or asked.header("authorization") for asked in provider.asked]


def by_key(**scripts: Script) -> Script:
    """Answer as the key that a request bears deserves."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await scripts[(asked.header("x-api-key") or "").replace("-", "_")](asked, writer)

    return script


@any_path
@pytest.mark.parametrize(
    "refusal",
    [
        refused(401, "authentication_error"),
        refused(403, "permission_error"),
        refused(400, "invalid_request_error", "Your credit balance is too low to access the API"),
        refused(429, "rate_limit_error"),
    ],
)
async def test_another_key_serves_where_one_is_refused_and_goes_first_from_then_on(
    make_resilient: Callable[..., Any], upstream: RawProvider, refusal: bytes
) -> None:
    stage = await make_resilient(api_keys="key-two,key-three")
    account = await stage.open_account()
    upstream.script = by_key(key_one=says(refusal), key_two=says(answer(message())))

    with capture_logs() as lines:
        assert [(await stage.messages(account)).status_code for _ in range(2)] == [200, 200]
        await stage.settled(account, charges=2)

    assert keys_asked(upstream) == ["key-one", "key-two", "key-two"]
    assert [line["key"] for line in lines if line["event"] == "provider_key_rests"] == [1]
    assert not re.search(r"key-(one|two|three)", repr(lines))


@any_path
async def test_each_key_is_asked_once_where_all_are_refused(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(api_keys=["key-two", "key-three"], retries=2)
    account = await stage.open_account()
    upstream.script = says(refused(401, "authentication_error", "the Operator's key"))

    response = await stage.messages(account)

    assert response.status_code == 502
    assert "Operator" not in response.text
    assert keys_asked(upstream) == ["key-one", "key-two", "key-three"]
    await stage.settled(account, charges=0)
    # All rest now; the one that wakes first is asked all the same, for a rest is only a hint.
    assert (await stage.messages(account)).status_code == 502
    assert keys_asked(upstream)[3:] == ["key-one"]


@any_path
async def test_a_key_that_is_well_again_serves(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(api_keys="key-two", key_rest_seconds=0.05)
    account = await stage.open_account()
    upstream.script = by_key(key_one=says(refused(401, "authentication_error")), key_two=says(refused(401, "authentication_error")))
    assert (await stage.messages(account)).status_code == 502
    upstream.script = says(answer(message()))
    await asyncio.sleep(0.1)

    assert (await stage.messages(account)).status_code == 200
    assert keys_asked(upstream) == ["key-one", "key-two", "key-one"]
    await stage.settled(account, charges=1)


@any_path
async def test_what_a_moderator_refuses_is_not_held_against_the_key(make_resilient: Callable[..., Any], upstream: RawProvider) -> None:
    stage = await make_resilient(api_keys="key-two", retries=2)
    account = await stage.open_account()
    upstream.script = says(answer({"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["violence"], "flagged_input": "x"}}}, status=403))

    assert (await stage.messages(account)).status_code == 502

    assert keys_asked(upstream) == ["key-one"]
    await stage.settled(account, charges=0)


# Another provider


async def chat(stage: Stage, account: NewAccount, path: str = "chat/completions", **body: Any) -> Any:
    return await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/{path}", json={"model": "gpt-4o"} | body)


@any_path
async def test_the_fallback_serves_and_is_charged_at_its_own_rate(make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider) -> None:
    stage = await make_resilient(retries=1, fallback="openrouter")
    account = await stage.open_account()
    upstream.script = says(OVERLOADED)
    aggregator.script = says(answer(message(input_tokens=200, output_tokens=40) | {"model": "anthropic/claude-4.6-sonnet-20260217"}))

    with capture_logs() as lines:
        response = await stage.messages(account, headers={"anthropic-beta": "some-beta"})
        [record] = await stage.settled(account, charges=1)

    assert response.status_code == 200
    assert (len(upstream.asked), len(aggregator.asked)) == (2, 1)
    asked = aggregator.asked[0]
    assert asked.line == "POST /api/v1/messages HTTP/1.1"
    assert (asked.header("authorization"), asked.header("x-api-key")) == ("Bearer key-openrouter", None)
    assert (asked.header("anthropic-beta"), asked.header("host")) == ("some-beta", f"127.0.0.1:{aggregator.port}")
    assert asked.json == BODY | {"model": "anthropic/claude-sonnet-4.6"}
    assert (record.provider, record.model) == ("openrouter", "anthropic/claude-sonnet-4.6")
    assert {line.provider for line in record.lines} == {"openrouter"}
    assert (record.lines[0].input_tokens, record.lines[0].output_tokens) == (200, 40)
    [closing] = [line for line in lines if line["event"] == "request_settled"]
    assert (closing["provider"], closing["attempts"]) == ("openrouter", 3)
    assert response.headers["x-level5-provider"] == "openrouter"


async def test_a_stream_of_the_fallback_is_the_clients_whole_stream(make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider) -> None:
    stage = await make_resilient(fallback="openrouter")
    account = await stage.open_account()
    await upstream.stop()
    aggregator.script = streams(chat_chunks(prompt=90, completion=30))

    response = await chat(stage, account, stream=True, messages=[{"role": "user", "content": "Say hi"}])

    assert response.content == b"".join(chat_chunks(usage=False))
    assert aggregator.asked[0].json["stream_options"] == {"include_usage": True}
    assert aggregator.asked[0].json["model"] == "openai/gpt-4o"
    [record] = await stage.settled(account, charges=1)
    assert (record.provider, record.lines[0].input_tokens, record.lines[0].output_tokens) == ("openrouter", 90, 30)


@any_path
@pytest.mark.parametrize("refusal", [refused(401, "authentication_error"), refused(402, "billing_error"), answer({}, status=429, more="retry-after: 3600\r\n")])
async def test_the_fallback_also_serves_when_the_operators_account_or_its_limits_are_in_the_way(
    make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider, refusal: bytes
) -> None:
    stage = await make_resilient(retries=2, fallback="openrouter")
    account = await stage.open_account()
    upstream.script = says(refusal)

    assert (await stage.messages(account)).status_code == 200

    assert (len(upstream.asked), len(aggregator.asked)) == (1, 1)
    [record] = await stage.settled(account, charges=1)
    assert record.provider == "openrouter"


@any_path
async def test_a_fallback_that_the_account_cannot_cover_is_not_asked(
    make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider
) -> None:
    # The aggregator may cache unasked, so that its worst case is the dearer one.
    stage = await make_resilient(fallback="openrouter", ledger={"overdraft_max": 0})
    contents = [{"role": "user", "content": "x" * 20_000}]
    upstream.script = says(OVERLOADED)
    refusal = await stage.messages(await stage.open_account(1), messages=contents)
    needed = refusal.json()["error"]["details"]["required"]
    account = await stage.open_account(needed)

    response = await stage.messages(account, messages=contents)

    assert (refusal.status_code, response.status_code) == (402, 529)
    assert (len(upstream.asked), len(aggregator.asked)) == (1, 0)
    await stage.settled(account, charges=0)
    assert await stage.standing(account) == (needed, 0)


@any_path
async def test_a_dearer_fallback_is_asked_once_the_hold_covers_it(make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider) -> None:
    stage = await make_resilient(fallback="openrouter")
    account = await stage.open_account()
    holds: list[int] = []

    def noting(script: Script) -> Script:
        async def noted(asked: Asked, writer: asyncio.StreamWriter) -> None:
            holds.append((await stage.standing(account))[1])
            await script(asked, writer)

        return noted

    upstream.script, aggregator.script = noting(says(OVERLOADED)), noting(aggregator.script or silence)

    response = await stage.messages(account, messages=[{"role": "user", "content": "x" * 20_000}])

    assert response.status_code == 200
    assert 0 < holds[0] < holds[1]
    await stage.settled(account, charges=1)
    assert (await stage.standing(account))[1] == 0


@any_path
async def test_an_output_limit_of_ours_is_what_the_hold_covers_at_the_fallback(
    make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider
) -> None:
    stage = await make_resilient(fallback="openrouter")
    account = await stage.open_account(60_000)
    upstream.script = says(OVERLOADED)
    aggregator.script = says(answer({"id": "x", "model": "openai/gpt-4o", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}))

    response = await chat(stage, account, messages=[{"role": "user", "content": "x" * 4_000}])

    limits = [provider.asked[0].json["max_completion_tokens"] for provider in (upstream, aggregator)]
    assert response.status_code == 200
    assert response.headers["x-level5-output-limit"] == str(limits[1])
    assert 0 < limits[1] <= limits[0]
    [record] = await stage.settled(account, charges=1)
    assert record.provider == "openrouter"


@any_path
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("messages", {"model": "claude-opus-4-1", "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]}),  # it has no row of its own there
        ("messages", BODY | {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}]}]}),
        ("messages", BODY | {"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 1}]}),
        ("chat/completions", {"model": "claude-sonnet-4-6", "messages": [{"role": "user", "content": "x"}]}),
        ("chat/completions", {"model": "gpt-4o-2024-08-06", "messages": [{"role": "user", "content": "x"}]}),
        ("embeddings", {"model": "text-embedding-3-small", "input": "x"}),
    ],
)
async def test_what_only_its_own_provider_can_serve_has_no_fallback(
    make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider, path: str, body: dict[str, Any]
) -> None:
    stage = await make_resilient(fallback="openrouter")
    account = await stage.open_account()
    upstream.script = says(OVERLOADED)

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/{path}", json=body)

    assert (response.status_code, len(upstream.asked), len(aggregator.asked)) == (529, 1, 0), response.text
    await stage.settled(account, charges=0)


@any_path
async def test_a_fallback_that_fails_as_well_costs_nothing(make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider) -> None:
    stage = await make_resilient(fallback="openrouter")
    account = await stage.open_account()
    upstream.script = says(OVERLOADED)
    aggregator.script = says(refused(502, "api_error", "no upstream"))

    response = await stage.messages(account)

    assert (response.status_code, response.json()["error"]["message"]) == (502, "no upstream")
    assert (len(upstream.asked), len(aggregator.asked)) == (1, 1)
    await stage.settled(account, charges=0)
    assert await stage.standing(account) == (10_000_000, 0)


async def test_a_client_that_leaves_the_fallback_pays_as_it_would_anywhere(
    make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider
) -> None:
    stage = await make_resilient(fallback="openrouter")
    account = await stage.open_account()
    upstream.script = says(OVERLOADED)
    aggregator.script = streams(message_events(words=200, input_tokens=300), pause=0.02)
    reader, writer = await stage.connect()
    writer.write(stage.raw_request(account, json.dumps(BODY | {"stream": True}).encode()))
    await reader.readuntil(b"word3")

    writer.close()

    [record] = await stage.settled(account, charges=1)
    assert (record.provider, record.estimated, record.lines[0].input_tokens) == ("openrouter", True, 300)


# The forward door


ANTHROPIC = "https://api.anthropic.com/v1/messages"


@pytest.mark.parametrize("http2", [False, True])
async def test_the_forward_door_repeats_and_falls_back_alike(
    make_resilient: Callable[..., Any], upstream: RawProvider, aggregator: RawProvider, http2: bool
) -> None:
    stage = await make_resilient(retries=1, fallback="openrouter")
    account = await stage.open_account()
    upstream.script = in_turn(says(OVERLOADED), says(answer(message())), says(OVERLOADED))

    async with stage.through(account, http2=http2) as client:
        repeated = await client.post(ANTHROPIC, json=BODY)
        fallen_back = await client.post(ANTHROPIC, json=BODY)

    assert [(answered.status_code, answered.headers.get("x-level5-provider")) for answered in (repeated, fallen_back)] == [(200, None), (200, "openrouter")]
    assert (len(upstream.asked), len(aggregator.asked)) == (4, 1)
    assert [record.provider for record in await stage.settled(account, charges=2)] == ["anthropic", "openrouter"]


@any_path
async def test_a_client_that_resets_its_http2_stream_during_a_pause_is_not_served_and_pays_nothing(
    make_resilient: Callable[..., Any], upstream: RawProvider
) -> None:
    stage = await make_resilient(retries=1)
    account = await stage.open_account()
    upstream.script = in_turn(says(answer({}, status=503, more="retry-after-ms: 800\r\n")), says(answer(message())))

    connection, writer = await ask_by_http2(stage, account)
    await until(lambda: len(upstream.asked) == 1)
    await asyncio.sleep(0.1)
    connection.reset_stream(1)
    writer.write(connection.data_to_send())

    await stage.settled(account, charges=0)
    assert len(upstream.asked) == 1
    assert await stage.standing(account) == (10_000_000, 0)
    writer.close()


async def ask_by_http2(stage: Stage, account: NewAccount) -> tuple[H2Connection, asyncio.StreamWriter]:
    """Send a request through the forward door over HTTP/2, frame by frame."""
    trust = stage.trust()
    trust.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.settings.forward.port)
    credentials = base64.b64encode(f"{account.api_token}:".encode()).decode()
    writer.write(f"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com:443\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode())
    assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    await writer.start_tls(trust, server_hostname="api.anthropic.com")
    connection = H2Connection()
    connection.initiate_connection()
    head = {":method": "POST", ":scheme": "https", ":authority": "api.anthropic.com", ":path": "/v1/messages", "content-type": "application/json"}
    connection.send_headers(1, list(head.items()))
    connection.send_data(1, json.dumps(BODY).encode(), end_stream=True)
    writer.write(connection.data_to_send())
    return connection, writer


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
