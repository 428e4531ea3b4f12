"""What is refused before anything is sent: the right status, in the caller's dialect, with nothing held."""

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from ledger.tokens import TokenScope, mint_token, parse_token
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import answer, message, says

BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
CHAT = {"model": "gpt-4o", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}


async def test_an_unknown_token_is_401_in_each_dialect(stage: Stage) -> None:
    account = await stage.open_account()
    token = parse_token(account.api_token)
    stranger, _ = mint_token(token.account, token.shard)

    anthropic = await stage.client.post(f"{stage.url}/proxy/{stranger}/v1/messages", json=BODY)
    openai = await stage.client.post(f"{stage.url}/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {stranger}"})
    nobody = await stage.client.post(f"{stage.url}/v1/chat/completions", json=CHAT)
    router = await stage.client.post(f"{stage.url}/proxy/{stranger}/api/v1/chat/completions", json=CHAT)

    assert [one.status_code for one in (anthropic, openai, nobody, router)] == [401] * 4
    assert anthropic.json()["error"]["type"] == "authentication_error"
    assert anthropic.json()["request_id"] == anthropic.headers["request-id"] == anthropic.headers["x-request-id"]
    assert openai.json()["error"]["code"] == "invalid_api_key"
    assert router.json()["error"]["code"] == 401
    assert openai.headers["x-should-retry"] == "false"
    assert stage.provider.asked == []


async def test_a_suspended_account_is_401_and_its_money_stays(stage: Stage) -> None:
    account = await stage.open_account()
    await stage.books.accounts.set_status(account.account, "suspended", "test")

    response = await stage.messages(account)

    assert response.status_code == 401
    assert stage.provider.asked == []


async def test_a_read_only_token_is_403_in_each_dialect_and_costs_nothing(stage: Stage) -> None:
    account = await stage.open_account()
    token, _ = await stage.books.accounts.create_token(account.account, scope=TokenScope.READ_ONLY)

    anthropic = await stage.client.post(f"{stage.url}/proxy/{token}/v1/messages", json=BODY)
    large = await stage.client.post(f"{stage.url}/proxy/{token}/v1/messages", json={**BODY, "system": "x" * 200_000})
    counted = await stage.client.post(f"{stage.url}/proxy/{token}/v1/messages/count_tokens", json=BODY)
    openai = await stage.client.post(f"{stage.url}/v1/chat/completions", json=CHAT, headers={"authorization": f"Bearer {token}"})
    models = await stage.client.get(f"{stage.url}/proxy/{token}/v1/models")

    assert [one.status_code for one in (anthropic, large, counted, openai, models)] == [403] * 5
    assert anthropic.json()["error"]["type"] == "permission_error"
    assert openai.json()["error"]["code"] == "read_only_token"
    assert "read-only" in openai.json()["error"]["message"]
    assert openai.headers["x-should-retry"] == "false"
    assert token not in anthropic.text + openai.text
    assert stage.provider.asked == []


async def test_an_empty_account_is_402_and_is_told_what_it_has(stage: Stage) -> None:
    account = await stage.open_account(0)

    response = await stage.messages(account)

    assert response.status_code == 402
    error = response.json()["error"]
    assert error["type"] == "billing_error"
    needed, link = error["details"]["required"], f"{stage.url}/dashboard"
    assert error["message"] == f"Insufficient balance: this request needs 0.{needed:06d} USDC and 0.000000 is available. Deposit USDC to go on: {link}"
    assert error["details"] == {"required": needed, "available": 0, "top_up_url": link}
    assert account.api_token not in response.text
    assert response.headers["x-balance-remaining"] == "0"
    assert response.headers["x-should-retry"] == "false"
    assert "retry-after" not in response.headers
    assert stage.provider.asked == []


async def test_402_says_how_many_tokens_are_affordable(stage: Stage) -> None:
    account = await stage.open_account(10_000)

    response = await stage.messages(account, max_tokens=60_000)

    assert response.status_code == 402
    tokens = response.json()["error"]["details"]["affordable_output_tokens"]
    assert f"at most {tokens} output tokens" in response.json()["error"]["message"]
    assert (await stage.messages(account, max_tokens=tokens)).status_code == 200


async def test_a_request_without_a_limit_gets_one_that_its_balance_covers(stage: Stage) -> None:
    account = await stage.open_account(20_000)
    stage.provider.script = says(
        answer(
            {
                "id": "c",
                "object": "chat.completion",
                "model": "gpt-4o",
                "choices": [],
                "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
            }
        )
    )
    body = {key: value for key, value in CHAT.items() if key != "max_tokens"}

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/chat/completions", json=body)

    limit = int(response.headers["x-level5-output-limit"])
    sent = stage.provider.asked[0].json
    assert limit in sent.values()
    assert limit * 11 <= 20_000
    await stage.settled(account, charges=1)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"model":"claude-sonnet-4-6","model":"x","max_tokens":5,"messages":[]}', 400),
        (b'\xff{"model":"x"}', 400),
        (json.dumps(BODY | {"max_tokens": -5}).encode(), 400),
        (json.dumps({"max_tokens": 5, "messages": []}).encode(), 400),
        (json.dumps(BODY | {"model": "claude-sonnet-4-7"}).encode(), 404),
        (json.dumps(BODY | {"service_tier": "made_up_tier"}).encode(), 422),
    ],
)
async def test_what_cannot_be_read_or_priced_is_refused(stage: Stage, body: bytes, status: int) -> None:
    account = await stage.open_account()

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/messages", content=body)

    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.headers["x-balance-remaining"] == "10000000"
    assert stage.provider.asked == []
    assert (await stage.standing(account))[1] == 0


async def test_a_model_that_is_nearly_right_is_named(stage: Stage) -> None:
    account = await stage.open_account()

    response = await stage.messages(account, model="claude-sonet-4-6")

    assert response.status_code == 404
    assert "claude-sonnet-4-6" in response.json()["error"]["message"]


async def test_a_method_or_path_that_is_not_there_is_refused_in_the_dialect(stage: Stage) -> None:
    account = await stage.open_account()

    wrong = await stage.client.get(f"{stage.url}/proxy/{account.api_token}/v1/messages")

    assert wrong.status_code == 405
    assert wrong.json()["type"] == "error"


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(gateway={"body_bytes_max": 1000})
    account = await stage.open_account()
    head = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n"

    received = await stage.exchange_raw(head.encode())

    assert received.startswith(b"HTTP/1.1 413")
    assert b"request_too_large" in received
    assert b"100" not in received[:12]


async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_large(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(gateway={"body_bytes_max": 1000})
    account = await stage.open_account()
    head = f"POST /proxy/{account.api_token}/v1/messages HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

    received = await stage.exchange_raw(head.encode() + b"400\r\n" + b"x" * 1024 + b"\r\n")

    assert received.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(("room", "size"), [(8_000, 9_000), (400_000, 150_000)], ids=["all", "one-accounts-quarter"])
async def test_bodies_beyond_the_workers_memory_are_503(make_stage: Callable[..., Any], room: int, size: int) -> None:
    stage = await make_stage(gateway={"buffered_bytes_max": room})
    account = await stage.open_account()

    response = await stage.messages(account, system="x" * size)

    assert response.status_code == 503
    assert (await stage.messages(account)).status_code == 200


async def test_a_compressed_body_is_read_and_goes_up_plain(stage: Stage) -> None:
    account = await stage.open_account()
    raw = json.dumps(BODY).encode()

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/messages", content=gzip.compress(raw), headers={"content-encoding": "gzip"})

    assert response.status_code == 200
    [asked] = stage.provider.asked
    assert (asked.body, asked.header("content-encoding")) == (raw, None)


async def test_a_chunked_body_goes_up_with_its_length(stage: Stage) -> None:
    account = await stage.open_account()

    async def pieces() -> Any:
        yield json.dumps(BODY).encode()[:20]
        yield json.dumps(BODY).encode()[20:]

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/messages", content=pieces())

    assert response.status_code == 200
    [asked] = stage.provider.asked
    assert (asked.json, asked.header("transfer-encoding")) == (BODY, None)


async def test_a_websocket_is_426_at_once(stage: Stage) -> None:
    account = await stage.open_account()
    headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "eA=="}

    response = await stage.client.get(f"{stage.url}/proxy/{account.api_token}/v1/responses", headers=headers)

    assert response.status_code == 426


async def test_more_requests_at_once_than_allowed_are_429(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(ledger={"concurrent_requests": 3})
    account = await stage.open_account(100_000_000)
    stage.provider.script = says(b"", answer(message()), pause=0.3)

    answers = await asyncio.gather(*(stage.messages(account) for _ in range(8)))

    assert sorted(one.status_code for one in answers) == [200] * 3 + [429] * 5
    await stage.settled(account, charges=3)


async def test_a_balance_for_three_serves_three_of_many(stage: Stage) -> None:
    account = await stage.open_account(0)
    stage.provider.script = says(b"", answer(message(input_tokens=10, output_tokens=500)), pause=0.3)
    probe = await stage.messages(account)
    need = probe.json()["error"]["details"]["required"]
    await stage.books.accounts.credit(account.account, need * 3 + need // 2, reason="three", actor="test")

    answers = await asyncio.gather(*(stage.messages(account) for _ in range(40)))

    assert sorted(one.status_code for one in answers) == [200] * 3 + [402] * 37
    assert (await stage.standing(account))[0] >= 0
    await stage.settled(account, charges=3)


async def test_a_closed_shard_is_503_and_nothing_is_sent(lone_stage: Stage) -> None:
    account = await lone_stage.open_account()
    token = parse_token(account.api_token)
    await lone_stage.books.balances.close_shard(token.shard, lone_stage.books.balances.epoch(token.shard))

    response = await lone_stage.messages(account)

    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert lone_stage.provider.asked == []


async def test_without_redis_nothing_is_served(lone_stage: Stage, valkey_server: Any) -> None:
    account = await lone_stage.open_account()
    valkey_server.stop()

    response = await lone_stage.messages(account)

    assert response.status_code == 503
    assert lone_stage.provider.asked == []


async def test_a_provider_without_a_key_is_503_with_the_reason(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage(providers={"openai": {"base_url": "http://127.0.0.1:9"}})
    account = await stage.open_account()

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/chat/completions", json=CHAT)

    assert response.status_code == 503
    assert "openai" in response.json()["error"]["message"]


async def test_a_hook_that_fails_refuses_the_request(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()

    async def broken(*args: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(stage.assembly.gateway, "_admit", broken)

    response = await stage.messages(account)

    assert response.status_code == 503
    assert stage.provider.asked == []


async def test_a_further_model_is_called_as_its_provider_calls_it(stage: Stage) -> None:
    account = await stage.open_account()
    asked = {"model": "qwen/qwen3-max", "models": ["glm-5"], "messages": [{"role": "user", "content": "hi"}]}

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/chat/completions", json=asked)

    assert response.status_code == 400
    assert "'z-ai/glm-5'" in response.json()["error"]["message"]
    await stage.settled(account, charges=0)
