"""The priced models as each dialect lists them, page by page where the dialect has pages."""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs

from metering.classify import Dialect, RequestRefused
from metering.rates import Rate, effective

RELEASED: Final = "2025-01-01T00:00:00Z"  # no dialect can do without a date, and the rate card has none
RELEASED_SECONDS: Final = 1735689600
PAGE_MAX: Final = 1000


def list_models(rates: Sequence[Rate], dialect: Dialect, *, query: str) -> dict[str, Any]:
    """Return the models of `rates` as the dialect lists them. Only Anthropic's has pages; the others' lists are whole.

    Raises:
        RequestRefused: 400, the query asks for a page that there cannot be.
    """
    if dialect is not Dialect.ANTHROPIC:
        models = [describe_model(rate, dialect) for rate in rates]
        return {"data": models} if dialect is Dialect.OPENROUTER else {"object": "list", "data": models}
    page, has_more = _page(rates, parse_qs(query))
    ids = [rate.model for rate in page]
    models = [describe_model(rate, dialect) for rate in page]
    return {"data": models, "has_more": has_more, "first_id": ids[0] if ids else None, "last_id": ids[-1] if ids else None}


def describe_model(rate: Rate, dialect: Dialect) -> dict[str, Any]:
    """Return one model as the dialect describes it."""
    if dialect is Dialect.ANTHROPIC:
        return {"type": "model", "id": rate.model, "display_name": rate.model, "created_at": RELEASED}
    if dialect is Dialect.OPENROUTER:
        prices = {"prompt": rate.prices.input, "completion": rate.prices.output, "input_cache_read": rate.prices.cache_read}
        pricing = {name: _per_token(effective(price, markup_bps=rate.markup_bps)) for name, price in prices.items()}
        return {"id": rate.model, "name": rate.model, "created": RELEASED_SECONDS, "context_length": rate.context, "pricing": pricing}
    return {"id": rate.model, "object": "model", "created": RELEASED_SECONDS, "owned_by": rate.provider}


def _page(rates: Sequence[Rate], asked: dict[str, list[str]]) -> tuple[Sequence[Rate], bool]:
    """Return a page, and whether there are more in its direction. Without a limit it reaches to the end."""
    limit = _limit(asked)
    if before := _cursor(rates, asked, "before_id"):
        place = before[0]
        return rates[max(place - limit, 0) : place], place > limit
    after = _cursor(rates, asked, "after_id")
    place = after[0] + 1 if after else 0
    return rates[place : place + limit], len(rates) > place + limit


def _limit(asked: dict[str, list[str]]) -> int:
    text = asked.get("limit", [str(PAGE_MAX)])[-1]
    limit = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(PAGE_MAX)) else 0
    if not 1 <= limit <= PAGE_MAX:
        raise RequestRefused(400, "invalid_request", message=f"limit must be a whole number from 1 to {PAGE_MAX}.", details={"field": "limit"})
    return limit


def _cursor(rates: Sequence[Rate], asked: dict[str, list[str]], field: str) -> tuple[int] | None:
    """Return the place of the model that a cursor names, None where there is no cursor."""
    if field not in asked:
        return None
    place = next((index for index, rate in enumerate(rates) if rate.model == asked[field][-1]), None)
    if place is None:
        raise RequestRefused(400, "invalid_request", message=f"{field} names no model of this list.", details={"field": field})
    return (place,)


def _per_token(per_mtok: int) -> str:
    """Write a price per million tokens in microunits as dollars per token, exactly and without an exponent."""
    return f"{per_mtok // 10**12}.{per_mtok % 10**12:012d}".rstrip("0").rstrip(".")
