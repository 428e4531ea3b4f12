"""The official clients against the sandbox: they must take it for the real thing."""

from collections.abc import AsyncIterator

import anthropic
import httpx
import openai
import pytest

from sandbox.answers import GREETING
from sandbox.server import Sandbox, run_sandbox

KEY = "sandbox-operator-key"
MODEL = "claude-sonnet-4-6"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with run_sandbox() as running:
        yield running


@pytest.fixture
async def claude(sandbox: Sandbox) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=f"{sandbox.url}/anthropic", max_retries=0) as client:
        yield client


@pytest.fixture(params=["/openai/v1", "/openrouter/api/v1"])
async def gpt(request: pytest.FixtureRequest, sandbox: Sandbox) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=sandbox.url + request.param, max_retries=0) as client:
        yield client


def says(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_a_plain_message_is_answered(claude: anthropic.AsyncAnthropic) -> None:
    message = await claude.messages.create(model=MODEL, max_tokens=100, messages=says("three little words"))

    assert message.content[0].text == GREETING
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, len(GREETING.split()))
    assert message.stop_reason == "end_turn"


async def test_a_streamed_message_with_thinking_and_a_tool_call_is_put_together(claude: anthropic.AsyncAnthropic) -> None:
    tool = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}
    said = says("sandbox: thinking=6 words=4 tool=weather cache_write_1h=30")

    async with claude.messages.stream(model=MODEL, max_tokens=100, messages=said, tools=[tool]) as stream:
        message = await stream.get_final_message()

    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[2].input == {"city": "sandbox"}
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == 30
    assert message.usage.output_tokens == 6 + 4 + 2


async def test_tokens_are_counted_and_models_listed(claude: anthropic.AsyncAnthropic) -> None:
    counted = await claude.messages.count_tokens(model=MODEL, messages=says("a b c d"))
    models = await claude.models.list()

    assert counted.input_tokens == 4
    assert MODEL in {model.id for model in models.data}


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, anthropic.BadRequestError),
        (401, anthropic.AuthenticationError),
        (402, anthropic.APIStatusError),
        (403, anthropic.PermissionDeniedError),
        (404, anthropic.NotFoundError),
        (413, anthropic.APIStatusError),
        (429, anthropic.RateLimitError),
        (500, anthropic.InternalServerError),
        (529, anthropic.APIStatusError),
    ],
)
async def test_anthropic_errors_become_the_clients_own(claude: anthropic.AsyncAnthropic, status: int, error: type[anthropic.APIStatusError]) -> None:
    with pytest.raises(error) as caught:
        await claude.messages.create(model=MODEL, max_tokens=9, messages=says(f"sandbox: status={status} retry_after=1"))

    assert caught.value.status_code == status
    assert caught.value.body["type"] == "error"


async def test_an_error_event_raises_in_the_stream(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.APIStatusError):
        async with claude.messages.stream(model=MODEL, max_tokens=9, messages=says("sandbox: stream_error=3")) as stream:
            await stream.get_final_message()


async def test_a_wrong_key_is_refused(sandbox: Sandbox) -> None:
    async with anthropic.AsyncAnthropic(api_key="a-key-of-somebody", base_url=f"{sandbox.url}/anthropic", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError):
            await client.messages.create(model=MODEL, max_tokens=9, messages=says("hello"))

    assert sandbox.visits.latest[0].credential == "wrong"
    assert "a-key-of-somebody" not in str(sandbox.visits.report(bodies=True))


async def test_a_clients_key_beside_the_operators_is_refused(sandbox: Sandbox) -> None:
    async with httpx.AsyncClient(base_url=sandbox.url) as client:
        answer = await client.get("/anthropic/v1/models", headers={"x-api-key": KEY, "authorization": "Bearer somebody"})

    assert answer.status_code == 401


async def test_a_plain_completion_is_answered(gpt: openai.AsyncOpenAI) -> None:
    completion = await gpt.chat.completions.create(model="gpt-4o", messages=says("two words"), n=2)

    assert [choice.message.content for choice in completion.choices] == [GREETING, GREETING]
    assert completion.usage.total_tokens == 2 + 2 * len(GREETING.split())


async def test_a_streamed_completion_tells_its_usage_when_asked(gpt: openai.AsyncOpenAI) -> None:
    chunks = [
        chunk
        async for chunk in await gpt.chat.completions.create(
            model="gpt-4o", messages=says("sandbox: words=6"), stream=True, stream_options={"include_usage": True}
        )
    ]

    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices).split() == ["every", "balance", "begins", "with", "a", "deposit"]
    assert chunks[-1].usage.completion_tokens == 6
    assert not any(chunk.usage for chunk in chunks[:-1])


async def test_a_tool_call_is_streamed(gpt: openai.AsyncOpenAI) -> None:
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    async with gpt.chat.completions.stream(model="gpt-4o", messages=says("sandbox: tool=1"), tools=[tool]) as stream:
        completion = await stream.get_final_completion()

    assert completion.choices[0].finish_reason == "tool_calls"
    assert completion.choices[0].message.tool_calls[0].function.name == "weather"


async def test_a_response_is_answered_plain_and_streamed(gpt: openai.AsyncOpenAI) -> None:
    plain = await gpt.responses.create(model="gpt-5.2", input="sandbox: words=3 hidden=4")
    async with gpt.responses.stream(model="gpt-5.2", input="sandbox: words=3 hidden=4") as stream:
        async for _ in stream:
            pass
        streamed = await stream.get_final_response()

    assert plain.output_text == streamed.output_text == "every balance begins"
    assert plain.usage == streamed.usage
    assert plain.usage.output_tokens == 7


async def test_embeddings_are_answered(gpt: openai.AsyncOpenAI) -> None:
    embedded = await gpt.embeddings.create(model="text-embedding-3-small", input=["one two", "three"])

    assert len(embedded.data) == 2
    assert embedded.usage.prompt_tokens == 3


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
async def test_openai_errors_become_the_clients_own(gpt: openai.AsyncOpenAI, status: int, error: type[openai.APIStatusError]) -> None:
    with pytest.raises(error) as caught:
        await gpt.responses.create(model="gpt-5.2", input=f"sandbox: status={status}")

    assert caught.value.status_code == status
    assert caught.value.message


async def test_a_client_repeats_a_request_that_failed_for_a_moment(sandbox: Sandbox) -> None:
    async with httpx.AsyncClient() as control:
        await control.post(f"{sandbox.url}/_sandbox/script", json={"script": "status=529", "times": 1})
    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=f"{sandbox.url}/anthropic", max_retries=1) as client:
        message = await client.messages.create(model=MODEL, max_tokens=100, messages=says("hello"))

    assert message.stop_reason == "end_turn"
    assert [visit.status for visit in sandbox.visits.latest] == [529, 200]
