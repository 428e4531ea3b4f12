"""Pages that anybody may see: what this is, how an account is opened and found, what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, StringConstraints
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from config.sections import ProvidersSettings
from control.accounts import open_account
from control.catalogue import configured_providers, pricing
from control.context import ControlContext, context_of
from control.descriptions import PROVIDER_NAMES
from control.reading import read_form
from control.schemas import ModelPrices, Question
from control.web.origin import require_same_origin
from control.web.rendering import render
from ledger.money import charge_from_numerator
from ledger.tokens import parse_token

# What an agent typically sends and gets in one turn, in tokens: most of what it sends it has sent before.
TURN_NEW: Final = 2_000
TURN_CACHED: Final = 18_000
TURN_OUTPUT: Final = 500
SEARCH_MAX: Final = 100
SEE_OTHER: Final = 303


class TokenForm(Question):
    """What a person pastes to get to the page of an account."""

    api_token: Annotated[str, StringConstraints(strip_whitespace=True, max_length=500)] = Field(description="The api_token, or an address that contains it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedModel:
    """One line of the price table. `turn` is what a typical turn costs, None for what has no turns; `dearer` tells of further prices."""

    name: str
    prices: ModelPrices
    turn: int | None

    @property
    def dearer(self) -> bool:
        """Whether long requests cost more."""
        return bool(self.prices.tiers)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedProvider:
    """One provider's part of the price table."""

    name: str
    title: str
    available: bool
    models: tuple[PricedModel, ...]


async def landing(request: Request) -> Response:
    """Say what this is, and offer to begin."""
    return render(request, "landing.html", title="Level5")


async def price_page(request: Request) -> Response:
    """Show the price table and the plans."""
    context, wanted = context_of(request), request.query_params.get("q", "")[:SEARCH_MAX].strip()
    providers = _priced(context, wanted.lower())
    tiers = context.settings.tiers
    plans = [(name, tiers.tracked_limits[name], tiers.workspace_caps[name]) for name in tiers.names]
    return render(
        request,
        "pricing.html",
        title="Prices",
        providers=providers,
        wanted=wanted,
        plans=plans,
        turn={"new": TURN_NEW, "cached": TURN_CACHED, "output": TURN_OUTPUT},
        rate_card=context.card.hash,
        found=sum(len(provider.models) for provider in providers),
    )


async def dashboard_door(request: Request) -> Response:
    """Say where an account's page is: what asks for money links to here, without the token that opens it."""
    return render(request, "door.html", title="Your account")


async def enter(request: Request) -> Response:
    """Lead to the page of the account whose token was given; an address that contains it will do."""
    require_same_origin(request)
    form = await read_form(request, TokenForm)
    text = next((part for part in form.api_token.split("/") if part.startswith("l5_")), form.api_token)
    parse_token(text)
    return RedirectResponse(f"/dashboard/{text}", SEE_OTHER)


async def begin(request: Request) -> Response:
    """Open an account for a person, and lead to its page."""
    require_same_origin(request)
    opened = await open_account(request, name=None)
    return RedirectResponse(f"/dashboard/{opened.api_token}", SEE_OTHER)


def _priced(context: ControlContext, wanted: str) -> list[PricedProvider]:
    """Return the price table by provider, only models whose name contains what is wanted."""
    configured = configured_providers(context.settings)
    table = pricing(context.rates(), rate_card=context.card.hash, providers=configured).pricing
    found: dict[str, list[PricedModel]] = {name: [] for name in ProvidersSettings.model_fields}
    for model in table.values():
        if wanted in f"{model.provider}/{model.model}".lower() or any(wanted in alias.lower() for alias in model.aliases):
            found.setdefault(model.provider, []).append(PricedModel(name=model.model, prices=model, turn=_turn(model)))
    return [
        PricedProvider(name=name, title=PROVIDER_NAMES.get(name, name), available=name in configured, models=_sorted(models))
        for name, models in found.items()
        if models
    ]


def _sorted(models: Sequence[PricedModel]) -> tuple[PricedModel, ...]:
    return tuple(sorted(models, key=lambda model: (model.prices.kind, model.name)))


def _turn(model: ModelPrices) -> int | None:
    """Return what a typical turn costs, rounded up once as a charge is."""
    if model.kind != "text":
        return None
    return charge_from_numerator(TURN_NEW * model.input_per_1m + TURN_CACHED * model.cache_read_per_1m + TURN_OUTPUT * model.output_per_1m)
