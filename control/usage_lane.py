"""The short way of `POST /v1/usage`: past router, request objects and the rest of the framework, which cost more than the work itself."""

import asyncio
from typing import Any, Final, cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from control.context import ControlContext, context_of
from control.ingest import BUSY, RETRY, answer_usage
from control.ingest_answers import Answer, error_answer
from control.ingest_body import ClientGone
from control.middleware import ENDPOINT_SECONDS_MAX, answer_headers
from ledger.entries import RequestId
from ledger.tokens import new_request_id
from telemetry import metrics
from telemetry.logs import get_log

USAGE_PATH: Final = "/v1/usage"
INTERNAL: Final = "internal error; nothing is known to be lost, try again"


class UsageLane:
    """Serves `POST /v1/usage` itself and passes everything else on."""

    def __init__(self, app: ASGIApp, *, https: bool = False) -> None:
        self._app = app
        # Names in lower case, as ASGI wants them.
        self._headers = [(name.lower().encode(), value.encode()) for name, value in answer_headers(https=https).items()]
        self._headers.append((b"content-type", b"application/json"))
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
    context = cast("ControlContext", scope["app"].state.context)
    try:
        async with asyncio.timeout(ENDPOINT_SECONDS_MAX):
            return await answer_usage(context.usage, dict(scope["headers"]), receive, request_id=request_id)
    except TimeoutError:
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
    answer = await answer_usage(context_of(request).usage, dict(request.scope["headers"]), request.receive, request_id=request_id)
    return Response(answer.body, answer.status, headers=dict(answer.headers), media_type="application/json")
