"""Signing in and out: by the issuer, or by a link that the operator had made on the machine.

A sign-in by the issuer belongs to the browser that began it: its cookie, the state, the nonce and the PKCE verifier
hang together, each is good once, and an answer that another browser brings is refused. Nothing that a browser sends ever becomes
the secret of a session: each sign-in makes a new one.
"""

import hmac
import re
from typing import Final

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.console.door import (
    COOKIE_LENGTH_MAX,
    SEE_OTHER,
    Form,
    SignInNeeded,
    enter,
    receive,
    require_console,
    require_door,
    require_knock,
    see_other,
    sign_in_page,
)
from control.console.identity import NotBelieved, derived, is_allowed
from control.console.provider import OidcProvider, ProviderAway
from control.console.state import Console, console_of
from control.context import caller_network, context_of
from control.errors import ApiError
from control.web.origin import require_same_origin
from control.web.rendering import render
from ledger.console_sessions import Identity, TooManySignIns, Visitor, digest_of_secret, new_secret
from telemetry.logs import get_log

START: Final = "/admin"
SIGN_IN_COOKIE_SECONDS: Final = 600
RETURN_LENGTH_MAX: Final = 200
# Pages of the console alone, without a query: no text of somebody else's leads anywhere.
RETURN_TO: Final = re.compile(r"/admin(?:/[A-Za-z0-9_-]+)*")
NOT_BELIEVED: Final = "The sign-in was refused. Begin again; if it stays so, the log of the control role says why."
SESSION_ID: Final = re.compile(r"ses_[0-9a-f]{16}")
OTHER_SITES: Final = ("cross-site", "same-site")


async def door(request: Request) -> Response:
    """Show how to sign in; whoever is signed in goes on."""
    try:
        await enter(request)
    except SignInNeeded:
        return sign_in_page(request, status=200)
    return see_other(START)


async def begin(request: Request) -> Response:
    """Send the browser to the issuer."""
    console = require_door(request)
    require_console(console)
    if console.provider is None or request.headers.get("sec-fetch-site") in OTHER_SITES:
        return sign_in_page(request, status=200)  # nobody else begins a sign-in for this browser
    require_knock(request, console)
    browser, state = new_secret(), new_secret()
    provider, wanted = console.provider, safe_return(request.query_params.get("to"))
    try:
        await console.sessions.begin_sign_in(state=state, browser=browser, issuer=provider.issuer, return_to=wanted)
        address = await provider.address_to_sign_in(
            state=state,
            nonce=derived(browser, f"nonce {state}"),
            verifier=derived(browser, f"verifier {state}"),
            other=request.query_params.get("other") == "1",
        )
    except ProviderAway as error:
        return _refused(request, "issuer_away", str(error), words=f"{provider.host} does not answer as it should, so nobody can sign in by it now.", status=503)
    except TooManySignIns as error:
        return _refused(request, "too_many_sign_ins", str(error), words="Too many sign-ins are under way. Try again in some minutes.", status=503)
    answer = RedirectResponse(address, SEE_OTHER)
    _set_cookie(answer, console, name=console.cookies.sign_in, value=browser, seconds=SIGN_IN_COOKIE_SECONDS, same_site="lax")
    return answer


async def come_back(request: Request) -> Response:
    """Take what the issuer says of the person, and open a session for those who may come in."""
    console = require_door(request)
    require_console(console)
    require_knock(request, console)
    provider, browser = console.provider, request.cookies.get(console.cookies.sign_in, "")
    if provider is None or not browser or len(browser) > COOKIE_LENGTH_MAX:
        return _refused(request, "other_browser", "no cookie", words="This sign-in was not begun in this browser, or took too long.")
    try:
        address, return_to = await _identify(request.query_params, console, provider, browser=browser)
    except NotBelieved as error:
        answer = _refused(request, "not_believed", str(error), words=NOT_BELIEVED)
    except ProviderAway as error:
        answer = _refused(request, "issuer_away", str(error), words=f"{provider.host} does not answer as it should. Try again shortly.", status=503)
    else:
        if is_allowed(address, context_of(request).settings.admin.oidc.allowed):
            answer = await _let_in(request, console, Identity(actor=address, issuer=provider.issuer, address=address), return_to=return_to)
        else:
            answer = _refused(request, "not_allowed", address, words=f"{address} is not on the list of those who may use this console.", other=True)
    _clear_cookie(answer, console, console.cookies.sign_in)
    return answer


async def _identify(query: QueryParams, console: Console, provider: OidcProvider, *, browser: str) -> tuple[str, str]:
    """Return the address of whoever comes back, and where they want to go.

    Raises:
        NotBelieved: what came does not belong together.
        ProviderAway: the issuer did not answer.
    """
    given = dict(query.multi_items())
    if len(given) != len(query.multi_items()):
        raise NotBelieved("a part of the answer is there twice")
    begun = await console.sessions.take_sign_in(given.get("state", ""))
    if begun is None or not begun.in_time:
        raise NotBelieved("the state is not that of a sign-in under way")
    if not hmac.compare_digest(begun.browser, digest_of_secret(browser)):
        raise NotBelieved("the state is that of another browser")
    if begun.issuer != provider.issuer:
        raise NotBelieved("the issuer was changed meanwhile")
    await provider.require_answer_of(given.get("iss"))
    if "code" not in given:
        raise NotBelieved(f"the issuer says {given.get('error', 'nothing')[:100]!r}")
    state = given["state"]
    address = await provider.identify(given["code"], verifier=derived(browser, f"verifier {state}"), nonce=derived(browser, f"nonce {state}"))
    return address, safe_return(begun.return_to)


async def show_link(request: Request) -> Response:
    """Ask whoever opens a link whether to sign in: programs that look into links beforehand must not use it up."""
    console = require_door(request)
    require_knock(request, console)
    name = await console.sessions.name_of_link(request.path_params["link"])
    if name is None:
        raise _spent_link()
    return render(request, "console/link.html", title="Sign in", name=name)


async def use_link(request: Request) -> Response:
    """Sign in by a link, which is spent with it."""
    console = require_door(request)
    require_knock(request, console)
    require_same_origin(request)
    secret = await console.sessions.open_by_link(request.path_params["link"], _visitor(request), seconds=console.session_seconds)
    if secret is None:
        raise _spent_link()
    get_log().info("console_sign_in", by="link", request_id=request.scope.get("level5.request_id"))
    answer = see_other(START)
    _set_cookie(answer, console, name=console.cookies.session, value=secret, seconds=console.session_seconds, same_site="strict")
    return answer


async def sign_out(request: Request) -> Response:
    """End this session."""
    operator, _ = await receive(request, Form)
    await operator.console.sessions.end(operator.session.id, by=operator.actor, detail=_seen(request))
    return _signed_out(request, "You are signed out.")


async def sign_out_everywhere(request: Request) -> Response:
    """End all sessions of this operator."""
    operator, _ = await receive(request, Form)
    await operator.console.sessions.end_all_of(operator.actor, detail=_seen(request))
    return _signed_out(request, "You are signed out everywhere.")


async def end_session(request: Request) -> Response:
    """End a session of anybody."""
    operator, _ = await receive(request, Form)
    if not SESSION_ID.fullmatch(request.path_params["session_id"]):
        raise ApiError(404, "unknown_session", message="There is no such session.")
    await operator.console.sessions.end(request.path_params["session_id"], by=operator.actor, detail=_seen(request))
    return see_other("/admin/sessions")


def safe_return(text: str | None) -> str:
    """Return a page of the console to go to after a sign-in: the one that is named if it is one, else the first."""
    return text if text is not None and len(text) <= RETURN_LENGTH_MAX and RETURN_TO.fullmatch(text) else START


async def _let_in(request: Request, console: Console, identity: Identity, *, return_to: str) -> Response:
    """Open a session. The browser is led on by a page of ours: it sends the cookie of the session to nobody who comes from elsewhere."""
    secret = await console.sessions.open(identity, _visitor(request), seconds=console.session_seconds)
    get_log().info("console_sign_in", by="issuer", request_id=request.scope.get("level5.request_id"))
    answer = render(request, "console/welcome.html", title="Signed in", return_to=return_to, address=identity.address)
    _set_cookie(answer, console, name=console.cookies.session, value=secret, seconds=console.session_seconds, same_site="strict")
    return answer


def _refused(request: Request, reason: str, detail: str, *, words: str, status: int = 403, other: bool = False) -> Response:
    get_log().warning(
        "console_sign_in_refused", reason=reason, detail=detail, network=caller_network(request), request_id=request.scope.get("level5.request_id")
    )
    return sign_in_page(request, status=status, problem=words, other=other)


def _spent_link() -> ApiError:
    message = "This link was used, its time is over, or it never was one. Make another with `level5 admin login`."
    return ApiError(404, "spent_link", message=message)


def _signed_out(request: Request, words: str) -> Response:
    console = console_of(request)
    answer = render(request, "console/signed-out.html", title="Signed out", words=words, provider=console.provider)
    _clear_cookie(answer, console, console.cookies.session)
    return answer


def _visitor(request: Request) -> Visitor:
    return Visitor(network=caller_network(request), agent=request.headers.get("user-agent", ""), request_id=str(request.scope.get("level5.request_id")))


def _seen(request: Request) -> dict[str, object]:
    return {"from": caller_network(request), "request_id": request.scope.get("level5.request_id")}


def _set_cookie(answer: Response, console: Console, *, name: str, value: str, seconds: int, same_site: str) -> None:
    answer.set_cookie(
        name, value, max_age=seconds, path="/", secure=console.cookies.secure, httponly=True, samesite="strict" if same_site == "strict" else "lax"
    )


def _clear_cookie(answer: Response, console: Console, name: str) -> None:
    answer.delete_cookie(name, path="/", secure=console.cookies.secure, httponly=True)
