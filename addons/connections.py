# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""HTTP connections of mitmproxy with what they lack: bounds on heads and on what waits, interim answers, trailers, plain refusals.

mitmproxy's own classes take a 103 for the final answer, die on trailers, read heads of any size and
write errors as HTML. These subclasses change those points and nothing else.
"""

import json
import re
from itertools import chain
from typing import Any

import h11
from mitmproxy import http
from mitmproxy.net.http import http1
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http._base import HttpEvent, ReceiveHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._http1 import Http1Client, Http1Server
from mitmproxy.proxy.layers.http._http1 import TBodyReader as BodyReader
from mitmproxy.proxy.layers.http._http2 import Http2Server

from addons.conduct import Drained, slow_clients
from addons.headers import fault_of

CLIENT_HEAD_BYTES_MAX = 64 * 1024
PROVIDER_HEAD_BYTES_MAX = 256 * 1024
PIPELINED_BYTES_MAX = 1024 * 1024  # what a client may send ahead while its request is being answered
WINDOW_BYTES_MAX = 4 * 1024 * 1024  # of answers that wait for an HTTP/2 client to open its windows
INTERIM_MAX = 8  # 1xx answers in a row that are waved through
_VERSIONS = frozenset({b"HTTP/1.0", b"HTTP/1.1"})  # that may be spoken where no other was agreed on
_EMPTY_LINES = re.compile(rb"(?:\r?\n)+")
_UNWRITABLE = re.compile(rb"[\r\n\0]")


class _TrailerBlind:
    """A body reader that forgets trailers, on which mitmproxy would raise NotImplementedError."""

    def __init__(self, reader: BodyReader) -> None:
        self._reader = reader
        self.until_eof = type(reader).__name__ == "Http10Reader"

    def __call__(self, buffer: Any) -> Any:
        return self._without_trailers(self._reader(buffer))

    def read_eof(self) -> Any:
        return self._without_trailers(self._reader.read_eof())

    @staticmethod
    def _without_trailers(event: Any) -> Any:
        return h11.EndOfMessage() if isinstance(event, h11.EndOfMessage) and event.headers else event


def _closes_connection(message: http.Request | http.Response) -> bool:
    """Tell whether a message says that its connection ends with it, in whatever case: mitmproxy knows small letters only."""
    wishes = {wish.strip() for wish in message.headers.get("connection", "").lower().split(",")}
    return "close" in wishes or (message.http_version in {"HTTP/1.0", "HTTP/0.9"} and "keep-alive" not in wishes)


def _can_be_passed_on(response: http.Response) -> bool:
    """Tell whether a provider's head can be written to a client: mitmproxy keeps folded lines, lone CRs, NULs, and any number for a status."""
    data = response.data
    pieces = chain([data.reason], chain.from_iterable(response.headers.fields))
    return data.http_version in _VERSIONS and 100 <= data.status_code <= 999 and not any(_UNWRITABLE.search(piece) for piece in pieces)


def refusal_before_request(status: int, code: str, message: str) -> bytes:
    """Return a whole answer for a head that could not be read, so that no dialect is known."""
    body = json.dumps({"error": {"code": code, "message": message, "type": "invalid_request_error", "details": {}}}).encode()
    response = http.Response.make(status, body, {"content-type": "application/json", "connection": "close", "x-should-retry": "false"})
    return bytes(http1.assemble_response(response))


def plain_failure(status: int) -> http.Response:
    """Return an answer for a failure of a request that no hook has seen."""
    body = b'{"error":{"code":"invalid_request","message":"The request could not be handled.","details":{}}}'
    return http.Response.make(status, body, {"content-type": "application/json", "x-should-retry": "false"})


class GatewayHttp1Server(Http1Server):
    """The client's side: capped heads, JSON refusals, the client's own wish to close kept although the header is stripped."""

    head_bytes_max = CLIENT_HEAD_BYTES_MAX
    _reader: _TrailerBlind
    _close_after = False
    _chunked = False

    @property  # type: ignore[override]
    def body_reader(self) -> _TrailerBlind:
        return self._reader

    @body_reader.setter
    def body_reader(self, reader: BodyReader) -> None:
        self._reader = _TrailerBlind(reader)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and self.conn.id in slow_clients:
            return
        self._skip_empty_lines()
        if isinstance(event, events.DataReceived) and self._head_is_too_long():
            yield from self._refuse(431, "headers_too_large", f"The request head is larger than {self.head_bytes_max} bytes.")
            return
        for command in super().read_headers(event):
            if isinstance(command, commands.SendData):  # the only thing it sends itself is the HTML refusal of an unreadable head
                yield from self._refuse(400, "invalid_request", "The request head is not valid HTTP/1.1.")
                return
            if isinstance(command, ReceiveHttp) and isinstance(command.event, RequestHeaders):
                request = command.event.request
                if request.data.http_version not in _VERSIONS:  # mitmproxy would serve one that claims to be HTTP/2 by the rules of that
                    yield from self._refuse(400, "invalid_request", "Only HTTP/1.0 and HTTP/1.1 are spoken on this connection.")
                    return
                # A head that is refused may have told the length of its body by the very line that was wrong: what follows is nobody's.
                # (A CONNECT, which stock mitmproxy reads here, has an address for its target by right, and no body.)
                self._close_after = _closes_connection(request) or (request.method != "CONNECT" and fault_of(request) is not None)
            yield command

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if type(event) is not Drained:
            yield from super()._handle_event(event)
        elif self.state == self.read_headers and self.buf:
            yield from self.read_headers(events.DataReceived(self.conn, b""))

    def _skip_empty_lines(self) -> None:
        """Forget empty lines before a request, which old clients send: mitmproxy would take one for a head that has still to come."""
        if found := _EMPTY_LINES.match(bytes(self.buf)):
            self.buf.maybe_extract_at_most(found.end())

    def _head_is_too_long(self) -> bool:
        if len(self.buf) <= self.head_bytes_max:
            return False
        beginning = bytes(self.buf)[: self.head_bytes_max]
        return b"\n\r\n" not in beginning and b"\n\n" not in beginning

    def _refuse(self, status: int, code: str, message: str) -> layer.CommandGenerator[None]:
        """Answer and close without creating a request: nothing can be said about it."""
        yield commands.SendData(self.conn, refusal_before_request(status, code, message))
        yield commands.CloseConnection(self.conn)
        self.state = self.done

    def wait(self, event: events.Event) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and len(self.buf) > PIPELINED_BYTES_MAX:
            # Nothing reads this until the answer is out: refuse to keep it without bound.
            yield commands.CloseConnection(self.conn)
            return
        yield from super().wait(event)

    def send(self, event: HttpEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, ResponseData):
            # Once for each event of a stream: mitmproxy would look the framing up in the headers every time.
            if event.data:
                yield commands.SendData(self.conn, b"%x\r\n%s\r\n" % (len(event.data), event.data) if self._chunked else event.data)
            return
        if isinstance(event, ResponseHeaders):
            self._chunked = "chunked" in event.response.headers.get("transfer-encoding", "").lower()
        yield from super().send(event)

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        both = (self.request_done or request) and (self.response_done or response)
        if both and self._close_after:
            self.request_done = self.response_done = True
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        yield from super().mark_done(request=request, response=response)


class Brake(commands.Command):
    """A client does not take what its layers have for it, or does again. Its socket does not tell."""

    def __init__(self, *, on: bool) -> None:
        self.on = on


class GatewayHttp2Server(Http2Server):
    """The client's side of HTTP/2: while too much waits for its windows, its providers are not read."""

    _waiting = 0  # bytes, at most
    _brakes = False

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        yield from super()._handle_event(event)
        if isinstance(event, ResponseData):
            self._waiting += len(event.data)
        if self._waiting > WINDOW_BYTES_MAX or self._brakes:
            self._waiting = sum(len(piece.data) for pieces in self.h2_conn.stream_buffers.values() for piece in pieces)
            if self._brakes != (self._waiting > WINDOW_BYTES_MAX):
                self._brakes = not self._brakes
                yield Brake(on=self._brakes)


class GatewayHttp1Client(Http1Client):
    """The provider's side: 1xx answers are waved through, heads capped, `connection: close` obeyed although it is stripped."""

    _reader: _TrailerBlind | None = None
    _close_after = False
    _interim = 0

    @property  # type: ignore[override]
    def body_reader(self) -> _TrailerBlind:
        return self._reader  # type: ignore[return-value]  # mitmproxy sets it before it reads a body

    @body_reader.setter
    def body_reader(self, reader: BodyReader) -> None:
        self._reader = _TrailerBlind(reader)

    def read_headers(self, event: events.ConnectionEvent) -> layer.CommandGenerator[None]:
        if isinstance(event, events.DataReceived) and self.request:
            self._drop_interim_answers()
            if self._interim > INTERIM_MAX or (len(self.buf) > PROVIDER_HEAD_BYTES_MAX and b"\n\r\n" not in bytes(self.buf)[:PROVIDER_HEAD_BYTES_MAX]):
                yield from self._give_up("the head of the answer is too long")
                return
        for command in super().read_headers(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, ResponseHeaders):
                response = command.event.response
                if not _can_be_passed_on(response):
                    yield from self._give_up("the head of the answer holds what no head may hold")
                    return
                self._close_after = _closes_connection(response)
                self._interim = 0
            yield command

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        for command in super()._handle_event(event):
            if isinstance(command, ReceiveHttp) and isinstance(command.event, ResponseProtocolError):
                self.state = self.done
            yield command
        if isinstance(event, RequestProtocolError):
            # What this connection still says is nobody's: its stream may go on elsewhere, under the same number.
            self.state = self.done

    def _drop_interim_answers(self) -> None:
        """Take 100 to 199 (but 101) off the buffer: the answer is what follows them."""
        while True:
            head = bytes(self.buf)[:16].lstrip(b"\r\n")
            if not head.startswith((b"HTTP/1.1 1", b"HTTP/1.0 1")) or head[9:12] == b"101" or self.buf.maybe_extract_lines() is None:
                return
            self._interim += 1

    def _give_up(self, message: str) -> layer.CommandGenerator[None]:
        yield commands.CloseConnection(self.conn)
        if self.stream_id is not None:
            yield ReceiveHttp(ResponseProtocolError(self.stream_id, message, ErrorCode.GENERIC_SERVER_ERROR))

    def mark_done(self, *, request: bool = False, response: bool = False) -> layer.CommandGenerator[None]:
        both = (self.request_done or request) and (self.response_done or response)
        # Streams of an HTTP/2 client run side by side, so that none finds a connection that another has left: it would only be held open.
        is_of_stream = self.context.client.alpn == b"h2"
        if both and (self._close_after or is_of_stream or (self._reader is not None and self._reader.until_eof)):
            self.request_done = self.response_done = True
            yield commands.CloseConnection(self.conn)
            self.state = self.done
            return
        yield from super().mark_done(request=request, response=response)


def adopt_client_connection(connection: layer.Layer) -> None:
    """Turn mitmproxy's new connection to a provider into ours, before anything has been read from it."""
    inner = innermost(connection)
    if type(inner) is Http1Client:
        inner.__class__ = GatewayHttp1Client
        inner.state = inner.read_headers


def innermost(start: layer.Layer) -> layer.Layer:
    """Follow `child_layer` and decided next layers to the end."""
    current = start
    while True:
        following = getattr(current, "child_layer", None) or getattr(current, "layer", None)
        if following is None:
            return current
        current = following
