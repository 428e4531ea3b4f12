"""What is not billed: the control API behind the same port, models, probes, token counts."""

import asyncio
import json

import anthropic
import httpx
import pytest

from addons.drain import drain
from addons.local_answers import FreeQuota
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import Asked, answer, chunk, says, stream_head


async def test_other_paths_go_to_control_with_the_peer_told_unforgeably(stage: Stage) -> None:
    stage.control.script = says(answer({"status": "ok"}, more="x-kept: 1\r\n"))

    response = await stage.client.post(
        f"{stage.url}/v1/register?a=b", json={"name": "x"}, headers={"x-level5-peer": "6.6.6.6", "x-level5-peer-key": "guess", "authorization": "Bearer abc"}
    )

    assert (response.status_code, response.json(), response.headers["x-kept"]) == (200, {"status": "ok"}, "1")
    [asked] = stage.control.asked
    assert asked.line == "POST /v1/register?a=b HTTP/1.1"
    assert [value for name, value in asked.headers if name.lower() == "x-level5-peer"] == ["127.0.0.1"]
    assert "guess" not in str(asked.headers)
    assert asked.header("authorization") == "Bearer abc"
    assert asked.json == {"name": "x"}


async def test_an_accounts_own_pages_go_to_control(stage: Stage) -> None:
    account = await stage.open_account()

    response = await stage.client.get(f"{stage.url}/proxy/{account.api_token}/balance")

    assert response.json() == {"from": "control"}
    assert stage.control.asked[0].line == f"GET /proxy/{account.api_token}/balance HTTP/1.1"


async def test_a_control_api_that_is_away_is_503(stage: Stage) -> None:
    await stage.control.stop()

    response = await stage.client.get(f"{stage.url}/health")

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "temporarily_unavailable"


async def test_control_errors_pass_as_they_are(stage: Stage) -> None:
    stage.control.script = says(answer({"error": "no"}, status=401))

    assert (await stage.client.get(f"{stage.url}/v1/keys")).status_code == 401


@pytest.mark.parametrize("status", [204, 304])
async def test_an_answer_that_never_has_a_body_says_nothing_of_its_length(stage: Stage, status: int) -> None:
    stage.control.script = says(f"HTTP/1.1 {status} X\r\nx-kept: 1\r\n\r\n".encode())

    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    heads = []
    for _ in range(2):  # the second one shows that the connection can be read on
        writer.write(f"GET /pricing HTTP/1.1\r\nhost: 127.0.0.1:{stage.port}\r\n\r\n".encode())
        heads.append((await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode().lower())
    writer.close()

    for head in heads:
        assert head.startswith(f"http/1.1 {status} ")
        assert "x-kept: 1" in head
        assert "transfer-encoding" not in head
        assert "content-length" not in head


async def test_a_page_that_follows_an_account_does_not_keep_a_worker_from_stopping(stage: Stage) -> None:
    stage.control.script = _follows

    reader, writer = await asyncio.open_connection("127.0.0.1", stage.port)
    writer.write(f"GET /dashboard/l5_1_0/events HTTP/1.1\r\nhost: 127.0.0.1:{stage.port}\r\n\r\n".encode())
    received = b""
    while b"retry" not in received:
        received += await asyncio.wait_for(reader.read(65536), 10)

    async with asyncio.timeout(8):
        await drain(stage.master.proxyserver, stage.assembly.links, seconds_max=25)
    writer.close()


async def _follows(_asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Answer with events that never end."""
    writer.write(stream_head() + chunk(b"retry: 2000\n\n"))
    await writer.drain()
    await asyncio.sleep(30)


async def test_the_priced_models_are_listed_in_both_dialects(stage: Stage) -> None:
    account = await stage.open_account()
    token = {"authorization": f"Bearer {account.api_token}"}

    openai = await stage.client.get(f"{stage.url}/v1/models", headers=token)
    anthropic = await stage.client.get(f"{stage.url}/v1/models", headers=token | {"anthropic-version": "2023-06-01"})
    one = await stage.client.get(f"{stage.url}/v1/models/gpt-4o", headers=token)
    none = await stage.client.get(f"{stage.url}/v1/models/gpt-4z", headers=token)
    stranger = await stage.client.get(f"{stage.url}/v1/models")

    assert {"id": "gpt-4o", "object": "model", "created": 1735689600, "owned_by": "openai"} in openai.json()["data"]
    assert anthropic.json()["data"][0]["type"] == "model"
    assert one.json()["id"] == "gpt-4o"
    assert (none.status_code, stranger.status_code) == (404, 401)
    assert openai.headers["x-balance-remaining"] == "10000000"
    assert stage.provider.asked == []


async def test_the_models_are_paged_as_anthropics_clients_page(stage: Stage) -> None:
    account = await stage.open_account()
    client = anthropic.AsyncAnthropic(base_url=f"{stage.url}/proxy/{account.api_token}", api_key="unused")
    whole = (await stage.client.get(f"{stage.url}/proxy/{account.api_token}/v1/models", headers={"anthropic-version": "2023-06-01"})).json()["data"]

    page = await client.models.list(limit=100)
    ids = [model.id async for model in page]
    before = await client.models.list(limit=2, before_id=ids[3])
    url = f"{stage.url}/proxy/{account.api_token}/v1/models?"
    refused = [await stage.client.get(url + query, headers={"anthropic-version": "1"}) for query in ("limit=0", "limit=x", "limit=1001", "after_id=none")]

    assert ids == [model["id"] for model in whole]
    assert ([model.id for model in before.data], before.has_more) == (ids[1:3], True)
    assert [(one.status_code, one.json()["error"]["type"]) for one in refused] == [(400, "invalid_request_error")] * 4


async def test_openrouters_models_are_listed_as_it_does_with_the_price_that_is_charged(stage: Stage) -> None:
    account = await stage.open_account()

    listed = (await stage.client.get(f"{stage.url}/proxy/{account.api_token}/api/v1/models")).json()["data"]

    [model] = [one for one in listed if one["id"] == "qwen3-max"]
    assert model["pricing"] == {"prompt": "0.00000132", "completion": "0.0000066", "input_cache_read": "0.000000264"}
    assert model["context_length"] == 262_144
    assert all(one["id"] != "gpt-4o" for one in listed)


async def test_a_probe_of_the_bare_base_is_200(stage: Stage) -> None:
    account = await stage.open_account()

    assert (await stage.client.head(f"{stage.url}/proxy/{account.api_token}")).status_code == 200
    assert (await stage.client.get(f"{stage.url}/proxy/{account.api_token}/v1")).status_code == 200


async def test_token_counts_are_forwarded_free_but_not_without_end(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage.assembly.gateway, "_quota", FreeQuota(per_minute=5))
    account = await stage.open_account(0)
    stage.provider.script = says(answer({"input_tokens": 10_000}))
    body = {"model": "claude-sonnet-4-6", "messages": [{"role": "user", "content": "Say hi"}]}

    async def count() -> httpx.Response:
        return await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/messages/count_tokens", json=body)

    first = await count()
    statuses = [(await count()).status_code for _ in range(14)]

    assert (first.status_code, first.json()) == (200, {"input_tokens": 10_000})
    assert first.headers["x-level5-charge"] == "0"
    assert stage.provider.asked[0].line == "POST /v1/messages/count_tokens HTTP/1.1"
    assert json.loads(stage.provider.asked[0].body) == body
    assert statuses.count(429) >= 5
    await stage.settled(account, charges=0)
