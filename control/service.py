"""What anybody may ask: is it well, what does it cost, how far can an account go."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control import catalogue
from control.context import ControlContext, context_of
from control.errors import ApiError
from control.health import Health
from control.schemas import HealthAnswer
from ledger.holds import Standing
from ledger.tokens import parse_token

OUR_PREFIX = "l5_"


async def health(request: Request) -> Response:
    """Tell the state of every component: 200 when all are well, else 503."""
    context = context_of(request)
    state = await context.monitor.look()
    return JSONResponse(_health_answer(context, state).model_dump(), 200 if state.is_ok else 503)


async def alive(_request: Request) -> Response:
    """Tell that the process lives, whatever its stores do."""
    return JSONResponse({"status": "ok", "ok": True})


async def ready(request: Request) -> Response:
    """Tell whether traffic should come: requests are served while Postgres is away, and none without Redis."""
    state = await context_of(request).monitor.look()
    is_ready = state.components["redis"] and state.shards_open > 0
    return JSONResponse({"status": "ready" if is_ready else "not_ready"}, 200 if is_ready else 503)


async def pricing(request: Request) -> Response:
    """Show the live rate card, mark-up included."""
    context = context_of(request)
    answer = catalogue.pricing(context.rates(), rate_card=context.card.hash, providers=catalogue.configured_providers(context.settings))
    return JSONResponse(answer.model_dump(), headers={"Cache-Control": "no-cache"})


async def limits(request: Request) -> Response:
    """Show how far accounts can go, or with an api_token how far this one can."""
    context = context_of(request)
    text = header_token(request)
    standing: Standing | None = await context.balances.authenticate(parse_token(text), to_look=True) if text is not None else None
    return JSONResponse(catalogue.limits(context.settings, context.served_rates(), standing=standing).model_dump())


def header_token(request: Request) -> str | None:
    """Return the api_token of the Authorization or x-api-key header, None where neither is sent.

    Where both are there, the one that looks like ours counts, as in the proxy: SDKs send a key of their own beside it.

    Raises:
        ApiError: 401 for an Authorization of another scheme alone.
    """
    scheme, _, credential = request.headers.get("authorization", "").strip().partition(" ")
    texts = [text for text in (credential.strip() if scheme.lower() == "bearer" else "", request.headers.get("x-api-key", "").strip()) if text]
    if not texts and scheme:
        raise ApiError(401, "invalid_token", message="Send the api_token as `Authorization: Bearer <api_token>`.", headers={"WWW-Authenticate": "Bearer"})
    return next((text for text in texts if text.startswith(OUR_PREFIX)), texts[0] if texts else None)


def _health_answer(context: ControlContext, state: Health) -> HealthAnswer:
    return HealthAnswer(
        status="ok" if state.is_ok else "degraded",
        version=context.version,
        mode=context.settings.mode,
        components={name: "ok" if works else "error" for name, works in state.components.items()},
        details={"shards_open": state.shards_open, "outbox_depth": state.outbox_depth, "poster_lag_seconds": state.poster_lag_seconds},
    )
