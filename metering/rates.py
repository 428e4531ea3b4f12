"""Rates: what each model costs, as pure values. `config.rate_card` reads them from a file.

List prices are microunits per million tokens; fees are microunits each. The effective rate is
ceil(list × service tier bps × (10 000 + mark-up bps) / 10⁸), see `effective`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

BPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """List prices in microunits per million tokens, by kind of token."""

    input: int
    output: int
    cache_write_5m: int
    cache_write_1h: int
    cache_read: int
    input_audio: int
    output_audio: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """Prices of a whole request whose total input is above `above` tokens."""

    above: int
    prices: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Everything the rate card says of one model.

    `service_tiers` maps a tier's name to basis points of the list price; a tier that is not in it
    cannot be priced. `fees` maps an event's name to microunits each, at list price.
    `effective_from` is an ISO date (UTC) or None for always.
    """

    provider: str
    model: str
    provider_model: str
    prices: Prices
    markup_bps: int
    context: int
    output_max: int
    hidden_output: bool = False
    aliases: tuple[str, ...] = ()
    tiers: tuple[Tier, ...] = ()
    service_tiers: Mapping[str, int] = field(default_factory=dict)
    fees: Mapping[str, int] = field(default_factory=dict)
    effective_from: str | None = None
    kind: str = "text"  # or "embedding"

    def prices_for(self, total_input_tokens: int) -> Prices:
        """Return the prices of a request with this total input (cached and uncached), tiers applied."""
        chosen, threshold = self.prices, -1
        for tier in self.tiers:
            if total_input_tokens > tier.above > threshold:
                chosen, threshold = tier.prices, tier.above
        return chosen


def effective(list_price: int, *, service_tier_bps: int = BPS, markup_bps: int) -> int:
    """Return the price with service tier and mark-up, rounded up to a whole microunit."""
    return -(-list_price * service_tier_bps * (BPS + markup_bps) // (BPS * BPS))


class UnknownModel(Exception):
    """The rate card has no price for this model; `near` lists similar names that it has."""

    def __init__(self, model: str, near: tuple[str, ...]) -> None:
        super().__init__(model)
        self.model, self.near = model, near
