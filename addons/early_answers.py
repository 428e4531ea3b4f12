# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Answers that leave before the body of their request has come: the rest of the body is thrown away for a moment, then cut."""

from mitmproxy import http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import DropStream, HttpStream, SendHttp
from mitmproxy.proxy.layers.http._events import ErrorCode, RequestData, RequestEndOfMessage, ResponseEndOfMessage, ResponseProtocolError

UNREAD_BODY_BYTES_MAX = 1024 * 1024  # of a refused request's body: more is not thrown away but cut
UNREAD_BODY_SECONDS_MAX = 2.0


class EarlyAnswers(HttpStream):
    """A stream that can answer a request of which only the head, or a part of the body, has come."""

    _unread = 0

    def _answer_early(self) -> layer.CommandGenerator[None]:
        """Send the answer that a hook has set although the body has not arrived; throw the body away for a moment, then close."""
        self.request_body_buf.clear()
        self.client_state = self.state_discard_request_body
        self._announce_close(assert_response(self.flow))
        yield from self.send_response()
        yield SendHttp(ResponseEndOfMessage(self.stream_id), self.context.client)
        self.flow.live = False
        yield from self._close_soon()

    def _announce_close(self, response: http.Response) -> None:
        if not self.flow.request.is_http2:
            response.headers["connection"] = "close"

    def _close_soon(self) -> layer.CommandGenerator[None]:
        """Give the client a moment to finish sending, so that it reads the answer before the connection ends."""
        if not self.flow.request.is_http2:
            yield commands.RequestWakeup(UNREAD_BODY_SECONDS_MAX)

    def state_discard_request_body(self, event: events.Event) -> layer.CommandGenerator[None]:
        self._unread += len(event.data) if isinstance(event, RequestData) else 0
        too_much = self._unread > UNREAD_BODY_BYTES_MAX
        if not self.flow.request.is_http2:
            if too_much:
                yield commands.CloseConnection(self.context.client)
        elif too_much or isinstance(event, RequestEndOfMessage):  # only this request ends: the connection has others
            if too_much:
                yield SendHttp(ResponseProtocolError(self.stream_id, "nobody reads this", ErrorCode.CANCEL), self.context.client)
            yield DropStream(self.stream_id)


def assert_response(flow: http.HTTPFlow) -> http.Response:
    """Return the flow's answer, which the caller knows to be there."""
    if flow.response is None:
        raise RuntimeError("no answer where one was set")
    return flow.response
