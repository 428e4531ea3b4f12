"""Client and provider connections: what runs on them, who has left, what takes too long to connect."""

import asyncio
import collections
from collections.abc import Awaitable, Callable

from mitmproxy import connection
from mitmproxy.proxy import layer, server_hooks
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.tls import TlsData

from addons.background import Background
from addons.closing import close
from addons.conduct import Interrupt
from addons.deadlines import ConnectClocks
from addons.exchange import CONNECT, STOPPED, Exchange
from addons.layers import GatewayLayer
from addons.mitmproxy_addons import Proxyserver
from telemetry.logs import log

SWEEP_SECONDS = 0.3  # after a client has left, until what no hook has ended is ended
type Address = tuple[str, int]
STREAMS_PER_CLIENT_MAX = 100  # mitmproxy's own 5 lets an HTTP/2 client's streams wait in silence


class Links:
    """An addon beside the gateway's: it installs our layers and keeps the net under the endings that fire no hook."""

    def __init__(
        self,
        *,
        background: Background,
        connect_seconds_max: float,
        read_on_seconds_max: float,
        known: frozenset[Address] = frozenset(),
        may_dial: Callable[[connection.Client, Address | None], bool],
    ) -> None:
        """`known` are the addresses of the providers and of the control API; any other needs the leave of `may_dial`."""
        self._known, self._may_dial = known, may_dial
        self._background, self._connect_seconds_max, self._read_on_seconds_max = background, connect_seconds_max, read_on_seconds_max
        self._clocks = ConnectClocks()
        self._live: dict[str, set[Exchange]] = {}
        self._end: Callable[[Exchange], Awaitable[None]] | None = None
        self._proxyserver: Proxyserver | None = None

    def attach(self, proxyserver: Proxyserver, end: Callable[[Exchange], Awaitable[None]]) -> None:
        """Learn who holds the connections and who ends exchanges."""
        self._proxyserver, self._end = proxyserver, end

    def add(self, exchange: Exchange) -> None:
        """An exchange begins on its client's connection."""
        self._live.setdefault(exchange.client_id, set()).add(exchange)

    def remove(self, exchange: Exchange) -> None:
        """An exchange has ended."""
        running = self._live.get(exchange.client_id)
        if running is not None:
            running.discard(exchange)
            if not running:
                del self._live[exchange.client_id]

    @property
    def running(self) -> list[Exchange]:
        """All exchanges that have not ended."""
        return [exchange for exchanges in self._live.values() for exchange in exchanges]

    # Layers

    def next_layer(self, chosen: layer.NextLayer) -> None:
        """Swap mitmproxy's HTTP layer for ours, wherever it stands in the stack that was chosen."""
        current: layer.Layer | None = chosen.layer
        while current is not None:
            if type(current) is HttpLayer:
                current.__class__ = GatewayLayer
            current = getattr(current, "child_layer", None)

    # Interrupts

    def interrupt(self, exchange: Exchange, reason: str) -> None:
        """Tell a stream that its time is over."""
        exchange.timed_out = exchange.timed_out or reason
        handler = self._proxyserver.connections.get(exchange.client_id) if self._proxyserver else None
        if handler is not None and exchange.stream is not None:
            self._background.start(handler.server_event(Interrupt(exchange.stream, reason)), name="interrupt")

    def stop_endless(self) -> None:
        """The drain has begun: pages that follow an account would never end, and ask another worker at once."""
        for exchange in self.running:
            if exchange.endless:
                exchange.stopped = True
                self.interrupt(exchange, STOPPED)

    def stop_all(self) -> None:
        """The drain's deadline has come: whatever still runs is cut and settled as such."""
        for exchange in self.running:
            exchange.stopped = True
            self.interrupt(exchange, STOPPED)

    # Clients

    def client_connected(self, client: connection.Client) -> None:
        """Lift the limit on provider connections of one client."""
        handler = self._proxyserver.connections.get(client.id) if self._proxyserver else None
        if handler is not None:
            handler.max_conns = collections.defaultdict(lambda: asyncio.Semaphore(STREAMS_PER_CLIENT_MAX))

    async def client_disconnected(self, client: connection.Client) -> None:
        """Let answers be read on, then end what no hook has ended. The provider's connections live until this returns."""
        left = list(self._live.get(client.id, ()))
        for exchange in left:
            exchange.leave()
        if not left:
            return
        await self._wait(left, SWEEP_SECONDS)
        await self._wait([exchange for exchange in left if exchange.reading_on], self._read_on_seconds_max + 5)
        self._background.start(self._sweep(left), name="sweep")

    async def _wait(self, exchanges: list[Exchange], seconds: float) -> None:
        waits = [asyncio.ensure_future(exchange.ended.wait()) for exchange in exchanges if not exchange.is_ended]
        if waits:
            _, pending = await asyncio.wait(waits, timeout=seconds)
            for waiting in pending:
                waiting.cancel()

    async def _sweep(self, left: list[Exchange]) -> None:
        for exchange in left:
            if exchange.ending is None and self._end is not None:
                log.info("swept", request_id=exchange.request_id)
                await self._end(exchange)
                close(exchange)

    # Providers

    def server_connect(self, data: server_hooks.ServerConnectionHookData) -> None:
        """Let nothing be dialled but what is configured, whatever a request says; start the clock of a new connection."""
        address = data.server.address
        if address not in self._known and not self._may_dial(data.client, address):
            data.server.error = "not an address of this gateway's"
            log.error("dial_refused")
            return
        data.server.alpn_offers = [b"http/1.1"]  # whatever the client speaks: what was tested with providers is HTTP/1.1
        handler = self._proxyserver.connections.get(data.client.id) if self._proxyserver else None
        if handler is None:
            return

        def give_up() -> None:
            for exchange in self._live.get(data.client.id, ()):
                if exchange.sent_at is None:
                    exchange.timed_out = CONNECT
            transport = handler.transports.get(data.server)
            if transport is not None and transport.handler is not None:
                transport.handler.cancel("connect timeout")

        waiting = [exchange.patience.connect_seconds_max for exchange in self._live.get(data.client.id, ()) if exchange.sent_at is None]
        self._clocks.start(data.server.id, max(waiting, default=self._connect_seconds_max), give_up=give_up)

    def server_connected(self, data: server_hooks.ServerConnectionHookData) -> None:
        """A plain connection stands; one with TLS has still to agree on it, where a layer does that."""
        if not data.server.tls or data.server.tls_established:
            self._clocks.stop(data.server.id)

    def tls_established_server(self, data: TlsData) -> None:
        self._clocks.stop(data.conn.id)

    def tls_failed_server(self, data: TlsData) -> None:
        self._clocks.stop(data.conn.id)

    def server_connect_error(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._clocks.stop(data.server.id)

    def server_disconnected(self, data: server_hooks.ServerConnectionHookData) -> None:
        self._clocks.stop(data.server.id)
