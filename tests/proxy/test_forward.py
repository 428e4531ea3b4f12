"""The forward door: agents that know only HTTPS_PROXY and our certificate, against the providers' own names."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import httpx
import openai
import pytest
from mitmproxy.proxy.layers.http import HttpLayer

from addons.drain import drain
from ledger.tokens import mint_token, parse_token
from sandbox.server import Sandbox, run_sandbox
from tests.fakes.gateway import PROVIDERS, Stage
from tests.fakes.raw_provider import Asked, answer, chat_chunks, chunk, message_events, says, stream_head, streams
from tests.fakes.tunnels import basic, open_tunnel

MESSAGES = "https://api.anthropic.com/v1/messages"
CHATS = "https://api.openai.com/v1/chat/completions"
BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
CHAT = {"model": "gpt-4o", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
PATHS = {"anthropic": "/anthropic", "openai": "/openai", "openrouter": "/openrouter/api"}
every_path = pytest.mark.parametrize(("data_path", "http2"), [("lane", False), ("stock", False), ("lane", True)], ids=["lane", "stock", "http2"])


@pytest.fixture
def data_path() -> str:
    """Where a test does not say otherwise. HTTP/2 goes through mitmproxy's layers anyway."""
    return "lane"


@every_path
async def test_a_turn_at_the_providers_own_address_is_billed(stage: Stage, http2: bool) -> None:
    account = await stage.open_account()

    async with stage.through(account, http2=http2) as client:
        plain = await client.post(MESSAGES, json=BODY, headers={"x-api-key": "the client's own", "authorization": "Bearer another"})
        again = await client.post(MESSAGES, json=BODY)

    assert (plain.status_code, plain.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    charges = await stage.settled(account, charges=2)
    balance = 10_000_000 - sum(record.amount for record in charges)
    assert again.headers["x-balance-remaining"] == str(balance)
    assert plain.headers["x-level5-charge"] == str(charges[0].amount)
    asked = stage.provider.asked[0]
    assert (asked.line, asked.header("x-api-key")) == ("POST /v1/messages HTTP/1.1", "operator-key-anthropic")
    assert not {"authorization", "proxy-authorization"} & {name.lower() for name, _ in asked.headers}


@every_path
async def test_a_stream_comes_through_as_it_is_and_closes_with_the_balance(stage: Stage, http2: bool) -> None:
    account, events = await stage.open_account(), message_events(words=20)
    stage.provider.script = streams(events)

    async with stage.through(account, http2=http2) as client:
        response = await client.post(MESSAGES, json=BODY | {"stream": True}, headers={"x-level5-events": "1"})

    [charge] = await stage.settled(account, charges=1)
    whole = b"".join(events)
    assert response.content[: len(whole)] == whole
    assert str(10_000_000 - charge.amount).encode() in response.content[len(whole) :]


async def test_many_streams_of_one_http2_connection_run_side_by_side(stage: Stage) -> None:
    account = await stage.open_account(1_000_000_000)
    events = message_events(words=4)
    stage.provider.script = streams(events, pause=0.05)

    async with stage.through(account, http2=True) as client:
        answers = await asyncio.gather(*(client.post(MESSAGES, json=BODY | {"stream": True}) for _ in range(12)))

    assert [response.content for response in answers] == [b"".join(events)] * 12
    await stage.settled(account, charges=12)


async def test_an_http2_connection_serves_any_number_of_requests_and_leaves_none_of_its_own_open(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("addons.links.STREAMS_PER_CLIENT_MAX", 2)
    account = await stage.open_account(100_000_000)

    async with stage.through(account, http2=True) as client:
        for _ in range(6):
            assert (await client.post(MESSAGES, json=BODY)).status_code == 200
        [handler] = stage.master.proxyserver.connections.values()
        layer = next(one for one in handler.layer.context.layers if isinstance(one, HttpLayer))
        assert len(layer.connections) <= 3
        assert layer.streams == {}

    await stage.settled(account, charges=6)


@every_path
async def test_a_broken_stream_is_passed_on_as_broken_and_charged_for_what_came(stage: Stage, http2: bool) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(message_events(words=5)[:4], end=False)

    async with stage.through(account, http2=http2) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(MESSAGES, json=BODY | {"stream": True})

    [charge] = await stage.settled(account, charges=1)
    assert charge.estimated


@every_path
async def test_a_client_that_hangs_up_is_charged_and_the_provider_let_go(stage: Stage, http2: bool) -> None:
    account, events = await stage.open_account(), message_events(words=3)

    async def begin(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + b"".join(chunk(one) for one in events[:3]))
        await stage.provider.closed.wait()

    stage.provider.script = begin
    async with stage.through(account, http2=http2) as client, client.stream("POST", MESSAGES, json=BODY | {"stream": True}) as response:
        async for _ in response.aiter_raw():
            break

    [charge] = await stage.settled(account, charges=1)
    assert charge.estimated


async def test_a_body_that_is_too_large_ends_its_own_request_and_no_other_of_the_connection(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(gateway={"body_bytes_max": 100_000})
    account, events, begun = await stage.open_account(), message_events(words=3), asyncio.Event()

    async def begin(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + chunk(events[0]))
        await begun.wait()
        writer.write(b"".join(chunk(one) for one in events[1:]) + b"0\r\n\r\n")

    stage.provider.script = begin
    async with stage.through(account, http2=True) as client, client.stream("POST", MESSAGES, json=BODY | {"stream": True}) as response:
        refused = await client.post(MESSAGES, content=b"x" * 200_000)
        with contextlib.suppress(httpx.HTTPError):  # the answer is there, but this client goes on sending and may not look
            await client.post(MESSAGES, content=b"x" * 4_000_000)
        begun.set()
        received = await response.aread()

    assert refused.status_code == 413
    assert received == b"".join(events)
    await stage.settled(account, charges=1)


# Tokens


async def test_the_token_is_found_wherever_a_proxy_client_puts_it(stage: Stage) -> None:
    account = await stage.open_account()
    token = account.api_token
    body = json.dumps(BODY).encode()
    request = b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\nConnection: close\r\ncontent-length: %d\r\n" % len(body)
    outside = [basic(token), basic("", token), basic("x", token), f"Proxy-Authorization: Bearer {token}\r\n", f"proxy-authorization:basic  {basic(token)[27:]}"]
    inside = [f"x-api-key: {token}\r\n", f"Authorization: Bearer {token}\r\n", f"x-api-key: sk-mine\r\nauthorization: Bearer {token}\r\n"]

    async def ask(outside: str, inside: str = "") -> bytes:
        return await (await open_tunnel(stage, None, headers=outside)).ask(request + inside.encode() + b"\r\n" + body)

    answers = await asyncio.gather(*(ask(one) for one in outside), *(ask("", one) for one in inside), ask(basic("user", "password"), inside[0]))

    assert [one[:12] for one in answers] == [b"HTTP/1.1 200"] * 9
    assert all(asked.header("x-api-key") == "operator-key-anthropic" and asked.header("authorization") is None for asked in stage.provider.asked)
    await stage.settled(account, charges=9)


async def test_without_a_good_token_the_answer_is_401_inside_tls_in_the_dialect(stage: Stage) -> None:
    account = await stage.open_account()
    token = parse_token(account.api_token)
    stranger, _ = mint_token(token.account, token.shard)
    wrong = account.__class__(**{**{name: getattr(account, name) for name in account.__slots__}, "api_token": stranger})
    await stage.books.accounts.set_status((closed := await stage.open_account()).account, "suspended", "test")

    answers = []
    for who in (None, wrong, closed):
        async with stage.through(who) as client:
            answers += [await client.post(MESSAGES, json=BODY, headers={"x-api-key": "sk-mine"}), await client.post(CHATS, json=CHAT)]

    assert [one.status_code for one in answers] == [401] * 6
    assert [one.json()["error"]["type"] for one in answers[::2]] == ["authentication_error"] * 3
    assert [one.json()["error"]["code"] for one in answers[1::2]] == ["invalid_api_key"] * 3
    assert all(one.headers["x-should-retry"] == "false" for one in answers)
    assert stage.provider.asked == []


@pytest.mark.parametrize("http2", [False, True])
async def test_an_empty_account_is_402_inside_tls_in_the_dialect(stage: Stage, http2: bool) -> None:
    account = await stage.open_account(0)

    async with stage.through(account, http2=http2) as client:
        claude = await client.post(MESSAGES, json=BODY)
        gpt = await client.post(CHATS, json=CHAT)
        router = await client.post("https://openrouter.ai/api/v1/chat/completions", json=CHAT | {"model": "glm-5"})

    assert [claude.status_code, gpt.status_code, router.status_code] == [402] * 3
    assert claude.json()["error"]["type"] == "billing_error"
    assert gpt.json()["error"]["code"] == "insufficient_quota"
    assert router.json()["error"]["code"] == 402
    assert claude.headers["x-balance-remaining"] == "0"
    assert stage.provider.asked == []


async def test_a_token_is_neither_logged_nor_sent_on(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    account = await stage.open_account()

    async with stage.through(account) as client:
        await client.post(MESSAGES, json=BODY)
        await client.post(MESSAGES, json=BODY | {"model": "unknown"})
        with pytest.raises(httpx.ProxyError, match="403"):
            await client.get("https://example.com/")

    said = capsys.readouterr().out
    secrets = (account.api_token, basic(account.api_token)[27:-2], "operator-key")
    assert "request_settled" in said
    assert not [secret for secret in secrets if secret in said]
    assert account.api_token not in repr(stage.provider.asked)


# Where it leads


async def test_each_host_is_its_own_provider(stage: Stage) -> None:
    account = await stage.open_account()

    async with stage.through(account) as client:
        elsewhere = await client.post(CHATS, json=CHAT | {"model": "claude-sonnet-4-6"})
        models = {
            host: (await client.get(f"https://{host}/models")).json()["data"] for host in ("api.anthropic.com/v1", "api.openai.com/v1", "openrouter.ai/api/v1")
        }
        stage.provider.script = streams(chat_chunks())
        streamed = await client.post(CHATS, json=CHAT | {"stream": True})

    assert (elsewhere.status_code, elsewhere.json()["error"]["code"]) == (404, "model_not_found")
    assert streamed.status_code == 200
    assert stage.provider.asked[0].header("authorization") == "Bearer operator-key-openai"
    names = {host: {model["id"] for model in found} for host, found in models.items()}
    assert "claude-sonnet-4-6" in names["api.anthropic.com/v1"]
    assert "gpt-4o" in names["api.openai.com/v1"]
    assert "gpt-4o" not in names["api.anthropic.com/v1"]
    assert "claude-sonnet-4-6" not in names["openrouter.ai/api/v1"]
    await stage.settled(account, charges=1)


async def test_what_agents_ask_a_provider_beside_the_model_is_answered_here(stage: Stage) -> None:
    account = await stage.open_account()

    async with stage.through(account) as client:
        probe = await client.head("https://api.anthropic.com/")
        settings = await client.get("https://api.anthropic.com/api/claude_code/settings")
        telemetry = await client.post("https://api.anthropic.com/api/event_logging/v2/batch", json={"events": []})
        control = await client.get("https://api.openai.com/health")

    assert [one.status_code for one in (probe, settings, telemetry, control)] == [200, 404, 404, 404]
    assert settings.json()["type"] == "error"
    assert stage.provider.asked == stage.control.asked == []


async def test_the_door_can_be_closed(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(forward={"enabled": False})

    async with stage.through(None) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(MESSAGES)


async def test_an_idle_tunnel_does_not_keep_a_worker_from_stopping(stage: Stage) -> None:
    account = await stage.open_account()
    async with stage.through(account) as client, stage.through(account, http2=True) as other:
        assert (await client.post(MESSAGES, json=BODY)).status_code == 200
        assert (await other.post(MESSAGES, json=BODY)).status_code == 200
        assert (await other.post("https://api.anthropic.com/v1/files", json=BODY)).status_code == 404
        assert len(stage.master.proxyserver.connections) == 2

        async with asyncio.timeout(3):
            await drain(stage.master.proxyserver, stage.assembly.links, seconds_max=10)

    assert stage.assembly.forward.open == 0


# The official clients


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with run_sandbox() as running:
        yield running


async def test_the_official_clients_need_nothing_but_the_proxy_and_the_certificate(
    make_stage: Callable[..., Any], sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = await make_stage(providers={name: {"base_url": sandbox.url + PATHS[name], "api_key": "sandbox-operator-key"} for name in PROVIDERS})
    account = await stage.open_account(100_000_000)
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY", "http_proxy", "https_proxy", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", stage.proxy_url(account))
    monkeypatch.setenv("SSL_CERT_FILE", str(stage.settings.certificate_file))
    words: list[Any] = [{"role": "user", "content": "three little words"}]

    async with anthropic.AsyncAnthropic(api_key="sk-mine", max_retries=0) as claude:
        message = await claude.messages.create(model="claude-sonnet-4-6", max_tokens=100, messages=words)
        async with claude.messages.stream(model="claude-sonnet-4-6", max_tokens=100, messages=words) as stream:
            streamed = await stream.get_final_message()
        counted = await claude.messages.count_tokens(model="claude-sonnet-4-6", messages=words)
    async with openai.AsyncOpenAI(api_key="sk-mine", max_retries=0) as gpt:
        chat = await gpt.chat.completions.create(model="gpt-4o", max_tokens=100, messages=words)
        pieces = [piece async for piece in await gpt.chat.completions.create(model="gpt-4o", max_tokens=100, messages=words, stream=True)]
        events = [event async for event in await gpt.responses.create(model="gpt-5.2", input="three little words", max_output_tokens=200, stream=True)]
        with pytest.raises(openai.NotFoundError):
            await gpt.chat.completions.create(model="gpt-4x", messages=words)

    assert streamed.content[0].text == message.content[0].text
    assert counted.input_tokens > 0
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == chat.choices[0].message.content
    assert events[-1].type == "response.completed"
    records = await stage.settled(account, charges=5)
    assert not any(record.estimated for record in records)
    assert (await stage.standing(account))[0] == 100_000_000 - sum(record.amount for record in records)


# Hosts that are passed on unread


async def test_a_listed_host_is_passed_on_unread_for_accounts_only(make_stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stage = await make_stage(forward={"tunnel": "files.example.com:8443, inside.example.com"})
    account = await stage.open_account(0)
    resolved: list[tuple[str, int]] = []

    async def resolve(place: tuple[str, int], *, seconds_max: float) -> tuple[str, int]:
        resolved.append(place)
        return "127.0.0.1", stage.provider.port

    monkeypatch.setattr("addons.forward_gate.resolve_public", resolve)
    stage.provider.script = says(answer(b"unread", more="x-by: them\r\n"))
    door = stage.settings.forward.port

    async def ask(headers: str, authority: str = "files.example.com:8443") -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", door)
        writer.write(f"CONNECT {authority} HTTP/1.1\r\n{headers}\r\nGET /x HTTP/1.1\r\nHost: files.example.com\r\n\r\n".encode())
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
            if answer.startswith(b"HTTP/1.1 200"):
                answer += await reader.readuntil(b"unread")
        writer.close()
        return answer

    passed, nobody, stranger, port = await ask(basic(account.api_token)), await ask(""), await ask(basic("l5_x")), await ask("", "files.example.com:443")

    assert passed.startswith(b"HTTP/1.1 200 Connection established\r\n\r\nHTTP/1.1 200 X\r\n")
    assert [asked.line for asked in stage.provider.asked] == ["GET /x HTTP/1.1"]
    assert resolved == [("files.example.com", 8443)]
    assert [nobody[:12], stranger[:12], port[:12]] == [b"HTTP/1.1 407", b"HTTP/1.1 407", b"HTTP/1.1 403"]
    assert b"proxy-authenticate: Basic" in nobody
    await stage.settled(account, charges=0)


async def test_a_listed_host_that_leads_inside_is_not_passed_on(make_stage: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    stage = await make_stage(forward={"tunnel": "inside.example.com"})
    account, answers = await stage.open_account(), []
    for found in (["127.0.0.1"], ["169.254.169.254"], ["93.184.215.14", "10.0.0.1"], ["::ffff:127.0.0.1"], []):

        async def look_up(*_: object, found: list[str] = found, **__: object) -> list[tuple[Any, ...]]:
            return [(0, 0, 0, "", (address, 443)) for address in found]

        with monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
            reader, writer = await asyncio.open_connection(sock=socket.create_connection(("127.0.0.1", stage.settings.forward.port)))
            writer.write(f"CONNECT inside.example.com:443 HTTP/1.1\r\n{basic(account.api_token)}\r\n".encode())
            answers.append((await reader.readuntil(b"\r\n\r\n"))[:12])
            writer.close()

    assert answers == [b"HTTP/1.1 403"] * 5
