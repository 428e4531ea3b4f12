"""Prices: what the card in force says, where the published lists say otherwise, and every card that ever was in force."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from config.price_drift import Difference, differences
from config.rate_card import RateCardError, parse_rate_card
from control.catalogue import charged_prices, configured_providers
from control.console.door import enter, shown
from control.errors import ApiError
from control.reading import read_query
from ledger.console_reads import rate_card_before, rate_card_body, rate_cards
from metering.rate_cards import RateCard
from metering.rates import Prices, Rate

ROWS: Final = 20
MODELS: Final = 25
DIFFERENCES_MAX: Final = 500
KEPT_DRIFTS: Final = 4
KEPT_CARDS: Final = 16
_HASH: Final = re.compile(r"[0-9a-f]{64}")


class PricesQuery(BaseModel):
    """Which models are listed."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    provider: str = Field(default="", max_length=40)
    q: str = Field(default="", max_length=200)
    page: int = Field(default=1, ge=1, le=10_000)


class CardsQuery(BaseModel):
    """Which rate cards are listed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: AwareDatetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """One model as customers pay for it, in microunits per million tokens."""

    rate: Rate
    served: bool
    charged: Prices


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one figure of a model between two cards; `before` is empty for what is new, `after` for what is gone."""

    model: str
    name: str
    before: str
    after: str


async def show_prices(request: Request) -> Response:
    """Show the card in force, and its drift."""
    operator = await enter(request)
    context = operator.context
    query = read_query(request, PricesQuery)
    drift = await asyncio.to_thread(_drift, context.card, datetime.now(UTC).date().isoformat())
    served = configured_providers(context.settings)
    offered = context.rates()
    found = [rate for rate in offered if query.provider in {"", rate.provider} and query.q.lower() in rate.model.lower()]
    first = (query.page - 1) * MODELS
    rows = [Priced(rate=rate, served=rate.provider in served, charged=charged_prices(rate.prices, rate.markup_bps)) for rate in found[first : first + MODELS]]
    return shown(
        request, operator, "prices.html", title="Prices", here="/admin/prices", card=context.card.hash, rows=rows, query=query, offered=len(offered),
        found=len(found), more=len(found) > first + MODELS, providers=sorted({rate.provider for rate in offered}),
        drift=[one for one in drift if not one.accepted][:DIFFERENCES_MAX], accepted=[one for one in drift if one.accepted][:DIFFERENCES_MAX],
    )  # fmt: skip


async def list_cards(request: Request) -> Response:
    """List the cards that were in force, the latest first."""
    operator = await enter(request)
    query = read_query(request, CardsQuery)
    rows = await rate_cards(operator.context.pool, before=query.before, limit=ROWS + 1)
    older = rows[ROWS - 1].loaded_at.isoformat() if len(rows) > ROWS else None
    return shown(
        request, operator, "rate-cards.html", title="Rate cards", here="/admin/rate-cards", cards=rows[:ROWS], older=older, paged=query.before is not None,
        current=operator.context.card.hash,
    )  # fmt: skip


async def show_card(request: Request) -> Response:
    """Show one card, and what it changed."""
    operator = await enter(request)
    pool, card_hash = operator.context.pool, request.path_params["card"]
    body = await rate_card_body(pool, card_hash) if _HASH.fullmatch(card_hash) else None
    if body is None:
        raise ApiError(404, "unknown_card", message="No such rate card was ever in force here.")
    before = await rate_card_before(pool, card_hash)
    earlier = await rate_card_body(pool, before) if before is not None else None
    try:
        changes = await asyncio.to_thread(changes_between, earlier, body)
    except RateCardError as error:
        raise ApiError(409, "unreadable_card", message=f"This version cannot read the card: {error}.") from None
    return shown(
        request, operator, "rate-card.html", title="Rate card", here="/admin/rate-cards", card=card_hash, before=before, changes=changes[:DIFFERENCES_MAX],
        count=len(changes), body=body, current=operator.context.card.hash,
    )  # fmt: skip


def changes_between(earlier: str | None, later: str) -> list[Change]:
    """Return every figure that differs between two cards.

    Raises:
        RateCardError: a card is of a form that is not read any more.
    """
    old, new = _figures(earlier) if earlier is not None else {}, _figures(later)
    changes: list[Change] = []
    for model in sorted({*old, *new}):
        ours, theirs = old.get(model), new.get(model)
        if ours is None or theirs is None:
            changes.append(Change(model=model, name="model", before="" if ours is None else "offered", after="" if theirs is None else "offered"))
            continue
        changed = [name for name in sorted({*ours, *theirs}) if ours.get(name, "") != theirs.get(name, "")]
        changes += [Change(model=model, name=name, before=ours.get(name, ""), after=theirs.get(name, "")) for name in changed]
    return changes


@lru_cache(maxsize=KEPT_CARDS)
def _figures(body: str) -> Mapping[str, Mapping[str, str]]:
    return {_key(rate): _figures_of(rate) for rate in parse_rate_card(body).all_with_reported()}


def _key(rate: Rate) -> str:
    return f"{rate.provider}/{rate.model}" + (f" from {rate.effective_from}" if rate.effective_from else "")


def _figures_of(rate: Rate) -> dict[str, str]:
    figures = {kind.name: f"{getattr(rate.prices, kind.name):,}" for kind in fields(Prices)}
    figures |= {f"fee {name}": f"{fee:,}" for name, fee in rate.fees.items()}
    figures |= {f"service tier {name}": f"{bps:,} bps" for name, bps in rate.service_tiers.items()}
    tiers = "; ".join(f"above {tier.above:,}: {tier.prices.input:,} / {tier.prices.output:,}" for tier in rate.tiers)
    rest: dict[str, Any] = {"mark-up": f"{rate.markup_bps:,} bps", "context": f"{rate.context:,}", "output at most": f"{rate.output_max:,}", "tiers": tiers}
    return figures | rest | {"aliases": ", ".join(rate.aliases), "asked for as": rate.provider_model}


@lru_cache(maxsize=KEPT_DRIFTS)
def _drift(card: RateCard, _day: str) -> tuple[Difference, ...]:
    """Return where the card is not as published: found once a day, since it takes longer than a page may."""
    return tuple(differences(card))
