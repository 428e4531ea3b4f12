"""The base_url door, phrase by phrase: every path, header and model name that clients are configured with."""

from typing import Any

import httpx
import pytest

from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import answer, event, says, streams

MESSAGE = {"model": "claude-sonnet-4-6", "max_tokens": 50, "messages": [{"role": "user", "content": "Say hi"}]}
CHAT = {"model": "gpt-4o", "max_tokens": 50, "messages": [{"role": "user", "content": "Say hi"}]}
RESPONSE = {"model": "gpt-4o", "max_output_tokens": 50, "input": "Say hi"}
COMPLETION = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150},
}  # fmt: skip


@pytest.fixture
def data_path() -> str:
    """What is asked here is decided before the two paths part."""
    return "lane"


def response_of(*, status: str = "completed", **members: Any) -> dict[str, Any]:
    """An answer of /v1/responses."""
    text = {"id": "msg_made", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]}
    usage = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
    return {"id": "resp_made", "object": "response", "status": status, "model": "gpt-4o", "store": True, "output": [text], "usage": usage} | members


def response_events(final: str = "response.completed", **members: Any) -> list[bytes]:
    """The events of a streamed response."""
    begun = response_of(status="in_progress", output=[], usage=None)
    whole = response_of(status=final.removeprefix("response."), **members)
    deltas = [event("response.output_text.delta", {"type": "response.output_text.delta", "item_id": "msg_made", "delta": "hi"}) for _ in range(3)]
    return [event("response.created", {"type": "response.created", "response": begun}), *deltas, event(final, {"type": final, "response": whole})]


async def post(stage: Stage, account: NewAccount, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> httpx.Response:
    return await stage.client.post(f"{stage.url}/proxy/{account.api_token}{path}", json=body, headers=headers)


@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/v1/messages", "//v1//messages/", "/v1/messages?beta=true"])
async def test_a_path_slip_is_forgiven_and_the_query_goes_on(stage: Stage, path: str) -> None:
    account = await stage.open_account()

    response = await post(stage, account, path, MESSAGE)

    assert response.status_code == 200
    assert stage.provider.asked[0].line == f"POST /v1/messages{'?beta=true' if '?' in path else ''} HTTP/1.1"
    await stage.settled(account, charges=1)


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
@pytest.mark.parametrize("path", ["/v1/messages", "/messages", "/v1/v1/messages"])
async def test_the_token_may_come_in_either_header_of_the_plain_path(stage: Stage, name: str, path: str) -> None:
    account = await stage.open_account()
    value = f"Bearer {account.api_token}" if name == "authorization" else account.api_token

    response = await stage.client.post(stage.url + path, json=MESSAGE, headers={name: value, "anthropic-version": "2026-10-21"})

    assert response.status_code == 200
    [asked] = stage.provider.asked
    assert (asked.header("x-api-key"), asked.header("authorization"), asked.header("anthropic-version")) == ("operator-key-anthropic", None, "2026-10-21")
    assert account.api_token not in str(asked)
    await stage.settled(account, charges=1)


async def test_every_header_of_the_dialects_goes_up_but_what_chooses_in_the_operators_account(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(COMPLETION))
    passed = {
        "anthropic-beta": "claude-code-20250219,files-api-2025-04-14", "anthropic-dangerous-direct-browser-access": "true", "openai-beta": "responses=v1",
        "x-stainless-retry-count": "0", "x-client-request-id": "a", "session-id": "s", "idempotency-key": "k",
    }  # fmt: skip

    response = await post(stage, account, "/v1/chat/completions", CHAT, passed | {"openai-organization": "org-1", "openai-project": "proj-1"})

    assert response.status_code == 200
    [asked] = stage.provider.asked
    assert {name: asked.header(name) for name in passed} == passed
    assert (asked.header("openai-organization"), asked.header("openai-project")) == (None, None)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_the_bare_base_answers_a_probe(stage: Stage, method: str, path: str) -> None:
    account = await stage.open_account()

    response = await stage.client.request(method, f"{stage.url}/proxy/{account.api_token}{path}")

    assert response.status_code == 200
    assert stage.provider.asked == []


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/responses/input_tokens"])
async def test_token_counts_are_free_for_an_account_without_money(stage: Stage, path: str) -> None:
    account = await stage.open_account(0)
    stage.provider.script = says(answer({"object": "response.input_tokens", "input_tokens": 11}))
    body = MESSAGE if "messages" in path else {"model": "gpt-4o", "input": "hi"}

    response = await post(stage, account, path, body)

    assert (response.status_code, response.json()["input_tokens"], response.headers["x-level5-charge"]) == (200, 11, "0")
    await stage.settled(account, charges=0)


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_response_is_billed_by_its_usage(stage: Stage, streamed: bool) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(response_events()) if streamed else says(answer(response_of()))

    response = await post(stage, account, "/v1/responses", RESPONSE | {"stream": streamed})

    assert response.status_code == 200
    [record] = await stage.settled(account, charges=1)
    assert (record.lines[0].input_tokens, record.lines[0].output_tokens, record.estimated) == (100, 50, False)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_incomplete_response_is_billed_by_its_usage(stage: Stage, streamed: bool) -> None:
    account = await stage.open_account()
    whole = response_of(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    stage.provider.script = streams(response_events("response.incomplete")) if streamed else says(answer(whole))

    response = await post(stage, account, "/v1/responses", RESPONSE | {"stream": streamed})

    assert response.status_code == 200
    [record] = await stage.settled(account, charges=1)
    assert (record.lines[0].input_tokens, record.lines[0].output_tokens, record.estimated) == (100, 50, False)


async def test_a_compaction_is_billed_at_the_model_that_was_asked_for(stage: Stage) -> None:
    account = await stage.open_account()
    compaction = {"id": "resp_c", "object": "response.compaction", "output": [], "usage": {"input_tokens": 900, "output_tokens": 30, "total_tokens": 930}}
    stage.provider.script = says(answer(compaction))

    response = await post(stage, account, "/v1/responses/compact", {"model": "gpt-5.2", "input": [{"role": "user", "content": "hi"}]})

    assert response.json() == compaction
    [record] = await stage.settled(account, charges=1)
    assert (record.model, record.operation, record.lines[0].input_tokens, record.lines[0].output_tokens) == ("gpt-5.2", "compact", 900, 30)


async def test_a_background_response_is_422_and_says_what_to_do(stage: Stage) -> None:
    account = await stage.open_account()

    refused = await post(stage, account, "/v1/responses", RESPONSE | {"background": True})

    assert refused.status_code == 422
    assert "background" in refused.json()["error"]["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert stage.provider.asked == []
    stage.provider.script = says(answer(response_of()))
    assert (await post(stage, account, "/v1/responses", RESPONSE | {"background": False})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("GET", "/v1/responses/resp_1?stream=true&starting_after=5"),
        ("DELETE", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("GET", "/v1/responses/resp_1/input_items"),
        ("GET", "/v1/chat/completions/chatcmpl-1"),
        ("POST", "/v1/batches"),
        ("GET", "/v1/batches/batch_1"),
        ("POST", "/v1/messages/batches"),
        ("GET", "/v1/messages/batches/msgbatch_1/results"),
        ("GET", "/v1/messages/batches"),
    ],
)
async def test_what_could_be_billed_any_number_of_times_is_422_with_a_way_out(stage: Stage, method: str, path: str) -> None:
    account = await stage.open_account()

    refused = await stage.client.request(method, f"{stage.url}/proxy/{account.api_token}{path}")

    assert refused.status_code == 422
    error = refused.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert ("type" in refused.json()) == ("messages" in path)
    assert "not served" in error["message"]
    assert stage.provider.asked == []


@pytest.mark.parametrize("path", ["/v1/files", "/v1/files/file-1/content", "/v1/conversations", "/v1/vector_stores/vs_1", "/v1/containers", "/v1/nonsense"])
async def test_other_peoples_objects_are_404_with_a_reason(stage: Stage, path: str) -> None:
    account = await stage.open_account()

    refused = await stage.client.get(f"{stage.url}/proxy/{account.api_token}{path}")

    assert (refused.status_code, stage.provider.asked) == (404, [])
    assert "served" in refused.json()["error"]["message"]


@pytest.mark.parametrize("name", ["qwen3-max", "qwen/qwen3-max", "openrouter/qwen3-max", "grok-4.1-fast", "x-ai/grok-4.1-fast"])
@pytest.mark.parametrize("base", ["/v1", "/api/v1"])
async def test_an_openrouter_model_goes_by_every_name(stage: Stage, name: str, base: str) -> None:
    account = await stage.open_account()
    vendor = "x-ai/grok-4.1-fast" if "grok" in name else "qwen/qwen3-max"
    stage.provider.script = says(answer(COMPLETION | {"model": vendor}))

    response = await post(stage, account, f"{base}/chat/completions", CHAT | {"model": name})

    assert response.status_code == 200, response.text
    [asked] = stage.provider.asked
    assert (asked.json["model"], asked.header("authorization")) == (vendor, "Bearer operator-key-openrouter")
    [record] = await stage.settled(account, charges=1)
    assert (record.provider, record.estimated) == ("openrouter", False)


async def test_a_claude_model_on_chat_completions_goes_to_the_compatible_endpoint(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(COMPLETION | {"model": "claude-sonnet-4-6"}))

    response = await post(stage, account, "/v1/chat/completions", CHAT | {"model": "claude-sonnet-4.6"})

    assert response.status_code == 200
    [asked] = stage.provider.asked
    assert (asked.line, asked.json["model"]) == ("POST /v1/chat/completions HTTP/1.1", "claude-sonnet-4-6")
    assert (asked.header("authorization"), asked.header("x-api-key")) == ("Bearer operator-key-anthropic", None)
    [record] = await stage.settled(account, charges=1)
    assert (record.provider, record.amount) == ("anthropic", -(-(100 * 3_300_000 + 50 * 16_500_000) // 1_000_000))


async def test_a_claude_model_on_responses_is_404_and_says_where_it_is(stage: Stage) -> None:
    account = await stage.open_account()

    refused = await post(stage, account, "/v1/responses", RESPONSE | {"model": "claude-sonnet-4-6"})

    assert refused.status_code == 404
    assert "/v1/messages" in refused.json()["error"]["message"]
