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

from addons.client_answer import ClientAnswer
from addons.conduct import Begun, BodyRefused, Drained, GoOn, Interrupt, slow_clients
from addons.connections import PIPELINED_BYTES_MAX, GatewayHttp1Server
from addons.lane_heads import NotHere
from addons.lane_provider import AnswerRead, ProviderSide
from addons.light_objects import fork
from addons.relay import Relay
from addons.request_reading import BadChunks, ChunkedBody, SizedBody, take_request_head
from addons.short_way import Door, ShortWay
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
        self._short: ShortWay | None = None
        self.relay: Relay | None = None  # in the middle of a streamed answer, while nothing else happens
        # What the two ways share.
        self.buffer = bytearray()  # from the client, not yet used
        self.stream: GatewayStream | None = None
        self.stream_id = 1
        self.goes_short = False  # the present request does
        self._done: list[GatewayStream] = []
        self._wakeups: set[commands.Command] = set()
        # The client's side of the present request.
        self.body: SizedBody | ChunkedBody | None = None  # while it comes
        self.request_done = self._closes = False
        self.answer = ClientAnswer()
        self.provider = ProviderSide(self, tell=self._tell)

    def open_short_way(self, door: Door) -> ShortWay:
        """Let requests go the short way: what the lane writes goes to the client as it is."""
        self._short = ShortWay(self, door)
        return self._short

    @property
    def is_busy(self) -> bool:
        """Whether a request is being served here."""
        return self.stream is not None

    @property
    def is_free(self) -> bool:
        """Whether what comes from the client begins a request that is served here."""
        return self.stream is None and self._stock is None

    @property
    def may_begin(self) -> bool:
        """Whether the next request may begin: its client reads what it is answered."""
        return self.context.client.id not in slow_clients

    def take_apart(self) -> bool:
        """The connection has ended: where nothing is under way, leave nothing that only a garbage collector would end, and tell so."""
        if not self.is_free:
            return False
        self.__dict__.clear()
        return True

    def handle_event(self, event: events.Event) -> Commands:
        """Handle an event. This layer itself never pauses: the stream does, and queues for itself what comes meanwhile."""
        self.relay = None
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
            elif self.provider.is_at(event.connection):
                yield from self.provider.read(event.data)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is self.context.client:
                yield from self._client_left()
            elif self.provider.is_at(event.connection):
                yield from self.provider.left()
        elif type(event) is Begun:
            yield from self._begin(event.request, event.length, closes=event.closes)
            yield from self._begin_requests()
        elif type(event) is GoOn:
            yield from self._use_buffer()
        elif type(event) is Drained:
            yield from self._begin_requests()
        elif type(event) is BodyRefused:
            yield from self._tell(event)
            if self.body is not None:
                yield from self._read_body(self.body, b"")
        elif type(event) is AnswerRead:
            yield from self.provider.tell_answer(event.fault)
        elif isinstance(event, events.OpenConnectionCompleted):
            yield from self.provider.opened(event)
        elif isinstance(event, events.Wakeup):
            if event.command in self._wakeups:
                self._wakeups.discard(event.command)
                yield from self._tell(event)
        elif not isinstance(event, events.Start) and (not isinstance(event, Interrupt) or event.stream is self.stream):
            yield from self._tell(event)  # a hook has ended, or a deadline has passed

    def _handle_event(self, event: events.Event) -> Commands:
        yield from self._handle(event)

    # What is not served here

    def _hand_over(self) -> Commands:
        """Give the connection to mitmproxy's own layers, beginning with what has not been used of it."""
        yield from self.provider.let_go()
        self._stock = self._otherwise(self.context)
        yield from self._stock.handle_event(events.Start())
        data, self.buffer = bytes(self.buffer), bytearray()
        yield from self._stock.handle_event(events.DataReceived(self.context.client, data))

    # The client

    def _read_client(self, data: bytes) -> Commands:
        if self.body is not None:
            yield from self._read_body(self.body, data)
        elif self.stream is None:
            self.buffer += data
            yield from self._begin_requests()
        else:
            self.buffer += data
            if len(self.buffer) > PIPELINED_BYTES_MAX:
                # Nothing reads this until the answer is out: refuse to keep it without bound.
                yield commands.CloseConnection(self.context.client)

    def _begin_requests(self) -> Commands:
        """Begin with the requests that the buffer holds whole heads of, each when the one before has been answered."""
        try:
            while self.is_free and self.may_begin and (found := take_request_head(self.buffer, bytes_max=GatewayHttp1Server.head_bytes_max)):
                request, length, closes = found
                yield from self._begin(request, length, closes=closes)
        except NotHere:
            yield from self._hand_over()

    def begin_turn(self, length: int | None, *, closes: bool) -> None:
        """A request begins, with a body of this length (None: in chunks)."""
        self.request_done = self.goes_short = False
        self._closes, self.answer = closes, ClientAnswer()
        self.body = ChunkedBody() if length is None else SizedBody(length) if length else None

    def end_turn(self) -> bool:
        """The request has been answered by the short way: tell whether its connection ends with it."""
        if self.stream is not None:
            self.stream.__dict__.clear()
        self.stream, self.goes_short = None, False
        self.stream_id += 2
        return self._closes or self.answer.ends_connection

    def _begin(self, request: http.Request, length: int | None, *, closes: bool) -> Commands:
        self.begin_turn(length, closes=closes)
        stream = self.stream = GatewayStream(fork(self.context), self.stream_id)
        stream.mode = HTTPMode.transparent
        yield from self._tell(events.Start())
        yield from self._tell(http_events.RequestHeaders(self.stream_id, request, length == 0))
        yield from self._use_buffer()

    def _use_buffer(self) -> Commands:
        """Go on with what has come of the present request, or with the next."""
        if self.stream is None:
            yield from self._begin_requests()
        elif self.body is None:
            yield from self._end_body()
        elif self.buffer:
            data, self.buffer = bytes(self.buffer), bytearray()
            yield from self._read_body(self.body, data)

    def _read_body(self, body: SizedBody | ChunkedBody, data: bytes) -> Commands:
        body.add(data)
        try:
            while (piece := body.next_piece()) is not None:
                yield from self._tell(http_events.RequestData(self.stream_id, piece))
        except BadChunks as error:
            yield commands.CloseConnection(self.context.client)
            yield from self._tell(http_events.RequestProtocolError(self.stream_id, str(error), http_events.ErrorCode.GENERIC_CLIENT_ERROR))
        if body.complete:
            self.buffer += body.rest()
            self.body = None
            yield from self._end_body()

    def _end_body(self) -> Commands:
        self.request_done = True
        yield from self._tell(http_events.RequestEndOfMessage(self.stream_id))
        yield from self._finish()

    def _client_left(self) -> Commands:
        if self.context.client.state is not ConnectionState.CLOSED:
            yield commands.CloseConnection(self.context.client)
        if self.stream is None:
            yield from self.provider.let_go()
        else:
            code = http_events.ErrorCode.CLIENT_DISCONNECTED if self.request_done else http_events.ErrorCode.GENERIC_CLIENT_ERROR
            yield from self._tell(http_events.RequestProtocolError(self.stream_id, "client left", code))

    # The stream

    def _tell(self, event: events.Event) -> Commands:
        """Tell the stream something and do what it says."""
        stream = self.stream
        if stream is None:
            return
        self.goes_short = False
        for command in stream.handle_event(event):
            if isinstance(command, SendHttp):
                if command.connection is self.context.client:
                    yield from self._to_client(command.event)
                else:
                    yield from self.provider.send(command.event)
            elif isinstance(command, GetHttpConnection):
                yield from self.provider.find(command, stream_id=self.stream_id)
            elif isinstance(command, DropStream):
                self._drop(stream)
            else:
                if isinstance(command, commands.RequestWakeup):
                    self._wakeups.add(command)
                elif isinstance(command, commands.CloseConnection):
                    self.provider.was_closed(command.connection)
                yield command
        if stream is not self.stream:
            self._done.append(stream)

    def _drop(self, stream: GatewayStream) -> None:
        """The stream is done. Its last words may still be on their way to the client."""
        if stream is self.stream and (self.answer.done or not self.context.client.state & ConnectionState.CAN_WRITE):
            self.stream = None

    def _to_client(self, event: HttpEvent) -> Commands:
        client = self.context.client
        if isinstance(event, http_events.ResponseData):
            if event.data:
                yield commands.SendData(client, self.answer.frame(event.data))
        elif isinstance(event, http_events.ResponseHeaders):
            yield commands.SendData(client, self.answer.begin(event.response))
        elif isinstance(event, http_events.ResponseEndOfMessage):
            if end := self.answer.end():
                yield commands.SendData(client, end)
            yield from self._finish()
        elif isinstance(event, http_events.ResponseProtocolError) and client.state & ConnectionState.CAN_WRITE:
            yield commands.CloseConnection(client)

    def pass_on(self, provider: Connection, data: bytes) -> bytes | events.Event:
        """Read what a provider sends of an answer that goes the short way, or in the middle of a streamed one, without an event or a command.

        Where there is a `relay` to this provider, it is the shorter way.
        Returns what goes to the client at once, or an event to handle where there is more to do than that.
        """
        stream = self.stream
        if self.goes_short and stream is not None and self._short is not None and self.provider.is_at(provider):
            return self._short.read_answer(stream, data)
        taken = self.provider.take(provider, data) if stream is not None else None
        if stream is None or taken is None:
            return events.DataReceived(provider, data)
        if not isinstance(taken, bytes) or not taken:
            return taken
        return self.pass_piece(taken)

    def pass_piece(self, piece: bytes) -> bytes | events.Event:
        """Relay a piece of a streamed answer, whatever it is."""
        stream, provider = self.stream, self.provider.connection
        if stream is None or provider is None or stream.conduct is None:
            return self.provider.put_back(piece)
        relay = Relay(self.provider, provider, stream, stream.conduct, chunked=self.answer.chunked)
        passed = relay.pass_piece(piece)
        if isinstance(passed, bytes):
            self.relay = relay
        return passed

    def _finish(self) -> Commands:
        """Both sides of a request are done: close, or go on with the next."""
        if not (self.request_done and self.answer.done) or self.stream is None:
            return
        self.stream = None
        self.stream_id += 2
        if self._closes or self.answer.ends_connection:
            yield commands.CloseConnection(self.context.client)
        elif self.buffer:
            yield from self._begin_requests()
