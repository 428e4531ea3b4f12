# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""mitmproxy's HTTP layer with our streams and connections, and interrupts that find their stream."""

from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import events, layer, layers
from mitmproxy.proxy.layers.http import GetHttpConnection, HttpLayer, RegisterHttpConnection

from addons.conduct import Drained, Interrupt
from addons.connections import GatewayHttp1Server, GatewayHttp2Server, adopt_client_connection, innermost
from addons.streams import GatewayStream


class GatewayLayer(HttpLayer):
    """The HTTP layer of one client connection, with our streams and connections."""

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, Interrupt):
            yield from self._route_interrupt(event)
            return
        if type(event) is Drained:
            yield from self._go_on(event)
            return
        if isinstance(event, events.ConnectionClosed) and isinstance(event.connection, Server) and self._is_forgotten(event.connection):
            return
        if isinstance(event, events.Start):
            side = GatewayHttp2Server if self.context.client.alpn == b"h2" else GatewayHttp1Server
            self.connections.setdefault(self.context.client, side(self.context.fork()))
        yield from super()._handle_event(event)

    def _is_over(self, connection: Server) -> bool:
        if connection in self.waiting_for_establishment:
            return False
        return bool(connection.error) or (
            connection.state is ConnectionState.CLOSED and all(stream.context.server is not connection for stream in self.streams.values())
        )

    def _is_forgotten(self, connection: Server) -> bool:
        return connection not in self.connections and connection != self.context.server

    def _route_interrupt(self, event: Interrupt) -> layer.CommandGenerator[None]:
        for stream in list(self.streams.values()):
            # A stream with a child is a tunnel (CONNECT): the one that is meant may be inside.
            if stream is event.stream or stream.child_layer is not None:
                yield from self.event_to_child(stream, event)

    def _go_on(self, event: Drained) -> layer.CommandGenerator[None]:
        server = self.connections.get(self.context.client)
        if isinstance(server, GatewayHttp1Server):
            yield from self.event_to_child(server, event)
        for stream in list(self.streams.values()):
            if stream.child_layer is not None and not isinstance(innermost(stream.child_layer), layers.TCPLayer):
                yield from self.event_to_child(stream, event)

    def make_stream(self, stream_id: int) -> layer.CommandGenerator[None]:
        self.streams[stream_id] = GatewayStream(self.context.fork(), stream_id)
        yield from self.event_to_child(self.streams[stream_id], events.Start())

    def get_connection(self, event: GetHttpConnection, *, reuse: bool = True) -> layer.CommandGenerator[None]:
        # mitmproxy forgets no connection: a failed one would answer the next request too, and an HTTP/2 client leaves one for each of its requests.
        for connection in list(self.connections):
            if isinstance(connection, Server) and self._is_over(connection):
                del self.connections[connection]
        yield from super().get_connection(event, reuse=reuse)

    def register_connection(self, command: RegisterHttpConnection) -> layer.CommandGenerator[None]:
        if not command.err and command.connection in self.connections:
            adopt_client_connection(self.connections[command.connection])
        yield from super().register_connection(command)
