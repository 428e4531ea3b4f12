# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The fast lane: one layer where mitmproxy has five, for what nearly all traffic is.

It frames plain HTTP/1.1 requests and answers and drives the very stream (`streams.GatewayStream`) that mitmproxy's
own layers drive, so that hooks, endings and refusals are the same on both paths. At the first request that is not of
the plain kind the whole connection, from that request on, is handed to mitmproxy's layers, with every byte of it.
"""

from collections.abc import Callable

from mitmproxy import http
from mitmproxy.connection import ConnectionState, Server
from mitmproxy.proxy import commands, events, layer, layers
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import DropStream, GetHttpConnection, GetHttpConnectionCompleted, HTTPMode, SendHttp
from mitmproxy.proxy.layers.http import _events as http_events
from mitmproxy.proxy.layers.http._base import HttpEvent

from addons.conduct import Interrupt
from addons.connections import PIPELINED_BYTES_MAX, GatewayHttp1Server
from addons.driver import OpenProvider, ReleaseProvider
from addons.lane_heads import AnswerReader, NotHere, ends_with_connection, write_request, write_response_head
from addons.light_objects import LightServer, fork
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
        # The provider's side.
        self._provider: Server | None = None
        self._chunked_out = False  # a request to control keeps the framing it came with
        self._wanted: GetHttpConnection | None = None
        self._opening: commands.OpenConnection | None = None
        self._answer = AnswerReader()

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
            elif event.connection is self._provider:
                yield from self._read_provider(event.data)
        elif isinstance(event, events.ConnectionClosed):
            if event.connection is self.context.client:
                yield from self._client_left()
            elif event.connection is self._provider:
                yield from self._provider_left()
        elif isinstance(event, events.OpenConnectionCompleted):
            yield from self._opened(event)
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
        yield from self._let_provider_go()
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
            yield from self._let_provider_go()
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
                    yield from self._to_provider(command.event)
            elif isinstance(command, GetHttpConnection):
                yield from self._find_provider(command)
            elif isinstance(command, DropStream):
                self._drop(stream)
            else:
                if isinstance(command, commands.RequestWakeup):
                    self._wakeups.add(command)
                elif isinstance(command, commands.CloseConnection) and command.connection is self._provider:
                    self._provider = None  # it refuses an answer's head: nothing more is read, and the connection is no longer ours to give
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
                yield commands.SendData(client, chunk(event.data) if self._chunked else event.data)
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

    def _finish(self) -> Commands:
        """Both sides of a request are done: close, or go on with the next."""
        if not (self._request_done and self._response_done) or self._stream is None:
            return
        self._stream = None
        self._stream_id += 2
        if self._closes or self._head_sent is None or ends_with_connection(self._head_sent):
            yield commands.CloseConnection(self.context.client)
        elif self._buffer:
            yield from self._begin_requests()

    # The provider

    def _find_provider(self, wanted: GetHttpConnection) -> Commands:
        """Give the stream a connection: one that the worker keeps open, or a new one."""
        yield from self._let_provider_go()
        provider = LightServer(address=wanted.address, tls=wanted.tls)
        self._wanted, self._provider, self._opening = wanted, provider, OpenProvider(provider)
        self._answer = AnswerReader()
        self._opening.blocking = self  # type: ignore[assignment]  # as mitmproxy does itself: layers around this one (TLS) need not wait
        yield self._opening

    def _opened(self, event: events.OpenConnectionCompleted) -> Commands:
        if event.command is not self._opening or self._wanted is None:
            return
        wanted, self._wanted, self._opening = self._wanted, None, None
        if event.reply:
            self._provider = None
        yield from self._tell(GetHttpConnectionCompleted(wanted, (None, event.reply) if event.reply else (event.command.connection, None)))

    def _to_provider(self, event: HttpEvent) -> Commands:
        if self._provider is None:
            return
        if isinstance(event, http_events.RequestHeaders):
            self._chunked_out = "transfer-encoding" in event.request.headers
            yield commands.SendData(self._provider, write_request(event.request))
        elif isinstance(event, http_events.RequestData) and event.data:
            yield commands.SendData(self._provider, chunk(event.data) if self._chunked_out else event.data)
        elif isinstance(event, http_events.RequestEndOfMessage) and self._chunked_out:
            yield commands.SendData(self._provider, chunk(b""))
        elif isinstance(event, http_events.RequestProtocolError):
            provider, self._provider = self._provider, None
            yield commands.CloseConnection(provider)

    def _read_provider(self, data: bytes) -> Commands:
        answer, provider, fault = self._answer, self._provider, None
        try:
            answer.feed(data)
        except ValueError as error:
            fault = None if answer.complete else str(error)
        # What was read before an answer went wrong is told all the same: it counts.
        if (head := answer.take_head()) is not None:
            yield from self._tell(http_events.ResponseHeaders(self._stream_id, head, answer.complete and not answer.has_body))
        if body := answer.take_body():
            yield from self._tell(http_events.ResponseData(self._stream_id, body))
        if self._provider is not provider:
            return  # the stream was cut meanwhile
        if fault is not None:
            yield from self._provider_failed(fault)
        elif answer.complete:
            yield from self._answer_ended()

    def _answer_ended(self) -> Commands:
        self._answer.let_go()
        yield from self._let_provider_go()
        yield from self._tell(http_events.ResponseEndOfMessage(self._stream_id))

    def _provider_left(self) -> Commands:
        if self._answer.close():
            yield from self._answer_ended()
        else:
            yield from self._provider_failed("the provider closed the connection")

    def _provider_failed(self, reason: str) -> Commands:
        yield from self._let_provider_go()  # what has not ended cannot be used again: it is closed
        yield from self._tell(http_events.ResponseProtocolError(self._stream_id, reason, http_events.ErrorCode.GENERIC_SERVER_ERROR))

    def _let_provider_go(self) -> Commands:
        """Give a connection that may carry another request back to the worker; close any other."""
        provider, self._provider = self._provider, None
        if provider is None:
            return
        yield ReleaseProvider(provider) if self._answer.complete and self._answer.reusable else commands.CloseConnection(provider)
