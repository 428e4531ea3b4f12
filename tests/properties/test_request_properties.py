"""What holds for every request line, body and price: reading, splicing, bounding."""

import json
import string
from typing import Any
from urllib.parse import quote

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ledger.money import charge_from_numerator
from metering.classify import ControlRoute, Dialect, Operation, RequestRefused, Route, classify
from metering.holds import HoldBounds, affordable_output_tokens, hold_bounds, overdraft_bound, overdraft_line
from metering.json_text import InvalidJson, byte_offsets, read_object
from metering.rates import Prices, Rate, Tier, effective
from metering.requests import MeteredRequest, read_request
from metering.rewrite import rewrite_body

# Enough to meet every branch often, few enough for two busy cores.
often = settings(max_examples=100, deadline=None)

OPERATIONS = st.sampled_from([Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES, Operation.EMBEDDINGS, Operation.COMPACT])
NAMES = st.one_of(
    st.sampled_from(
        ["stream_options", "include_usage", "max_tokens", "max_completion_tokens", "input", "messages", "content", "type", "tools", "cache_control"]
    ),
    st.text(max_size=6),
)
# JSON cannot say lone surrogates in UTF-8, so they come escaped only.
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=10))
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12)
SPACES = st.text(" \t\r\n", max_size=2)


def _escaped(text: str) -> str:
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[index : index + 2]):04x}" for index in range(0, len(units), 2))


@st.composite
def objects(draw: st.DrawFn, *, required: dict[str, Any] | None = None) -> str:
    """Write an object as an adversary may: any order, spaces, escapes in names, any alphabet."""
    values = {**draw(st.dictionaries(NAMES, VALUES, max_size=6)), **(required or {})}
    order = draw(st.permutations(list(values)))
    members = []
    for name in order:
        written = f'"{_escaped(name)}"' if draw(st.booleans()) else json.dumps(name, ensure_ascii=False)
        value = json.dumps(values[name], ensure_ascii=draw(st.booleans()))
        members.append(f"{draw(SPACES)}{written}{draw(SPACES)}:{draw(SPACES)}{value}{draw(SPACES)}")
    text = f"{draw(SPACES)}{{{','.join(members) or draw(SPACES)}}}{draw(SPACES)}"
    assume(_is_utf8(text))
    return text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reference(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


@often
@given(objects())
def test_every_object_is_read_as_the_standard_parser_reads_it_and_each_value_stands_where_it_is_said(text: str) -> None:
    document = read_object(text)

    assert document.values == _reference(text)
    assert document.text[document.closing] == "}"
    offsets = byte_offsets(text, [position for span in document.spans.values() for position in span])
    for name, (begin, end) in document.spans.items():
        assert json.loads(text[begin:end]) == document.values[name]
        assert text.encode()[offsets[begin] : offsets[end]] == text[begin:end].encode()


@often
@given(
    st.one_of(
        st.text(max_size=40),
        st.text('{}[]":,\\u0123456789 eEntrfal-+.', max_size=40),
        objects().flatmap(lambda text: st.builds(str.__add__, st.just(text), st.text(max_size=3))),
    )
)
def test_what_the_reader_takes_the_standard_parser_takes_too(text: str) -> None:
    try:
        document = read_object(text)
    except InvalidJson:
        return
    assert document.values == _reference(text)


@often
@given(OPERATIONS, st.one_of(st.binary(max_size=60), objects(required={"model": "m"}).map(str.encode)))
def test_reading_a_body_gives_facts_or_a_refusal_and_nothing_else(operation: Operation, body: bytes) -> None:
    route = Route(operation=operation, dialect=Dialect.OPENAI, upstream_path="/v1/anything")
    try:
        request = read_request(route, body)
    except RequestRefused as error:
        refusal = (error.status, error.dialect)
        assert refusal == (400, Dialect.OPENAI)  # most bodies are taken; the refused ones must be refused so
        return
    assert request.model == json.loads(body)["model"]
    assert request.input.text_bytes > 0


OPTIONS = st.one_of(
    st.none(),
    st.dictionaries(st.sampled_from(["include_obfuscation", "x", "é"]), st.booleans()).flatmap(
        lambda options: st.sampled_from([options, {**options, "include_usage": False}, {"include_usage": True, **options}, {"include_usage": None, **options}])
    ),
)


@often
@given(
    st.data(),
    st.sampled_from([Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES]),
    st.booleans(),
    st.one_of(st.none(), st.integers(1, 10**6)),
)
def test_after_rewriting_only_what_was_meant_to_change_has_changed(data: st.DataObject, operation: Operation, include_usage: bool, limit: int | None) -> None:
    required: dict[str, Any] = {"model": "m"}
    if data.draw(st.booleans()):
        required["stream_options"] = data.draw(OPTIONS)
    text = data.draw(objects(required=required))
    try:
        request = read_request(Route(operation=operation, dialect=Dialect.OPENAI, upstream_path="/v1/anything"), text.encode())
    except RequestRefused:
        return
    provider_model = data.draw(st.one_of(st.none(), st.just("m"), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)))

    changed = rewrite_body(request, provider_model=provider_model, include_usage=include_usage, output_limit=limit)

    expected = _reference(text)
    if provider_model is not None:
        expected["model"] = provider_model
    if include_usage and not request.wants_usage:
        expected["stream_options"] = {**(expected.get("stream_options") or {}), "include_usage": True}
    if limit is not None:
        expected[str(request.output_limit_field)] = limit
    assert json.loads(changed) == expected
    if expected == _reference(text) and limit is None:
        assert changed is request.body


def _outcome(method: str, target: str) -> object:
    try:
        found = classify(method, target)
    except RequestRefused as error:
        return (error.status, error.code, error.dialect)
    return found


@often
@given(
    st.sampled_from(["GET", "POST", "HEAD", "PUT", "", "get"]),
    st.one_of(st.text(max_size=40), st.text("/%.\\v1messagproxy?2eEfF", max_size=40).map("/".__add__)),
)
def test_the_classifier_answers_every_target(method: str, target: str) -> None:
    found = _outcome(method, target)

    assert isinstance(found, Route | ControlRoute | tuple)
    if isinstance(found, Route):
        assert found.upstream_path.startswith("/v1")
        assert _outcome(method, found.upstream_path) is not None


SEGMENTS = st.lists(
    st.sampled_from(["v1", "api", "proxy", "T", "messages", "chat", "completions", "responses", "models", "balance", "count_tokens", "a b", "é", "%41", "q?x"]),
    max_size=6,
)


@often
@given(st.sampled_from(["GET", "POST"]), SEGMENTS, st.data())
def test_two_spellings_of_one_path_are_never_classified_differently(method: str, segments: list[str], data: st.DataObject) -> None:
    def spelling() -> str:
        path = "".join("/" * data.draw(st.integers(1, 2)) + _percent_encoded(segment, data) for segment in segments) or "/"
        return path + ("/" if data.draw(st.booleans()) else "")

    plain = "/" + "/".join(quote(segment, safe="") for segment in segments)

    assert _outcome(method, spelling()) == _outcome(method, spelling()) == _outcome(method, plain)


def _percent_encoded(segment: str, data: st.DataObject) -> str:
    written = ""
    for byte in segment.encode():
        plain = chr(byte) if chr(byte) in string.ascii_letters + string.digits + "_" else None
        hexed = f"%{byte:02x}" if data.draw(st.booleans()) else f"%{byte:02X}"
        written += plain if plain is not None and data.draw(st.booleans()) else hexed
    return written


PRICE = st.integers(0, 10**8)
PRICES = st.builds(Prices, input=PRICE, output=PRICE, cache_write_5m=PRICE, cache_write_1h=PRICE, cache_read=PRICE, input_audio=PRICE, output_audio=PRICE)
RATES = st.builds(
    Rate,
    provider=st.sampled_from(["anthropic", "openai"]),
    model=st.just("m"),
    provider_model=st.just("m"),
    prices=PRICES,
    markup_bps=st.integers(0, 20_000),
    context=st.integers(1, 10**6),
    output_max=st.integers(1, 200_000),
    hidden_output=st.booleans(),
    tiers=st.lists(st.builds(Tier, above=st.integers(0, 10_000), prices=PRICES), max_size=2).map(tuple),
    service_tiers=st.just({"flex": 5_000, "priority": 17_777}),
    fees=st.fixed_dictionaries({"web_search": st.integers(0, 10**5)}),
)
TTLS = st.sampled_from([None, "5m", "1h"])


@st.composite
def requests(draw: st.DrawFn) -> MeteredRequest:
    fields: dict[str, Any] = {"model": "m", "system": "x" * draw(st.integers(0, 5_000))}
    if draw(st.booleans()):
        fields["max_completion_tokens"] = draw(st.integers(1, 300_000))
    if draw(st.booleans()):
        fields["tools"] = [{"type": "web_search", "max_uses": draw(st.one_of(st.none(), st.integers(1, 20)))}]
    fields["cache_control"] = draw(st.one_of(st.none(), TTLS.map(lambda ttl: {"type": "ephemeral", "ttl": ttl})))
    fields["service_tier"] = draw(st.sampled_from([None, "auto", "flex", "priority"]))
    fields["n"] = draw(st.integers(1, 4))
    fields["stream"] = draw(st.booleans())
    fields["previous_response_id"] = draw(st.sampled_from([None, None, "resp_1"]))
    operation = draw(st.sampled_from([Operation.CHAT_COMPLETIONS, Operation.EMBEDDINGS]))
    return read_request(Route(operation=operation, dialect=Dialect.OPENAI, upstream_path="/v1/anything"), json.dumps(fields).encode())


def _charge_within(request: MeteredRequest, rate: Rate, *, data: st.DataObject, uses: int, output: int) -> int:
    """Price some usage that the request can bring, by the plainest arithmetic: an oracle, not the pricing under test."""
    size = rate.context if request.input.remote else request.input.text_bytes
    if request.operation is not Operation.EMBEDDINGS:
        size = min(size, rate.context)
    left = size + uses * 50_000
    kinds = ["input", "cache_read"]
    if request.cache_write or rate.provider == "openai":
        kinds.append("cache_write_5m")
    if "1h" in request.cache_write:
        kinds.append("cache_write_1h")
    counts = dict.fromkeys(kinds, 0)
    for kind in data.draw(st.permutations(kinds)):
        counts[kind] = data.draw(st.sampled_from([left, left // 2, 0]))
        left -= counts[kind]
    prices = rate.prices_for(sum(counts.values()))
    served = data.draw(st.sampled_from(sorted({10_000, rate.service_tiers.get(request.service_tier or "", 10_000)})))

    def price(listed: int) -> int:
        return effective(listed, service_tier_bps=served, markup_bps=rate.markup_bps)

    numerator = sum(count * price(getattr(prices, kind)) for kind, count in counts.items()) + output * price(prices.output)
    return charge_from_numerator(numerator) + uses * effective(rate.fees["web_search"], markup_bps=rate.markup_bps)


def _bounds(request: MeteredRequest, rate: Rate, hold_output_tokens: int = 4096) -> HoldBounds:
    return hold_bounds(request, [rate], hold_output_tokens=hold_output_tokens, server_tool_tokens=50_000)


@often
@given(requests(), RATES, st.integers(1, 10_000))
def test_the_bounds_are_in_order(request: MeteredRequest, rate: Rate, hold_output_tokens: int) -> None:
    bounds = _bounds(request, rate, hold_output_tokens)

    assert 0 <= bounds.input <= bounds.small <= bounds.worst
    assert bounds.input <= bounds.expected <= bounds.worst
    if request.stream and not rate.hidden_output:
        assert bounds.small <= bounds.expected
    else:
        assert bounds.small >= bounds.worst_input
    assert bounds.input <= bounds.worst_input <= bounds.worst


@often
@given(requests(), RATES, st.data())
def test_the_worst_case_covers_every_charge_that_the_request_can_bring(request: MeteredRequest, rate: Rate, data: st.DataObject) -> None:
    bounds = _bounds(request, rate)
    tool_uses = (request.server_tools[0].max_uses or 10) if request.server_tools else 0
    limit = request.output_limit or rate.output_max
    output = 0 if request.operation is Operation.EMBEDDINGS else request.choices * data.draw(st.integers(0, limit))

    charge = _charge_within(request, rate, data=data, uses=data.draw(st.integers(0, tool_uses)), output=output)

    assert charge <= bounds.worst


@often
@given(requests(), RATES, st.integers(0, 10**9), st.data())
def test_an_affordable_limit_keeps_every_charge_within_what_is_available(request: MeteredRequest, rate: Rate, left: int, data: st.DataObject) -> None:
    bounds = _bounds(request, rate)
    available = bounds.worst_input + left
    limit = affordable_output_tokens(bounds, available)
    tool_uses = (request.server_tools[0].max_uses or 10) if request.server_tools else 0

    charge = _charge_within(request, rate, data=data, uses=tool_uses, output=limit * request.choices)

    assert charge <= available


@often
@given(st.integers(0, 10**9), st.one_of(st.none(), st.integers(0, 10**9)), st.integers(0, 10**9), st.integers(1, 64), st.integers(0, 10**6))
def test_a_new_account_has_no_line_and_no_mode_publishes_less_than_a_stricter_one(
    charged: int, override: int | None, overdraft_max: int, concurrent: int, step: int
) -> None:
    line = overdraft_line(charged, override, overdraft_max=overdraft_max)

    assert overdraft_line(0, None, overdraft_max=overdraft_max) == 0
    assert line == override or line <= min(overdraft_max, charged // 10)
    strict, cut, finish = (overdraft_bound(mode, line=line, concurrent=concurrent, step=step) for mode in ("strict", "cut", "finish"))
    assert 0 == strict <= cut <= finish
