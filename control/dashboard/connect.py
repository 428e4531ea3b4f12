"""The page that connects clients: each one's exact configuration by both doors, a test request, and which clients were seen lately."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from config.clients.catalogue import RECIPES, default_model, plain_recipe, recipe_for
from config.clients.connection import PLACEHOLDER, Connection, Door, NotConnected, Provider
from config.clients.showing import blocks
from config.settings import Settings, reachable_host
from control.catalogue import configured_providers
from control.dashboard.connect_texts import Piece, Span, pieces, spans
from control.dashboard.connect_trial import Trial, TrialOffer, send_trial, trial_offers
from control.dashboard.visitor import Visitor, visit, visit_to_change
from control.descriptions import PROVIDER_NAMES
from control.errors import ApiError
from control.reading import read_form, read_query
from control.schemas import Question
from control.web.rendering import render
from ledger.activity import read_clients
from ledger.activity_values import ClientSeen
from metering.rates import UnknownModel

TITLE: Final = "Connect"
PROVIDERS: Final[Mapping[str, Provider]] = {"anthropic": "anthropic", "openai": "openai", "openrouter": "openrouter"}
FIRST_CLIENT: Final = "claude-code"
HOME: Final = "/home/you"  # no server knows where its readers keep their files
CA_FILE: Final = f"{HOME}/.config/level5/ca.pem"
SEEN_AS: Final = {"level5": "the test request", "other": "a client we do not know", "unnamed": "a client that does not name itself", "browser": "a browser"}


class ConnectQuery(Question):
    """What the address of the page may say: which client, by which door, and with which model if not its usual one."""

    client: Annotated[str, Field(max_length=40)] | None = None
    door: Door = Door.BASE_URL
    model: Annotated[str, Field(max_length=200)] | None = None


class TrialForm(Question):
    """Whose cheapest model a test request goes to."""

    provider: Annotated[str, Field(max_length=40)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client that can be connected, and when it was last seen."""

    name: str
    title: str
    seen: ClientSeen | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How one client is connected by one door; `refused` says why it cannot be, `missing` whose key the operator lacks for its usual model."""

    client: str
    title: str
    door: Door
    pieces: tuple[Piece, ...]
    refused: tuple[Span, ...]
    missing: str
    model: str
    needs_certificate: bool = False


async def connect_page(request: Request) -> Response:
    """Show how clients are connected."""
    return await _show(request, await visit(request), query=read_query(request, ConnectQuery))


async def send_test(request: Request) -> Response:
    """Send a test request, and show what became of it."""
    visitor = await visit_to_change(request)
    form = await read_form(request, TrialForm)
    offer = next((offer for offer in trial_offers(visitor.context) if offer.provider == form.provider), None)
    if offer is None:
        raise ApiError(404, "not_served", message="Models of this provider are not served here. Open the page again and choose another.")
    await visitor.context.trial_limit.require(str(visitor.account.id), "too_many_tests", what="test requests … for one account")
    return await _show(request, visitor, query=ConnectQuery(), trial=await send_trial(visitor, offer), tried=offer.provider)


async def _show(request: Request, visitor: Visitor, *, query: ConnectQuery, trial: Trial | None = None, tried: str = "") -> Response:
    seen = await read_clients(visitor.context.balances, visitor.account.id, visitor.account.shard)
    connection = _connection(visitor)
    name = query.client or next((each.family for each in seen if each.family in RECIPES), FIRST_CLIENT)
    if name not in RECIPES:
        raise ApiError(404, "unknown_client", message="There are no instructions for a client of this name.")
    by_family = {each.family: each for each in seen}
    offers: list[TrialOffer] = trial_offers(visitor.context)
    return render(
        request,
        "dashboard/connect.html",
        title=TITLE,
        visitor=visitor,
        clients=[Client(name=each, title=plain_recipe(each, connection).title, seen=by_family.get(each)) for each in RECIPES],
        others=[each for each in seen if each.family not in RECIPES],
        seen_as=SEEN_AS,
        setup=_setup(visitor, name, replace(connection, door=query.door), wanted=(query.model or "").strip()),
        models=sorted({rate.model for rate in visitor.context.served_rates() if rate.kind == "text"}),
        has_forward=visitor.context.settings.forward.enabled,
        offers=offers,
        trial=trial,
        tried=tried,
    )


def _connection(visitor: Visitor) -> Connection:
    """Return where the gateway answers, with the visitor's token. One that only looks would be refused: its place is shown instead."""
    token = PLACEHOLDER if visitor.read_only else visitor.token_text
    return Connection(origin=visitor.context.public_url, forward=forward_address(visitor.context.settings), ca_file=CA_FILE, token=token)


def forward_address(settings: Settings) -> str:
    """Return host:port of the forward proxy: the public host where there is one, for it listens beside the gateway."""
    host = urlsplit(settings.public_url).hostname if settings.public_url else None
    return f"{reachable_host(host or settings.forward.host)}:{settings.forward.port}"


def _setup(visitor: Visitor, name: str, connection: Connection, *, wanted: str) -> Setup:
    """Return how a client is connected with the model that is wanted, or its usual one."""
    title = plain_recipe(name, replace(connection, door=Door.BASE_URL)).title
    try:
        provider, model = _choose_model(visitor, wanted) if wanted else default_model(name)
        connection = replace(connection, provider=provider, model=model)
        recipe = recipe_for(name, connection)
    except NotConnected as error:
        return Setup(client=name, title=title, door=connection.door, pieces=(), refused=spans(f"{error}."), missing="", model=wanted)
    return Setup(
        client=name,
        title=title,
        door=connection.door,
        pieces=pieces(blocks(recipe, connection)),
        refused=(),
        missing="" if provider in configured_providers(visitor.context.settings) else PROVIDER_NAMES[provider],
        model=model,
        needs_certificate=recipe.needs_certificate,
    )


def _choose_model(visitor: Visitor, wanted: str) -> tuple[Provider, str]:
    """Return who serves a model, and its name on the rate card.

    Raises:
        NotConnected: it has no price here.
    """
    try:
        rate = visitor.context.card.at(time.time_ns() // 1_000_000).find(wanted)
    except UnknownModel as error:
        near = f"; did you mean {' or '.join(error.near)}?" if error.near else ""
        raise NotConnected(f"{wanted} has no price here{near}") from error
    if rate.kind != "text":
        raise NotConnected(f"{rate.model} embeds texts and does not answer; choose another model")
    return PROVIDERS[rate.provider], rate.model
