# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The forward door itself: reads one CONNECT, has it judged, and gives the connection to the layers of the tunnel.

Strictly, and nothing else: what mitmproxy's own proxy mode also takes (absolute addresses, requests without CONNECT, TLS to
the proxy) is not offered, so there is nothing there that could be overlooked.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers import TCPLayer

from addons.conduct import Drained
from addons.connections import GatewayHttp1Server
from addons.forward import Refusal, Tunnel
from addons.forward_gate import NOT_A_TUNNEL, Attempt, Level5ConnectHook, connect_headers
from addons.forward_tls import TunnelTls

UNREAD_BYTES_MAX = 64 * 1024
UNREAD_SECONDS_MAX = 2.0
TLS_RECORD = 0x16
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*)")
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})

type Commands = layer.CommandGenerator[None]


class NotConnect(Exception):
    """A head that opens no tunnel."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


@dataclass(frozen=True, slots=True)
class Connect:
    """What a CONNECT says."""

    authority: str
    proxy_authorization: str


def read_connect(head: bytes) -> Connect:
    """Read a head that ends with its empty line.

    Raises:
        NotConnect: it is no CONNECT, or not written in the one way that everybody reads alike.
    """
    line, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        raise NotConnect(Refusal(status=400, text="The request is not valid HTTP/1.1."))
    if request[1] != b"CONNECT":
        raise NotConnect(Refusal(status=403, text=NOT_A_TUNNEL))
    credentials: list[str] = []
    for field in rest:
        found = _FIELD.fullmatch(field)
        if found is None:  # also a folded line, and a bare line end
            raise NotConnect(Refusal(status=400, text="A header is not valid HTTP/1.1."))
        name = found[1].lower()
        if name in _FRAMING:
            raise NotConnect(Refusal(status=400, text="A CONNECT has no body."))
        if name == b"proxy-authorization":
            credentials.append(found[2].decode("latin-1"))
    if len(credentials) > 1:
        raise NotConnect(Refusal(status=400, text="Only one Proxy-Authorization is understood."))
    return Connect(request[2].decode("ascii"), "".join(credentials))


class ForwardDoor(layer.Layer):
    """One client connection: before its tunnel, and afterwards whatever the tunnel carries."""

    def __init__(self, context: Context, *, inside: Callable[[Context], layer.Layer]) -> None:
        super().__init__(context)
        self._inside = inside
        self._buffer = bytearray()
        self._unread: int | None = None  # of a refused client
        self._tunnel: layer.Layer | None = None

    @property
    def is_unread(self) -> bool:
        """Whether the connection is passed on as it is."""
        return isinstance(self._tunnel, TCPLayer)

    def _handle_event(self, event: events.Event) -> Commands:
        if self._tunnel is not None:
            if not (self.is_unread and type(event) is Drained):  # which begins requests, and there are none
                yield from self._tunnel.handle_event(event)
        elif isinstance(event, events.DataReceived):
            yield from self._read(event.data)
        elif isinstance(event, events.ConnectionClosed | events.Wakeup):
            yield commands.CloseConnection(self.context.client)

    def _read(self, data: bytes) -> Commands:
        if self._unread is not None:
            self._unread += len(data)
            if self._unread > UNREAD_BYTES_MAX:
                yield commands.CloseConnection(self.context.client)
            return
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end > GatewayHttp1Server.head_bytes_max or (end < 0 and len(self._buffer) > GatewayHttp1Server.head_bytes_max):
            yield from self._refuse(Refusal(status=431, text="The request head is too large."))
        elif end >= 0:
            head, early = bytes(self._buffer[: end + 4]), bytes(self._buffer[end + 4 :])
            self._buffer.clear()
            yield from self._judge(head, early)
        elif b"\n\n" in self._buffer or b"\n\r\n" in self._buffer or self._buffer[0] == TLS_RECORD:
            text = "The request is not valid HTTP/1.1. The proxy itself speaks no TLS: its address begins with http://."
            yield from self._refuse(Refusal(status=400, text=text))

    def _judge(self, head: bytes, early: bytes) -> Commands:
        try:
            asked = read_connect(head)
        except NotConnect as error:
            yield from self._refuse(error.refusal)
            return
        attempt = Attempt(self.context.client, asked.authority, asked.proxy_authorization)
        yield Level5ConnectHook(attempt)
        if attempt.tunnel is None:
            yield from self._refuse(attempt.refusal or Refusal(status=503, text="Nobody decides about this request."))
            return
        yield commands.SendData(self.context.client, ESTABLISHED)
        yield from self._open(attempt.tunnel)
        if early:
            yield from self._handle_event(events.DataReceived(self.context.client, early))

    def _open(self, tunnel: Tunnel) -> Commands:
        self.context.server.address = tunnel.address or (tunnel.host, tunnel.port)
        if tunnel.bases:
            tls = TunnelTls(self.context)
            tls.inside = self._inside
            self._tunnel = tls
        else:
            self._tunnel = TCPLayer(self.context, ignore=True)
        yield from self._tunnel.handle_event(events.Start())

    def _refuse(self, refusal: Refusal) -> Commands:
        """Answer, give the client a moment to read it, close."""
        response = http.Response.make(refusal.status, refusal.text + "\n", connect_headers(refusal))
        self._unread = 0
        yield commands.SendData(self.context.client, http1.assemble_response(response))
        yield commands.RequestWakeup(UNREAD_SECONDS_MAX)
