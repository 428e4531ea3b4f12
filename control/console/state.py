"""What the console keeps while the process runs: the sessions' books, the issuer, and how often strangers have knocked."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from config.sections import is_loopback_host
from config.settings import Settings
from control.console.provider import OidcProvider
from control.context import context_of
from control.key_buckets import KeyBuckets
from control.peers import Network, read_networks
from ledger.console_sessions import ConsoleSessions

CALLBACK: Final = "/admin/oidc/callback"
KNOCKS_PER_MINUTE: Final = 20  # that one network may try to sign in


@dataclass(frozen=True, slots=True, kw_only=True)
class CookieNames:
    """The cookies of this appliance. Where the console has a secure origin the browser itself guards their names."""

    session: str
    sign_in: str
    secure: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """The console of one control process."""

    sessions: ConsoleSessions
    provider: OidcProvider | None
    cookies: CookieNames
    host: str | None  # under which it may be called beside the names of this machine
    networks: tuple[Network, ...]
    session_seconds: int
    idle_seconds: int
    knocks: KeyBuckets = field(default_factory=lambda: KeyBuckets(KNOCKS_PER_MINUTE))


def console_of(request: Request) -> Console:
    """Return the console of the app that serves `request`, made when it is first needed."""
    state = request.app.state
    if not hasattr(state, "console"):
        context = context_of(request)
        state.console = make_console(context.settings, ConsoleSessions(context.pool))
    console: Console = state.console
    return console


def make_console(settings: Settings, sessions: ConsoleSessions) -> Console:
    """Return the console that these settings describe."""
    admin, public = settings.admin, urlsplit(settings.origin)
    secure = public.scheme == "https"
    callable_from_outside = secure or is_loopback_host(public.hostname or "")
    return Console(
        sessions=sessions,
        provider=OidcProvider(admin.oidc, redirect_uri=settings.origin + CALLBACK) if admin.oidc.is_on and callable_from_outside else None,
        cookies=cookie_names(public.port, secure=secure),
        host=public.netloc.lower() if callable_from_outside else None,
        networks=read_networks(admin.networks),
        session_seconds=admin.session_hours * 3600,
        idle_seconds=admin.idle_minutes * 60,
    )


def cookie_names(port: int | None, *, secure: bool) -> CookieNames:
    """Return the names. Cookies know no ports, so over plain HTTP, on this machine alone, two appliances need names of their own."""
    if secure:
        return CookieNames(session="__Host-level5_console", sign_in="__Host-level5_sign_in", secure=True)
    return CookieNames(session=f"level5_console_{port or 80}", sign_in=f"level5_sign_in_{port or 80}", secure=False)
