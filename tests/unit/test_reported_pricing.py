"""Estimates of usage that is only reported: from the rate card, by name, by default, and never for nothing."""

import pytest

from config.rate_card import parse_rate_card
from metering.reported import Estimate, ReportedPricer, provider_name

CARD = """
markup_bps = 1000
[openai."gpt-x"]
input = 1_000_000
output = 4_000_000
cache_read = 100_000
cache_write_5m = 1_250_000
cache_write_1h = 2_000_000
context = 1000
aliases = ["gpt-x-latest"]
[reported.fallback]
input = 1_000_000
output = 3_000_000
cache_read = 100_000
[reported.openai]
default = "gpt-x"
[[reported.google."gemini"]]
input = 2_000_000
output = 8_000_000
cache_read = 200_000
tiers = [{ above = 1000, input = 4_000_000, output = 12_000_000 }]
[[reported.google."gemini"]]
input = 3_000_000
output = 8_000_000
effective_from = 2030-01-01
"""
NOW = 1_795_000_000_000
IN_2031 = 1_930_000_000_000


def estimate(
    provider: str, model: str, input_tokens: int = 0, output_tokens: int = 0, *, read: int = 0, write: int = 0, at: int = NOW, markup: bool = False
) -> Estimate:
    pricer = ReportedPricer(parse_rate_card(CARD), with_markup=markup)
    return pricer.estimate(
        provider, model, at_ms=at, input_tokens=input_tokens, output_tokens=output_tokens, cache_write_tokens=write, cache_read_tokens=read
    )  # fmt: skip


@pytest.mark.parametrize("name", ["gpt-x", "gpt-x-latest", "gpt-x-2026-05-01"])
def test_a_served_model_is_estimated_at_its_list_price_under_any_of_its_names(name: str) -> None:
    assert estimate("openai", name, 1000, 10) == Estimate(cost=1040, unpriced=False)


def test_with_the_mark_up_it_costs_what_the_gateway_charges() -> None:
    assert estimate("openai", "gpt-x", 1000, markup=True) == Estimate(cost=1100, unpriced=False)


def test_the_sum_is_rounded_up_once() -> None:
    assert estimate("openai", "gpt-x", 0, 0, read=1).cost == 1
    assert estimate("openai", "gpt-x", 1, 1, read=11).cost == 7
    assert estimate("openai", "gpt-x").cost == 0


def test_cache_writes_for_an_hour_cost_what_those_do_and_the_others_what_five_minutes_do() -> None:
    pricer = ReportedPricer(parse_rate_card(CARD))

    found = pricer.estimate(
        "openai", "gpt-x", at_ms=NOW, input_tokens=0, output_tokens=0, cache_write_tokens=104, cache_read_tokens=0, cache_write_1h_tokens=100
    )  # fmt: skip

    assert found.cost == 4 * 1.25 + 100 * 2


def test_a_long_request_has_the_price_of_its_tier_as_a_whole() -> None:
    assert estimate("google", "gemini", 1000).cost == 2000
    assert estimate("google", "gemini", 900, read=101).cost == 3641
    assert estimate("google", "gemini", 1001).cost == 4004


def test_the_rate_is_the_one_of_the_moment_it_happened() -> None:
    assert estimate("google", "gemini", 100).cost == 200
    assert estimate("google", "gemini", 100, at=IN_2031).cost == 300


def test_an_unknown_model_costs_what_its_providers_default_costs_and_is_called_unpriced() -> None:
    assert estimate("openai", "no-such-model", 1000) == Estimate(cost=1000, unpriced=True)
    assert estimate("openai", "", 1000) == Estimate(cost=1000, unpriced=True)


def test_an_unknown_provider_costs_the_fallback() -> None:
    assert estimate("no-such-provider", "x", 1_000_000, 1_000_000) == Estimate(cost=4_000_000, unpriced=True)
    assert estimate("google", "unknown", 1_000_000) == Estimate(cost=1_000_000, unpriced=True)


@pytest.mark.parametrize(("written", "name"), [("Google", "google"), ("gemini", "google"), ("X-AI", "xai"), ("OpenAI", "openai"), ("mine", "mine")])
def test_providers_are_known_by_the_names_that_clients_use(written: str, name: str) -> None:
    assert provider_name(written) == name


def test_many_made_up_models_do_not_fill_the_memory() -> None:
    pricer = ReportedPricer(parse_rate_card(CARD))
    for number in range(5000):
        pricer.estimate("openai", f"made-up-{number}", at_ms=NOW, input_tokens=1, output_tokens=0, cache_write_tokens=0, cache_read_tokens=0)

    assert len(pricer._plans) <= 4096
