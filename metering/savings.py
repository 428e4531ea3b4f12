"""What cached tokens saved: by the prices of the card that is in force, from counts alone. Pure.

An estimate for people and no part of any charge: the roll-ups know neither long-context tiers nor service tiers, so list prices of a
short request stand for all, and the prices of today for those of the period.
"""

from dataclasses import dataclass

from metering.rate_cards import RateCard
from metering.rates import effective
from metering.reported import provider_name


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedTokens:
    """The cached tokens of one model. `write_tokens` contain those for an hour. `reported` as in `metering.reported`."""

    provider: str
    model: str
    reported: bool
    write_tokens: int
    write_1h_tokens: int
    read_tokens: int


def cache_saving(cached: CachedTokens, card: RateCard, *, reported_markup: bool) -> int | None:
    """Return in microunits what the tokens would have cost as plain input, less what they cost: below 0 where writing cost more than reading saved.

    None where the card does not know the model. `reported_markup` tells that reported usage is priced with mark-up.
    """
    name = provider_name(cached.provider) if cached.reported else cached.provider
    rate = card.known(name, cached.model)
    if rate is None and cached.reported and card.reported.rates is not None:
        rate = card.reported.rates.known(name, cached.model)
    if rate is None:
        return None
    markup = 0 if cached.reported and not reported_markup else rate.markup_bps
    prices = rate.prices
    plain = effective(prices.input, markup_bps=markup)
    numerator = (
        (cached.write_tokens - cached.write_1h_tokens) * (plain - effective(prices.cache_write_5m, markup_bps=markup))
        + cached.write_1h_tokens * (plain - effective(prices.cache_write_1h, markup_bps=markup))
        + cached.read_tokens * (plain - effective(prices.cache_read, markup_bps=markup))
    )
    return numerator // 1_000_000
