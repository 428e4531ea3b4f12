"""What every answer of the control API gets: a request id, security headers, a count, and never a stack trace."""

import asyncio
from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from control.errors import error_response, internal_error, too_slow
from ledger.tokens import new_request_id
from telemetry import metrics
from telemetry.logs import get_log

API_POLICY = "default-src 'none'; frame-ancestors 'none'"
SECURITY_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # paths hold api_tokens
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": API_POLICY,
    "Cache-Control": "no-store",
}
TRANSPORT_SECURITY = "max-age=31536000"
ENDPOINT_SECONDS_MAX = 30.0


class Envelope:
    """The outermost layer. Headers that an endpoint set itself are kept."""

    def __init__(self, app: ASGIApp, *, https: bool = False) -> None:
        self._app = app
        self._headers = {**SECURITY_HEADERS, **({"Strict-Transport-Security": TRANSPORT_SECURITY} if https else {})}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}  # as the gateway hands it on: both ports answer alike
        request_id = new_request_id()
        scope["level5.request_id"] = request_id
        answer = _Answer(send, headers={**self._headers, "X-Request-Id": request_id}, bodyless=scope["method"] == "HEAD")
        try:
            async with asyncio.timeout(ENDPOINT_SECONDS_MAX) as deadline:
                scope["level5.deadline"] = deadline
                await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            return  # nobody is left to answer
        except TimeoutError:
            get_log().error("request_too_slow", request_id=request_id, route=_route_name(scope))
            if answer.status is None:
                await error_response(too_slow(), path=scope["path"])(scope, receive, answer.send)
        except Exception:
            get_log().exception("request_failed", request_id=request_id, route=_route_name(scope))
            if answer.status is None:
                await error_response(internal_error(), path=scope["path"])(scope, receive, answer.send)
        finally:
            metrics.control_requests_total.labels(_route_name(scope), str(answer.status or 0)).inc()


class _Answer:
    """Passes an answer on with the headers that every answer has, and without a body where the method has none."""

    def __init__(self, send: Send, *, headers: Mapping[str, str], bodyless: bool) -> None:
        self._send, self._headers, self._bodyless = send, headers, bodyless
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in self._headers.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body" and self._bodyless:
            message = {**message, "body": b""}
        await self._send(message)


def take_time(scope: Scope) -> None:
    """Let an answer that is streamed take as long as its reader does; the server still notices when the reader is gone."""
    deadline = scope.get("level5.deadline")
    if deadline is not None:
        deadline.reschedule(None)


def _route_name(scope: Scope) -> str:
    """Return the pattern of the route, never the path: paths hold api_tokens, and labels must stay few."""
    return str(scope.get("level5.route", "unknown"))
