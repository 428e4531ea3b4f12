"""Another provider for the same request: whether there is one, at whose rate, and a hold that covers it. No cover, no fallback."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from addons.admission import Admission, Forwarding, needs_usage_chunk
from addons.exchange import Exchange, Kind
from addons.lifecycle import Lifecycle
from addons.upstream import Provider
from config.settings import LedgerSettings
from ledger.errors import InsufficientFunds, LedgerError
from metering.classify import Operation, RequestRefused
from metering.holds import HoldBounds, hold_bounds
from metering.pricing import RateCard
from metering.rates import Rate
from metering.requests import MeteredRequest
from metering.rewrite import rewrite_body
from telemetry.logs import log

# Where both providers take the same bodies and give the same answers.
SHARED: Final = frozenset({
    ("anthropic", "openrouter", Operation.MESSAGES), ("openai", "openrouter", Operation.CHAT_COMPLETIONS), ("openai", "openrouter", Operation.RESPONSES),
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Who could serve a request instead, and what that may cost."""

    provider: Provider
    rate: Rate
    bounds: HoldBounds


class Fallback:
    """Finds the other provider and moves a request's price and hold to it."""

    def __init__(self, *, admission: Admission, lifecycle: Lifecycle, providers: Mapping[str, Provider], card: RateCard, settings: LedgerSettings) -> None:
        self._admission, self._lifecycle, self._providers, self._card, self._settings = admission, lifecycle, providers, card, settings

    def offer(self, exchange: Exchange, failing: Provider) -> Offer | None:
        """Return who else could serve the request, None where nobody could do so in the very same way."""
        route, request, rate = exchange.route, exchange.request, exchange.rate
        other = self._providers.get(failing.fallback or "")
        if other is None or route is None or request is None or rate is None or exchange.kind is not Kind.BILLED or not other.keys:
            return None
        if (failing.name, other.name, route.operation) not in SHARED or _is_bound_to_its_provider(request):
            return None
        same = same_model(self._card.at(exchange.started_at), rate, other.name)
        if same is None:
            return None
        ledger = self._settings
        try:
            bounds = hold_bounds(request, [same], hold_output_tokens=ledger.hold_output_tokens, server_tool_tokens=ledger.server_tool_tokens)
        except RequestRefused:
            return None  # something in it has no price there
        return Offer(provider=other, rate=same, bounds=bounds)

    async def take(self, exchange: Exchange, offer: Offer) -> Forwarding | None:
        """Make the request the other provider's: its rate, its bounds, a hold that covers them. None where the hold cannot, and then nothing has changed."""
        route, request = exchange.route, exchange.request
        if route is None or request is None or not await self._cover(exchange, request, offer.bounds):
            return None
        rate = offer.rate
        limit = self._admission.inserted_limit(exchange, request, offer.bounds)
        asks = needs_usage_chunk(route, request) and offer.provider.include_usage
        body = rewrite_body(
            request, provider_model=rate.provider_model if rate.provider_model != request.model else None, include_usage=asks, output_limit=limit
        )
        exchange.rate, exchange.bounds = rate, offer.bounds
        self._lifecycle.watch_growth(exchange)
        return Forwarding(provider=offer.provider, body=body, output_limit=limit, asked_for_usage=asks)

    async def _cover(self, exchange: Exchange, request: MeteredRequest, bounds: HoldBounds) -> bool:
        """Let the hold grow to what the request would hold at the other provider; tell whether it is at least what it would need."""
        hold = exchange.hold
        if hold is None:
            return False
        minimum, amount = self._admission.hold_range(request, bounds)
        if hold.amount >= amount:
            return True
        try:
            await self._lifecycle.widen(exchange, amount)
        except InsufficientFunds:
            return hold.amount >= minimum
        except LedgerError as error:
            # Redis does not know the hold, or does not answer: what cannot be made sure of is not spent.
            log.warning("fallback_not_covered", request_id=exchange.request_id, reason=str(error) or type(error).__name__)
            return False
        return True


def same_model(card: RateCard, rate: Rate, provider: str) -> Rate | None:
    """Return another provider's rate for the very model of `rate`, None where the card has none.

    An aggregator names a model after its vendor. A dated snapshot that was asked for is the same model only by that date.
    """
    known = card.known(rate.provider, rate.model)
    prefix = f"{rate.provider}/"
    if known is None:
        return None
    if known.provider_model != rate.provider_model:
        exact = card.known(provider, prefix + rate.provider_model)
        return exact if exact is not None and prefix + rate.provider_model in {exact.provider_model, exact.model, *exact.aliases} else None
    for name in (rate.model, *rate.aliases):
        found = card.known(provider, prefix + name)
        if found is not None and found.provider_model.startswith(prefix) and found.kind == rate.kind:
            return found
    return None


def _is_bound_to_its_provider(request: MeteredRequest) -> bool:
    """Tell whether a request names what only one provider has: stored or remote content, its own tools, further models, modes."""
    bound = request.input
    return bound.remote or bound.files or bool(request.server_tools or request.other_models or request.features) or request.passes > 1
