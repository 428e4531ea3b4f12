"""Properties of metering: cuts never matter, splitting never pays off the wrong way, one rounding."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from addons.meter import UNREAD_BYTES_MAX, Meter
from ledger.entries import UsageLine
from metering.chunks import TerminalHold, UsageChunkFilter
from metering.classify import Operation
from metering.pricing import price_usage
from metering.rate_cards import RateCard
from metering.rates import Prices, Rate, effective
from metering.requests import BodyLayout, InputBound, MeteredRequest
from metering.sse import EventDecoder
from metering.tally import Tally, open_tally
from metering.usage import Ending, Reading

EXAMPLES = settings(max_examples=100, deadline=None)
OPERATIONS = st.sampled_from([Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES])
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
PRICE = st.integers(0, 200_000_000)
PRICES = st.builds(Prices, input=PRICE, output=PRICE, cache_write_5m=PRICE, cache_write_1h=PRICE, cache_read=PRICE, input_audio=PRICE, output_audio=PRICE)
COUNT = st.integers(0, 2_000_000)
FIGURES = ("input_tokens", "output_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens")

# Anything a provider may put where a count should be.
FIGURE = st.one_of(st.integers(-5, 10**7), st.none(), st.text(max_size=3), st.floats(), st.booleans(), st.just(10**30), st.just([]), st.just({}))
ANTHROPIC_USAGE = st.dictionaries(
    st.sampled_from(
        ["input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "iterations", "server_tool_use"]
    ),
    FIGURE,
)
OPENAI_USAGE = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "prompt_tokens_details", "cost"]), FIGURE
)


def encode(event: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(event).encode() + b"\n\n"


def anthropic_events(words: str, usage: Any, stop: Any) -> list[dict[str, Any]]:
    return [
        {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": words}},
        {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage},
        {"type": "message_stop"},
    ]


def openai_events(words: str, usage: Any, stop: Any) -> list[dict[str, Any]]:
    return [
        {"model": "x", "choices": [{"delta": {"content": words}, "finish_reason": stop}], "usage": None},
        {"model": "x", "choices": [], "usage": usage},
        {"type": "response.output_text.delta", "delta": words},
        {"type": "response.completed", "response": {"model": "x", "usage": usage}},
    ]


EVENT_LISTS = st.one_of(
    st.builds(anthropic_events, st.text(max_size=30), ANTHROPIC_USAGE, st.sampled_from([None, "end_turn"])),
    st.builds(openai_events, st.text(max_size=30), OPENAI_USAGE, st.sampled_from([None, "stop"])),
)
NOISE = st.sampled_from(
    [
        b": comment\n\n",
        b"event: ping\ndata: {}\n\n",
        b"data: [DONE]\n\n",
        b"data: {\n\n",
        b"\n\n",
        b"data: \xff\xfe\n\n",
        b'data: {"error":{"message":"x"}}\n\n',
    ]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    events = [encode(event) for event in draw(EVENT_LISTS)]
    for piece in draw(st.lists(NOISE, max_size=3)):
        events.insert(draw(st.integers(0, len(events))), piece)
    body = b"".join(events).replace(b"\n", draw(LINE_ENDS))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return (mark + body)[: draw(st.integers(0, len(body) + 3))]


@st.composite
def cut(draw: st.DrawFn, body: bytes) -> list[bytes]:
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=8)))
    return [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]


def begin(operation: Operation, content_type: str) -> Tally:
    prices = Prices(input=1, output=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, input_audio=1, output_audio=1)
    rate = Rate(provider="p", model="x", provider_model="x", prices=prices, markup_bps=0, context=1000, output_max=1000)
    request = MeteredRequest(
        operation=operation, model="x", body=b"{}", layout=BodyLayout(spans={}, closing=1, empty=True), input=InputBound(text_bytes=30), stream=True
    )
    return open_tally(operation, provider="p", request=request, rate=rate, status=200, content_type=content_type)


def read(operation: Operation, pieces: list[bytes], content_type: str) -> Reading:
    tally = begin(operation, content_type)
    for piece in pieces:
        tally.feed(piece)
        tally.checkpoint()
    return tally.close()


@EXAMPLES
@given(st.data(), OPERATIONS, streams())
def test_any_cutting_of_any_stream_gives_the_same_reading(data: st.DataObject, operation: Operation, body: bytes) -> None:
    pieces = data.draw(cut(body))

    assert read(operation, pieces, "text/event-stream") == read(operation, [body], "text/event-stream")
    assert read(operation, pieces, "application/json") == read(operation, [body], "application/json")


@EXAMPLES
@given(OPERATIONS, streams())
def test_a_reading_is_whole_or_estimated_or_nothing_and_never_below_zero(operation: Operation, body: bytes) -> None:
    reading = read(operation, [body], "text/event-stream")

    assert reading.usage is None or reading.estimated is None
    assert not (reading.output_seen and reading.usage is None and reading.estimated is None)
    assert not (reading.ended is Ending.COMPLETE and reading.usage is None)
    for usage in (reading.usage, reading.estimated):
        for line in usage.lines if usage else ():
            assert all((getattr(line, name) or 0) >= 0 for name in FIGURES)


@EXAMPLES
@given(OPERATIONS, st.binary(max_size=300))
def test_no_bytes_make_a_tally_fail(operation: Operation, body: bytes) -> None:
    for content_type in ("text/event-stream", "application/json", ""):
        assert read(operation, [body[:50], body[50:]], content_type) is not None


@EXAMPLES
@given(st.data(), streams())
def test_events_are_the_same_however_the_bytes_are_cut(data: st.DataObject, body: bytes) -> None:
    def events(pieces: list[bytes]) -> list[object]:
        decoder = EventDecoder(event_bytes_max=200)
        return [*(event for piece in pieces for event in decoder.feed(piece)), *decoder.close(), decoder.overflowed]

    assert events(data.draw(cut(body))) == events([body])


@EXAMPLES
@given(st.data(), OPERATIONS, streams())
def test_a_terminal_hold_loses_and_reorders_no_byte(data: st.DataObject, operation: Operation, body: bytes) -> None:
    hold, now, held = TerminalHold(operation), b"", b""
    for piece in data.draw(cut(body)):
        early, late = hold.feed(piece)
        assert not (held and early)
        now, held = now + early, held + late

    assert now + held + hold.flush() == body


@EXAMPLES
@given(st.data(), OPERATIONS, st.lists(streams(), min_size=1, max_size=3), st.booleans())
def test_what_goes_out_before_it_is_counted_is_counted_all_the_same(data: st.DataObject, operation: Operation, bodies: list[bytes], hides: bool) -> None:
    body = b"".join(bodies)
    at_once, late = (
        begin(operation, "text/event-stream"),
        Meter(begin(operation, "text/event-stream"), chunk_filter=UsageChunkFilter() if hides else None, terminal=TerminalHold(operation)),
    )
    relayed = b""
    for piece in data.draw(cut(body)):
        at_once.feed(piece)
        relayed += late.relay(piece)
        assert late.output_bytes_most >= at_once.output_bytes
        assert late.output_bytes_most - at_once.output_bytes <= UNREAD_BYTES_MAX
        assert late.terminal_held == at_once.terminal_complete
        if data.draw(st.booleans()):
            assert (late.checkpoint(), late.output_bytes, late.shows_output) == (
                at_once.checkpoint(), at_once.output_bytes, at_once.output_bytes > 0 and not at_once.reasons_unseen,
            )  # fmt: skip

    relayed += late.flush() + late.release()
    assert late.reading() == at_once.close()
    assert late.bytes_seen == len(body)
    assert hides or relayed == body


@EXAMPLES
@given(st.data(), streams())
def test_a_chunk_filter_hides_the_same_however_the_bytes_are_cut(data: st.DataObject, body: bytes) -> None:
    def filtered(pieces: list[bytes]) -> bytes:
        chunk_filter = UsageChunkFilter()
        return b"".join(chunk_filter.feed(piece) for piece in pieces) + chunk_filter.flush()

    # Where CR and LF of a blank line are cut apart, the LF may stay behind: an empty line, which says nothing.
    assert filtered(data.draw(cut(body))).replace(b"\n", b"").replace(b"\r", b"") == filtered([body]).replace(b"\n", b"").replace(b"\r", b"")


def card(prices: Prices, markup_bps: int) -> RateCard:
    rate = Rate(provider="p", model="x", provider_model="x", prices=prices, markup_bps=markup_bps, context=1, output_max=1, fees={"web_search": 10_000})
    return RateCard([rate], card_hash="h")


def usage_line(counts: dict[str, int], searches: int = 0) -> UsageLine:
    return UsageLine(provider="p", model="x", fees=(("web_search", searches),) if searches else (), **counts)


COUNTS = st.fixed_dictionaries(dict.fromkeys(FIGURES, COUNT))
MARKUPS = st.integers(0, 20_000)


@EXAMPLES
@given(PRICES, MARKUPS, COUNTS, st.sampled_from(FIGURES), st.integers(0, 1000))
def test_more_tokens_never_cost_less(prices: Prices, markup: int, counts: dict[str, int], kind: str, more: int) -> None:
    rates = card(prices, markup)

    assert price_usage([usage_line(counts)], rates, at_ms=0).amount <= price_usage([usage_line(counts | {kind: counts[kind] + more})], rates, at_ms=0).amount


@EXAMPLES
@given(PRICES, MARKUPS, COUNTS, st.data())
def test_one_request_never_costs_more_than_its_tokens_split_in_two(prices: Prices, markup: int, counts: dict[str, int], data: st.DataObject) -> None:
    rates = card(prices, markup)
    first = {kind: data.draw(st.integers(0, total)) for kind, total in counts.items()}
    second = {kind: total - first[kind] for kind, total in counts.items()}

    whole = price_usage([usage_line(counts, 3)], rates, at_ms=0)
    parts = [price_usage([usage_line(first, 1)], rates, at_ms=0), price_usage([usage_line(second, 2)], rates, at_ms=0)]

    assert sum(part.amount for part in parts) - 1 <= whole.amount <= sum(part.amount for part in parts)
    assert price_usage([usage_line(first, 1), usage_line(second, 2)], rates, at_ms=0) == whole


@EXAMPLES
@given(PRICES, MARKUPS, COUNTS)
def test_the_sum_is_rounded_once_and_upwards_and_pays_the_provider(prices: Prices, markup: int, counts: dict[str, int]) -> None:
    price = price_usage([usage_line(counts)], card(prices, markup), at_ms=0)

    assert 0 <= price.amount * 1_000_000 - price.numerator < 1_000_000
    assert 0 <= price.provider_leg * 1_000_000 - price.list_numerator < 1_000_000
    assert price.provider_leg <= price.amount


@EXAMPLES
@given(st.integers(0, 10**9), st.integers(1, 100_000), st.integers(0, 100_000))
def test_the_effective_rate_is_the_product_rounded_up(listed: int, tier: int, markup: int) -> None:
    exact = listed * tier * (10_000 + markup)

    assert 0 <= effective(listed, service_tier_bps=tier, markup_bps=markup) * 10**8 - exact < 10**8
