"""From tokens to microunits: kinds, tiers, modifiers, fees, several models, and one rounding."""

from datetime import date, timedelta
from typing import Any

import pytest

from ledger.entries import RequestId, UsageLine
from metering.pricing import charge_record, cost_differs, price_record, price_usage, tier_bps
from metering.rate_cards import RateCard, days_since_1970, loose_name, strip_date
from metering.rates import Prices, Rate, Tier, UnknownModel

LIST = Prices(
    input=3_000_000, output=15_000_000, cache_write_5m=3_750_000, cache_write_1h=6_000_000, cache_read=300_000, input_audio=30_000_000, output_audio=60_000_000
)
LONG = Prices(
    input=6_000_000, output=22_500_000, cache_write_5m=7_500_000, cache_write_1h=12_000_000, cache_read=600_000, input_audio=30_000_000, output_audio=60_000_000
)
CHEAP = Prices(input=100_000, output=500_000, cache_write_5m=100_000, cache_write_1h=100_000, cache_read=10_000, input_audio=100_000, output_audio=500_000)


def rate(**changes: Any) -> Rate:
    return Rate(
        **{
            "provider": "anthropic",
            "model": "claude-x",
            "provider_model": "claude-x",
            "prices": LIST,
            "markup_bps": 1000,
            "context": 1_000_000,
            "output_max": 64_000,
            "tiers": (Tier(above=200_000, prices=LONG),),
            "service_tiers": {"flex": 5_000, "priority": 20_000, "geo_us": 11_000},
            "fees": {"web_search": 10_000},
            **changes,
        }
    )


MINI = rate(model="claude-mini", provider_model="claude-mini", prices=CHEAP, tiers=(), service_tiers={}, fees={})
CARD = RateCard([rate(), MINI], card_hash="hash")


def line(**figures: Any) -> UsageLine:
    return UsageLine(**{"provider": "anthropic", "model": "claude-x", **figures})


def amount(*lines: UsageLine, card: RateCard = CARD) -> int:
    return price_usage(lines, card, at_ms=0).amount


def test_every_kind_of_token_has_its_own_price() -> None:
    found = price_usage(
        [line(input_tokens=1000, output_tokens=1000, cache_write_5m_tokens=1000, cache_write_1h_tokens=1000, cache_read_tokens=1000)], CARD, at_ms=0
    )

    assert found.amount == 3_300 + 16_500 + 4_125 + 6_600 + 330
    assert found.provider_leg == 3_000 + 15_000 + 3_750 + 6_000 + 300
    assert (found.numerator, found.list_numerator) == (found.amount * 1_000_000, found.provider_leg * 1_000_000)


def test_a_fraction_of_a_microunit_is_charged_as_one_and_only_once() -> None:
    one = line(model="claude-mini", input_tokens=1)

    assert amount(one) == 1  # 0.11 microunits
    assert amount(*[one] * 9) == 1  # 0.99
    assert amount(*[one] * 10) == 2  # 1.10
    assert amount(line(input_tokens=0)) == 0


def test_audio_is_priced_as_a_part_of_input_and_output() -> None:
    assert amount(line(input_tokens=1000, input_audio_tokens=400, output_tokens=10, output_audio_tokens=10)) == 600 * 33 // 10 + 400 * 33 + 10 * 66


@pytest.mark.parametrize(("cached", "expected"), [(0, 3_300 * 200), (1, 6_600 * 200 + 1)])
def test_a_long_context_costs_the_tiers_price_for_the_whole_request(cached: int, expected: int) -> None:
    assert amount(line(input_tokens=200_000, cache_read_tokens=cached)) == expected


def test_the_highest_tier_that_is_reached_counts() -> None:
    higher = Prices(input=9_000_000, output=1, cache_write_5m=1, cache_write_1h=1, cache_read=1, input_audio=1, output_audio=1)
    card = RateCard([rate(tiers=(Tier(above=500, prices=higher), Tier(above=100, prices=LONG)), markup_bps=0)], card_hash="h")

    assert [amount(line(input_tokens=count), card=card) for count in (100, 101, 501)] == [300, 606, 4509]


@pytest.mark.parametrize(
    ("tier", "bps", "unknown"),
    [
        (None, 10_000, ()),
        ("standard", 10_000, ()),
        ("flex", 5_000, ()),
        ("priority+geo_us", 22_000, ()),
        ("novel", 10_000, ("novel",)),
        ("flex+speed_fast", 5_000, ("speed_fast",)),
    ],
)
def test_tiers_multiply_and_unknown_ones_are_told(tier: str | None, bps: int, unknown: tuple[str, ...]) -> None:
    assert tier_bps(rate(), tier) == (bps, unknown)


def test_the_effective_rate_is_rounded_up_for_each_kind() -> None:
    odd = Prices(input=3, output=3, cache_write_5m=3, cache_write_1h=3, cache_read=3, input_audio=3, output_audio=3)
    card = RateCard([rate(prices=odd, tiers=())], card_hash="h")

    assert price_usage([line(input_tokens=10)], card, at_ms=0).numerator == 40  # 3.3 becomes 4
    assert price_usage([line(input_tokens=10, service_tier="flex")], card, at_ms=0).numerator == 20  # 1.65 becomes 2
    assert price_usage([line(input_tokens=10, service_tier="flex")], card, at_ms=0).list_numerator == 20  # 1.5 becomes 2


def test_a_tier_multiplies_the_providers_leg_too() -> None:
    found = price_usage([line(input_tokens=1000, service_tier="priority")], CARD, at_ms=0)

    assert (found.amount, found.provider_leg) == (6_600, 6_000)


def test_fees_bear_the_markup_and_no_tier() -> None:
    found = price_usage([line(input_tokens=0, fees=(("web_search", 3),), service_tier="flex")], CARD, at_ms=0)

    assert (found.amount, found.provider_leg, found.doubts) == (33_000, 30_000, ())


def test_a_fee_without_a_price_is_told() -> None:
    assert price_usage([line(fees=(("magic", 1),))], CARD, at_ms=0).doubts == ("no price for magic of claude-x",)


def test_lines_of_several_models_are_summed_before_rounding() -> None:
    assert amount(line(input_tokens=1), line(model="claude-mini", input_tokens=1)) == 4  # 3.30 + 0.11


@pytest.mark.parametrize("name", ["claude-x", "claude-x-20260101", "claude-x-2026-01-01", "claude-x:beta", "anthropic/claude-x-20260101", "x-claude"])
def test_an_answering_model_is_known_by_its_dated_and_its_turned_names(name: str) -> None:
    found = price_usage([line(model=name, input_tokens=1000)], CARD, at_ms=0, requested=MINI)

    assert found.amount == 3_300
    assert found.doubts == ("answered by the dearer model claude-x",)


def test_a_cheaper_answering_model_is_charged_as_what_it_is() -> None:
    assert price_usage([line(model="claude-mini", input_tokens=1000)], CARD, at_ms=0, requested=rate()).amount == 110


def test_an_unknown_answering_model_is_charged_as_the_requested_one_and_told() -> None:
    found = price_usage([line(model="claude-unheard-of", input_tokens=1000)], CARD, at_ms=0, requested=rate())

    assert found.amount == 3_300
    assert found.doubts == ("no rate for the answering model claude-unheard-of",)


def test_an_unknown_model_without_a_request_has_no_price() -> None:
    with pytest.raises(UnknownModel):
        price_usage([line(model="claude-unheard-of")], CARD, at_ms=0)


DAY = 86_400_000
DATED = RateCard(
    [
        rate(tiers=(), effective_from=None),
        rate(tiers=(), prices=CHEAP, effective_from="1970-01-03"),
        rate(model="new", provider_model="new", effective_from="1970-01-05"),
    ],
    card_hash="h",
)


@pytest.mark.parametrize(("day", "expected"), [(0, 3_300), (1.999, 3_300), (2, 110), (100, 110)])
def test_the_price_is_that_of_the_requests_start(day: float, expected: int) -> None:
    assert price_usage([line(input_tokens=1000)], DATED, at_ms=int(day * DAY)).amount == expected


def test_a_model_has_no_price_before_its_first_day() -> None:
    with pytest.raises(UnknownModel):
        DATED.at(3 * DAY).find("new")
    assert DATED.at(4 * DAY).find("new").model == "new"
    assert DATED.at(4 * DAY) is DATED.at(5 * DAY)
    assert DATED.at(0).at(9 * DAY) is DATED.at(0)


def test_days_are_counted_as_the_calendar_does() -> None:
    first = date(1970, 1, 1)
    for number in range(0, 60_000, 7):
        day = first + timedelta(days=number)
        assert days_since_1970(day.year, day.month, day.day) == number


def test_a_record_can_be_priced_again() -> None:
    record, price = charge_record(
        RequestId("r"), [line(model="claude-x-20260101", input_tokens=7, output_tokens=5)], card=CARD, requested=rate(), operation="messages", started_at=5
    )

    assert (record.amount, record.provider_leg, record.rate_card, record.model) == (price.amount, price.provider_leg, "hash", "claude-x")
    assert price_record(record, CARD) == price


@pytest.mark.parametrize(
    ("cost", "differs"), [("0.003", False), ("3e-3", False), ("0.00302", False), ("0.00298", False), ("0.0032", True), ("0", True), ("0.0130", True)]
)
def test_a_providers_own_cost_is_compared_with_the_list_price(cost: str, differs: bool) -> None:
    price = price_usage([line(input_tokens=1000)], CARD, at_ms=0)

    assert cost_differs(cost, price.list_numerator) is differs


def test_names_without_dates() -> None:
    assert [strip_date(name) for name in ("a-20250929", "a-2024-08-06", "a@20250929", "gpt-4-0613", "qwen-2.5-7b", "a-2025")] == [
        "a",
        "a",
        "a",
        "gpt-4",
        "qwen-2.5-7b",
        "a-2025",
    ]
    assert loose_name("anthropic/claude-4.6-sonnet-20260217") == loose_name("claude-sonnet-4-6") == "claude-sonnet-4-6"
    assert loose_name("claude-sonnet-4-5") != loose_name("claude-sonnet-5-4")


def vendor(model: str, provider_model: str, **others: Any) -> Rate:
    return rate(provider="openrouter", model=model, provider_model=provider_model, **others)


MARKET = RateCard(
    [
        vendor("qwen3-max", "qwen/qwen3-max", aliases=("q3",)),
        vendor("anthropic/claude-x", "anthropic/claude-x"),
        vendor("twin-a-1", "v/twin-a-1"),
        vendor("a-twin-1", "v/a-twin-1"),
        rate(aliases=("x-alias",)),
    ],
    card_hash="h",
)


@pytest.mark.parametrize(
    ("name", "provider", "found", "sent"),
    [
        ("qwen3-max", None, "qwen3-max", "qwen/qwen3-max"),
        ("qwen/qwen3-max", None, "qwen3-max", "qwen/qwen3-max"),
        ("openrouter/qwen3-max", None, "qwen3-max", "qwen/qwen3-max"),
        ("openrouter/qwen/qwen3-max", "openrouter", "qwen3-max", "qwen/qwen3-max"),
        ("q3", None, "qwen3-max", "qwen/qwen3-max"),
        ("openrouter/q3", None, "qwen3-max", "qwen/qwen3-max"),
        ("qwen3-max-2026-01-23", None, "qwen3-max", "qwen/qwen3-max-2026-01-23"),
        ("qwen/qwen3-max-2026-01-23", None, "qwen3-max", "qwen/qwen3-max-2026-01-23"),
        ("anthropic/claude-x", None, "claude-x", "claude-x"),
        ("anthropic/claude-x", "openrouter", "anthropic/claude-x", "anthropic/claude-x"),
        ("anthropic/claude-x-20260101", None, "claude-x", "claude-x-20260101"),
        ("x-alias", "anthropic", "claude-x", "claude-x"),
    ],
)
def test_a_model_is_found_by_its_names(name: str, provider: str | None, found: str, sent: str) -> None:
    assert (MARKET.find(name, provider=provider).model, MARKET.find(name, provider=provider).provider_model) == (found, sent)


@pytest.mark.parametrize(
    ("name", "provider"), [("qwen3-max", "anthropic"), ("qwen3-max:free", None), ("", None), ("x" * 100_000, None), ("claude-x-latest", None)]
)
def test_a_name_that_is_not_on_the_card_is_refused(name: str, provider: str | None) -> None:
    with pytest.raises(UnknownModel):
        MARKET.find(name, provider=provider)


def test_a_refusal_names_what_is_near() -> None:
    with pytest.raises(UnknownModel) as refused:
        MARKET.find("qwen3-mxa")

    assert refused.value.near[0] == "qwen3-max"


def test_a_loose_name_that_two_models_share_leads_nowhere() -> None:
    requested = MARKET.find("qwen3-max")

    assert MARKET.rate_for_answer("openrouter", "v/1-a-twin", requested) is requested
    assert MARKET.rate_for_answer("openrouter", "twin-a-1", requested).model == "twin-a-1"
    assert MARKET.rate_for_answer("openrouter", None, requested) is requested
