# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The fast lane: one layer where mitmproxy has five, for what nearly all traffic is.

It frames plain HTTP/1.1 requests and answers and drives the very stream (`streams.GatewayStream`) that mitmproxy's
own layers drive, so that hooks, endings and refusals are the same on both paths. At the first request that is not of
the plain kind the whole connection, from that request on, is handed to mitmproxy's layers, with every byte of it.
"""

from collections.abc import Callable

from mitmproxy import http
from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, GetHttpConnection, HTTPMode, SendHttp
from mitmproxy.proxy.layers.http import _events as http_events
from mitmproxy.proxy.layers.http._base import HttpEvent

from addons.conduct import Interrupt, Relayed
from addons.connections import PIPELINED_BYTES_MAX, GatewayHttp1Server
from addons.lane_heads import BODILESS, NotHere, write_response_head
from addons.lane_provider import AnswerRead, ProviderSide
from addons.light_objects import fork
from addons.request_reading import BadChunks, ChunkedBody, SizedBody, chunk, take_request_head
from addons.streams import GatewayStream

type Commands = layer.CommandGenerator[None]


class Lane(layer.Layer):
    """The whole of one client connection, one request at a time."""

    def __init__(self, context: Context, *, otherwise: Callable[[Context], layer.Layer] | None = None) -> None:
        """Serve a connection. `otherwise` makes the layers for what is not plain; without it they are those of a reverse proxy."""
        super().__init__(context)
        if otherwise is None:
            context.server.address = context.client.proxy_mode.address  # type: ignore[attr-defined]  # a reverse mode has one
        self._otherwise = otherwise or layers.modes.ReverseProxy
        self._stock: layer.Layer | None = None
        self._buffer = bytearray()  # from the client, not yet used
        self._stream: GatewayStream | None = None
        self._stream_id = 1
        self._done: list[GatewayStream] = []
        self._wakeups: set[commands.Command] = set()
        # The client's side of the present request.
        self._body: SizedBody | ChunkedBody | None = None  # while it comes
        self._request_done = self._response_done = False
        self._closes = self._chunked = False
        self._head_sent: http.Response | None = None
        self._provider = ProviderSide(self, tell=self._tell)

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served here."""
        return self._stream is not None

    def handle_event(self, event: events.Event) -> Commands:
        """Handle an event. This layer itself never pauses: the stream does, and queues for itself what comes meanwhile."""
        yield from self._handle(event)
        while self._done:
            # Streams hold themselves in many ways; taken apart at their end, they need no garbage collector.
            self._done.pop().__dict__.clear()

    def _handle(self, event: events.Event) -> Commands:
        if self._stock is not None:
            yield from self._stock.handle_event(event)
        elif type(event) is events.DataReceived:
            if event.connection is self.context.client:
                yield from self._read_client(event.data)
            elif self._provider.is_at(event.connection):
                yield from self._provider.read(event.data)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is self.context.client:
                yield from self._client_left()
            elif self._provider.is_at(event.connection):
                yield from self._provider.left()
        elif type(event) is AnswerRead:
            yield from self._provider.tell_answer(event.fault)
        elif isinstance(event, events.OpenConnectionCompleted):
            yield from self._provider.opened(event)
        elif isinstance(event, events.Wakeup):
            if event.command in self._wakeups:
                self._wakeups.discard(event.command)
                yield from self._tell(event)
        elif not isinstance(event, events.Start) and (not isinstance(event, Interrupt) or event.stream is self._stream):
            yield from self._tell(event)  # a hook has ended, or a deadline has passed

    def _handle_event(self, event: events.Event) -> Commands:
        yield from self._handle(event)

    # What is not served here

    def _hand_over(self) -> Commands:
        """Give the connection to mitmproxy's own layers, beginning with what has not been used of it."""
        yield from self._provider.let_go()
        self._stock = self._otherwise(self.context)
        yield from self._stock.handle_event(events.Start())
        data, self._buffer = bytes(self._buffer), bytearray()
        yield from self._stock.handle_event(events.DataReceived(self.context.client, data))

    # The client

    def _read_client(self, data: bytes) -> Commands:
        if self._body is not None:
            yield from self._read_body(self._body, data)
        elif self._stream is None:
            self._buffer += data
            yield from self._begin_requests()
        else:
            self._buffer += data
            if len(self._buffer) > PIPELINED_BYTES_MAX:
                # Nothing reads this until the answer is out: refuse to keep it without bound.
                yield commands.CloseConnection(self.context.client)

    def _begin_requests(self) -> Commands:
        """Begin with the requests that the buffer holds whole heads of, each when the one before has been answered."""
        try:
            while self._stream is None and self._stock is None and (found := take_request_head(self._buffer, bytes_max=GatewayHttp1Server.head_bytes_max)):
                request, length, self._closes = found
                yield from self._begin(request, length)
        except NotHere:
            yield from self._hand_over()

    def _begin(self, request: http.Request, length: int | None) -> Commands:
        self._request_done = self._response_done = self._chunked = False
        self._head_sent = None
        self._body = ChunkedBody() if length is None else SizedBody(length) if length else None
        stream = self._stream = GatewayStream(fork(self.context), self._stream_id)
        stream.mode = HTTPMode.transparent
        yield from self._tell(events.Start())
        yield from self._tell(http_events.RequestHeaders(self._stream_id, request, length == 0))
        if self._body is None:
            yield from self._end_body()
        elif self._buffer:
            data, self._buffer = bytes(self._buffer), bytearray()
            yield from self._read_body(self._body, data)

    def _read_body(self, body: SizedBody | ChunkedBody, data: bytes) -> Commands:
        body.add(data)
        try:
            while (piece := body.next_piece()) is not None:
                yield from self._tell(http_events.RequestData(self._stream_id, piece))
        except BadChunks as error:
            yield commands.CloseConnection(self.context.client)
            yield from self._tell(http_events.RequestProtocolError(self._stream_id, str(error), http_events.ErrorCode.GENERIC_CLIENT_ERROR))
        if body.complete:
            self._buffer += body.rest()
            self._body = None
            yield from self._end_body()

    def _end_body(self) -> Commands:
        self._request_done = True
        yield from self._tell(http_events.RequestEndOfMessage(self._stream_id))
        yield from self._finish()

    def _client_left(self) -> Commands:
        if self.context.client.state is not ConnectionState.CLOSED:
            yield commands.CloseConnection(self.context.client)
        if self._stream is None:
            yield from self._provider.let_go()
        else:
            code = http_events.ErrorCode.CLIENT_DISCONNECTED if self._request_done else http_events.ErrorCode.GENERIC_CLIENT_ERROR
            yield from self._tell(http_events.RequestProtocolError(self._stream_id, "client left", code))

    # The stream

    def _tell(self, event: events.Event) -> Commands:
        """Tell the stream something and do what it says."""
        stream = self._stream
        if stream is None:
            return
        for command in stream.handle_event(event):
            if isinstance(command, SendHttp):
                if command.connection is self.context.client:
                    yield from self._to_client(command.event)
                else:
                    yield from self._provider.send(command.event)
            elif isinstance(command, GetHttpConnection):
                yield from self._provider.find(command, stream_id=self._stream_id)
            elif isinstance(command, DropStream):
                self._drop(stream)
            else:
                if isinstance(command, commands.RequestWakeup):
                    self._wakeups.add(command)
                elif isinstance(command, commands.CloseConnection):
                    self._provider.was_closed(command.connection)
                yield command
        if stream is not self._stream:
            self._done.append(stream)

    def _drop(self, stream: GatewayStream) -> None:
        """The stream is done. Its last words may still be on their way to the client."""
        if stream is self._stream and (self._response_done or not self.context.client.state & ConnectionState.CAN_WRITE):
            self._stream = None

    def _to_client(self, event: HttpEvent) -> Commands:
        client = self.context.client
        if isinstance(event, http_events.ResponseData):
            if event.data:
                yield commands.SendData(client, self._framed(event.data))
        elif isinstance(event, http_events.ResponseHeaders):
            response = self._head_sent = event.response
            self._chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
            yield commands.SendData(client, write_response_head(response))
        elif isinstance(event, http_events.ResponseEndOfMessage):
            if self._chunked:
                yield commands.SendData(client, chunk(b""))
            self._response_done = True
            yield from self._finish()
        elif isinstance(event, http_events.ResponseProtocolError) and client.state & ConnectionState.CAN_WRITE:
            yield commands.CloseConnection(client)

    def pass_on(self, provider: Connection, data: bytes) -> bytes | events.Event:
        """Read what a provider sends in the middle of a streamed answer without an event, a command or a hook.

        Returns what goes to the client at once, or an event to handle where there is more to do than that.
        """
        stream = self._stream
        taken = self._provider.take(provider, data) if stream is not None else None
        if stream is None or taken is None:
            return events.DataReceived(provider, data)
        if not isinstance(taken, bytes) or not taken:
            return taken
        relayed = stream.relay_now(taken)
        if relayed is None:
            return self._provider.put_back(taken)
        ready, is_all = relayed
        if not is_all:
            return Relayed(self._stream_id, ready)
        return self._framed(ready) if ready else b""

    def _framed(self, data: bytes) -> bytes:
        return chunk(data) if self._chunked else data

    def _finish(self) -> Commands:
        """Both sides of a request are done: close, or go on with the next."""
        if not (self._request_done and self._response_done) or self._stream is None:
            return
        self._stream = None
        self._stream_id += 2
        if self._closes or self._head_sent is None or _ends_with_connection(self._head_sent):
            yield commands.CloseConnection(self.context.client)
        elif self._buffer:
            yield from self._begin_requests()


def _ends_with_connection(response: http.Response) -> bool:
    """Tell whether the client learns by the connection's end that the answer is over, or is told that it will be closed."""
    headers = response.headers
    if headers.get("connection", "").lower() == "close":
        return True
    return "content-length" not in headers and "transfer-encoding" not in headers and response.status_code not in BODILESS
