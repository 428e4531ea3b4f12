"""What is sold and under which limits: the rate card and the ledger's settings in the words of the API."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Final

from config.settings import Settings
from control.schemas import LimitsAnswer, ModelPrices, PricingAnswer, TierPrices
from ledger.holds import Standing
from ledger.money import charge_from_numerator
from metering.holds import overdraft_bound, overdraft_line
from metering.rates import BPS, Prices, Rate, effective

DENOMINATION: Final = "microunits (6 decimals, 1 USDC = 1_000_000)"


def configured_providers(settings: Settings) -> frozenset[str]:
    """Return the providers that the operator has a key for."""
    providers = settings.providers
    sections = {"anthropic": providers.anthropic, "openai": providers.openai, "openrouter": providers.openrouter}
    return frozenset(name for name, section in sections.items() if section.keys)


def pricing(rates: Iterable[Rate], *, rate_card: str, providers: frozenset[str]) -> PricingAnswer:
    """Return the rate card as it is charged, mark-up included."""
    models = {f"{rate.provider}/{rate.model}": _model_prices(rate, available=rate.provider in providers) for rate in rates}
    return PricingAnswer(pricing=models, currency="USDC", denomination=DENOMINATION, rate_card=rate_card)


def limits(settings: Settings, rates: Iterable[Rate], *, standing: Standing | None = None) -> LimitsAnswer:
    """Return how far an account can go: any account, or the one whose standing is given. `rates` are of the models served."""
    ledger = settings.ledger
    mode = ledger.on_exhausted
    line = account_line(ledger.overdraft_max, standing) if mode == "finish" else 0
    step = extension_step(rates, ledger.extension_tokens)
    bound = overdraft_bound(mode, line=line, concurrent=ledger.concurrent_requests, step=step)
    return LimitsAnswer(mode=mode, line=line, concurrent_requests=ledger.concurrent_requests, step=step, overdraft_bound=bound)


def account_line(overdraft_max: int, standing: Standing | None) -> int:
    """Return how far below zero a running stream may take the balance, by the same rule as the hold scripts."""
    return overdraft_max if standing is None else overdraft_line(standing.charged, standing.line, overdraft_max=overdraft_max)


def extension_step(rates: Iterable[Rate], tokens: int) -> int:
    """Return the largest charge of `tokens` output tokens that a growing hold can meet, in any tier of any model.

    Models whose streams do not show all their output are held in full from the start, so they never grow.
    """
    return max((charge_from_numerator(tokens * _dearest_output(rate)) for rate in rates if not rate.hidden_output and rate.kind == "text"), default=0)


def _dearest_output(rate: Rate) -> int:
    lists = [price for prices in (rate.prices, *(tier.prices for tier in rate.tiers)) for price in (prices.output, prices.output_audio)]
    tier_bps = BPS
    for bps in rate.service_tiers.values():  # tiers of speed and place can be asked for together
        tier_bps = -(-tier_bps * max(BPS, bps) // BPS)
    return effective(max(lists), service_tier_bps=tier_bps, markup_bps=rate.markup_bps)


def charged_prices(prices: Prices, markup_bps: int) -> Prices:
    """Return what customers pay: each of the prices with the mark-up on it."""
    return Prices(**{kind.name: effective(getattr(prices, kind.name), markup_bps=markup_bps) for kind in fields(Prices)})


def _model_prices(rate: Rate, *, available: bool) -> ModelPrices:
    charged = charged_prices(rate.prices, rate.markup_bps)
    return ModelPrices(
        **_price_fields(charged),
        input_audio_per_1m=charged.input_audio,
        output_audio_per_1m=charged.output_audio,
        provider=rate.provider,
        model=rate.model,
        provider_model=rate.provider_model,
        kind=rate.kind,
        context=rate.context,
        output_max=rate.output_max,
        aliases=list(rate.aliases),
        tiers=[TierPrices(above=tier.above, **_price_fields(charged_prices(tier.prices, rate.markup_bps))) for tier in rate.tiers],
        service_tiers=dict(rate.service_tiers),
        fees={name: effective(fee, markup_bps=rate.markup_bps) for name, fee in rate.fees.items()},
        markup_bps=rate.markup_bps,
        effective_from=rate.effective_from,
        available=available,
    )


def _price_fields(charged: Prices) -> Mapping[str, int]:
    return {
        "input_per_1m": charged.input,
        "output_per_1m": charged.output,
        "cache_write_per_1m": charged.cache_write_5m,
        "cache_read_per_1m": charged.cache_read,
        "cache_write_1h_per_1m": charged.cache_write_1h,
    }
