"""The short way of `POST /v1/usage`: past scopes, middleware and router, which cost more than the work itself."""

import asyncio
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from control.context import context_of
from control.ingest import BUSY, RETRY, Headers, UsageDoor, answer_usage
from control.ingest_answers import Answer, error_answer
from control.ingest_body import TOO_SLOW, Arrival, ClientGone
from control.middleware import TRANSPORT_SECURITY
from ledger.entries import RequestId
from ledger.tokens import new_request_id
from telemetry import metrics
from telemetry.logs import get_log

USAGE_PATH: Final = "/v1/usage"
SECONDS_MAX: Final = 20.0  # for the body to arrive and the books to answer
# What protects pages has no use here, and each header costs time.
HEADERS: Final = b"content-type: application/json\r\nx-content-type-options: nosniff\r\ncache-control: no-store\r\n"
STRICT_HEADERS: Final = HEADERS + b"strict-transport-security: " + TRANSPORT_SECURITY.encode() + b"\r\n"
INTERNAL: Final = "internal error; nothing is known to be lost, try again"


class UsageCycle(RequestResponseCycle):
    """One `POST /v1/usage` on its connection: uvicorn reads the request, the answer leaves in one write."""

    door: UsageDoor
    https = False

    async def run_asgi(self, app: object) -> None:  # noqa: ARG002  # the app has no part in it
        """Serve the request; called by uvicorn where it would call the app."""
        request_id = new_request_id()
        try:
            answer = await answer_in_time(self.door, dict(self.scope["headers"]), self.receive, request_id=request_id)  # type: ignore[arg-type]
        except ClientGone:
            _count(0)
            return
        _count(answer.status)
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()  # a client that reads no answers gets no further ones
        if not self.disconnected:
            self._write(answer, request_id)

    def _write(self, answer: Answer, request_id: RequestId) -> None:
        body = answer.body.encode()
        self.keep_alive = self.keep_alive and answer.headers.get("Connection") != "close"
        lines = [STATUS_LINE[answer.status], *(b"%b: %b\r\n" % header for header in self.default_headers), STRICT_HEADERS if self.https else HEADERS]
        lines.append(b"x-request-id: %b\r\ncontent-length: %d\r\n" % (request_id.encode(), len(body)))
        lines += [f"{name.lower()}: {value}\r\n".encode() for name, value in answer.headers.items() if name != "Connection"]
        self.transport.write(b"".join((*lines, b"\r\n" if self.keep_alive else b"connection: close\r\n\r\n", body)))
        self.response_complete = True
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


async def answer_in_time(door: UsageDoor, headers: Headers, receive: Receive, *, request_id: RequestId) -> Answer:
    """Answer a report whatever happens, and before anybody has to wait for ever.

    Raises:
        ClientGone: there is nobody to answer; nothing was recorded.
    """
    arrival = Arrival()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            return await answer_usage(door, headers, receive, request_id=request_id, arrival=arrival)
    except TimeoutError:
        if not arrival.complete:
            return error_answer(408, TOO_SLOW, headers={"Connection": "close"})
        get_log().error("request_too_slow", request_id=request_id, route=USAGE_PATH)
        return error_answer(503, BUSY, headers=RETRY)
    except ClientGone:
        raise
    except Exception:
        get_log().exception("request_failed", request_id=request_id, route=USAGE_PATH)
        return error_answer(500, INTERNAL)


async def report_usage(request: Request) -> Response:
    """Answer a report where another server than ours serves the app."""
    request_id = RequestId(request.scope.get("level5.request_id") or new_request_id())
    try:
        answer = await answer_in_time(context_of(request).usage, dict(request.scope["headers"]), request.receive, request_id=request_id)
    except ClientGone as error:
        raise ClientDisconnect from error
    return Response(answer.body, answer.status, headers=dict(answer.headers), media_type="application/json")


_counters: Final[dict[int, Any]] = {}


def _count(status: int) -> None:
    counter = _counters.get(status)
    if counter is None:
        counter = _counters[status] = metrics.control_requests_total.labels(USAGE_PATH, str(status))
    counter.inc()
