# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The short way of a request through the lane: from its head to its answer without an event, a command or a generator.

Nearly every request comes whole, is admitted, finds a connection to its provider open and is answered with 200. Such a request goes
the short way: its stream is made and put into each of its states, its hooks are called, its bytes are written. At the first thing that is
otherwise (a refusal, a client that leaves, a provider that fails, a deadline, a hook that has to be waited for where mostly none has) the
stream takes up the long way in that very state, and everything is decided where it always was: `streams.GatewayStream`.
"""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from mitmproxy import http
from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import events
from mitmproxy.proxy.layers.http import HTTPMode
from mitmproxy.proxy.layers.http import _events as http_events
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook, HttpRequestHook, HttpResponseHeadersHook, HttpResponseHook

from addons.checked_headers import names_of
from addons.conduct import CONDUCT, Begun, BodyRefused, Conduct, GoOn
from addons.connections import GatewayHttp1Server
from addons.departures import Departures
from addons.hook_table import HookTable
from addons.lane_heads import NotHere, is_valid, write_request
from addons.lane_provider import AnswerRead
from addons.light_objects import fork, make_flow
from addons.request_reading import SizedBody, take_request_head
from addons.streams import BUFFERED_ANSWER_BYTES_MAX, GatewayStream
from addons.wire import Wire

if TYPE_CHECKING:
    from addons.lane import Lane

HOOKS: Final = (HttpRequestHeadersHook, HttpRequestHook, HttpResponseHeadersHook, HttpResponseHook)
APART_BYTES_MIN: Final = 256 * 1024  # to copy as much beside its head costs more than a system call. Until Python 3.13.1 `writelines` keeps no bounds.
STATUS: Final = 200  # any other answer has rules of its own


class Door(Protocol):
    """What the short way needs of the driver: hooks and sockets."""

    @property
    def hooks(self) -> HookTable:
        """Who hears of what."""

    @property
    def departures(self) -> Departures:
        """By what provider connections are written to."""

    def feed(self, event: events.Event) -> None:
        """Go the long way: have the layers handle an event."""

    def borrow(self, host: str, port: int, *, tls: bool) -> tuple[Server, Wire] | None:
        """Lend a connection that the worker keeps open; what comes over it is told to the lane. None where one has to be opened."""

    def give_back(self, connection: Connection) -> None:
        """Such a connection is idle."""

    def write(self, data: bytes) -> None:
        """Send something to the client."""

    def close(self) -> None:
        """Close the client's connection, after what is still to be written."""

    def go_on(self, awaited: Awaitable[None], then: Callable[[], None]) -> None:
        """Call `then` when a hook has ended."""


class ShortWay:
    """The short way of one connection's requests, one at a time."""

    def __init__(self, lane: "Lane", door: Door) -> None:
        self._lane, self._door = lane, door

    # The request

    def receive(self, data: bytes) -> None:
        """Take in what the client sent."""
        lane = self._lane
        if lane.is_free:
            lane.buffer += data
            self.begin()
        elif lane.goes_short and type(lane.body) is SizedBody:
            self._read_body(lane.body, data)
        else:
            self._door.feed(events.DataReceived(lane.context.client, data))

    def begin(self) -> None:
        """Begin with the next request, if its whole head is there."""
        lane, door = self._lane, self._door
        if not lane.may_begin:
            return
        try:
            found = take_request_head(lane.buffer, bytes_max=GatewayHttp1Server.head_bytes_max)
        except NotHere:
            door.feed(GoOn())
            return
        if found is None:
            return
        request, length, closes = found
        if length is None or not is_valid(request) or not door.hooks.calls_all(HOOKS):
            door.feed(Begun(request, length, closes))
            return
        lane.begin_turn(length, closes=closes)
        stream = self._open(request)
        rest = door.hooks.call(HttpRequestHeadersHook, stream.flow)
        if rest is not None or stream.flow.response is not None or stream.flow.error is not None:
            self._go_long(stream, http_events.RequestHeaders(stream.stream_id, request, length == 0, replay_flow=stream.flow), rest)
            door.feed(GoOn())
        else:
            stream.client_state, stream.server_state = stream.state_consume_request_body, stream.state_wait_for_response_headers
            lane.goes_short = True
            if type(lane.body) is SizedBody:
                data, lane.buffer = bytes(lane.buffer), bytearray()
                self._read_body(lane.body, data)
            else:
                self._end_body(stream, b"")

    def _open(self, request: http.Request) -> GatewayStream:
        lane = self._lane
        context, data = lane.context, request.data
        stream = lane.stream = GatewayStream(fork(context), lane.stream_id)
        flow = stream.flow = make_flow(context.client, context.server, request)
        stream.mode, stream.client_state = HTTPMode.transparent, stream.state_wait_for_request_headers
        data.host, data.port = context.server.address  # type: ignore[misc]  # the lane has given it one
        data.scheme = b"https" if context.server.tls else b"http"
        flow.metadata["level5.stream"] = stream
        return stream

    def _read_body(self, body: SizedBody, data: bytes) -> None:
        lane, stream = self._lane, self._lane.stream
        body.add(data)
        piece = body.next_piece()
        if piece is None or stream is None:
            return
        conduct: Conduct | None = stream.flow.metadata.get(CONDUCT)
        if conduct is not None and (refusal := conduct.body_grows(len(piece))) is not None:
            lane.goes_short = False
            self._door.feed(BodyRefused(refusal))
            return
        if not body.complete:
            stream.request_body_buf += piece
            return
        if stream.request_body_buf:
            stream.request_body_buf += piece
            piece = bytes(stream.request_body_buf)
            stream.request_body_buf.clear()
        lane.buffer += body.rest()
        lane.body = None
        self._end_body(stream, piece)

    def _end_body(self, stream: GatewayStream, content: bytes) -> None:
        self._lane.request_done = True
        flow, data = stream.flow, stream.flow.request.data
        data.timestamp_end, data.content = time.time(), content
        stream.client_state = stream.state_done
        rest = self._door.hooks.call(HttpRequestHook, flow)
        if rest is None:
            self._admitted(stream)
        else:
            stream.wait()
            self._door.go_on(rest, lambda: self._admitted(stream))

    def _admitted(self, stream: GatewayStream) -> None:
        """The request may leave, or was answered."""
        flow = stream.flow
        data = flow.request.data
        lent = None
        if stream.is_undisturbed and flow.response is None and flow.error is None:
            lent = self._door.borrow(data.host, data.port, tls=data.scheme == b"https")
        if lent is None:
            # A connection has to be opened, or there is nothing to send.
            stream.client_state = stream.state_consume_request_body
            stream.request_body_buf.clear()
            stream.request_body_buf += data.content or b""
            self._go_long(stream, http_events.RequestEndOfMessage(stream.stream_id))
            return
        stream.go_on()
        server, wire = lent
        stream.context.server = flow.server_conn = server
        self._lane.provider.use(server, stream_id=stream.stream_id)
        conduct: Conduct | None = flow.metadata.get(CONDUCT)
        if conduct is not None:
            conduct.sent()
        head, content = write_request(flow.request), data.content or b""
        pieces = (head + content,) if len(content) < APART_BYTES_MIN else (head, content)
        for piece in pieces:
            self._door.departures.add(wire.transport, piece)
        data.content = None  # sent; an answer may take minutes, its request need not stay

    # The answer

    def read_answer(self, stream: GatewayStream, data: bytes) -> bytes | events.Event:
        """Read what a provider sends up to the first piece of a stream, or of an answer that is kept until it is whole.

        Returns what goes to the client at once, or an event that takes the long way from there.
        """
        provider = self._lane.provider
        if stream.is_waiting:
            return events.DataReceived(stream.context.server, data)
        fault = provider.feed(data)
        answer = provider.answer
        if fault is not None:
            return AnswerRead(fault)
        flow = stream.flow
        if flow.response is None:
            head = answer.head
            if head is None:
                return b""
            if head.data.status_code != STATUS or not answer.has_body or not answer.is_plain:
                return AnswerRead(None)
            flow.response = answer.take_head()
            rest = self._door.hooks.call(HttpResponseHeadersHook, flow)
            if rest is not None or flow.error is not None or flow.response is not head:
                self._go_long(stream, http_events.ResponseHeaders(stream.stream_id, head, False), rest)  # mitmproxy's signature
                return AnswerRead(None)
            if head.stream:
                stream.server_state, stream.head_sent = stream.state_stream_response_body, True
                return self._begin_stream(head)
            stream.server_state = stream.state_consume_response_body
        conduct: Conduct | None = flow.metadata.get(CONDUCT)
        body = answer.take_body()
        if conduct is None or len(stream.response_body_buf) + len(body) > BUFFERED_ANSWER_BYTES_MAX:
            return provider.put_back(body)
        if answer.complete and (conduct.repeatable or not answer.reusable):
            return provider.put_back(body)
        conduct.observe(body)
        if not answer.complete:
            stream.response_body_buf += body
        else:
            self._end_answer(stream, body)
        return b""

    def _begin_stream(self, response: http.Response) -> bytes | events.Event:
        """The head of a streamed answer ends the short way. Returns it with what of the body has come, or an event to handle when it was sent."""
        lane, answer = self._lane, self._lane.provider.answer
        lane.goes_short = False
        response.data.http_version = b"HTTP/1.1"  # whatever the provider's: under HTTP/1.0 chunks mean nothing
        head = lane.answer.begin(response)
        passed: bytes | events.Event = AnswerRead(None) if answer.complete else b""
        if not answer.complete and (piece := answer.take_body()):
            passed = lane.pass_piece(piece)
        if isinstance(passed, bytes):
            return head + passed
        self._door.write(head)
        return passed

    def _end_answer(self, stream: GatewayStream, body: bytes) -> None:
        lane, flow = self._lane, stream.flow
        response = flow.response
        if response is None:
            raise RuntimeError("no answer where one was read")
        if stream.response_body_buf:
            stream.response_body_buf += body
            body = bytes(stream.response_body_buf)
            stream.response_body_buf.clear()
        response.data.content, response.data.timestamp_end = body, time.time()
        self._door.give_back(lane.provider.finish())
        rest = self._door.hooks.call(HttpResponseHook, flow)
        if rest is None:
            self._settled(stream)
        else:
            stream.wait()
            self._door.go_on(rest, lambda: self._settled(stream))

    def _settled(self, stream: GatewayStream) -> None:
        """The answer may leave."""
        lane, door, flow = self._lane, self._door, stream.flow
        response = flow.response
        if not stream.is_undisturbed or flow.error is not None or response is None or response.trailers or b"transfer-encoding" in names_of(response.headers):
            stream.server_state = stream.state_consume_response_body
            stream.response_body_buf.clear()
            stream.response_body_buf += (response.data.content if response is not None else None) or b""
            self._go_long(stream, http_events.ResponseEndOfMessage(stream.stream_id))
            return
        stream.go_on()
        stream.server_state = stream.state_done
        flow.live = False
        response.data.http_version = b"HTTP/1.1"
        door.write(lane.answer.begin(response) + (response.data.content or b""))
        if lane.end_turn():
            door.close()
        elif lane.buffer:
            self.begin()

    # The long way

    def _go_long(self, stream: GatewayStream, event: events.Event, rest: Awaitable[None] | None = None) -> None:
        """Go on by events from right behind the hook that `event` leads to; it was called already, `rest` is what of it has to be awaited."""
        self._lane.goes_short = False
        stream.wait_for(event)
        if rest is None:
            self._resume()
        else:
            self._door.go_on(rest, self._resume)

    def _resume(self) -> None:
        """The hook has ended."""
        stream = self._lane.stream
        if stream is not None:
            self._door.feed(stream.awaited())
