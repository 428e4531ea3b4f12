"""Who may enter the console. Every page of it begins with `enter`, and every act with `receive`.

A stranger learns nothing here: where no issuer is set, and the browser brings nothing, there is no console (404). A name of
ours that is not ours is refused before anything else, so that a page elsewhere which made its name lead to this machine
gets no answer from the console. What changes something needs the session's cookie, the proof of our own origin and the form's token.
"""

import hmac
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from config.sections import is_loopback_host
from control.console.identity import derived, is_allowed
from control.console.state import Console, console_of
from control.context import ControlContext, caller_address, caller_network, context_of
from control.errors import ApiError, from_ledger
from control.reading import read_form
from control.web.origin import require_same_origin
from control.web.rendering import render
from ledger.console_sessions import ConsoleSession
from ledger.errors import LedgerError
from ledger.organisations import note_action

NOT_FOUND: Final = 404
SEE_OTHER: Final = 303
COOKIE_LENGTH_MAX: Final = 100
# Where a form stands that is posted below it: an account's page, or the one of deposits.
CAME_FROM: Final = re.compile(r"/admin/(?:accounts/org_[0-9a-f]{1,32}(?=/)|deposits(?=/))")
HEADERS: Final = {"Cross-Origin-Opener-Policy": "same-origin", "Cache-Control": "no-store"}

type Handler = Callable[[Request], Awaitable[Response]]


# What people type: anything but the one character that no text in the books can hold.
Words = Annotated[str, Field(pattern=r"^[^\x00]*$")]


class Form(BaseModel):
    """What every form of the console posts. What else it holds stands in its own model."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    csrf: str = Field(max_length=100)


class SignInNeeded(Exception):
    """Nobody is signed in, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Whoever is signed in. `csrf` is the token of the forms of this session."""

    context: ControlContext
    console: Console
    session: ConsoleSession
    csrf: str = field(repr=False)

    @property
    def actor(self) -> str:
        """The name under which the audit knows them."""
        return self.session.actor


def page(handler: Handler) -> Handler:
    """Return a handler of a page of the console: whatever goes wrong in it is said on a page, and nothing of it is kept or framed."""

    async def serve(request: Request) -> Response:
        try:
            answer = await handler(request)
        except SignInNeeded:
            answer = sign_in_page(request)
        except ApiError as error:
            answer = problem_page(request, error)
        except LedgerError as error:
            answer = problem_page(request, from_ledger(error))
        for name, value in HEADERS.items():
            answer.headers[name] = value
        return answer

    return serve


def require_door(request: Request) -> Console:
    """Return the console where it may be asked for at all: from this network, by a name of ours.

    Raises:
        HTTPException: 404 from a network that is none of the operator's.
        ApiError: 421 under another name.
    """
    console = console_of(request)
    if console.networks:
        client = caller_address(request)
        if client is None or not any(client.version == network.version and client in network for network in console.networks):
            raise HTTPException(NOT_FOUND)
    hosts = request.headers.getlist("host")
    if len(hosts) != 1 or not _is_our_name(hosts[0].lower(), console):
        message = "The console does not answer under this name. Open it at the public address of this service, or on the machine itself."
        raise ApiError(421, "other_host", message=message)
    return console


def _is_our_name(host: str, console: Console) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return host == console.host or is_loopback_host(name)


def require_knock(request: Request, console: Console) -> None:
    """Count a try to sign in against the network it comes from.

    Raises:
        ApiError: 429 with Retry-After.
    """
    seconds = console.knocks.take(caller_network(request), time.monotonic())
    if seconds > 0:
        wait = str(int(seconds) + 1)
        raise ApiError(
            429, "too_many_sign_ins", message=f"There were too many tries from this network. Try again in {wait} seconds.", headers={"Retry-After": wait}
        )


async def enter(request: Request) -> Operator:
    """Return who asks, signed in.

    Raises:
        SignInNeeded: nobody is.
        HTTPException: 404 where there is no console for this caller.
        ApiError: 421 under a name that is not ours.
    """
    console = require_door(request)
    secret = session_secret(request, console)
    if secret is None:
        require_console(console)
        raise SignInNeeded
    session = await console.sessions.find(secret, idle_seconds=console.idle_seconds)
    context = context_of(request)
    if session is None or not _is_still_allowed(session, context):
        raise SignInNeeded
    return Operator(context=context, console=console, session=session, csrf=csrf_of(secret))


async def receive[Model: Form](request: Request, model: type[Model]) -> tuple[Operator, Model]:
    """Return who acts and the form that they posted from a page of ours.

    Raises:
        SignInNeeded, HTTPException: as `enter`.
        ApiError: 403 where it was not posted from a page of this session; 400 where the form is wrong.
    """
    operator = await enter(request)
    require_same_origin(request)
    form = await read_form(request, model)
    if not hmac.compare_digest(form.csrf.encode(), operator.csrf.encode()):
        raise ApiError(403, "stale_form", message="This form is of an earlier session, so nothing was done. Open the page again and repeat it there.")
    return operator, form


def require_console(console: Console) -> None:
    """Raise 404 for strangers where nobody can sign in by an issuer: the console is then for those alone who have a link."""
    if console.provider is None:
        raise HTTPException(NOT_FOUND)


async def note(request: Request, operator: Operator, action: str, /, **detail: object) -> None:
    """Note what is about to be done: nothing is done that could not be noted."""
    told = {"request_id": request.scope.get("level5.request_id"), "from": caller_network(request), "session": operator.session.id, **detail}
    await note_action(operator.context.pool, actor=operator.actor, action=action, detail=told)


def session_secret(request: Request, console: Console) -> str | None:
    """Return what the browser says opens its session."""
    secret = request.cookies.get(console.cookies.session)
    return secret if secret and len(secret) <= COOKIE_LENGTH_MAX and secret.isascii() else None


def csrf_of(secret: str) -> str:
    """Return the token of a session's forms: only who has the session's secret can make it, and it does not tell the secret."""
    return derived(secret, "csrf")


def _is_still_allowed(session: ConsoleSession, context: ControlContext) -> bool:
    """Tell whether whoever signed in by an issuer still may: the list may have become shorter since."""
    oidc = context.settings.admin.oidc
    if session.issuer is None:
        return True
    return session.issuer == oidc.issuer and session.address is not None and is_allowed(session.address, oidc.allowed)


def shown(request: Request, operator: Operator, template: str, *, title: str, status: int = 200, **values: Any) -> Response:
    """Return a page of the console."""
    return render(request, f"console/{template}", title=title, status=status, csrf=operator.csrf, operator=operator, **values)


def see_other(path: str) -> Response:
    """Lead to a page of ours after an act, so that loading it again repeats nothing."""
    return RedirectResponse(path, SEE_OTHER)


def sign_in_page(request: Request, *, status: int = 401, problem: str = "", other: bool = False) -> Response:
    """Return the page that says how to sign in; by an `other` account where one was refused."""
    console = console_of(request)
    wanted = request.url.path if request.method == "GET" else "/admin"
    return render(
        request, "console/sign-in.html", title="Sign in", status=status, provider=console.provider, return_to=wanted, problem=problem, other=other,
        minutes=context_of(request).settings.admin.link_minutes,
    )  # fmt: skip


def problem_page(request: Request, error: ApiError) -> Response:
    """Return what went wrong, in words for the operator."""
    request_id = str(request.scope.get("level5.request_id", ""))
    came_from = CAME_FROM.match(request.url.path)
    return render(
        request, "console/problem.html", title="That did not work", status=error.status, headers=error.headers, error=error, request_id=request_id,
        back=came_from[0].replace("/deposits", "/money") if came_from else "",
    )  # fmt: skip
