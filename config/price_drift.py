"""Where a rate card and the published lists differ, model by model."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime

from config.published_prices import PublishedModel, published_row
from config.rate_card import parse_rate_card
from config.rate_card_text import render
from metering.rate_cards import RateCard
from metering.rates import Prices, Rate

# The specification fixes these prices; where the lists say otherwise, the specification is followed.
ACCEPTED = {
    ("openrouter", "qwen3-max"): {"cache_read"},
    ("openrouter", "qwen3-coder-plus"): {"input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "input_audio", "output_audio"},
    # Its list price has gone to and fro between this and 60 % of it.
    ("openrouter", "glm-5"): {"input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "input_audio", "output_audio"},
    ("openrouter", "grok-4-1-fast"): {"published"},
    # Cheaper for some hours of the day; what is estimated is estimated at the full price.
    ("deepseek", "deepseek-chat"): {"input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "input_audio", "output_audio"},
    ("deepseek", "deepseek-reasoner"): {"input", "output", "cache_write_5m", "cache_write_1h", "cache_read", "input_audio", "output_audio"},
    # One price for every length, where the list has a dearer one above 200 000 tokens.
    ("openrouter", "gemini-3.1-pro-preview"): {"cache_read", "cache_write_5m", "cache_write_1h", "tiers"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One figure of a model that is not as published. `accepted`: the specification wants it so."""

    provider: str
    model: str
    field: str
    card: str
    published: str
    accepted: bool


def differences(card: RateCard, *, at: datetime | None = None) -> Iterator[Difference]:
    """Yield every difference between the rates of a card and the published list prices at `at` (now).

    Prices, tiers, and those fees and service tiers are compared that both sides name.
    """
    for rate in card.all_with_reported():
        row = published_row(rate.provider, rate.provider_model, at=at)
        if row is None:
            yield _difference(rate, "published", "yes", "no")
            continue
        named = PublishedModel(provider=rate.provider, name=rate.model, row=row)
        published = next(parse_rate_card(render(named)).all_with_reported())
        yield from _price_differences(rate, published)
        yield from _other_differences(rate, published)


def _price_differences(rate: Rate, published: Rate) -> Iterator[Difference]:
    for kind in fields(Prices):
        ours, theirs = getattr(rate.prices, kind.name), getattr(published.prices, kind.name)
        if ours != theirs:
            yield _difference(rate, kind.name, f"{ours:_}", f"{theirs:_}")
    if rate.tiers != published.tiers:
        yield _difference(rate, "tiers", _tiers(rate), _tiers(published))


def _other_differences(rate: Rate, published: Rate) -> Iterator[Difference]:
    for name in sorted(set(rate.fees) & set(published.fees)):
        if rate.fees[name] != published.fees[name]:
            yield _difference(rate, f"fees.{name}", f"{rate.fees[name]:_}", f"{published.fees[name]:_}")
    for name in sorted(set(rate.service_tiers) & set(published.service_tiers)):
        if rate.service_tiers[name] != published.service_tiers[name]:
            yield _difference(rate, f"service_tiers.{name}", f"{rate.service_tiers[name]:_}", f"{published.service_tiers[name]:_}")


def _tiers(rate: Rate) -> str:
    return ", ".join(f"above {tier.above:_}: {tier.prices.input:_}/{tier.prices.output:_}" for tier in rate.tiers) or "none"


def _difference(rate: Rate, field: str, ours: str, theirs: str) -> Difference:
    accepted = field in ACCEPTED.get((rate.provider, rate.model), set())
    return Difference(provider=rate.provider, model=rate.model, field=field, card=ours, published=theirs, accepted=accepted)
