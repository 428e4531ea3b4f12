# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The provider's side of the fast lane: the connection that the present request has, and the answer that comes over it."""

from collections.abc import Callable
from dataclasses import dataclass

from mitmproxy.connection import Connection, Server
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import GetHttpConnection, GetHttpConnectionCompleted
from mitmproxy.proxy.layers.http import _events as http_events
from mitmproxy.proxy.layers.http._base import HttpEvent

from addons.answer_reading import AnswerReader
from addons.client_connections import OpenProvider, ReleaseProvider
from addons.lane_heads import write_request
from addons.light_objects import LightServer
from addons.request_reading import chunk

type Commands = layer.CommandGenerator[None]


@dataclass
class AnswerRead(events.Event):
    """More of an answer was read from its provider; `fault` is what is wrong with it."""

    fault: str | None


class ProviderSide:
    """One connection at a time, lent by the worker. What comes over it is told to the lane's stream."""

    def __init__(self, lane: layer.Layer, *, tell: Callable[[events.Event], Commands]) -> None:
        self._lane, self._tell = lane, tell
        self._stream_id = 0
        self.connection: Server | None = None
        self._wanted: GetHttpConnection | None = None
        self._opening: commands.OpenConnection | None = None
        self._chunked = False  # a request to control keeps the framing it came with
        self.answer = AnswerReader()
        self.answer.let_go()  # of no request: there is nothing to read yet

    def is_at(self, connection: Connection) -> bool:
        """Tell whether this is the connection that the present request has."""
        return connection is self.connection

    def use(self, connection: Server, *, stream_id: int) -> None:
        """The request has left over this connection."""
        self.connection, self._stream_id, self.answer = connection, stream_id, AnswerReader()

    def finish(self) -> Server:
        """The answer is whole: return the connection, which may carry another request."""
        connection, self.connection = self.connection, None
        if connection is None:
            raise RuntimeError("no connection where an answer came from")
        self.answer.let_go()
        return connection

    def find(self, wanted: GetHttpConnection, *, stream_id: int) -> Commands:
        """Give the stream a connection: one that the worker keeps open, or a new one."""
        yield from self.let_go()
        provider = LightServer(address=wanted.address, tls=wanted.tls)
        self._stream_id = stream_id
        self._wanted, self.connection, self._opening = wanted, provider, OpenProvider(provider)
        self.answer = AnswerReader()
        self._opening.blocking = self._lane  # type: ignore[assignment]  # as mitmproxy does itself: layers around this one (TLS) need not wait
        yield self._opening

    def opened(self, event: events.OpenConnectionCompleted) -> Commands:
        """The connection stands, or cannot be had."""
        if event.command is not self._opening or self._wanted is None:
            return
        wanted, self._wanted, self._opening = self._wanted, None, None
        if event.reply:
            self.connection = None
        yield from self._tell(GetHttpConnectionCompleted(wanted, (None, event.reply) if event.reply else (event.command.connection, None)))

    def send(self, event: HttpEvent) -> Commands:
        """Send what the stream says to the provider."""
        if self.connection is None:
            return
        if isinstance(event, http_events.RequestHeaders):
            self._chunked = "transfer-encoding" in event.request.headers
            yield commands.SendData(self.connection, write_request(event.request))
        elif isinstance(event, http_events.RequestData) and event.data:
            yield commands.SendData(self.connection, chunk(event.data) if self._chunked else event.data)
        elif isinstance(event, http_events.RequestEndOfMessage) and self._chunked:
            yield commands.SendData(self.connection, chunk(b""))
        elif isinstance(event, http_events.RequestProtocolError):
            provider, self.connection = self.connection, None
            yield commands.CloseConnection(provider)

    def take(self, connection: Connection, data: bytes) -> bytes | AnswerRead | None:
        """Read a piece in the middle of an answer: what came of its body, or an event where there is more to do.

        None where it is not in the middle, and nothing was read.
        """
        if connection is not self.connection or not self.answer.in_body:
            return None
        fault = self.feed(data)
        return AnswerRead(fault) if fault is not None or self.answer.complete else self.answer.take_body()

    def put_back(self, body: bytes) -> AnswerRead:
        """Keep what was taken until the stream can be told of it, by handling the event that is returned."""
        self.answer.put_back(body)
        return AnswerRead(None)

    def read(self, data: bytes) -> Commands:
        """Read what the provider sent, and tell the stream."""
        yield from self.tell_answer(self.feed(data))

    def feed(self, data: bytes) -> str | None:
        """Read on; return what is wrong with the answer."""
        try:
            self.answer.feed(data)
        except ValueError as error:
            return None if self.answer.complete else str(error)
        return None

    def tell_answer(self, fault: str | None) -> Commands:
        """Tell the stream what was read."""
        answer, provider = self.answer, self.connection
        # What was read before an answer went wrong is told all the same: it counts.
        if (head := answer.take_head()) is not None:
            yield from self._tell(http_events.ResponseHeaders(self._stream_id, head, answer.complete and not answer.has_body))
        if body := answer.take_body():
            yield from self._tell(http_events.ResponseData(self._stream_id, body))
        if self.connection is not provider:
            return  # the stream was cut meanwhile
        if fault is not None:
            yield from self._failed(fault)
        elif answer.complete:
            yield from self._ended()

    def left(self) -> Commands:
        """The provider sends no more."""
        if self.answer.close():
            yield from self._ended()
        else:
            yield from self._failed("the provider closed the connection")

    def _ended(self) -> Commands:
        self.answer.let_go()
        yield from self.let_go()
        yield from self._tell(http_events.ResponseEndOfMessage(self._stream_id))

    def _failed(self, reason: str) -> Commands:
        yield from self.let_go()  # what has not ended cannot be used again: it is closed
        yield from self._tell(http_events.ResponseProtocolError(self._stream_id, reason, http_events.ErrorCode.GENERIC_SERVER_ERROR))

    def let_go(self) -> Commands:
        """Give a connection that may carry another request back to the worker; close any other."""
        provider, self.connection = self.connection, None
        if provider is None:
            return
        yield ReleaseProvider(provider) if self.answer.complete and self.answer.reusable else commands.CloseConnection(provider)

    def was_closed(self, connection: Connection) -> None:
        """The stream closes this connection: it refuses an answer's head. Nothing more is read, and it is no longer ours to give."""
        if connection is self.connection:
            self.connection = None
