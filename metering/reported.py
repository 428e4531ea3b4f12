"""What usage that is only reported is estimated at: from the same rate card as what the gateway serves.

A model is looked for among the rates for reported usage and among the served ones; where neither knows it, its provider's default
answers for it, and where there is none the card's fallback. Pure: the moment and the card come in.
"""

from dataclasses import dataclass, field
from typing import Final

from ledger.money import Microunits, charge_from_numerator
from metering.rate_cards import RateCard
from metering.rates import Prices, Rate, effective

__all__ = ["Estimate", "ReportedPricer", "Steps", "provider_name"]

PLANS_MAX: Final = 4096  # callers name the models, so what is remembered of them is bounded
# Other names under which clients know a provider.
_PROVIDER_NAMES: Final = {"gemini": "google", "google-gla": "google", "google-vertex": "google", "grok": "xai", "mistralai": "mistral", "x-ai": "xai"}


def provider_name(text: str) -> str:
    """Return the name of a provider on the rate card, for the way a client writes it."""
    name = text.lower()
    return _PROVIDER_NAMES.get(name, name)


@dataclass(frozen=True, slots=True)
class Estimate:
    """`cost` in microunits; `unpriced` where no rate bears the model's name."""

    cost: Microunits
    unpriced: bool


@dataclass(frozen=True, slots=True)
class Steps:
    """Microunits per million tokens of input, output, cache writes (for five minutes and for an hour) and cache reads, for total inputs above `above`."""

    above: int
    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one model is priced. The steps are ordered from the highest threshold down; the last one always fits."""

    steps: tuple[Steps, ...]
    unpriced: bool


@dataclass(slots=True)
class ReportedPricer:
    """Estimates costs with one card; `with_markup` charges for reported usage what the gateway would have charged."""

    card: RateCard
    with_markup: bool = False
    _plans: dict[tuple[str, str, RateCard, RateCard | None], _Plan] = field(default_factory=dict)

    def estimate(
        self,
        provider: str,
        model: str,
        *,
        at_ms: int,
        input_tokens: int,
        output_tokens: int,
        cache_write_tokens: int,
        cache_read_tokens: int,
        cache_write_1h_tokens: int = 0,
    ) -> Estimate:
        """Return the cost of one event, rounded up once. Input is what no cache gave; output contains reasoning, and cache writes those for an hour."""
        card, reported = self.card.at(at_ms), self.card.reported.rates
        if reported is not None:
            reported = reported.at(at_ms)
        plan = self._plans.get((provider, model, card, reported)) or self._make_plan(provider, model, card=card, reported=reported)
        total = input_tokens + cache_write_tokens + cache_read_tokens
        for step in plan.steps:
            if total > step.above:
                break
        numerator = (
            input_tokens * step.input
            + output_tokens * step.output
            + (cache_write_tokens - cache_write_1h_tokens) * step.cache_write_5m
            + cache_write_1h_tokens * step.cache_write_1h
            + cache_read_tokens * step.cache_read
        )
        return Estimate(charge_from_numerator(numerator), plan.unpriced)

    def steps(self, provider: str, model: str, *, at_ms: int, total: int) -> Steps:
        """Return the rates of an event with this total input, as `estimate` takes them."""
        card, reported = self.card.at(at_ms), self.card.reported.rates
        if reported is not None:
            reported = reported.at(at_ms)
        plan = self._plans.get((provider, model, card, reported)) or self._make_plan(provider, model, card=card, reported=reported)
        return next(step for step in plan.steps if total > step.above)

    def _make_plan(self, provider: str, model: str, *, card: RateCard, reported: RateCard | None) -> _Plan:
        name = provider_name(provider)

        def find(wanted: str | None) -> Rate | None:
            if not wanted:
                return None
            return (reported.known(name, wanted) if reported is not None else None) or card.known(name, wanted)

        rate = find(model)
        plan = _Plan(self._steps_of(rate or find(self.card.reported.defaults.get(name))), rate is None)
        if len(self._plans) >= PLANS_MAX:
            self._plans.clear()
        self._plans[provider, model, card, reported] = plan
        return plan

    def _steps_of(self, rate: Rate | None) -> tuple[Steps, ...]:
        if rate is None:
            return (self._step(-1, self.card.reported.fallback, self.card.reported.fallback_markup_bps),)
        tiers = sorted(rate.tiers, key=lambda tier: -tier.above)
        return (*(self._step(tier.above, tier.prices, rate.markup_bps) for tier in tiers), self._step(-1, rate.prices, rate.markup_bps))

    def _step(self, above: int, prices: Prices, markup_bps: int) -> Steps:
        def price(listed: int) -> int:
            return effective(listed, markup_bps=markup_bps if self.with_markup else 0)

        return Steps(
            above=above,
            input=price(prices.input),
            output=price(prices.output),
            cache_write_5m=price(prices.cache_write_5m),
            cache_write_1h=price(prices.cache_write_1h),
            cache_read=price(prices.cache_read),
        )
