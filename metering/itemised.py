"""A charge taken apart for whoever pays it: each kind of token and fee with its rate, their sum, and the one rounding. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ledger.entries import ChargeRecord, UsageLine
from ledger.ingest_values import UsageItem
from ledger.money import charge_from_numerator
from metering.pricing import tier_bps, tokens_and_prices, total_input
from metering.rate_cards import RateCard
from metering.rates import Rate, effective
from metering.reported import ReportedPricer

_MILLION: Final = 1_000_000
_KINDS: Final = ("input", "audio input", "output", "audio output", "cache writes (5 minutes)", "cache writes (1 hour)", "cache reads")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """`count` of one kind at `rate` microunits (per million tokens, or each where `is_fee`): `numerator` millionths of a microunit."""

    kind: str
    count: int
    rate: int
    numerator: int
    is_fee: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemisedLine:
    """What one model did. `priced_as` is the model whose rate was used, `tier` the provider's service tier, `above` the long-context threshold passed."""

    model: str
    priced_as: str
    tier: str | None
    above: int | None
    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Itemised:
    """The whole of a charge: `numerator` is the sum of all items, `amount` that rounded up once to whole microunits."""

    lines: tuple[ItemisedLine, ...]
    numerator: int
    amount: int


def itemise(record: ChargeRecord, card: RateCard) -> Itemised:
    """Take a recorded charge apart by the card that it was made with; it comes to what `metering.pricing.price_record` does.

    Raises:
        UnknownModel: the card does not know the record's model; it is not the card that was used.
    """
    current = card.at(record.started_at)
    requested = current.find(record.model, provider=record.provider)
    lines = tuple(_line(line, current.rate_of_line(line.provider, line.model, requested=requested)[0]) for line in record.lines)
    numerator = _sum(lines)
    return Itemised(lines=lines, numerator=numerator, amount=charge_from_numerator(numerator))


def itemise_report(event: UsageItem, pricer: ReportedPricer) -> Itemised:
    """Take the estimated cost of a reported event apart; it comes to what `pricer.estimate` says of it."""
    total = event.input_tokens + event.cache_write_tokens + event.cache_read_tokens
    rates = pricer.steps(event.provider, event.model, at_ms=event.occurred_at, total=total)
    items = (
        _tokens("input", event.input_tokens, rates.input),
        _tokens("output", event.output_tokens + event.reasoning_tokens, rates.output),
        _tokens("cache writes (5 minutes)", event.cache_write_tokens - event.cache_write_1h_tokens, rates.cache_write_5m),
        _tokens("cache writes (1 hour)", event.cache_write_1h_tokens, rates.cache_write_1h),
        _tokens("cache reads", event.cache_read_tokens, rates.cache_read),
    )
    above = rates.above if rates.above >= 0 else None
    line = ItemisedLine(model=event.model, priced_as=event.model, tier=None, above=above, items=tuple(item for item in items if item.count))
    numerator = _sum([line])
    return Itemised(lines=(line,), numerator=numerator, amount=charge_from_numerator(numerator))


def _sum(lines: Sequence[ItemisedLine]) -> int:
    return sum(item.numerator for line in lines for item in line.items)


def _line(line: UsageLine, rate: Rate) -> ItemisedLine:
    total = total_input(line)
    bps, _ = tier_bps(rate, line.service_tier)
    pairs, markup = tokens_and_prices(line, rate.prices_for(total)), rate.markup_bps
    tokens = [_tokens(kind, count, effective(price, service_tier_bps=bps, markup_bps=markup)) for kind, (count, price) in zip(_KINDS, pairs, strict=True)]
    fees = [_fee(name, times, effective(rate.fees.get(name, 0), markup_bps=markup)) for name, times in line.fees]
    return ItemisedLine(
        model=line.model,
        priced_as=rate.model,
        tier=line.service_tier,
        above=max((tier.above for tier in rate.tiers if total > tier.above), default=None),
        items=tuple(item for item in (*tokens, *fees) if item.count),
    )


def _tokens(kind: str, count: int, rate: int) -> Item:
    return Item(kind=kind, count=count, rate=rate, numerator=count * rate)


def _fee(name: str, times: int, rate: int) -> Item:
    return Item(kind=name.replace("_", " "), count=times, rate=rate, numerator=times * rate * _MILLION, is_fee=True)
