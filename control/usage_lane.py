"""The short way of `POST /v1/usage`: past router, request objects and the rest of the framework, which cost more than the work itself."""

import asyncio
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from control.context import ControlContext, context_of
from control.ingest import BUSY, RETRY, answer_usage
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
HEADERS: Final = ((b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
INTERNAL: Final = "internal error; nothing is known to be lost, try again"


class UsageLane:
    """Serves `POST /v1/usage` itself and passes everything else on."""

    def __init__(self, app: ASGIApp, *, https: bool = False) -> None:
        self._app = app
        self._headers = [*HEADERS, *([(b"strict-transport-security", TRANSPORT_SECURITY.encode())] if https else [])]
        self._counters: dict[int, Any] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"] != USAGE_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request_id = new_request_id()
        status = 0
        try:
            answer = await _answer(scope, receive, request_id)
            status = answer.status
            await self._send(send, answer, request_id)
        except ClientGone:
            return
        finally:
            counter = self._counters.get(status)
            if counter is None:
                counter = self._counters[status] = metrics.control_requests_total.labels(USAGE_PATH, str(status))
            counter.inc()

    async def _send(self, send: Send, answer: Answer, request_id: RequestId) -> None:
        body = answer.body.encode()
        headers = [*self._headers, (b"x-request-id", request_id.encode()), (b"content-length", str(len(body)).encode())]
        if answer.headers:
            headers += [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def _answer(scope: Scope, receive: Receive, request_id: RequestId) -> Answer:
    context, arrival = cast("ControlContext", scope["app"].state.context), Arrival()
    try:
        async with asyncio.timeout(SECONDS_MAX):
            return await answer_usage(context.usage, dict(scope["headers"]), receive, request_id=request_id, arrival=arrival)
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
    """Answer a report where the app is served without its lane."""
    request_id = RequestId(request.scope.get("level5.request_id") or new_request_id())
    answer = await answer_usage(context_of(request).usage, dict(request.scope["headers"]), request.receive, request_id=request_id, arrival=Arrival())
    return Response(answer.body, answer.status, headers=dict(answer.headers), media_type="application/json")
