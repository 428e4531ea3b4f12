"""Reading reported usage: exact money, strict types, faults that name the event and the field."""

import json
from dataclasses import asdict
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from control.ingest_reading import BadEvents, Reported, microunits, read_events
from ledger.ingest_values import COST_MAX, TEXT_LENGTH_MAX, TOKENS_MAX

NOW = 1_795_000_000_000
DAY = 86_400_000


def read(body: bytes | str | object, *, partial: bool = False) -> Reported:
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    return read_events(text if isinstance(text, bytes) else text.encode(), now_ms=NOW, late_days_max=35, partial=partial)


def one(**fields: object) -> Any:
    return read({"provider": "p", **fields}).events[0]


def refusal(body: bytes | str | object) -> BadEvents:
    with pytest.raises(BadEvents) as caught:
        read(body)
    return caught.value


def test_only_the_provider_is_required_and_the_rest_has_defaults() -> None:
    assert asdict(one()) == {
        "provider": "p", "model": "", "task_type": "general", "source": "api", "workspace": "", "input_tokens": 0, "output_tokens": 0,
        "cache_read_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, "reasoning_tokens": 0, "cost": None, "occurred_at": None,
        "external_ref": None, "user_id": None, "idempotency_key": None,
    }  # fmt: skip


def test_everything_that_is_given_is_read() -> None:
    event = one(
        model=" m ", task_type="t", source="s", workspace="w", input_tokens=1, output_tokens=2, cache_read_tokens=3, cache_write_tokens=4,
        reasoning_tokens=5, cost_usd=0.25, occurred_at=NOW // 1000, external_ref="r", user_id="u", idempotency_key="k",
    )  # fmt: skip

    assert (event.model, event.task_type, event.source, event.workspace) == ("m", "t", "s", "w")
    assert (event.input_tokens, event.output_tokens, event.cache_read_tokens, event.cache_write_tokens, event.reasoning_tokens) == (1, 2, 3, 4, 5)
    assert (event.cost, event.occurred_at, event.external_ref, event.user_id, event.idempotency_key) == (250_000, NOW, "r", "u", "k")


@pytest.mark.parametrize("field", ["model", "task_type", "source", "workspace", "external_ref", "user_id", "cost_usd", "occurred_at", "input_tokens"])
def test_null_is_as_good_as_nothing(field: str) -> None:
    assert one(**{field: None}) == one()


@pytest.mark.parametrize(
    ("number", "amount"),
    [
        ("0", 0), ("-0", 0), ("-0.0", 0), ("0.0", 0), ("0e9", 0), ("0.0156", 15_600), ("0.000001", 1), ("0.0000001", 1), ("1e-7", 1), ("1e-999999", 1),
        ("0.0000010001", 2), ("0.30000000000000004", 300_000), ("1.1", 1_100_000), ("3", 3_000_000), ("1E2", 100_000_000), ("99999.999999", 99_999_999_999),
        ("0.1000000000000000055511151231257827", 100_000),
    ],
)  # fmt: skip
def test_dollars_become_microunits_without_a_float(number: str, amount: int) -> None:
    assert read(f'{{"provider":"p","cost_usd":{number}}}').events[0].cost == amount


@given(some.integers(min_value=0, max_value=COST_MAX))
def test_an_amount_of_whole_microunits_is_read_as_it_is_written(amount: int) -> None:
    assert microunits(Decimal(f"{amount // 10**6}.{amount % 10**6:06d}")) == amount


@given(some.floats(min_value=0, max_value=90_000, allow_nan=False))
def test_what_a_program_computed_in_doubles_is_never_less_than_it_meant_nor_a_microunit_more(cost: float) -> None:
    amount, meant = one(cost_usd=cost).cost, Decimal(repr(cost)) * 10**6

    assert meant - Decimal("0.01") <= amount < meant + 1 or amount == 1


@pytest.mark.parametrize("field", ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_1h_tokens", "reasoning_tokens"])
@pytest.mark.parametrize("value", ["-1", "1.5", "7.0", '"7"', '""', "[1]", "{}", "true", "false", "1e3", "1e999", "-1e999", "-" + "9" * 30])
def test_tokens_are_non_negative_integers(field: str, value: str) -> None:
    fault = refusal(f'{{"provider":"p","{field}":{value}}}')

    assert (fault.field, fault.text) == (field, f"{field} must be a non-negative integer")


def test_cache_writes_for_an_hour_are_a_part_of_all_and_bind_a_key_only_where_there_are_such() -> None:
    event, plain = one(cache_write_tokens=9, cache_write_1h_tokens=4), one(cache_write_tokens=9)

    assert (event.cache_write_tokens, event.cache_write_1h_tokens) == (9, 4)
    assert json.loads(event.canonical()) == [*json.loads(plain.canonical()), 4]
    assert refusal({"provider": "p", "cache_write_tokens": 3, "cache_write_1h_tokens": 4}).field == "cache_write_1h_tokens"


@pytest.mark.parametrize("value", [TOKENS_MAX + 1, 2**63 - 1, 10**30])
def test_no_event_can_hold_more_tokens_than_the_books_can_add_up(value: int) -> None:
    assert one(input_tokens=TOKENS_MAX).input_tokens == TOKENS_MAX
    assert refusal({"provider": "p", "input_tokens": value}).text == f"input_tokens must be at most {TOKENS_MAX}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("-0.01", "non-negative"), ("-1", "non-negative"), ("true", "a number"), ('"1"', "a number"), ("[]", "a number"), ("1e999", "at most"),
        ("100001", "at most"),
    ],
)  # fmt: skip
def test_a_cost_is_a_number_from_0_to_what_one_event_may_cost(value: str, text: str) -> None:
    fault = refusal(f'{{"provider":"p","cost_usd":{value}}}')

    assert fault.field == "cost_usd"
    assert text in fault.text


@pytest.mark.parametrize("field", ["provider", "model", "task_type", "source", "workspace", "external_ref", "user_id"])
@pytest.mark.parametrize("value", [True, 5, 1.5, ["a"], {"a": 1}, "a\x00b", "\ud800", "\x1b[31m", "x" * (TEXT_LENGTH_MAX + 1)])
def test_texts_are_texts_without_control_characters_and_not_endless(field: str, value: object) -> None:
    assert refusal({"provider": "p", field: value}).field == field


@pytest.mark.parametrize("text", ["=1+1", "日本語 🚀", "a\tb", "line\nbreak", "nb\xa0sp", "👩‍👩‍👧"])
def test_any_other_text_is_taken_as_it_is(text: str) -> None:
    assert one(task_type=text).task_type == text


@pytest.mark.parametrize("payload", [{}, {"model": "gpt-5"}, {"provider": ""}, {"provider": "  "}, {"provider": None}, {"Provider": "x"}, 5, '"x"', None, True])
def test_an_event_without_provider_is_refused(payload: object) -> None:
    assert refusal(payload).text == "each event needs a 'provider'"


@pytest.mark.parametrize("body", [b"", b"  \n"])
def test_an_empty_body_is_an_event_that_lacks_its_provider(body: bytes) -> None:
    assert "provider" in refusal(body).text


BAD_JSON = [
    '{"provider":', "hello", "{", "[", '{"provider":"x",}', "provider=x", "{'provider':'x'}", '{"provider":"x"} trailing', '[{"provider":"x"}', "\x00",
    '{"provider":"x","cost_usd":NaN}',
    '{"provider":"x","cost_usd":Infinity}', '{"provider":"x","cost_usd":01}', '{"provider":"x","cost_usd":1' + "0" * 5000 + "}",
    "[" * 100_000, b"\xff\xfe", '{"provider":"x"}'.encode("utf-16"), b'{"provider":"\xff"}',
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_JSON)
def test_what_is_not_json_is_refused(body: bytes | str) -> None:
    assert refusal(body).text.startswith("body must be JSON")


def test_a_name_given_twice_is_refused_since_readers_would_differ_on_its_value() -> None:
    fault = refusal('{"provider":"x","cost_usd":1,"cost_usd":0}')

    assert (fault.field, "given twice" in fault.text) == ("cost_usd", True)


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_has_1_to_1000_events(count: int) -> None:
    assert refusal([{"provider": "p"}] * count).text == "send 1–1000 events"


def test_a_batch_of_one_and_of_a_thousand_are_batches() -> None:
    for count in (1, 1000):
        found = read([{"provider": "p", "input_tokens": 1}] * count)
        assert (found.is_batch, found.count, len(found.events)) == (True, count, count)
    assert not read({"provider": "p"}).is_batch


def test_one_bad_event_refuses_the_whole_batch_and_is_named() -> None:
    fault = refusal([{"provider": "p"}, {"provider": "p", "input_tokens": -1}, {}])

    assert (fault.event, fault.field, fault.text) == (1, "input_tokens", "event 1: input_tokens must be a non-negative integer")


def test_when_the_good_ones_are_wanted_bad_ones_are_left_out_by_their_number() -> None:
    found = read([{"provider": "p"}, {"provider": "p", "input_tokens": -1}, {}, {"provider": "q"}], partial=True)

    assert [(number, event.provider) for number, event in found.events.items()] == [(0, "p"), (3, "q")]
    assert {number: fault.field for number, fault in found.bad.items()} == {1: "input_tokens", 2: "provider"}


@pytest.mark.parametrize(
    ("value", "moment"),
    [(1_794_999_999, 1_794_999_999_000), (1_794_999_999.25, 1_794_999_999_250), ("2026-11-18T02:13:20Z", None), ("2026-11-18T02:13:20.5+02:00", None)],
)
def test_a_late_event_says_when_it_occurred(value: object, moment: int | None) -> None:
    found = one(occurred_at=value).occurred_at

    assert found == moment if moment else NOW - 35 * DAY < found <= NOW + 300_000


@pytest.mark.parametrize(
    "value", [0, -1, 10**30, 1e300, NOW // 1000 + 301, NOW // 1000 - 36 * 86_400, "2026-11-18", "2026-11-18T00:00:00", "yesterday", True, [], "9" * 400]
)
def test_a_time_that_is_none_or_too_long_ago_or_to_come_is_refused(value: object) -> None:
    assert refusal({"provider": "p", "occurred_at": value}).field == "occurred_at"


@pytest.mark.parametrize("value", ["", " ", "a b", "é", 5, "k" * 256])
def test_an_events_own_key_is_visible_ascii(value: object) -> None:
    assert refusal({"provider": "p", "idempotency_key": value}).field == "idempotency_key"
