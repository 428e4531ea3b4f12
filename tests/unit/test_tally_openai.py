"""Chat completions, responses and embeddings: what each way of telling a usage comes to."""

import json
from typing import Any

import pytest

from ledger.entries import UsageLine
from metering.classify import Operation
from metering.rates import Prices, Rate
from metering.requests import BodyLayout, InputBound, MeteredRequest
from metering.tally import Tally, open_tally
from metering.tally_core import BODY_BYTES_MAX
from metering.usage import Ending, Reading

PRICES = Prices(input=1, output=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, input_audio=1, output_audio=1)
TIERS = {"flex": 5_000, "priority": 20_000}


def tally(operation: Operation, *, stream: bool = True, remote: bool = False, content_type: str = "", status: int = 200, **request: Any) -> Tally:
    kind = "embedding" if operation is Operation.EMBEDDINGS else "text"
    rate = Rate(
        provider="openai", model="gpt-x", provider_model="gpt-x", prices=PRICES, markup_bps=0, context=1000, output_max=500, service_tiers=TIERS, kind=kind
    )
    asked = MeteredRequest(
        operation=operation,
        model="gpt-x",
        body=b"{}",
        layout=BodyLayout(spans={}, closing=1, empty=True),
        input=InputBound(text_bytes=300, media_tokens=7, remote=remote),
        stream=stream,
        **request,
    )
    content_type = content_type or ("text/event-stream" if stream else "application/json")
    return open_tally(operation, provider="openai", request=asked, rate=rate, status=status, content_type=content_type)


def read(operation: Operation, *chunks: bytes, **options: Any) -> Reading:
    opened = tally(operation, **options)
    for chunk in chunks:
        opened.feed(chunk)
    return opened.close()


def chat(*chunks: bytes, **options: Any) -> Reading:
    return read(Operation.CHAT_COMPLETIONS, *chunks, **options)


def chat_body(usage: Any, *, asked: dict[str, Any] | None = None, **body: Any) -> Reading:
    content = {"id": "c", "model": "gpt-x-2026-01-01", "choices": [], "usage": usage, **body}
    return chat(json.dumps(content).encode(), stream=False, **(asked or {}))


def responses(*chunks: bytes, **options: Any) -> Reading:
    return read(Operation.RESPONSES, *chunks, **options)


def data(**content: Any) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


def chunk(words: str | None = None, *, finish: str | None = None, **others: Any) -> bytes:
    return data(id="c", model="gpt-x", choices=[{"index": 0, "delta": {"content": words} if words is not None else {}, "finish_reason": finish}], **others)


def event(kind: str, **content: Any) -> bytes:
    return f"event: {kind}\n".encode() + data(type=kind, **content)


USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
DONE = b"data: [DONE]\n\n"


def line(**figures: Any) -> UsageLine:
    return UsageLine(**{"provider": "openai", "model": "gpt-x", **figures})


def only_line(reading: Reading) -> UsageLine:
    assert reading.usage is not None
    (found,) = reading.usage.lines
    return found


def test_a_chat_stream_is_billed_by_its_last_chunk() -> None:
    reading = chat(chunk("Hello", usage=None), chunk(finish="stop", usage=None), data(id="c", model="gpt-x", choices=[], usage=USAGE), DONE)

    assert reading.ended is Ending.COMPLETE
    assert only_line(reading) == line(input_tokens=10, output_tokens=5)


def test_a_usage_in_a_chunk_that_has_choices_counts() -> None:
    reading = chat(chunk("Hi", usage=None), chunk(finish="stop", usage=USAGE), DONE)

    assert only_line(reading).output_tokens == 5


def test_running_figures_of_each_chunk_are_final_only_at_the_end() -> None:
    first, last = USAGE | {"completion_tokens": 1}, USAGE | {"completion_tokens": 2}

    cut = chat(chunk("Hi", usage=first), chunk(" you", usage=last))
    whole = chat(chunk("Hi", usage=first), chunk(" you", usage=last), DONE)

    assert cut.usage is None
    assert cut.estimated is not None
    assert cut.estimated.lines[0].input_tokens == 10
    assert only_line(whole).output_tokens == 2


def test_cached_and_written_tokens_are_taken_out_of_the_input() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30}}

    assert only_line(chat_body(usage)) == line(model="gpt-x-2026-01-01", input_tokens=10, output_tokens=5, cache_read_tokens=60, cache_write_5m_tokens=30)
    assert only_line(chat_body(usage, asked={"cache_write": frozenset({"1h"})})).cache_write_1h_tokens == 30
    assert only_line(chat_body(usage, asked={"cache_write": frozenset({"1h", "5m"})})).cache_write_5m_tokens == 30


def test_cached_tokens_above_the_input_are_clamped_and_told() -> None:
    reading = chat_body({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 60}})

    assert only_line(reading).input_tokens == 0
    assert reading.usage is not None
    assert reading.usage.doubts


@pytest.mark.parametrize(("total", "output"), [(334, 322), (14, 2), (None, 2), (999, 2)])
def test_reasoning_is_added_only_where_the_total_says_that_it_was_left_out(total: int | None, output: int) -> None:
    usage = {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": total, "completion_tokens_details": {"reasoning_tokens": 320}}

    assert only_line(chat_body(usage)).output_tokens == output


def test_audio_is_a_part_of_input_and_output() -> None:
    usage = {"prompt_tokens": 42, "completion_tokens": 10, "prompt_tokens_details": {"audio_tokens": 25}, "completion_tokens_details": {"audio_tokens": 99}}

    found = only_line(chat_body(usage))

    assert (found.input_tokens, found.input_audio_tokens) == (42, 25)
    assert (found.output_tokens, found.output_audio_tokens) == (10, 10)


def test_null_details_are_unknown() -> None:
    found = only_line(chat_body(USAGE | {"prompt_tokens_details": None, "completion_tokens_details": None}))

    assert (found.cache_read_tokens, found.cache_write_5m_tokens) == (None, None)


@pytest.mark.parametrize(("cost", "told"), [("0.00341475", "0.00341475"), ("7.585e-05", "7.585e-05"), ("0", "0"), ("12345678901234567890.123456789", None)])
def test_the_providers_own_cost_is_kept_as_it_was_written(cost: str, told: str | None) -> None:
    body = b'{"model":"m","usage":{"prompt_tokens":1,"completion_tokens":1,"cost":' + cost.encode() + b"}}"

    usage = chat(body, stream=False).usage

    assert usage is not None
    assert usage.provider_cost_usd == (told or cost)


def test_searches_of_openrouter_are_fees() -> None:
    assert only_line(chat_body(USAGE | {"server_tool_use_details": {"web_search_requests": 2}})).fees == (("web_search", 2),)


@pytest.mark.parametrize(
    ("asked", "answered", "billed"),
    [
        (None, "default", None),
        ("auto", "flex", "flex"),
        ("flex", None, None),
        ("priority", None, "priority"),
        ("priority", "default", None),
        (None, "new", "new"),
    ],
)
def test_the_tier_of_the_answer_is_billed(asked: str | None, answered: str | None, billed: str | None) -> None:
    assert only_line(chat_body(USAGE, service_tier=answered, asked={"service_tier": asked})).service_tier == billed


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "10"}, {"completion_tokens": 1}, {"prompt_tokens": 1, "prompt_tokens_details": []}, "many", 3, {"prompt_tokens": 1.0}]
)
def test_a_chat_usage_of_another_shape_is_unreadable(usage: Any) -> None:
    body, stream = chat_body(usage), chat(chunk("Hello"), data(choices=[], usage=usage), DONE)

    assert (body.usage, body.ended) == (None, Ending.UNREADABLE)
    assert (stream.usage, stream.ended) == (None, Ending.UNREADABLE)
    assert stream.estimated is not None


def test_a_stream_without_usage_is_estimated_from_the_request_and_the_bytes() -> None:
    complete = chat(chunk("Hello "), chunk("world"), chunk(finish="stop"), DONE)
    cut = chat(chunk("Hello "), chunk("world"))

    assert (complete.usage, complete.ended) == (None, Ending.UNREADABLE)
    assert (cut.usage, cut.ended) == (None, Ending.CUT)
    assert complete.estimated is not None
    assert complete.estimated.lines[0].input_tokens == 107
    assert 2 < complete.estimated.lines[0].output_tokens < 20


def test_remote_content_is_estimated_as_a_full_context() -> None:
    reading = chat(chunk("Hello"), remote=True, passes=2)

    assert reading.estimated is not None
    assert reading.estimated.lines[0].input_tokens == 2000


def test_a_text_that_was_cut_off_in_its_first_word_was_still_served() -> None:
    reading = chat(b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"Hel')

    assert reading.output_seen
    assert reading.estimated is not None


def test_comments_alone_are_nothing() -> None:
    reading = chat(b": PROCESSING\n\n", b": PROCESSING\n\n")

    assert (reading.usage, reading.estimated, reading.output_seen) == (None, None, False)


def test_an_error_in_a_200_stream_is_an_error_and_a_usage_beside_it_is_billed() -> None:
    error = {"code": 502, "message": "provider gone"}

    before, after = chat(data(error=error)), chat(chunk("Hi"), data(error=error, choices=[], usage=USAGE), DONE)
    finished = chat(chunk("Hi"), chunk(finish="error"), DONE)

    assert (before.usage, before.estimated, before.ended) == (None, None, Ending.ERROR)
    assert (after.ended, only_line(after).output_tokens) == (Ending.ERROR, 5)
    assert finished.ended is Ending.ERROR
    assert before.error == "502: provider gone"


def test_an_error_in_a_200_body_costs_nothing() -> None:
    reading = chat(b'{"error":"out of order"}', stream=False)

    assert (reading.usage, reading.estimated, reading.ended, reading.error) == (None, None, Ending.ERROR, "out of order")


def test_an_empty_choices_chunk_of_a_prompt_filter_is_no_usage() -> None:
    reading = chat(data(choices=[], model="", prompt_filter_results=[]), chunk("Hi"), data(choices=[], usage=USAGE, model="gpt-x"), DONE)

    assert only_line(reading).model == "gpt-x"


def test_a_body_beyond_the_maximum_is_estimated() -> None:
    piece = b"x" * (1024 * 1024)
    reading = chat(*([piece] * (BODY_BYTES_MAX // len(piece) + 1)), stream=False)

    assert (reading.usage, reading.ended) == (None, Ending.UNREADABLE)
    assert reading.estimated is not None
    assert reading.estimated.lines[0].output_tokens == 500


@pytest.mark.parametrize(
    ("content_type", "stream"), [("", True), ("text/plain", True), ("TEXT/EVENT-STREAM; charset=utf-8", False), ("application/json", True)]
)
def test_a_stream_is_recognised_by_its_type_or_by_what_was_asked(content_type: str, stream: bool) -> None:
    reading = chat(chunk("Hi"), data(choices=[], usage=USAGE), DONE, content_type=content_type, stream=stream)

    assert only_line(reading).output_tokens == 5


RESPONSES_USAGE = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 2}, "output_tokens": 6, "total_tokens": 26}


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed", "response.cancelled"])
def test_a_terminal_event_of_a_response_brings_the_figures(kind: str) -> None:
    response = {"id": "r", "model": "gpt-x", "service_tier": "flex", "usage": RESPONSES_USAGE, "error": None}
    reading = responses(
        event("response.created", response={"id": "r", "usage": None}), event("response.output_text.delta", delta="Hi"), event(kind, response=response)
    )

    assert only_line(reading) == line(input_tokens=10, output_tokens=6, cache_read_tokens=8, cache_write_5m_tokens=2, service_tier="flex")
    assert reading.ended is (Ending.ERROR if kind == "response.failed" else Ending.COMPLETE)


def test_a_failed_response_without_figures_costs_nothing_before_output() -> None:
    created = event("response.created", response={"id": "r", "usage": None})
    failed = event("response.failed", response={"error": {"code": "server_error", "message": "x"}, "usage": None})
    reading = responses(created, event("error", error={"code": "insufficient_quota", "message": "no"}), failed)

    assert (reading.usage, reading.estimated, reading.ended, reading.output_seen) == (None, None, Ending.ERROR, False)
    assert reading.error == "server_error: x"


def test_a_bare_error_event_ends_a_response() -> None:
    assert responses(event("error", code="rate_limit", message="slow")).error == "rate_limit: slow"
    assert responses(event("response.failed", response={"usage": None})).ended is Ending.ERROR


def test_all_zero_figures_are_legal() -> None:
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}

    assert only_line(responses(event("response.completed", response={"usage": usage, "model": "gpt-x"}))) == line()


def test_tools_of_the_provider_are_fees_and_opening_a_page_is_no_search() -> None:
    output = [
        {"type": "web_search_call", "action": {"type": "search"}},
        {"type": "web_search_call", "action": {"type": "open_page"}},
        {"type": "web_search_call"},
        {"type": "file_search_call"},
        {"type": "message"},
        None,
    ]
    body = json.dumps({"model": "gpt-x", "status": "completed", "output": output, "usage": RESPONSES_USAGE}).encode()

    assert only_line(responses(body, stream=False)).fees == (("file_search", 1), ("web_search", 2))


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_a_background_response_has_nothing_to_bill_yet(status: str) -> None:
    reading = responses(json.dumps({"id": "r", "status": status, "usage": None}).encode(), stream=False)

    assert (reading.usage, reading.estimated, reading.ended) == (None, None, Ending.COMPLETE)


def test_a_compaction_names_no_model_and_bears_the_requests() -> None:
    reading = read(Operation.COMPACT, json.dumps({"id": "r", "object": "response.compaction", "usage": RESPONSES_USAGE}).encode(), stream=False)

    assert only_line(reading).model == "gpt-x"


def test_a_cut_response_is_estimated() -> None:
    created = event("response.created", response={"id": "r", "model": "gpt-x-2026", "usage": None})
    reading = responses(created, event("response.output_item.added", item={"type": "message"}), event("response.output_text.delta", delta="Hello there"))

    assert reading.ended is Ending.CUT
    assert reading.estimated is not None
    assert reading.estimated.model == "gpt-x-2026"
    assert reading.estimated.lines[0].output_tokens > 4


@pytest.mark.parametrize("usage", ["x", {"output_tokens": 1}])
def test_a_response_usage_of_another_shape_is_unreadable(usage: Any) -> None:
    assert responses(event("response.completed", response={"usage": usage})).ended is Ending.UNREADABLE


def embeddings(*chunks: bytes) -> Reading:
    return read(Operation.EMBEDDINGS, *chunks, stream=False)


def embeddings_body(size: int, **usage: Any) -> bytes:
    vectors = b",".join(b'{"object":"embedding","index":0,"embedding":[' + b"-0.0123456789," * 1000 + b"0.5]}" for _ in range(size))
    tail = json.dumps({"model": "gpt-x", "usage": usage or {"prompt_tokens": 9, "total_tokens": 9, "cost": 1.5e-07}, "id": "e"}).encode()[1:]
    return b'{"object":"list","data":[' + vectors + b"]," + tail


@pytest.mark.parametrize("size", [1, 200])
def test_embeddings_are_billed_by_their_input_whatever_their_size(size: int) -> None:
    body = embeddings_body(size)
    opened = tally(Operation.EMBEDDINGS, stream=False)
    for at in range(0, len(body), 60_000):
        opened.feed(body[at : at + 60_000])
    reading = opened.close()

    assert only_line(reading) == line(input_tokens=9)
    assert reading.usage is not None
    assert reading.usage.provider_cost_usd == "1.5e-07"
    assert len(opened._body) < 2 * 1024 * 1024  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", [1, 200])
def test_embeddings_without_readable_figures_are_estimated_from_the_request(size: int) -> None:
    for body in (embeddings_body(size, prompt_tokens="9"), embeddings_body(size)[:-200], b"[]", b'{"usage":"x"}', b'{"data":[]}'):
        reading = embeddings(body)

        assert reading.usage is None
        assert reading.estimated is not None
        assert (reading.estimated.lines[0].input_tokens, reading.estimated.lines[0].output_tokens) == (107, 0)


@pytest.mark.parametrize("operation", [Operation.COUNT_TOKENS, Operation.INPUT_TOKENS, Operation.LIST_MODELS])
def test_counting_and_listing_are_free(operation: Operation) -> None:
    opened = tally(operation, stream=False)
    opened.feed(b'{"input_tokens": 500}')

    assert opened.checkpoint() is None
    reading = opened.close()
    assert (reading.usage, reading.estimated, reading.ended) == (None, None, Ending.COMPLETE)
    assert opened.output_bytes == 0
