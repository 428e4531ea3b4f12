"""Estimating reported usage again, with the rate card that it was estimated with: what `level5 verify` compares the books with."""

from functools import lru_cache

from config.rate_card import parse_rate_card
from ledger.ingest_values import UsageItem
from metering.reported import ReportedPricer


@lru_cache(maxsize=16)
def _pricer(body: str, *, markup: bool) -> ReportedPricer:
    return ReportedPricer(parse_rate_card(body), with_markup=markup)


def estimate_from_body(item: UsageItem, body: str, *, markup: bool) -> int:
    """Return what an estimated event costs by the card `body`, in microunits.

    Raises:
        RateCardError: `body` is no rate card.
    """
    return (
        _pricer(body, markup=markup)
        .estimate(
            item.provider,
            item.model,
            at_ms=item.occurred_at,
            input_tokens=item.input_tokens,
            output_tokens=item.output_tokens + item.reasoning_tokens,
            cache_write_tokens=item.cache_write_tokens,
            cache_write_1h_tokens=item.cache_write_1h_tokens,
            cache_read_tokens=item.cache_read_tokens,
        )
        .cost
    )
