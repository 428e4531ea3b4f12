"""Forms of a request by which a provider would serve more than was priced, or something of another account's: held for in full, or refused."""

import json
from typing import Any

import pytest

from config.rate_card import load_rate_card
from metering.classify import Dialect, Operation, RequestRefused, Route
from metering.holds import HoldBounds, hold_bounds
from metering.references import StoredKind
from metering.requests import MeteredRequest, read_request
from metering.tally import open_tally

CARD = load_rate_card()
AT = 1_795_000_000_000
HELLO = [{"role": "user", "content": "hi"}]


def ask(operation: Operation, **fields: Any) -> MeteredRequest:
    dialect = Dialect.ANTHROPIC if operation is Operation.MESSAGES else Dialect.OPENAI
    return read_request(Route(operation=operation, dialect=dialect, upstream_path="/v1/x"), json.dumps(fields).encode())


def message(**fields: Any) -> MeteredRequest:
    return ask(Operation.MESSAGES, **{"model": "claude-opus-4-8", "max_tokens": 64_000, "messages": HELLO} | fields)


def response(**fields: Any) -> MeteredRequest:
    return ask(Operation.RESPONSES, **{"model": "gpt-5.2", "input": HELLO} | fields)


def bounds(request: MeteredRequest, provider: str) -> HoldBounds:
    rates = [CARD.at(AT).find(name, provider=provider) for name in (request.model, *request.other_models)]
    return hold_bounds(request, rates, hold_output_tokens=4096, server_tool_tokens=50_000)


def definition(kind: str) -> list[dict[str, Any]]:
    """Messages of which one brings a tool."""
    tool = {"type": "tool_definition", "definition": {"type": kind, "name": "tool"}}
    return [*HELLO, {"role": "system", "content": [{"type": "tool_addition", "tool": tool}]}]


@pytest.mark.parametrize(
    "fields",
    [
        {"thread": {"type": "continue", "previous_message_id": "msg_of_somebody_else"}},
        {"diagnostics": {"previous_message_id": "msg_of_somebody_else"}},
        {"billing_policy": {"type": "user"}},
        {"fallbacks": "default"},
        {"fallbacks": [{"model": "claude-opus-4-8", "max_tokens": 128_000}]},
        {"fallbacks": [{"model": "claude-opus-4-8", "speed": "fast"}]},
        {"fallbacks": [{"model": "claude-opus-4-8", "thinking": {"type": "adaptive"}}]},
        {"messages": definition("code_execution_20260521")},
    ],
)
def test_what_anthropic_would_serve_beyond_the_price_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused) as refused:
        bounds(message(**fields), "anthropic")
    assert refused.value.status == 422


@pytest.mark.parametrize("fields", [{"thread": None}, {"diagnostics": {}}, {"fallbacks": [{"model": "claude-sonnet-4-6"}]}, {"messages": definition("custom")}])
def test_the_plain_forms_of_the_same_are_served(fields: dict[str, Any]) -> None:
    assert bounds(message(**fields), "anthropic").worst > 0


@pytest.mark.parametrize("kind", ["additional_tools", "tool_search_output"])
def test_hosted_tools_among_the_input_are_priced_or_refused(kind: str) -> None:
    item = {"type": kind, "tools": [{"type": "image_generation"}]}
    with pytest.raises(RequestRefused) as refused:
        bounds(response(input=[*HELLO, item]), "openai")
    assert refused.value.status == 422
    assert bounds(response(input=[*HELLO, item | {"tools": [{"type": "function", "name": "f"}]}]), "openai").worst > 0


def test_a_search_that_a_message_brings_is_held_for() -> None:
    plain, searching = message(), message(messages=definition("web_search_20260318"))
    assert [tool.name for tool in searching.server_tools] == ["web_search"]
    assert bounds(searching, "anthropic").worst > bounds(plain, "anthropic").worst + 10 * 11_000


def test_a_cache_for_twelve_hours_has_no_price() -> None:
    with pytest.raises(RequestRefused):
        bounds(response(prompt_cache_options={"ttl": "12h"}), "openai")
    assert bounds(response(prompt_cache_options={"ttl": "30m"}), "openai").worst > 0


def test_a_response_to_compare_with_is_a_reference() -> None:
    [reference] = response(prompt_cache_options={"comparison_response_id": "resp_1"}).references
    assert (reference.kind, reference.identity) == (StoredKind.RESPONSE, "resp_1")


@pytest.mark.parametrize("choice", [{"only": ["dearest"]}, {"order": ["dearest"]}, {"sort": "throughput"}])
def test_a_choice_of_dearer_upstreams_is_refused(choice: dict[str, Any]) -> None:
    with pytest.raises(RequestRefused):
        bounds(ask(Operation.CHAT_COMPLETIONS, model="z-ai/glm-5", messages=HELLO, provider=choice), "openrouter")
    harmless = {"sort": "price", "data_collection": "deny", "require_parameters": True}
    assert bounds(ask(Operation.CHAT_COMPLETIONS, model="z-ai/glm-5", messages=HELLO, provider=harmless), "openrouter").worst > 0


@pytest.mark.parametrize("model", ["claude-fable-5", "claude-fable-5-1", "claude-opus-5", "claude-opus-5-5", "claude-sonnet-5", "claude-sonnet-5-5"])
def test_a_model_that_thinks_unasked_is_held_for_as_if_it_was_asked(model: str) -> None:
    unasked, asked = message(model=model, stream=True), message(model=model, stream=True, thinking={"type": "adaptive"})

    assert unasked.unseen_output == asked.unseen_output
    assert bounds(unasked, "anthropic").small >= bounds(asked, "anthropic").small - 1_000
    assert message(model=model, stream=True, thinking={"type": "disabled"}).unseen_output == 0


@pytest.mark.parametrize(("model", "thinks"), [("claude-opus-4-8", False), ("claude-sonnet-4-6", False), ("anthropic/claude-opus-5.5", True)])
def test_a_model_thinks_unasked_by_its_generation_wherever_it_is_served(model: str, thinks: bool) -> None:
    request = ask(Operation.CHAT_COMPLETIONS, model=model, messages=HELLO, stream=True)
    assert (request.unseen_output > 0) == thinks


def test_thinking_that_a_signature_tells_of_moves_the_watch_on_its_hold() -> None:
    request = message(model="claude-opus-5-5", stream=True)
    rate = CARD.at(AT).find(request.model, provider="anthropic")
    tally = open_tally(request.operation, provider="anthropic", request=request, rate=rate, status=200, content_type="text/event-stream")
    start = {"type": "message_start", "message": {"id": "m", "model": "claude-opus-5-5", "usage": {"input_tokens": 10, "output_tokens": 1}}}
    signed = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "S" * 200_000}}
    tally.feed(b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in (start, signed)))

    assert tally.output_bytes == 0
    assert tally.written_bytes >= 200_000


def test_sound_that_is_spoken_is_held_for_in_full() -> None:
    request = ask(
        Operation.CHAT_COMPLETIONS, model="gpt-audio", messages=HELLO, stream=True, modalities=["text", "audio"], audio={"voice": "a", "format": "pcm16"}
    )
    assert bounds(request, "openai").hidden


def test_the_cache_of_an_advisor_is_held_for() -> None:
    def held(**more: Any) -> int:
        tool = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus-4-8", "max_uses": 1, **more}
        return bounds(message(model="claude-sonnet-4-6", tools=[tool]), "anthropic").input

    assert held(caching={"type": "ephemeral", "ttl": "1h"}) > held(padding="x" * 30) + 4_000


def test_a_toolset_that_the_client_runs_is_no_tool_of_the_providers() -> None:
    assert message(tools=[{"type": "computer_toolset_20260801"}]).server_tools == ()


def test_running_figures_are_final_once_every_choice_has_ended() -> None:
    request = ask(Operation.CHAT_COMPLETIONS, model="gpt-4o", messages=HELLO, n=2, stream=True)
    rate = CARD.at(AT).find(request.model, provider="openai")

    def reading_of(*pieces: dict[str, Any]) -> Any:
        tally = open_tally(request.operation, provider="openai", request=request, rate=rate, status=200, content_type="text/event-stream")
        tally.feed(b"".join(f"data: {json.dumps(piece)}\n\n".encode() for piece in pieces))
        return tally.close()

    told = {"prompt_tokens": 10, "completion_tokens": 8, "total_tokens": 18}
    first = {"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}], "usage": told}
    going_on = {"choices": [{"index": 1, "delta": {"content": "word " * 6_000}, "finish_reason": None}]}
    ended = {"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}], "usage": told | {"completion_tokens": 6_008}}

    cut = reading_of(first, going_on)
    assert cut.usage is None
    assert cut.estimated.lines[0].output_tokens > 6_000
    assert reading_of(first, going_on, ended).usage.lines[0].output_tokens == 6_008
