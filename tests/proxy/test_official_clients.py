"""The official Python clients against the gateway, with the simulated providers behind it."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import openai
import pytest

from ledger.accounts import NewAccount
from sandbox.server import Sandbox, run_sandbox
from tests.fakes.gateway import PROVIDERS, Stage

KEY = "sandbox-operator-key"
MODEL = "claude-sonnet-4-6"
PATHS = {"anthropic": "/anthropic", "openai": "/openai", "openrouter": "/openrouter/api"}


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with run_sandbox() as running:
        yield running


@pytest.fixture
async def simulated(make_stage: Callable[..., Any], sandbox: Sandbox) -> Stage:
    """A gateway whose providers are the simulated ones."""
    made: Stage = await make_stage(providers={name: {"base_url": sandbox.url + PATHS[name], "api_key": KEY} for name in PROVIDERS})
    return made


def claude(stage: Stage, account: NewAccount, *, path: bool = True) -> anthropic.AsyncAnthropic:
    if path:
        return anthropic.AsyncAnthropic(api_key="x", base_url=f"{stage.url}/proxy/{account.api_token}", max_retries=0)
    return anthropic.AsyncAnthropic(api_key=account.api_token, base_url=stage.url, max_retries=0)


def gpt(stage: Stage, account: NewAccount, base: str = "/v1") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="x", base_url=f"{stage.url}/proxy/{account.api_token}{base}", max_retries=0)


def says(text: str = "three little words") -> list[Any]:
    return [{"role": "user", "content": text}]


def sonnet(usage: anthropic.types.Usage) -> int:
    """The price of a usage without cache, by hand."""
    return -(-(usage.input_tokens * 3_300_000 + usage.output_tokens * 16_500_000) // 1_000_000)


@pytest.mark.parametrize("path", [True, False])
async def test_anthropic_plain_and_streamed(simulated: Stage, path: bool) -> None:
    account = await simulated.open_account()
    client = claude(simulated, account, path=path)

    raw = await client.messages.with_raw_response.create(model=MODEL, max_tokens=100, messages=says())
    message = await raw.parse()
    async with client.messages.stream(model=MODEL, max_tokens=100, messages=says()) as stream:
        streamed = await stream.get_final_message()

    assert int(raw.headers["x-level5-charge"]) == sonnet(message.usage)
    assert streamed.content[0].text == message.content[0].text
    records = await simulated.settled(account, charges=2)
    assert [record.amount for record in records] == [sonnet(message.usage), sonnet(streamed.usage)]
    assert (await simulated.standing(account))[0] == 10_000_000 - sum(record.amount for record in records)


@pytest.mark.parametrize("base", ["/v1", "", "/api/v1"])
async def test_openai_chat_plain_and_streamed(simulated: Stage, base: str) -> None:
    account = await simulated.open_account()
    client = gpt(simulated, account, base)
    model = "glm-5" if base == "/api/v1" else "gpt-4o"

    plain = await client.chat.completions.create(model=model, max_tokens=100, messages=says())
    pieces = [chunk async for chunk in await client.chat.completions.create(model=model, max_tokens=100, messages=says(), stream=True)]

    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == plain.choices[0].message.content
    records = await simulated.settled(account, charges=2)
    assert not any(record.estimated for record in records)
    assert records[0].amount == records[1].amount > 0


async def test_openai_usage_that_was_asked_for_arrives(simulated: Stage) -> None:
    account = await simulated.open_account()
    options: Any = {"include_usage": True}

    stream = await gpt(simulated, account).chat.completions.create(model="gpt-4o", messages=says(), stream=True, stream_options=options)
    pieces = [chunk async for chunk in stream]

    assert pieces[-1].usage is not None
    assert pieces[-1].choices == []
    [record] = await simulated.settled(account, charges=1)
    assert record.lines[0].output_tokens == pieces[-1].usage.completion_tokens


async def test_openai_responses_and_embeddings(simulated: Stage) -> None:
    account = await simulated.open_account(100_000_000)
    client = gpt(simulated, account)

    plain = await client.responses.create(model="gpt-5.2", input="three little words", max_output_tokens=200)
    events = [event async for event in await client.responses.create(model="gpt-5.2", input="three little words", max_output_tokens=200, stream=True)]

    assert plain.output_text
    assert events[-1].type == "response.completed"
    assert len(await simulated.settled(account, charges=2)) == 2


async def test_the_clients_raise_their_own_errors_for_ours(simulated: Stage) -> None:
    empty = await simulated.open_account(0)

    with pytest.raises(anthropic.APIStatusError) as by_anthropic:
        await claude(simulated, empty).messages.create(model=MODEL, max_tokens=100, messages=says())
    with pytest.raises(openai.APIStatusError) as by_openai:
        await gpt(simulated, empty).chat.completions.create(model="gpt-4o", messages=says())
    with pytest.raises(openai.NotFoundError):
        await gpt(simulated, empty).chat.completions.create(model="gpt-4x", messages=says())
    with pytest.raises(anthropic.AuthenticationError):
        await anthropic.AsyncAnthropic(api_key="x", base_url=simulated.url, max_retries=0).messages.create(model=MODEL, max_tokens=9, messages=says())

    assert by_anthropic.value.status_code == by_openai.value.status_code == 402
    assert by_openai.value.code == "insufficient_quota"
    assert by_anthropic.value.request_id


async def test_the_clients_list_models_and_count_tokens(simulated: Stage) -> None:
    account = await simulated.open_account()

    models = [model.id async for model in claude(simulated, account).models.list()]
    counted = await claude(simulated, account).messages.count_tokens(model=MODEL, messages=says())
    others = [model.id async for model in gpt(simulated, account).models.list()]

    assert MODEL in models
    assert "gpt-4o" in others
    assert counted.input_tokens > 0
    await simulated.settled(account, charges=0)


async def test_openais_client_continues_its_own_response_and_nobody_elses(simulated: Stage) -> None:
    maker, other = await simulated.open_account(), await simulated.open_account()
    first = await gpt(simulated, maker).responses.create(model="gpt-4o", input="three little words", max_output_tokens=200)

    again = await gpt(simulated, maker).responses.create(model="gpt-4o", input="go on", previous_response_id=first.id, max_output_tokens=200)
    items: Any = [{"type": "item_reference", "id": item.id} for item in again.output]
    by_items = await gpt(simulated, maker).responses.create(model="gpt-4o", input=[*items, *says("go on")], max_output_tokens=200)
    with pytest.raises(openai.NotFoundError) as refused:
        await gpt(simulated, other).responses.create(model="gpt-4o", input="go on", previous_response_id=first.id)

    assert again.previous_response_id == first.id
    assert by_items.status == "completed"
    assert (refused.value.code, refused.value.param) == ("previous_response_not_found", "previous_response_id")
    await simulated.settled(maker, charges=3)
    await simulated.settled(other, charges=0)
