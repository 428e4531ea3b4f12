# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Who may pass the forward door: judges each CONNECT, remembers what it opened, and reads the requests inside by it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from mitmproxy import http
from mitmproxy.connection import Client
from mitmproxy.proxy import commands
from mitmproxy.proxy.mode_specs import RegularMode

from addons import refusals
from addons.admission import Refused
from addons.exchange import Exchange
from addons.forward import Map, Place, Refusal, Tunnel, read_credentials, read_place
from addons.forward_names import NotPublic, resolve_public
from ledger.errors import BalanceUnavailable, InactiveAccount, UnknownToken
from metering.classify import Dialect, Route, classify_forwarded
from telemetry import metrics
from telemetry.logs import log

NOT_A_TUNNEL = (
    "This is a forward proxy for HTTPS only: set HTTPS_PROXY to http://level5:<api_token>@host:port and call the provider's own https:// address. "
    "Plain HTTP is not passed on."
)
REALM = 'Basic realm="Level5 api_token as user name"'


HOST_CHARACTERS_MAX = 260  # of what is told in the log


@dataclass(slots=True)
class Attempt:
    """One CONNECT: what it asked for and, once judged, the tunnel it opened or why there is none."""

    client: Client
    authority: str
    proxy_authorization: str = ""
    tunnel: Tunnel | None = None
    refusal: Refusal | None = None


@dataclass
class Level5ConnectHook(commands.StartHook):
    """A client asks for a tunnel; whoever hears this judges it. Unheard means refused."""

    name = "level5_connect"
    attempt: Attempt


class ForwardGate:
    """The addon behind the forward door. It must come before the gateway's."""

    def __init__(self, known: Map, *, authenticate: Callable[[str], Awaitable[object]], seconds_max: float) -> None:
        self._known, self._authenticate, self._seconds_max = known, authenticate, seconds_max
        self._tunnels: dict[str, Tunnel] = {}

    @property
    def open(self) -> int:
        """How many tunnels there are."""
        return len(self._tunnels)

    def may_dial(self, client: Client, address: Place | None) -> bool:
        """Tell whether a client's tunnel is the reason to dial an address."""
        tunnel = self._tunnels.get(client.id)
        return tunnel is not None and tunnel.address is not None and tunnel.address == address

    # CONNECT

    async def level5_connect(self, attempt: Attempt) -> None:
        """Open a tunnel or say why not. Fails closed: what raises here leaves neither, which is refused."""
        try:
            judged = await self._judge(attempt)
        except Exception:
            log.error("hook_failed", hook="level5_connect", exc_info=True)
            judged = Refusal(status=503, text="The gateway cannot decide about this request now; try again shortly.")
        if isinstance(judged, Refusal):
            attempt.refusal = judged
            metrics.forward_connects_total.labels(outcome="refused").inc()
            log.info("connect_refused", status=judged.status, host=attempt.authority[:HOST_CHARACTERS_MAX])
            return
        attempt.tunnel = self._tunnels[attempt.client.id] = judged
        metrics.forward_connects_total.labels(outcome="metered" if judged.bases else "unmetered").inc()

    async def http_connect(self, flow: http.HTTPFlow) -> None:
        """The same for stock mitmproxy, whose own layers read the CONNECT."""
        request = flow.request
        attempt = Attempt(flow.client_conn, f"{request.host}:{request.port}", request.headers.get("proxy-authorization", ""))
        await self.level5_connect(attempt)
        if attempt.tunnel is None or not attempt.tunnel.bases:
            refusal = attempt.refusal or Refusal(status=403, text="Hosts are passed on unread by the gateway's own workers only.")
            flow.response = http.Response.make(refusal.status, refusal.text, connect_headers(refusal))

    def client_disconnected(self, client: Client) -> None:
        """A tunnel ends with its client."""
        self._tunnels.pop(client.id, None)

    async def _judge(self, attempt: Attempt) -> Tunnel | Refusal:
        place = read_place(attempt.authority)
        if place is None:
            return Refusal(status=400, text="CONNECT needs a plain host:port.")
        token_text = read_credentials(attempt.proxy_authorization)
        bases = self._known.bases(place)
        if bases is not None:
            # Whose token it is, is found out by the first request: clients hide why a CONNECT was refused, but show an answer inside TLS.
            return Tunnel(host=place[0], port=place[1], bases=bases, token_text=token_text)
        if not self._known.is_tunnelled(place):
            return self._known.not_allowed()
        return await self._open_unread(place, token_text)

    async def _open_unread(self, place: Place, token_text: str | None) -> Tunnel | Refusal:
        """Open a tunnel to a listed host: for accounts of this gateway only, and to where its name leads now."""
        try:
            await self._authenticate(token_text or "")
        except (UnknownToken, InactiveAccount):
            return Refusal(status=407, text="This host is passed on for accounts of this gateway only: give the api_token as proxy user.", challenge=True)
        except BalanceUnavailable:
            return Refusal(status=503, text="The books are not available for a moment; try again shortly.")
        try:
            address = await resolve_public(place, seconds_max=self._seconds_max)
        except NotPublic:
            log.warning("tunnel_not_public", host=place[0])
            return Refusal(status=403, text="The name of this host leads to an address that is not public; it is not passed on.")
        except (OSError, TimeoutError):
            return Refusal(status=502, text="The name of this host cannot be looked up.")
        return Tunnel(host=place[0], port=place[1], bases={}, address=address)

    # Inside

    def classify(self, flow: http.HTTPFlow, exchange: Exchange) -> Route | None:
        """Return what a request inside a tunnel asks for; None where it came by the base_url door.

        Raises:
            Refused: 403 for what came without a tunnel, 421 for another host than the tunnel's.
            RequestRefused: as `classify_forwarded`.
        """
        tunnel = self._tunnels.get(flow.client_conn.id)
        if tunnel is None:
            if isinstance(flow.client_conn.proxy_mode, RegularMode):
                raise Refused(refusals.Refusal(status=403, code="not_a_tunnel", message=NOT_A_TUNNEL))
            return None
        exchange.dialect = Dialect(next(iter(tunnel.bases))) if len(tunnel.bases) == 1 else None
        if not flow.client_conn.tls_established:
            raise Refused(refusals.Refusal(status=403, code="not_encrypted", message=NOT_A_TUNNEL))
        if fault := _misdirected(flow.request, tunnel):
            raise Refused(fault)
        route = classify_forwarded(flow.request.method, flow.request.path, bases=tunnel.bases)
        return replace(route, token_text=tunnel.token_text) if tunnel.token_text else route


def _misdirected(request: http.Request, tunnel: Tunnel) -> refusals.Refusal | None:
    """Return why a request is not for the host that its tunnel leads to: it must name that one, and in one way."""
    named = request.headers.get_all("host")
    if request.data.authority:
        named.append(request.authority)
    if len(named) == 0 or len(named) > 1 + request.is_http2:
        return refusals.malformed("The request must name its host exactly once.")
    if any(name.strip().lower() not in tunnel.authorities for name in named):
        text = f"This connection leads to {tunnel.host}; a request for another host needs one of its own."
        return refusals.Refusal(status=421, code="misdirected_request", message=text)
    return None


def connect_headers(refusal: Refusal) -> dict[str, str]:
    """Return the headers of a refused CONNECT."""
    headers = {"content-type": "text/plain; charset=utf-8", "connection": "close"}
    return headers | ({"proxy-authenticate": REALM} if refusal.challenge else {})
