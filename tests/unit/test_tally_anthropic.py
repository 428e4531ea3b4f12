"""Anthropic's messages: what each way of telling a usage comes to."""

import json
from typing import Any

import pytest

from ledger.entries import UsageLine
from metering.classify import Operation
from metering.rates import Prices, Rate
from metering.requests import BodyLayout, InputBound, MeteredRequest
from metering.tally import Tally, open_tally
from metering.usage import TOKENS_MAX, Ending, Reading

PRICES = Prices(input=1, output=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, input_audio=1, output_audio=1)
RATE = Rate(
    provider="anthropic",
    model="claude-x",
    provider_model="claude-x",
    prices=PRICES,
    markup_bps=0,
    context=200_000,
    output_max=64_000,
    service_tiers={"priority": 12_000, "geo_us": 11_000, "geo_eu": 9_000},
)


def tally(*, stream: bool = True, service_tier: str | None = None, tiers: tuple[str, ...] = (), output_limit: int | None = None, status: int = 200) -> Tally:
    request = MeteredRequest(
        operation=Operation.MESSAGES,
        model="claude-x",
        body=b"{}",
        layout=BodyLayout(spans={}, closing=1, empty=True),
        input=InputBound(text_bytes=300),
        stream=stream,
        service_tier=service_tier,
        tiers=tiers,
        output_limit=output_limit,
    )
    kind = "text/event-stream" if stream else "application/json"
    return open_tally(Operation.MESSAGES, provider="anthropic", request=request, rate=RATE, status=status, content_type=kind)


def event(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content})}\n\n".encode()


def start(model: str = "claude-x", **usage: Any) -> bytes:
    return event("message_start", message={"id": "msg_1", "model": model, "usage": {"input_tokens": 10, "output_tokens": 1, **usage}})


def text(words: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": words})


def delta(stop: str | None = "end_turn", **usage: Any) -> bytes:
    return event("message_delta", delta={"stop_reason": stop}, usage=usage)


STOP = event("message_stop")


def read(*chunks: bytes, **options: Any) -> Reading:
    opened = tally(**options)
    for chunk in chunks:
        opened.feed(chunk)
    return opened.close()


def read_message(usage: Any, **message: Any) -> Reading:
    return read(json.dumps({"id": "msg_1", "type": "message", "model": "claude-x", "usage": usage, **message}).encode(), stream=False)


def line(**figures: Any) -> UsageLine:
    return UsageLine(**{"provider": "anthropic", "model": "claude-x", **figures})


def only_line(reading: Reading) -> UsageLine:
    assert reading.usage is not None
    (found,) = reading.usage.lines
    return found


def test_a_stream_is_billed_by_its_last_figures() -> None:
    reading = read(start(cache_read_input_tokens=5), text("Hello"), delta(output_tokens=7), STOP)

    assert reading.ended is Ending.COMPLETE
    assert only_line(reading) == line(input_tokens=10, output_tokens=7, cache_read_tokens=5)
    assert reading.usage is not None
    assert reading.usage.terminal


def test_message_delta_replaces_and_never_adds() -> None:
    reading = read(start(), delta(None, input_tokens=40, output_tokens=5), delta(input_tokens=61, output_tokens=9, cache_read_input_tokens=None), STOP)

    assert only_line(reading) == line(input_tokens=61, output_tokens=9)


def test_a_second_message_start_replaces_the_first() -> None:
    reading = read(start(cache_read_input_tokens=100), start(input_tokens=17), delta(output_tokens=3), STOP)

    assert only_line(reading) == line(input_tokens=17, output_tokens=3)


def test_the_split_of_the_start_holds_for_a_delta_that_repeats_only_the_flat_figure() -> None:
    split = {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 3913}
    reading = read(start(cache_creation_input_tokens=3913, cache_creation=split), delta(output_tokens=4, cache_creation_input_tokens=3913), STOP)

    assert only_line(reading) == line(input_tokens=10, output_tokens=4, cache_write_5m_tokens=0, cache_write_1h_tokens=3913)


@pytest.mark.parametrize(
    ("flat", "short", "long", "expected"),
    [
        (11_627, 366, 0, (11_627, 0)),
        (500, 0, 100, (0, 500)),
        (500, 200, 100, (400, 100)),
        (500, 0, 0, (500, 0)),
        (0, 0, 0, (0, 0)),
        (None, 20, 30, (20, 30)),
        (40, 20, 30, (20, 30)),
        (500, None, None, (500, 0)),
        (None, None, None, (None, None)),
    ],
)
def test_the_flat_figure_is_the_total_and_the_rest_has_the_only_lifetime_seen(
    flat: int | None, short: int | None, long: int | None, expected: tuple[int | None, int | None]
) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": flat}
    if short is not None:
        usage["cache_creation"] = {"ephemeral_5m_input_tokens": short, "ephemeral_1h_input_tokens": long}  # type: ignore[assignment]

    found = only_line(read_message(usage))

    assert (found.cache_write_5m_tokens, found.cache_write_1h_tokens) == expected


def test_a_delta_that_takes_cache_writes_back_is_believed() -> None:
    split = {"ephemeral_5m_input_tokens": 55, "ephemeral_1h_input_tokens": 0}
    reading = read(start(cache_creation_input_tokens=55, cache_creation=split), delta(output_tokens=4, cache_creation_input_tokens=0), STOP)

    assert only_line(reading).cache_write_5m_tokens == 0


def test_absent_cache_figures_are_unknown_and_zero_ones_are_zero() -> None:
    assert only_line(read_message({"input_tokens": 1, "output_tokens": 2})).cache_read_tokens is None
    assert only_line(read_message({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": 0})).cache_read_tokens == 0
    assert only_line(read_message({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": None})).cache_read_tokens is None


def test_iterations_are_summed_by_model() -> None:
    passes = [
        {"type": "compaction", "input_tokens": 100, "output_tokens": 131, "cache_creation_input_tokens": 55},
        {"type": "message", "input_tokens": 229, "output_tokens": 5, "cache_read_input_tokens": 3},
        {"type": "advisor_message", "model": "claude-y", "input_tokens": 7, "output_tokens": 8},
    ]
    usage = {"input_tokens": 229, "output_tokens": 5, "iterations": passes, "server_tool_use": {"web_search_requests": 2}}

    reading = read_message(usage)

    assert reading.usage is not None
    assert reading.usage.lines == (
        line(input_tokens=329, output_tokens=136, cache_write_5m_tokens=55, cache_write_1h_tokens=0, cache_read_tokens=3, fees=(("web_search", 2),)),
        line(model="claude-y", input_tokens=7, output_tokens=8),
    )


def test_a_fallback_is_billed_by_the_models_that_took_part() -> None:
    passes = [
        {"type": "message", "model": "claude-x", "input_tokens": 408, "output_tokens": 0},
        {"type": "fallback_message", "model": "claude-y", "input_tokens": 412, "output_tokens": 264},
    ]
    reading = read(start(), text("Hi"), delta(input_tokens=412, output_tokens=264, iterations=passes), STOP)

    assert reading.usage is not None
    assert [(one.model, one.input_tokens, one.output_tokens) for one in reading.usage.lines] == [("claude-x", 408, 0), ("claude-y", 412, 264)]


def test_searches_are_fees_and_fetches_are_not() -> None:
    usage = {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 3, "web_fetch_requests": 9}}

    assert only_line(read_message(usage)).fees == (("web_search", 3),)


@pytest.mark.parametrize(
    ("figures", "tier"),
    [
        ({}, None),
        ({"service_tier": "standard", "inference_geo": "global", "speed": "standard"}, None),
        ({"service_tier": "priority", "inference_geo": "not_available"}, "priority"),
        ({"service_tier": "priority", "inference_geo": "us", "speed": "fast"}, "priority+geo_us+speed_fast"),
        ({"service_tier": "batch"}, "batch"),
    ],
)
def test_tier_place_and_speed_of_the_answer_stand_in_the_line(figures: dict[str, str], tier: str | None) -> None:
    assert only_line(read_message({"input_tokens": 1, "output_tokens": 1, **figures})).service_tier == tier


def test_where_the_answer_is_silent_a_dearer_tier_that_was_asked_for_is_billed() -> None:
    body = json.dumps({"model": "claude-x", "usage": {"input_tokens": 1, "output_tokens": 1}}).encode()

    assert only_line(read(body, stream=False, service_tier="priority")).service_tier == "priority"
    assert only_line(read(body, stream=False, service_tier="auto")).service_tier is None
    assert only_line(read(body, stream=False, tiers=("geo_us", "speed_fast"))).service_tier == "geo_us"
    assert only_line(read(body, stream=False, tiers=("geo_eu",))).service_tier is None


@pytest.mark.parametrize("wrong", ["12", 1.5, -1, True, [], {}, TOKENS_MAX + 1, 10**400])
@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"])
def test_a_figure_that_is_no_count_makes_the_usage_unreadable(field: str, wrong: Any) -> None:
    reading = read_message({"input_tokens": 1, "output_tokens": 1, field: wrong}, content=[{"type": "text", "text": "Hello there"}])

    assert reading.usage is None
    assert reading.ended is Ending.UNREADABLE
    assert reading.estimated is not None
    assert reading.estimated.lines[0].input_tokens == 100
    assert reading.estimated.lines[0].output_tokens > 0
    assert reading.estimated.doubts


@pytest.mark.parametrize(
    "usage",
    [
        [],
        "x",
        None,
        {},
        {"output_tokens": 1},
        {"input_tokens": 1},
        {"input_tokens": 1, "output_tokens": 1, "iterations": {}},
        {"input_tokens": 1, "output_tokens": 1, "iterations": [1]},
        {"input_tokens": 1, "output_tokens": 1, "server_tool_use": 3},
        {"input_tokens": 1, "output_tokens": 1, "cache_creation": "x"},
        {"input_tokens": 1, "output_tokens": 1, "iterations": [{"input_tokens": "1"}]},
    ],
)
def test_a_usage_of_another_shape_is_unreadable(usage: Any) -> None:
    reading = read_message(usage)

    assert (reading.usage, reading.ended) == (None, Ending.UNREADABLE)


def test_a_stream_that_is_cut_has_its_input_exactly_and_its_output_estimated_upwards() -> None:
    words = "The quick brown fox jumps over the lazy dog. " * 20
    reading = read(start(cache_read_input_tokens=5), *(text(words[at : at + 9]) for at in range(0, len(words), 9)))

    assert reading.ended is Ending.CUT
    assert reading.usage is None
    assert reading.estimated is not None
    (known,) = reading.estimated.lines
    assert (known.input_tokens, known.cache_read_tokens) == (10, 5)
    assert len(words) / 4 < known.output_tokens < len(words)
    assert not reading.estimated.final


def test_the_placeholder_of_the_start_is_only_a_floor() -> None:
    few, many = read(start(output_tokens=60), text("a")), read(start(output_tokens=1), text("word " * 100))

    assert few.estimated is not None
    assert few.estimated.lines[0].output_tokens == 60
    assert many.estimated is not None
    assert many.estimated.lines[0].output_tokens > 100


def test_an_estimate_never_exceeds_the_limit_of_the_request() -> None:
    reading = read(start(), text("word " * 100), output_limit=20)

    assert reading.estimated is not None
    assert reading.estimated.lines[0].output_tokens == 20


def test_thinking_that_is_not_shown_is_estimated_by_its_signature() -> None:
    signature = event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "x" * 4000})
    reading = read(start(), event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}), signature)

    assert reading.estimated is not None
    assert reading.estimated.lines[0].output_tokens >= 1000


def test_running_figures_without_a_stop_reason_are_not_final() -> None:
    reading = read(start(), text("Hello"), delta(None, output_tokens=500))

    assert reading.usage is None
    assert reading.estimated is not None
    assert reading.estimated.lines[0].output_tokens == 500


def test_final_figures_count_even_when_the_end_mark_is_cut_off() -> None:
    reading = read(start(), text("Hello"), delta(output_tokens=5))

    assert reading.ended is Ending.CUT
    assert only_line(reading).output_tokens == 5


def test_an_error_before_any_output_costs_nothing() -> None:
    reading = read(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))

    assert (reading.usage, reading.estimated, reading.ended, reading.output_seen) == (None, None, Ending.ERROR, False)
    assert reading.error == "overloaded_error: Overloaded"


def test_an_error_before_any_output_costs_nothing_though_the_message_had_begun() -> None:
    reading = read(start(), event("error", error={"type": "overloaded_error", "message": "Overloaded"}))

    assert (reading.usage, reading.estimated, reading.ended) == (None, None, Ending.ERROR)


def test_an_error_after_output_leaves_what_is_known() -> None:
    reading = read(start(), text("Hello"), event("error", error={"type": "api_error", "message": "x"}))

    assert reading.ended is Ending.ERROR
    assert reading.output_seen
    assert reading.estimated is not None
    assert reading.estimated.error == "api_error: x"


def test_words_of_the_answer_that_look_like_events_are_only_words() -> None:
    reading = read(start(), text('"message_delta" {"type":"message_stop"} "usage":{"output_tokens":1} event: error'), delta(output_tokens=9), STOP)

    assert reading.ended is Ending.COMPLETE
    assert only_line(reading).output_tokens == 9


def test_events_of_unknown_kinds_pass() -> None:
    reading = read(start(), event("ping"), event("novelty", usage={"output_tokens": 99}), b": note\n\n", b"data: not json\n\n", delta(output_tokens=2), STOP)

    assert only_line(reading).output_tokens == 2


def test_a_stop_without_figures_is_unreadable() -> None:
    assert read(start(), text("Hello"), STOP).ended is Ending.UNREADABLE


def test_nothing_at_all_is_charged_with_nothing() -> None:
    reading = read()

    assert (reading.usage, reading.estimated, reading.ended) == (None, None, Ending.CUT)


def test_a_checkpoint_follows_the_stream() -> None:
    opened = tally()
    assert opened.checkpoint() is None

    opened.feed(start())
    begun = opened.checkpoint()
    opened.feed(text("Hello there, this is output. "))
    running = opened.checkpoint()
    opened.feed(delta(output_tokens=6))
    closing = opened.checkpoint()

    assert begun is not None
    assert running is not None
    assert closing is not None
    assert begun.lines[0].output_tokens == 1 < running.lines[0].output_tokens
    assert closing.final
    assert not opened.terminal_seen
    opened.feed(STOP)
    assert opened.terminal_seen
    assert opened.terminal_complete


@pytest.mark.parametrize("status", [400, 401, 429, 500, 529])
def test_an_error_status_is_free_and_tells_its_error(status: int) -> None:
    body = json.dumps({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}, "usage": {"input_tokens": 1, "output_tokens": 1}})
    reading = read(body.encode(), stream=False, status=status)

    assert (reading.usage, reading.estimated, reading.ended) == (None, None, Ending.ERROR)
    assert reading.error == "rate_limit_error: slow down"


def test_an_error_page_that_is_not_json_tells_its_status() -> None:
    assert read(b"<html>bad gateway</html>", stream=False, status=502).error == "status 502"


@pytest.mark.parametrize(
    ("body", "ended"), [(b"<html>hello</html>", Ending.UNREADABLE), (b'{"usage": {"input_tokens": 5', Ending.CUT), (b"[1]", Ending.UNREADABLE)]
)
def test_a_body_that_cannot_be_read_is_estimated(body: bytes, ended: Ending) -> None:
    reading = read(body, stream=False)

    assert (reading.usage, reading.ended) == (None, ended)
    assert reading.estimated is not None
    assert reading.estimated.lines[0].output_tokens > 0


def test_json_nested_without_end_is_unreadable_and_no_crash() -> None:
    assert read(b"[" * 100_000, stream=False).usage is None


def test_a_stream_that_is_called_json_is_read_as_a_stream() -> None:
    reading = read(start() + text("Hello") + delta(output_tokens=7) + STOP, stream=False)

    assert only_line(reading).output_tokens == 7
    assert reading.ended is Ending.COMPLETE


def test_an_error_inside_a_200_body_costs_nothing() -> None:
    reading = read(b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', stream=False)

    assert (reading.usage, reading.estimated, reading.ended) == (None, None, Ending.ERROR)
