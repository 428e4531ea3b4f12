# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""mitmproxy's streams with our endings: refusals in the dialect, timeouts, cuts, reading on.

A stream asks the `Conduct` that a hook left in `flow.metadata[CONDUCT]` what to do; a flow without one
is relayed as mitmproxy would. Nothing here knows of money.
"""

from typing import Any

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import DropStream, SendHttp
from mitmproxy.proxy.layers.http._events import (
    ErrorCode,
    RequestData,
    RequestEndOfMessage,
    RequestHeaders,
    RequestProtocolError,
    ResponseData,
    ResponseEndOfMessage,
    ResponseHeaders,
    ResponseProtocolError,
)
from mitmproxy.proxy.layers.http._hooks import HttpRequestHeadersHook

from addons.checked_headers import CheckedHeaders
from addons.conduct import BODY, CONDUCT, END, BodyRefused, Conduct, Interrupt, Level5ExtendHook, Level5RepeatHook, Level5SettleHook, Relayed
from addons.connections import plain_failure
from addons.early_answers import EarlyAnswers, assert_response
from addons.short_stream import ShortStream

BUFFERED_ANSWER_BYTES_MAX = 4 * 1024 * 1024


class GatewayStream(EarlyAnswers, ShortStream):
    """One request and its answer."""

    head_sent = False
    detached = False  # the client has left and the answer is read on: nothing goes to the client any more

    @property
    def conduct(self) -> Conduct | None:
        flow = getattr(self, "flow", None)
        conduct: Conduct | None = flow.metadata.get(CONDUCT) if flow is not None else None
        return conduct

    def _handle_event(self, event: events.Event) -> layer.CommandGenerator[None]:
        if type(event) is ResponseData and self.server_state == self.state_stream_response_body and not self.detached:
            yield from self.state_stream_response_body(event)  # nearly all events there are; nothing it yields needs the filter
            return
        if type(event) is Relayed and self.conduct is not None:
            yield from self._relay(self.conduct, event.ready)
            return
        if isinstance(event, events.Wakeup):
            yield commands.CloseConnection(self.context.client)
            return
        if isinstance(event, Interrupt):
            yield from self._filtered(self._interrupted(event.reason))
            return
        if type(event) is BodyRefused:
            yield from self._filtered(self._refuse_body(event.refusal))
            return
        yield from self._filtered(super()._handle_event(event))
        if isinstance(event, RequestHeaders) and not event.end_stream and self.flow.response and self.client_state == self.state_consume_request_body:
            yield from self._filtered(self._answer_early())

    # Requests

    def check_invalid(self, request: bool) -> layer.CommandGenerator[bool]:  # mitmproxy's signature
        headers = self.flow.request.headers
        if not request or not isinstance(headers, CheckedHeaders):
            return (yield from super().check_invalid(request))
        if headers.is_known_valid:
            return False
        invalid: bool = yield from super().check_invalid(request)
        if not invalid:
            headers.remember_valid()
        return invalid

    def state_consume_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        conduct = self.conduct
        if isinstance(event, RequestData) and conduct is not None and (refusal := conduct.body_grows(len(event.data))):
            yield from self._refuse_body(refusal)
        else:
            yield from super().state_consume_request_body(event)

    def _refuse_body(self, refusal: http.Response) -> layer.CommandGenerator[None]:
        self.flow.response = refusal
        yield from self._answer_early()

    def make_server_connection(self) -> layer.CommandGenerator[bool]:
        connected = yield from super().make_server_connection()
        if not connected:
            return False
        if self.conduct is not None and self.conduct.unsendable and not self._client_error_waits():
            self._paused_event_queue.append(RequestProtocolError(self.stream_id, "client left", ErrorCode.CLIENT_DISCONNECTED))
        return not (yield from self.check_killed(emit_error_hook=True))

    def _client_error_waits(self) -> bool:
        return any(isinstance(event, RequestProtocolError) for event in self._paused_event_queue)

    # Answers

    def state_wait_for_response_headers(self, event: ResponseHeaders) -> layer.CommandGenerator[None]:
        if event.response.status_code < 200:
            # 101 would open a tunnel that nobody meters; other interim answers never reach us over HTTP/1.
            yield from self._fail_upstream("the provider switched protocols")
            return
        yield from super().state_wait_for_response_headers(event)

    def state_consume_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        conduct = self.conduct
        if conduct is None or not isinstance(event, ResponseData):
            if isinstance(event, ResponseEndOfMessage) and conduct is not None and conduct.repeatable:
                assert_response(self.flow).data.content = bytes(self.response_body_buf)
                if (yield from self._try_again()):
                    return
            yield from super().state_consume_response_body(event)
            return
        conduct.observe(event.data)
        if self.detached:
            return
        self.response_body_buf += event.data
        if len(self.response_body_buf) > BUFFERED_ANSWER_BYTES_MAX:
            if not conduct.spill(self.flow):
                self.response_body_buf.clear()
                yield from self._fail_upstream("the answer is too long to look through")
                return
            kept = bytes(self.response_body_buf)
            self.response_body_buf.clear()
            yield from self.start_response_stream()
            yield SendHttp(ResponseData(self.stream_id, kept), self.context.client)

    def state_stream_response_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        conduct = self.conduct
        if conduct is None:
            yield from super().state_stream_response_body(event)
        elif isinstance(event, ResponseData):
            yield from self._relay(conduct, conduct.relay(event.data))
        elif isinstance(event, ResponseEndOfMessage):
            yield from self._end_stream(conduct)

    def relay_now(self, data: bytes) -> tuple[bytes, bool] | None:
        """Meter a piece in the middle of a streamed answer; return what may go out now, and whether that is all there is to do (else tell `Relayed`).

        None where something else is to be done first: the piece is then to come as an event.
        """
        conduct = self.conduct
        if conduct is None or self.detached or self._paused is not None or self.server_state != self.state_stream_response_body:
            return None
        ready = conduct.relay(data)
        return ready, not (conduct.wants_settlement or conduct.wants_extension or conduct.cut_message is not None)

    def _relay(self, conduct: Conduct, ready: bytes) -> layer.CommandGenerator[None]:
        if ready:
            yield SendHttp(ResponseData(self.stream_id, ready), self.context.client)
        if conduct.wants_settlement:
            yield Level5SettleHook(self.flow)
            if released := conduct.release():
                yield SendHttp(ResponseData(self.stream_id, released), self.context.client)
        elif conduct.wants_extension:
            yield Level5ExtendHook(self.flow)
        if conduct.cut_message is not None:
            yield from self._cut(conduct.cut_message)

    def _end_stream(self, conduct: Conduct) -> layer.CommandGenerator[None]:
        yield from self._relay(conduct, conduct.flush())
        if self.server_state != self.state_stream_response_body:
            return
        if conduct.ended_whole():
            yield from self.send_response(already_streamed=True)
        else:
            # Ending it politely would make half an answer look like a whole one.
            yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, "no terminal event", ErrorCode.GENERIC_SERVER_ERROR))

    def _end_for_provider(self) -> layer.CommandGenerator[None]:
        """All of the answer has been told, and is charged; its provider does not end it."""
        if self._talks_upstream() and not self.detached:
            yield SendHttp(RequestProtocolError(self.stream_id, "the answer is over", ErrorCode.CANCEL), self.context.server)
            yield from self.send_response(already_streamed=True)

    def _cut(self, last_words: bytes) -> layer.CommandGenerator[None]:
        """End a stream from our side: close the provider's connection, settle, say why, end the body."""
        yield SendHttp(RequestProtocolError(self.stream_id, "cut", ErrorCode.CANCEL), self.context.server)
        self.server_state = self.state_done
        yield Level5SettleHook(self.flow)
        yield SendHttp(ResponseData(self.stream_id, last_words), self.context.client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        self.flow.live = False
        yield DropStream(self.stream_id)

    # Failures

    def _interrupted(self, reason: str) -> layer.CommandGenerator[None]:
        """A deadline has passed, or we stop: end what still waits for the provider."""
        conduct = self.conduct
        if conduct is not None and conduct.timed_out is None:
            return  # it was the deadline of an attempt that has ended otherwise
        if reason == END:
            yield from self._end_for_provider()
        elif self._talks_upstream():
            yield from self._fail_upstream(reason)
        elif reason == BODY and conduct is not None and self.client_state == self.state_consume_request_body:
            self.flow.response = conduct.body_overdue()
            yield from self._answer_early()

    def _fail_upstream(self, reason: str) -> layer.CommandGenerator[None]:
        yield SendHttp(RequestProtocolError(self.stream_id, reason, ErrorCode.CANCEL), self.context.server)
        yield from self.handle_protocol_error(ResponseProtocolError(self.stream_id, reason, ErrorCode.GENERIC_SERVER_ERROR))

    def handle_protocol_error(self, event: RequestProtocolError | ResponseProtocolError) -> layer.CommandGenerator[None]:
        conduct = self.conduct
        if isinstance(event, RequestProtocolError) and conduct is not None and self._talks_upstream() and conduct.reads_on():
            self.detached = True
            return
        if isinstance(event, ResponseProtocolError) and conduct is not None and conduct.repeatable and (yield from self._try_again()):
            return
        yield from super().handle_protocol_error(event)

    def _try_again(self) -> layer.CommandGenerator[bool]:
        """Ask whether a request that failed is sent once more, and send it. Nothing of the failure has reached the client."""
        if self.head_sent or self.detached or not self._talks_upstream() or self.context.server.alpn == b"h2":
            return False  # mitmproxy knows an HTTP/2 stream by the client's number for it, which cannot be used twice
        yield Level5RepeatHook(self.flow)
        if self.conduct is None or not self.conduct.repeats or self._client_error_waits():
            return False
        self.flow.response = None
        self.response_body_buf.clear()
        self.server_state = self.state_wait_for_response_headers
        if (yield from self.make_server_connection()):
            yield from self._send_request()
        return True

    def _send_request(self) -> layer.CommandGenerator[None]:
        request, server = self.flow.request, self.context.server
        content = request.raw_content or b""
        yield SendHttp(RequestHeaders(self.stream_id, request, not content), server)
        if content:
            yield SendHttp(RequestData(self.stream_id, content), server)
        yield SendHttp(RequestEndOfMessage(self.stream_id), server)

    def check_killed(self, emit_error_hook: bool) -> layer.CommandGenerator[bool]:  # mitmproxy's signature
        conduct = self.conduct
        if conduct is not None and self._talks_upstream() and self._client_error_waits() and conduct.reads_on():
            # The client left while a hook was awaited: the answer is read on all the same.
            waiting = [event for event in self._paused_event_queue if not isinstance(event, RequestProtocolError)]
            self._paused_event_queue.clear()
            self._paused_event_queue.extend(waiting)
            self.detached = True
        return (yield from super().check_killed(emit_error_hook))

    def _talks_upstream(self) -> bool:
        return self.client_state == self.state_done and self.server_state not in (self.state_done, self.state_errored)

    # Everything that leaves passes here

    def _filtered(self, generator: layer.CommandGenerator[None]) -> layer.CommandGenerator[None]:
        """Pass commands on, with our changes; replies of blocking commands are handed back."""
        reply: Any = None
        while True:
            try:
                command = generator.send(reply)
            except StopIteration:
                return
            reply = None
            if isinstance(command, HttpRequestHeadersHook):
                command.flow.metadata["level5.stream"] = self
            if not isinstance(command, SendHttp):
                reply = yield command
            elif command.connection is self.context.client:
                yield from self._to_client(command)
            else:
                yield from self._to_provider(command)

    def _to_client(self, command: SendHttp) -> layer.CommandGenerator[None]:
        event = command.event
        if self.detached or (isinstance(event, ResponseData) and self.flow.request.method == "HEAD"):
            return
        if isinstance(event, ResponseHeaders) and event.response.status_code >= 200:
            self.head_sent, event.response.data.http_version = True, b"HTTP/1.1"  # whatever the provider's: under HTTP/1.0 chunks mean nothing
        elif isinstance(event, ResponseProtocolError) and not self.head_sent and (status := event.code.http_status_code()):
            yield from self._refuse(status)
            return
        yield command

    def _refuse(self, status: int) -> layer.CommandGenerator[None]:
        """Answer a failure in the caller's dialect where mitmproxy would send HTML."""
        response = self.conduct.failure(status) if self.conduct else plain_failure(status)
        self.head_sent, client = True, self.context.client
        unread = self.client_state != self.state_done
        if unread:
            self._announce_close(response)
        yield SendHttp(ResponseHeaders(self.stream_id, response, False), client)
        yield SendHttp(ResponseData(self.stream_id, response.raw_content or b""), client)
        yield SendHttp(ResponseEndOfMessage(self.stream_id), client)
        if unread:
            yield from self._close_soon()

    def _to_provider(self, command: SendHttp) -> layer.CommandGenerator[None]:
        if isinstance(command.event, RequestHeaders) and self.conduct is not None:
            self.conduct.sent()
        yield command
        if isinstance(command.event, RequestEndOfMessage):
            self.flow.request.data.content = None  # sent; a stream may run for minutes, its request need not stay
