"""Our own errors, in the dialect that the caller speaks, with what to do next and whether a repeat makes sense."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mitmproxy import http

from ledger.money import format_usdc
from metering.classify import Dialect, Operation

_ANTHROPIC_TYPES = {
    400: "invalid_request_error", 401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error",
}  # fmt: skip
_OPENAI_TYPES = {402: "insufficient_quota", 429: "requests"}
_OPENAI_CODES = {401: "invalid_api_key", 402: "insufficient_quota", 429: "rate_limit_exceeded"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One error of ours. `retry` tells whether the same request may succeed soon; `retry_after` is in seconds."""

    status: int
    code: str
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    retry: bool = False
    retry_after: int | None = None


def error_object(dialect: Dialect | None, refusal: Refusal, *, request_id: str) -> dict[str, Any]:
    """Return the error body of a dialect; our own API's where there is none."""
    status, message, details = refusal.status, refusal.message, dict(refusal.details)
    if dialect is Dialect.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        error: dict[str, Any] = {"type": kind, "message": message}
        if details:
            error["details"] = details
        return {"type": "error", "error": error, "request_id": request_id}
    if dialect is Dialect.OPENAI:
        kind = _OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        error = {"message": message, "type": kind, "param": details.pop("field", None), "code": _OPENAI_CODES.get(status, refusal.code)}
        if details:
            error["details"] = details
        return {"error": error}
    if dialect is Dialect.OPENROUTER:
        return {"error": {"code": status, "message": message, "metadata": details}}
    return {"error": {"code": refusal.code, "message": message, "details": details}}


def make_answer(dialect: Dialect | None, refusal: Refusal, *, request_id: str, balance: int | None = None) -> http.Response:
    """Return the whole answer: body in the dialect, request ids, retry hints, the balance where it is known."""
    headers = _headers(refusal, request_id=request_id)
    if dialect is Dialect.ANTHROPIC:
        headers["request-id"] = request_id
    if balance is not None:
        headers["x-balance-remaining"] = str(balance)
    body = json.dumps(error_object(dialect, refusal, request_id=request_id), separators=(",", ":")).encode()
    return http.Response.make(refusal.status, body, headers)


def make_plain_answer(refusal: Refusal, *, request_id: str) -> http.Response:
    """Return the answer of the ingest door, whose errors are a bare text."""
    body = json.dumps({"error": refusal.message, "code": refusal.code}, separators=(",", ":")).encode()
    return http.Response.make(refusal.status, body, _headers(refusal, request_id=request_id))


def _headers(refusal: Refusal, *, request_id: str) -> dict[str, str]:
    headers = {"content-type": "application/json", "x-request-id": request_id}
    if not refusal.retry:
        headers["x-should-retry"] = "false"
    elif refusal.retry_after is not None:
        headers["retry-after"] = str(refusal.retry_after)
    return headers


def error_events(dialect: Dialect | None, operation: Operation, refusal: Refusal, *, request_id: str) -> bytes:
    """Return the last words of a stream that we end: an error event that every client of the dialect takes for one."""
    body = error_object(dialect, refusal, request_id=request_id)
    if operation is Operation.RESPONSES:
        code = _OPENAI_CODES.get(refusal.status, refusal.code)
        error = {"type": "error", "code": code, "message": refusal.message, "param": None, "sequence_number": 0}
        failed = {"id": request_id, "object": "response", "status": "failed", "error": {"code": code, "message": refusal.message}, "output": []}
        return _event("error", error) + _event("response.failed", {"type": "response.failed", "sequence_number": 1, "response": failed})
    return _event("error" if operation is Operation.MESSAGES else None, body)


def _event(name: str | None, body: dict[str, Any]) -> bytes:
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {json.dumps(body, separators=(',', ':'))}\n\n".encode()


def unknown_token() -> Refusal:
    return Refusal(status=401, code="invalid_api_token", message="The api_token is missing or not valid. Register with POST /v1/register to get one.")


def inactive_account(reason: str) -> Refusal:
    if reason == "read_only":
        message = "This api_token is read-only: it shows the account and cannot spend from it. Use one of the account's full tokens."
        return Refusal(status=403, code="read_only_token", message=message)
    return Refusal(status=401, code="inactive_account", message=f"This api_token is not active ({reason}). Ask the operator, or register for a new one.")


def payment_required(*, required: int, available: int, affordable_tokens: int | None, top_up_url: str) -> Refusal:
    """402, in one line of a terminal: what is missing, how large a smaller answer may be where one would do, and where to pay in.

    The address holds no api_token: clients print it, and their users paste it.
    """
    text = f"Insufficient balance: this request needs {format_usdc(required)} USDC and {format_usdc(max(available, 0))} is available"
    details: dict[str, object] = {"required": required, "available": available, "top_up_url": top_up_url}
    if affordable_tokens:
        text += f"; at most {affordable_tokens} output tokens can be afforded"
        details["affordable_output_tokens"] = affordable_tokens
    return Refusal(status=402, code="insufficient_balance", message=f"{text}. {_top_up(top_up_url)}", details=details)


def balance_used_up(*, available: int, top_up_url: str) -> Refusal:
    """402 in the middle of a stream: what came so far is charged, and no more comes."""
    details = {"available": available, "top_up_url": top_up_url}
    text = f"The balance is used up, so this answer ends here: {format_usdc(max(available, 0))} USDC is available."
    return Refusal(status=402, code="insufficient_balance", message=f"{text} {_top_up(top_up_url)}", details=details)


def _top_up(url: str) -> str:
    return f"Deposit USDC to go on: {url}"  # at the end and without a full stop, so that a terminal makes a link of it


def too_many_requests(limit: int) -> Refusal:
    return Refusal(status=429, code="too_many_requests", message=f"At most {limit} requests at once for one account.", retry=True, retry_after=1)


def body_overdue() -> Refusal:
    return Refusal(status=408, code="request_timeout", message="the request body did not arrive in time", retry=True)


def unavailable(message: str = "The books are not available for a moment; nothing was sent or charged. Try again shortly.") -> Refusal:
    return Refusal(status=503, code="temporarily_unavailable", message=message, retry=True, retry_after=2)


def upstream_failed(message: str = "The provider could not be reached or broke off its answer; nothing was charged.") -> Refusal:
    return Refusal(status=502, code="upstream_failed", message=message, retry=True)


def upstream_broke_off() -> Refusal:
    return Refusal(status=502, code="upstream_failed", message="The provider broke off its answer.", retry=True)


def upstream_timed_out() -> Refusal:
    return Refusal(status=504, code="upstream_timeout", message="The provider did not answer in time; nothing was charged.", retry=True)


def operator_affair() -> Refusal:
    """The provider refused the operator's key or credit: nothing the caller can do, and no word about the operator."""
    return Refusal(status=502, code="upstream_failed", message="The provider did not accept this request from the gateway; its operator has been told.")


def body_too_large(limit: int) -> Refusal:
    return Refusal(status=413, code="request_too_large", message=f"The request body is larger than {limit} bytes.", details={"limit": limit})


def upgrade_refused() -> Refusal:
    return Refusal(status=426, code="upgrade_refused", message="WebSocket is not offered here; send the request by POST.")


def malformed(message: str) -> Refusal:
    return Refusal(status=400, code="invalid_request", message=message)
