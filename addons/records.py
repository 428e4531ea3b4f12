"""From what an answer used to the record of its charge."""

from addons.exchange import Exchange
from ledger.entries import ChargeRecord, UsageLine
from ledger.errors import BrokenInvariant
from metering.pricing import RateCard, charge_record, cost_differs
from metering.usage import Usage
from telemetry import metrics
from telemetry.logs import log


def record_usage(exchange: Exchange, usage: Usage, *, card: RateCard, estimated: bool) -> ChargeRecord:
    """Return the charge for a usage, exact or estimated."""
    return charge_for(exchange, usage.lines, card=card, estimated=estimated, made=usage.made)


def charge_for(exchange: Exchange, lines: tuple[UsageLine, ...], *, card: RateCard, estimated: bool, made: tuple[str, ...] = ()) -> ChargeRecord:
    """Price lines at the rates of the request's start. `made` are the ids of what the provider keeps of the answer."""
    route, rate = exchange.route, exchange.rate
    if route is None or rate is None:
        raise BrokenInvariant("a charge for a request that was never priced")
    record, price = charge_record(
        exchange.request_id, lines, card=card, requested=rate, operation=route.operation.value, started_at=exchange.started_at, estimated=estimated, made=made,
        hold=exchange.hold.amount if exchange.hold is not None else 0,
    )  # fmt: skip
    exchange.doubts = price.doubts
    return record


def count_doubts(exchange: Exchange, record: ChargeRecord, usage: Usage | None) -> None:
    """Raise the alarm for an answer that the card could not price fully, or whose provider states another cost than ours."""
    doubts = exchange.doubts + (usage.doubts if usage is not None else ())
    if doubts:
        metrics.unpriced_answers_total.labels(provider=record.provider).inc()
        log.warning("answer_in_doubt", request_id=record.request_id, provider=record.provider, model=record.model, doubts=doubts)
    cost = usage.provider_cost_usd if usage is not None else None
    if cost is not None and cost_differs(cost, record.list_numerator):
        metrics.provider_cost_differences_total.labels(provider=record.provider, model=record.model).inc()
        log.warning("provider_cost_differs", request_id=record.request_id, model=record.model, provider_cost_usd=cost, list_cost=record.provider_leg)


def hold_lines(exchange: Exchange, card: RateCard) -> tuple[UsageLine, ...]:
    """Return the usage that comes to the whole hold: all the input the body can be, and as much output as the hold pays for."""
    request, rate, bounds, hold = exchange.request, exchange.rate, exchange.bounds, exchange.hold
    if request is None or rate is None or bounds is None or hold is None:
        raise BrokenInvariant("a hold without a request")
    bound = request.input
    tokens = rate.context if bound.remote else min(bound.text_bytes + bound.media_tokens + bound.audio_tokens, rate.context)
    alone = UsageLine(provider=rate.provider, model=rate.model, input_tokens=tokens, service_tier=_tier_of(exchange))
    price = charge_for(exchange, (alone,), card=card, estimated=True).amount
    output = max(0, hold.amount - price) * 1_000_000 // max(bounds.output_per_mtok, 1)
    most = (request.output_limit or exchange.output_limit or rate.output_max) * max(request.choices, 1)
    return (UsageLine(provider=rate.provider, model=rate.model, input_tokens=tokens, output_tokens=min(output, most), service_tier=alone.service_tier),)


def _tier_of(exchange: Exchange) -> str | None:
    request, rate = exchange.request, exchange.rate
    return request.service_tier if request is not None and rate is not None and request.service_tier in rate.service_tiers else None
