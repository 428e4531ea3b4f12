"""How much is set aside: the arithmetic, by hand."""

import json
from dataclasses import replace
from typing import Any

import pytest

from metering.classify import Dialect, Operation, RequestRefused, Route
from metering.holds import (
    SMALL_ANSWER_TOKENS,
    HoldBounds,
    affordable_output_tokens,
    hold_bounds,
    overdraft_bound,
    overdraft_line,
)
from metering.rates import Prices, Rate, Tier
from metering.requests import MeteredRequest, read_request
from metering.server_tools import OUTPUT_LIMIT_MAX

PRICES = Prices(input=1_000_000, output=10_000_000, cache_write_5m=1_250_000, cache_write_1h=2_000_000, cache_read=100_000, input_audio=0, output_audio=0)
RATE = Rate(provider="anthropic", model="m", provider_model="m", prices=PRICES, markup_bps=1000, context=100_000, output_max=8_000)


def read(operation: Operation = Operation.MESSAGES, **fields: Any) -> MeteredRequest:
    route = Route(operation=operation, dialect=Dialect.ANTHROPIC, upstream_path="/v1/anything")
    return read_request(route, json.dumps({"model": "m", **fields}).encode())


def bounds_of(request: MeteredRequest, *rates: Rate, hold_output_tokens: int = 4096, server_tool_tokens: int = 50_000) -> HoldBounds:
    return hold_bounds(request, rates or [RATE], hold_output_tokens=hold_output_tokens, server_tool_tokens=server_tool_tokens)


def unpriced(request: MeteredRequest, *rates: Rate) -> RequestRefused:
    with pytest.raises(RequestRefused) as caught:
        bounds_of(request, *rates)
    return caught.value


def test_a_plain_request_holds_its_bytes_and_its_output() -> None:
    request = read(max_tokens=5_000)
    size = request.input.text_bytes

    bounds = bounds_of(request)

    assert bounds.input == bounds.worst_input == -(-size * 1_100_000 // 10**6)
    assert bounds.small == -(-(size * 1_100_000 + SMALL_ANSWER_TOKENS * 11_000_000) // 10**6)
    assert bounds.expected == -(-(size * 1_100_000 + 4096 * 11_000_000) // 10**6)
    assert bounds.worst == -(-(size * 1_100_000 + 5000 * 11_000_000) // 10**6)
    assert (bounds.output_per_mtok, bounds.output_max, bounds.output_limit, bounds.hidden) == (11_000_000, 8_000, 5_000, False)


def test_without_a_limit_the_worst_case_is_the_models_own() -> None:
    assert bounds_of(read()).worst - bounds_of(read()).worst_input == 8_000 * 11


def test_each_choice_is_held_for() -> None:
    bounds = bounds_of(read(Operation.CHAT_COMPLETIONS, max_completion_tokens=100, n=3))

    assert bounds.worst - bounds.worst_input == 3 * 100 * 11


def test_input_is_bounded_by_the_context() -> None:
    request = read(max_tokens=1, system="x" * 300_000)

    assert bounds_of(request).input == 100_000 * 11 // 10


def test_texts_to_embed_are_not_bounded_by_the_context_of_one_and_have_no_output() -> None:
    request = read(Operation.EMBEDDINGS, input=["x" * 300_000])

    bounds = bounds_of(request)

    assert bounds.input == bounds.worst == -(-request.input.text_bytes * 1_100_000 // 10**6)
    assert (bounds.output_per_mtok, bounds.output_max) == (0, 0)


def test_remote_content_holds_a_full_context() -> None:
    assert bounds_of(read(previous_response_id="resp_1")).input == 100_000 * 11 // 10


@pytest.mark.parametrize(
    ("provider", "ttl", "price"),
    [("anthropic", None, 1_100_000), ("anthropic", "5m", 1_375_000), ("anthropic", "1h", 2_200_000), ("openai", None, 1_375_000)],
)
def test_cache_writes_are_held_for_where_they_can_happen(provider: str, ttl: str | None, price: int) -> None:
    request = read(**({"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {}))

    assert bounds_of(request, replace(RATE, provider=provider)).input == -(-request.input.text_bytes * price // 10**6)


def test_a_long_context_tier_is_held_for_when_the_input_can_reach_it() -> None:
    doubled = replace(PRICES, input=2_000_000, output=15_000_000)
    rate = replace(RATE, tiers=(Tier(above=1_000, prices=doubled),))

    near, beyond = bounds_of(read(system="x" * 500), rate), bounds_of(read(system="x" * 2_000), rate)

    assert near.output_per_mtok == 11_000_000
    assert beyond.output_per_mtok == 16_500_000
    assert beyond.input == -(-read(system="x" * 2_000).input.text_bytes * 2_200_000 // 10**6)


@pytest.mark.parametrize(("tier", "output"), [("priority", 22_000_000), ("flex", 11_000_000), ("auto", 11_000_000), ("standard_only", 11_000_000)])
def test_a_tier_is_held_at_its_price_but_never_below_the_usual(tier: str, output: int) -> None:
    rate = replace(RATE, service_tiers={"priority": 20_000, "flex": 5_000})

    assert bounds_of(read(service_tier=tier), rate).output_per_mtok == output


def test_tier_and_place_multiply() -> None:
    rate = replace(RATE, service_tiers={"priority": 20_000, "geo_us": 11_000})

    assert bounds_of(read(service_tier="priority", inference_geo="us"), rate).output_per_mtok == 24_200_000


@pytest.mark.parametrize(("max_uses", "usual", "most"), [(None, 3, 10), (1, 1, 1), (5, 3, 5), (20, 3, 20)])
def test_server_tools_are_held_for_with_their_tokens_and_fees(max_uses: int | None, usual: int, most: int) -> None:
    rate = replace(RATE, fees={"web_search": 10_000})
    request = read(tools=[{"type": "web_search_20250305", "max_uses": max_uses}])
    own = request.input.text_bytes

    bounds = bounds_of(request, rate)

    assert bounds.input == -(-(own + usual * 50_000) * 1_100_000 // 10**6) + usual * 11_000
    assert bounds.worst_input == -(-(own + most * 50_000) * 1_100_000 // 10**6) + most * 11_000


def test_what_nobody_can_watch_is_not_started_below_its_worst_input() -> None:
    rate = replace(RATE, fees={"web_search": 10_000})
    tools = [{"type": "web_search_20250305"}]
    answer = SMALL_ANSWER_TOKENS * 11

    streamed = read(tools=tools, stream=True)
    watched, plain = bounds_of(streamed, rate), bounds_of(replace(streamed, stream=False), rate)
    unseen = bounds_of(streamed, replace(rate, hidden_output=True))

    assert 0 <= watched.input + answer - watched.small <= 1
    assert 0 <= plain.worst_input + answer - plain.small <= 1
    assert unseen.small == plain.small
    assert affordable_output_tokens(plain, plain.small) >= SMALL_ANSWER_TOKENS - 1


def test_compaction_holds_for_two_passes() -> None:
    plain, twice = read(max_tokens=10), replace(read(max_tokens=10), passes=2)

    assert bounds_of(twice).worst >= 2 * bounds_of(plain).worst - 1


def test_sound_is_held_at_its_own_price() -> None:
    rate = replace(RATE, prices=replace(PRICES, input_audio=40_000_000, output_audio=80_000_000))
    part = {"type": "input_audio", "input_audio": {"data": "A" * 2_000, "format": "mp3"}}
    request = read(Operation.CHAT_COMPLETIONS, modalities=["audio"], messages=[{"role": "user", "content": [part]}])

    bounds = bounds_of(request, rate)

    assert bounds.input == -(-(request.input.text_bytes * 1_100_000 + 100 * 44_000_000) // 10**6)
    assert bounds.output_per_mtok == 88_000_000


def test_every_model_that_may_answer_counts_in_full() -> None:
    request = read(models=["b"], max_tokens=100)
    dearer = replace(RATE, model="b", prices=replace(PRICES, input=3_000_000, output=30_000_000), hidden_output=True)

    bounds = bounds_of(request, RATE, dearer)

    assert bounds.output_per_mtok == 44_000_000
    assert bounds.input == -(-request.input.text_bytes * 4_400_000 // 10**6)
    assert bounds.hidden


def test_a_model_that_a_tool_asks_reads_everything_at_each_use() -> None:
    request = read(tools=[{"type": "advisor_20260301", "model": "wise", "max_tokens": 100, "max_uses": 2}], max_tokens=1)
    wise = replace(RATE, model="wise", prices=replace(PRICES, input=5_000_000, output=50_000_000))
    own = request.input.text_bytes

    bounds = bounds_of(request, RATE, wise)

    assert bounds.worst_input == -(-((own + 100_000) * 1_100_000 + 2 * (own * 5_500_000 + 100 * 55_000_000)) // 10**6)
    assert bounds.output_per_mtok == 11_000_000


def test_a_tool_may_ask_the_answering_model_itself() -> None:
    request = read(tools=[{"type": "advisor_20260301", "model": "m", "max_tokens": 100, "max_uses": 1}], max_tokens=1)

    assert bounds_of(request).worst_input > bounds_of(read(max_tokens=1)).worst_input


def test_output_that_a_stream_does_not_show_is_told() -> None:
    assert bounds_of(read(stream=True), replace(RATE, hidden_output=True)).hidden


def test_the_affordable_limit_is_the_largest_that_is_covered() -> None:
    bounds = bounds_of(read())

    exact = affordable_output_tokens(bounds, bounds.worst_input + 11 * 100)

    assert exact == 100
    assert affordable_output_tokens(bounds, bounds.worst_input + 11 * 100 - 1) == 99
    assert affordable_output_tokens(bounds, bounds.worst_input) == 0
    assert affordable_output_tokens(bounds, -5) == 0
    assert affordable_output_tokens(bounds, 10**12) == 8_000
    assert affordable_output_tokens(bounds_of(read(Operation.EMBEDDINGS)), 10**9) == 0


@pytest.mark.parametrize(
    ("operation", "fields", "name"),
    [
        (Operation.MESSAGES, {"tools": [{"type": "code_execution_20260120"}]}, "code_execution"),
        (Operation.MESSAGES, {"tools": [{"type": "web_search_20250305"}]}, "web_search"),
        (Operation.RESPONSES, {"tools": [{"type": "image_generation"}]}, "image_generation"),
        (Operation.RESPONSES, {"tools": [{"type": "code_interpreter"}]}, "code_interpreter"),
        (Operation.RESPONSES, {"tools": [{"type": "brand_new"}]}, "brand_new"),
        (Operation.RESPONSES, {"background": True}, "background"),
        (Operation.CHAT_COMPLETIONS, {"service_tier": "priority"}, "priority"),
        (Operation.MESSAGES, {"speed": "fast"}, "speed_fast"),
        (Operation.MESSAGES, {"inference_geo": "us"}, "geo_us"),
        (Operation.CHAT_COMPLETIONS, {"plugins": [{"id": "web"}]}, "plugin:web"),
        (Operation.CHAT_COMPLETIONS, {"modalities": ["text", "audio"]}, "audio_output"),
        (Operation.CHAT_COMPLETIONS, {"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "AAAA"}}]}]}, "audio_input"),
    ],
)
def test_what_has_no_price_is_refused_by_its_name(operation: Operation, fields: dict[str, Any], name: str) -> None:
    error = unpriced(read(operation, **fields))

    assert (error.status, error.code) == (422, "unpriced_request")
    assert repr(name) in error.message
    assert error.details["model"] == "m"


def test_files_at_openrouter_are_refused_since_reading_them_bears_a_fee_that_no_usage_tells() -> None:
    request = read(Operation.CHAT_COMPLETIONS, messages=[{"content": [{"type": "file", "file": {"file_data": "x"}}]}])

    assert repr("files") in unpriced(request, replace(RATE, provider="openrouter")).message
    assert bounds_of(request, replace(RATE, provider="openai")).worst > 0


def test_a_mode_is_not_made_chargeable_by_a_fee_of_its_name() -> None:
    request = read(Operation.CHAT_COMPLETIONS, plugins=[{"id": "web"}])

    assert unpriced(request, replace(RATE, fees={"plugin:web": 5})).status == 422


def test_a_fallback_without_the_price_refuses_the_request_too() -> None:
    request = read(tools=[{"type": "web_search_20250305"}], models=["b"])

    assert unpriced(request, replace(RATE, fees={"web_search": 1}), replace(RATE, model="b")).details["model"] == "b"


@pytest.mark.parametrize(
    ("charged", "override", "overdraft_max", "line"),
    [
        (0, None, 1_000_000, 0),
        (999, None, 1_000_000, 99),
        (10**9, None, 1_000_000, 1_000_000),
        (0, 5_000, 1_000_000, 5_000),
        (10**9, 0, 10**6, 0),
        (10**9, 50, 0, 0),
    ],
)
def test_the_line_is_a_share_of_past_charges_or_what_the_operator_set(charged: int, override: int | None, overdraft_max: int, line: int) -> None:
    assert overdraft_line(charged, override, overdraft_max=overdraft_max) == line


def test_the_published_bound_of_each_mode() -> None:
    assert overdraft_bound("strict", line=100, concurrent=64, step=7) == 0
    assert overdraft_bound("cut", line=100, concurrent=64, step=7) == 448
    assert overdraft_bound("finish", line=100, concurrent=64, step=7) == 548


ALL = OUTPUT_LIMIT_MAX
CLAUDE = "anthropic/claude-x"


@pytest.mark.parametrize(
    ("fields", "unseen"),
    [
        ({}, 0),
        ({"thinking": None}, 0),
        ({"thinking": {"type": "disabled"}}, 0),
        ({"thinking": {"type": "enabled", "budget_tokens": 3_000}}, 3_000),
        ({"thinking": {"type": "adaptive"}}, ALL),
        ({"thinking": {"type": "enabled", "budget_tokens": "many"}}, ALL),
        ({"thinking": {"type": "enabled", "budget_tokens": True}}, ALL),
        ({"thinking": "yes"}, ALL),
        ({"model": CLAUDE, "reasoning": {"max_tokens": 3_000}}, 3_000),
        ({"model": CLAUDE, "reasoning": {"effort": "high"}}, ALL),
        ({"model": CLAUDE, "reasoning": {"effort": "none"}}, 0),
        ({"model": CLAUDE, "reasoning": {"enabled": False}}, 0),
        ({"model": CLAUDE, "reasoning": None, "reasoning_effort": None}, 0),
        ({"model": CLAUDE, "reasoning_effort": "low"}, ALL),
        ({"model": CLAUDE, "reasoning_effort": "none"}, 0),
        ({"reasoning": {"effort": "high"}, "reasoning_effort": "high"}, 0),
        ({"reasoning": {"effort": "high", "exclude": True}}, ALL),
        ({"include_reasoning": False}, ALL),
    ],
)
def test_thinking_that_no_stream_shows_is_known_by_what_the_body_asks_for(fields: dict[str, Any], unseen: int) -> None:
    assert read(**fields).unseen_output == unseen


def test_a_stream_starts_only_where_all_that_it_may_think_unseen_is_covered() -> None:
    request = read(stream=True, max_tokens=8_000, thinking={"type": "enabled", "budget_tokens": 3_000})
    size = request.input.text_bytes

    bounds = bounds_of(request)
    unbounded = bounds_of(replace(request, unseen_output=ALL))

    assert bounds.small == -(-(size * 1_100_000 + (3_000 + SMALL_ANSWER_TOKENS) * 11_000_000) // 10**6)
    assert bounds.expected == -(-(size * 1_100_000 + (3_000 + 4_096) * 11_000_000) // 10**6)
    assert unbounded.small == unbounded.expected == unbounded.worst == bounds.worst
