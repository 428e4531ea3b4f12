"""Prices and limits in the words of the API."""

from dataclasses import replace

import pytest

from config.settings import Settings
from control.catalogue import account_line, configured_providers, extension_step, limits, pricing
from ledger.holds import Standing
from ledger.money import Microunits
from metering.rates import Prices, Rate, Tier

PRICES = Prices(input=1_000_000, output=5_000_000, cache_write_5m=1_250_000, cache_write_1h=2_000_000, cache_read=100_000, input_audio=1, output_audio=2)
RATE = Rate(provider="anthropic", model="m", provider_model="m-1", prices=PRICES, markup_bps=1000, context=200_000, output_max=64_000)


def a_standing(charged: int, line: int | None = None) -> Standing:
    nothing = Microunits(0)
    return Standing(balance=nothing, available=nothing, held=nothing, status="active", charged=charged, line=line)


def test_prices_contain_the_mark_up_and_are_rounded_up() -> None:
    answer = pricing([RATE], rate_card="h", providers=frozenset({"anthropic"})).pricing["anthropic/m"]

    assert (answer.input_per_1m, answer.output_per_1m, answer.cache_write_per_1m, answer.cache_read_per_1m) == (1_100_000, 5_500_000, 1_375_000, 110_000)
    assert (answer.cache_write_1h_per_1m, answer.input_audio_per_1m, answer.output_audio_per_1m) == (2_200_000, 2, 3)
    assert answer.available


def test_fees_and_tiers_bear_the_mark_up_too() -> None:
    rate = replace(RATE, fees={"web_search": 10_000}, tiers=(Tier(above=200_000, prices=replace(PRICES, input=2_000_000)),))

    answer = pricing([rate], rate_card="h", providers=frozenset()).pricing["anthropic/m"]

    assert answer.fees == {"web_search": 11_000}
    assert (answer.tiers[0].above, answer.tiers[0].input_per_1m) == (200_000, 2_200_000)
    assert not answer.available


def test_only_providers_with_a_key_are_configured() -> None:
    settings = Settings.model_validate({"providers": {"openai": {"api_key": "operator-key-openai"}}})

    assert configured_providers(settings) == {"openai"}


@pytest.mark.parametrize(
    ("overdraft_max", "standing", "line"),
    [
        (1_000_000, None, 1_000_000),
        (1_000_000, a_standing(0), 0),
        (1_000_000, a_standing(99), 9),
        (1_000_000, a_standing(10**12), 1_000_000),
        (1_000_000, a_standing(0, line=5), 5),
        (1_000_000, a_standing(10**12, line=0), 0),
        (1_000_000, a_standing(0, line=7_000_000), 7_000_000),
    ],
)
def test_the_line_is_a_tenth_of_what_was_charged_or_the_operators_own(overdraft_max: int, standing: Standing | None, line: int) -> None:
    assert account_line(overdraft_max, standing) == line


def test_a_step_is_the_dearest_that_any_model_tier_and_service_tier_can_bring() -> None:
    plain = replace(RATE, prices=replace(PRICES, output=5_000_000))
    tiered = replace(RATE, tiers=(Tier(above=1, prices=replace(PRICES, output=7_500_000)),))
    fast = replace(RATE, service_tiers={"flex": 5_000, "priority": 20_000})

    assert extension_step([plain], 4096) == 22_528  # 4096 x 5.5
    assert extension_step([plain, tiered], 4096) == 33_792  # 4096 x 8.25
    assert extension_step([plain, tiered, fast], 4096) == 45_056  # 4096 x 11
    assert extension_step([], 4096) == 0


def test_tiers_of_speed_and_place_may_come_together() -> None:
    rate = replace(RATE, service_tiers={"fast": 20_000, "geo_us": 11_000, "flex": 5_000})

    assert extension_step([rate], 1_000_000) == 12_100_000  # 5 x 2 x 1.1 x 1.1


def test_models_whose_hold_never_grows_have_no_step() -> None:
    assert extension_step([replace(RATE, hidden_output=True), replace(RATE, kind="embedding")], 4096) == 0


@pytest.mark.parametrize(("mode", "line", "bound"), [("finish", 1_000_000, 1_000_000 + 64 * 22_528), ("cut", 0, 64 * 22_528), ("strict", 0, 0)])
def test_each_mode_has_its_own_bound_below_zero(mode: str, line: int, bound: int) -> None:
    answer = limits(Settings.model_validate({"ledger": {"on_exhausted": mode}}), [RATE])

    assert (answer.mode, answer.line, answer.step, answer.overdraft_bound) == (mode, line, 22_528, bound)
