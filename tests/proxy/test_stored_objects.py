"""Objects stored at the provider: usable by the account that made them, not there for anybody else."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from ledger.accounts import NewAccount
from ledger.tokens import mint_token, parse_token
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import answer, event, says, streams

REQUEST = {"model": "gpt-4o", "max_output_tokens": 50, "input": "Say hi"}
USAGE = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
REASONING = {"type": "reasoning", "id": "rs_other", "summary": []}

Post = Callable[..., Awaitable[httpx.Response]]


@pytest.fixture
def data_path() -> str:
    """What is asked here is decided before the two paths part."""
    return "lane"


def response_of(identity: str, **members: Any) -> dict[str, Any]:
    """An answer of /v1/responses with one item, named after it."""
    item = {"id": f"msg_{identity}", "type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi", "annotations": []}]}
    return {"id": f"resp_{identity}", "object": "response", "status": "completed", "model": "gpt-4o", "store": True, "output": [item], "usage": USAGE} | members


def events_of(identity: str) -> list[bytes]:
    begun = response_of(identity, status="in_progress", output=[], usage=None)
    delta = {"type": "response.output_text.delta", "item_id": f"msg_{identity}", "delta": "hi"}
    return [
        event("response.created", {"type": "response.created", "response": begun}),
        event("response.output_text.delta", delta),
        event("response.completed", {"type": "response.completed", "response": response_of(identity)}),
    ]


async def ask(stage: Stage, account: NewAccount, path: str = "/v1/responses", **fields: Any) -> httpx.Response:
    return await stage.client.post(f"{stage.url}/proxy/{account.api_token}{path}", json=REQUEST | fields)


async def made(stage: Stage, identity: str, *, balance: int = 10_000_000, **fields: Any) -> NewAccount:
    """An account with one stored response."""
    account = await stage.open_account(balance)
    stage.provider.script = says(answer(response_of(identity)))
    assert (await ask(stage, account, **fields)).status_code == 200
    await stage.settled(account, charges=1)
    stage.provider.asked.clear()
    return account


async def forget(stage: Stage, account: NewAccount) -> None:
    """Take from Redis what it knows of made objects, as a rebuild does."""
    token = parse_token(account.api_token)
    names = [name async for name in stage.books.balances.redis.scan_iter(f"l5:{{{token.shard}}}:e*:m:{token.account}:*")]
    assert await stage.books.balances.redis.delete(*names) == len(names) > 0


async def test_a_response_is_continued_by_its_maker_and_is_not_there_for_others(stage: Stage) -> None:
    maker, other = await made(stage, "one"), await stage.open_account()

    stranger = await ask(stage, other, previous_response_id="resp_one")
    nobodys = await ask(stage, other, previous_response_id="resp_nobody")

    assert stranger.status_code == nobodys.status_code == 404
    error = stranger.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", "previous_response_not_found", "previous_response_id")
    assert error["message"].startswith("Previous response with id 'resp_one' not found.")
    assert nobodys.json()["error"] == error | {"message": error["message"].replace("resp_one", "resp_nobody")}
    assert (stranger.headers["x-should-retry"], stranger.headers["x-balance-remaining"]) == ("false", "10000000")
    assert stage.provider.asked == []
    await stage.settled(other, charges=0)
    assert (await ask(stage, maker, previous_response_id="resp_one")).status_code == 200
    assert stage.provider.asked[0].json["previous_response_id"] == "resp_one"


async def test_the_items_of_a_response_are_as_much_its_makers(stage: Stage) -> None:
    maker, other = await made(stage, "items"), await stage.open_account()
    items = [{"type": "item_reference", "id": "msg_items"}, {"role": "user", "content": "go on"}]

    assert (await ask(stage, other, input=items)).json()["error"]["message"].startswith("Item with id 'msg_items' not found.")
    assert (await ask(stage, maker, input=items)).status_code == 200
    assert (await ask(stage, maker, input=[*items, {"type": "item_reference", "id": "msg_strange"}])).status_code == 404


async def test_a_streamed_response_is_its_makers_when_its_last_event_is_there(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(events_of("streamed"))
    async with stage.client.stream("POST", f"{stage.url}/proxy/{account.api_token}/v1/responses", json=REQUEST | {"stream": True}) as response:
        async for line in response.aiter_lines():
            if "response.completed" in line:
                stage.provider.script = says(answer(response_of("next")))
                assert (await ask(stage, account, previous_response_id="resp_streamed")).status_code == 200
                break


async def test_a_response_whose_stream_was_cut_is_its_makers_all_the_same(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(events_of("cut")[:2], end=False)
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(stage, account, stream=True)
    await stage.settled(account, charges=1)
    stage.provider.script = says(answer(response_of("after")))

    assert (await ask(stage, account, previous_response_id="resp_cut")).status_code == 200


@pytest.mark.parametrize("asked", [False, True])
async def test_a_response_that_was_not_stored_is_nobodys(stage: Stage, asked: bool) -> None:
    account = await stage.open_account()
    identity = f"unstored_{asked}"
    stage.provider.script = says(answer(response_of(identity, store=False)))
    fields: dict[str, Any] = {"store": False} if asked else {}
    assert (await ask(stage, account, **fields)).status_code == 200
    [record] = await stage.settled(account, charges=1)

    assert (await ask(stage, account, previous_response_id=f"resp_{identity}")).status_code == 404
    assert record.made == ()


@pytest.mark.parametrize(
    ("fields", "sentence", "param"),
    [
        ({"conversation": "conv_1"}, "Conversation with id 'conv_1' not found.", "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "Prompt with id 'pmpt_1' not found.", "prompt"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}, "No such File object: file-1.", "file_id"),
        ({"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "Vector store with id 'vs_1' not found.", "vector_store_ids"),
        ({"input": [REASONING, {"role": "user", "content": "go on"}]}, "Item with id 'rs_other' not found.", "input"),
    ],
)
async def test_what_nobody_can_have_made_here_is_404_in_openais_words(stage: Stage, fields: dict[str, Any], sentence: str, param: str) -> None:
    account = await stage.open_account()

    refused = await ask(stage, account, **fields)

    assert (refused.status_code, stage.provider.asked) == (404, [])
    assert refused.json()["error"]["message"].startswith(sentence)
    assert refused.json()["error"]["param"] == param
    await stage.settled(account, charges=0)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"container": "container_1"}, "Container not found: container_1."),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "file", "file_id": "file_1"}}]}]}, "File not found: file_1."),
        ({"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "file_1"}]}]}, "File not found: file_1."),
    ],
)
async def test_what_nobody_can_have_made_here_is_404_in_anthropics_words(stage: Stage, fields: dict[str, Any], sentence: str) -> None:
    account = await stage.open_account()

    refused = await stage.messages(account, **fields)

    assert (refused.status_code, stage.provider.asked) == (404, [])
    assert refused.json()["error"]["type"] == "not_found_error"
    assert refused.json()["error"]["message"].startswith(sentence)


async def test_the_length_of_somebody_elses_conversation_is_not_counted_either(stage: Stage) -> None:
    maker, other = await made(stage, "counted"), await stage.open_account()
    stage.provider.script = says(answer({"object": "response.input_tokens", "input_tokens": 11}))
    body = {"model": "gpt-4o", "input": "hi", "previous_response_id": "resp_counted"}

    async def count(account: NewAccount) -> int:
        return (await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/responses/input_tokens", json=body)).status_code

    assert (await count(other), stage.provider.asked) == (404, [])
    assert await count(maker) == 200


async def test_a_stranger_learns_nothing_but_that(stage: Stage) -> None:
    maker = await made(stage, "secret")
    token = parse_token(maker.api_token)
    forged, _ = mint_token(token.account, token.shard)

    for identity in ("resp_secret", "resp_none"):
        refused = await stage.client.post(f"{stage.url}/proxy/{forged}/v1/responses", json=REQUEST | {"previous_response_id": identity})
        assert refused.status_code == 401
    assert stage.provider.asked == []


async def test_a_router_that_keeps_nothing_reads_an_items_own_words(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = says(answer(response_of("router", store=False, model="qwen/qwen3-max")))

    assert (await ask(stage, account, model="qwen3-max", input=[REASONING, {"role": "user", "content": "go on"}])).status_code == 200
    assert (await ask(stage, account, model="qwen3-max", previous_response_id="resp_router")).status_code == 404


async def test_what_redis_has_forgotten_the_journal_remembers(stage: Stage) -> None:
    maker, other = await made(stage, "posted"), await stage.open_account()
    await stage.books.drain()
    await forget(stage, maker)

    assert (await ask(stage, maker, previous_response_id="resp_posted")).status_code == 200
    assert (await ask(stage, other, previous_response_id="resp_posted")).status_code == 404


async def test_where_nobody_knows_the_answer_is_503_and_what_is_known_is_served(stage: Stage) -> None:
    maker = await made(stage, "away")
    objects = stage.assembly.gateway._admission._ownership._objects
    objects._pool.terminate()

    unknown = await ask(stage, maker, previous_response_id="resp_from_long_ago")

    assert (unknown.status_code, unknown.headers["retry-after"]) == (503, "5")
    assert stage.provider.asked == []
    assert (await ask(stage, maker, previous_response_id="resp_away")).status_code == 200


async def test_searching_for_what_others_made_is_limited(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()
    monkeypatch.setattr(stage.assembly.gateway._admission._ownership._quota, "_per_minute", 3)

    statuses = [(await ask(stage, account, previous_response_id=f"resp_{number}")).status_code for number in range(8)]

    assert statuses[:3] == [404] * 3
    assert 429 in statuses[3:]
    assert set(statuses) == {404, 429}
