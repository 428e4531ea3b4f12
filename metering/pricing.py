"""What a usage costs: the one function that turns tokens into microunits.

Every kind of token has its effective rate, rounded up to a whole microunit per million; the sum over
all lines of a request is rounded up once. The same sum at list prices is what the provider is owed.
"""

from collections.abc import Sequence
from decimal import Decimal

from ledger.entries import MADE_MAX, ChargeRecord, RequestId, UsageLine, object_digest
from ledger.money import Microunits, charge_from_numerator
from ledger.values import value
from metering.rate_cards import RateCard
from metering.rates import BPS, Prices, Rate, effective

__all__ = ["Price", "RateCard", "charge_record", "cost_differs", "price_record", "price_usage", "tier_bps"]

NEUTRAL_TIERS = frozenset({"standard", "default", "auto"})
_MILLION = 1_000_000


@value
class Price:
    """The price of one request.

    `amount` is the charge and `provider_leg` what the provider is owed, in microunits; the numerators are
    the same unrounded, in millionths of a microunit. `doubts` names what the card does not know (an
    answering model, tier or fee without a price): it was charged as far as possible and somebody should look.
    """

    amount: Microunits
    provider_leg: Microunits
    numerator: int
    list_numerator: int
    doubts: tuple[str, ...] = ()


def tier_bps(rate: Rate, tier: str | None) -> tuple[int, tuple[str, ...]]:
    """Return the basis points of list price of a tier such as `flex` or `priority+geo_us`, and what of it has no price."""
    if not tier:
        return BPS, ()
    bps, unknown = BPS, list[str]()
    for part in tier.split("+"):
        if part in rate.service_tiers:
            bps = -(-bps * rate.service_tiers[part] // BPS)
        elif part not in NEUTRAL_TIERS:
            unknown.append(part)
    return bps, tuple(unknown)


def tokens_and_prices(line: UsageLine, prices: Prices) -> tuple[tuple[int, int], ...]:
    """Pair each kind of token with its list price; audio is a part of input and output."""
    audio_in, audio_out = min(line.input_audio_tokens, line.input_tokens), min(line.output_audio_tokens, line.output_tokens)
    return (
        (line.input_tokens - audio_in, prices.input),
        (audio_in, prices.input_audio),
        (line.output_tokens - audio_out, prices.output),
        (audio_out, prices.output_audio),
        (line.cache_write_5m_tokens or 0, prices.cache_write_5m),
        (line.cache_write_1h_tokens or 0, prices.cache_write_1h),
        (line.cache_read_tokens or 0, prices.cache_read),
    )


def total_input(line: UsageLine) -> int:
    """Return all input of a line, cached and uncached: what long-context tiers go by."""
    return line.input_tokens + (line.cache_write_5m_tokens or 0) + (line.cache_write_1h_tokens or 0) + (line.cache_read_tokens or 0)


def _line_numerators(line: UsageLine, rate: Rate, *, tier: int) -> tuple[int, int]:
    """Return the numerators of a line with the mark-up and at list price; `tier` is in basis points of list price."""
    marked = listed = 0
    for count, price in tokens_and_prices(line, rate.prices_for(total_input(line)) if rate.tiers else rate.prices):
        if count:
            marked += count * effective(price, service_tier_bps=tier, markup_bps=rate.markup_bps)
            listed += count * effective(price, service_tier_bps=tier, markup_bps=0)
    for name, times in line.fees:
        fee = rate.fees.get(name, 0)
        marked += times * effective(fee, markup_bps=rate.markup_bps) * _MILLION
        listed += times * effective(fee, markup_bps=0) * _MILLION
    return marked, listed


def price_usage(lines: Sequence[UsageLine], card: RateCard, *, at_ms: int, requested: Rate | None = None) -> Price:
    """Return the price of one answer at the rates that held at `at_ms`, the request's start.

    Each line is priced as the model that it names; one that the card does not know as `requested`.
    Rounds once, on the sum, so that splitting one answer into lines or chunks never changes its price.

    Raises:
        UnknownModel: a line's model has no rate and no `requested` was given.
    """
    current, doubts = card.at(at_ms), list[str]()
    numerator = list_numerator = 0
    for line in lines:
        rate, known = current.rate_of_line(line.provider, line.model, requested=requested)
        if not known:
            doubts.append(f"no rate for the answering model {line.model}")
        elif requested is not None and line is lines[0] and _is_dearer(rate, requested):
            doubts.append(f"answered by the dearer model {rate.model}")
        tier, unknown = tier_bps(rate, line.service_tier)
        doubts += [f"no price for tier {part} of {rate.model}" for part in unknown]
        doubts += [f"no price for {name} of {rate.model}" for name, times in line.fees if times and name not in rate.fees]
        marked, listed = _line_numerators(line, rate, tier=tier)
        numerator += marked
        list_numerator += listed
    return Price(
        amount=charge_from_numerator(numerator),
        provider_leg=charge_from_numerator(list_numerator),
        numerator=numerator,
        list_numerator=list_numerator,
        doubts=tuple(doubts),
    )


def cost_differs(provider_cost_usd: str, list_numerator: int) -> bool:
    """Tell whether the provider's own cost is off our list price by more than a hundredth and a microunit.

    A cross-check only, never the source of a charge: such a difference means that the rate card is out
    of date, or that the provider bills something that its usage does not show.
    """
    # Millionths of a microunit; the text was checked where it was read.
    cost = Decimal(provider_cost_usd).scaleb(12)
    return abs(cost - list_numerator) > max(Decimal(list_numerator) / 100, Decimal(_MILLION))


def _is_dearer(rate: Rate, requested: Rate) -> bool:
    return rate.prices.input > requested.prices.input or rate.prices.output > requested.prices.output


def charge_record(
    request_id: RequestId,
    lines: Sequence[UsageLine],
    *,
    card: RateCard,
    requested: Rate,
    operation: str,
    started_at: int,
    estimated: bool = False,
    made: Sequence[str] = (),
    hold: int = 0,
) -> tuple[ChargeRecord, Price]:
    """Price one request's usage and return the record that the books keep, with the price for its doubts.

    `made` are the ids of what the provider keeps of the answer; the record has their digests. `hold` was set aside for it.
    """
    price = price_usage(lines, card, at_ms=started_at, requested=requested)
    record = ChargeRecord(
        request_id=request_id,
        provider=requested.provider,
        model=requested.model,
        operation=operation,
        lines=tuple(lines),
        amount=price.amount,
        provider_leg=price.provider_leg,
        numerator=price.numerator,
        list_numerator=price.list_numerator,
        rate_card=card.hash,
        started_at=started_at,
        estimated=estimated,
        made=tuple([object_digest(identity) for identity in made[:MADE_MAX]]) if made else (),
        hold=hold,
    )
    return record, price


def price_record(record: ChargeRecord, card: RateCard) -> Price:
    """Price a recorded charge again from its usage and the card it was made with.

    Raises:
        UnknownModel: the card does not know the record's model; it is not the card that was used.
    """
    requested = card.at(record.started_at).find(record.model, provider=record.provider)
    return price_usage(record.lines, card, at_ms=record.started_at, requested=requested)
