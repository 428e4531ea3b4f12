"""Answers of the control API that are not a success, all in one shape."""

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ledger.errors import (
    BalanceUnavailable,
    BooksUnderPressure,
    InactiveAccount,
    JournalUnavailable,
    LastToken,
    LedgerError,
    NotPostedYet,
    ReadOnlyToken,
    ShardClosed,
    TooManyKeys,
    TooManyTokens,
    UnknownAccount,
    UnknownKey,
    UnknownToken,
)
from telemetry.logs import get_log

RETRY_SECONDS = "1"
PLAIN_PATH = "/v1/usage"


class ApiError(Exception):
    """An error answer: `code` is for programs, `message` says what to do next, `details` holds figures and names."""

    def __init__(self, status: int, code: str, *, message: str, details: Mapping[str, object] | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.details, self.headers = dict(details or {}), dict(headers or {})


def error_response(error: ApiError, *, path: str = "") -> Response:
    """Return the JSON answer of an error; below `/v1/usage` in the shape that clients of that API know."""
    if path == PLAIN_PATH or path.startswith(f"{PLAIN_PATH}/"):
        return JSONResponse({"error": error.message, **error.details}, error.status, headers=error.headers)
    body = {"error": {"code": error.code, "message": error.message, "details": error.details}}
    return JSONResponse(body, error.status, headers=error.headers)


def from_ledger(error: LedgerError) -> ApiError:
    """Say a failure of the books in words for the caller; an unforeseen one is ours (500)."""
    match error:
        case UnknownKey():
            return ApiError(401, "invalid_key", message="invalid or missing API key", headers={"WWW-Authenticate": "Bearer"})
        case TooManyKeys():
            return ApiError(409, "too_many_keys", message=f"{error}.")
        case UnknownToken():
            return ApiError(401, "invalid_token", message="This api_token is not known. Check it, or register for a new one with POST /v1/register.")
        case ReadOnlyToken():
            message = "This api_token is read-only: it shows the account and can neither spend from it nor change it. Use one of the account's full tokens."
            return ApiError(403, "read_only_token", message=message)
        case TooManyTokens():
            return ApiError(409, "too_many_tokens", message=f"{error}.")
        case LastToken():
            return ApiError(409, "last_token", message="No other api_token of this account can spend. Make one first, and this one can go.")
        case InactiveAccount(reason=reason):
            message = "This api_token does not work any more; ask the operator, or register for a new one with POST /v1/register."
            return ApiError(401, "inactive_account", message=message, details={"reason": reason})
        case UnknownAccount():
            return ApiError(404, "unknown_account", message="There is no such account.")
        case NotPostedYet():
            message = "The journal is catching up with the balances; ask again in a second."
            return ApiError(503, "not_posted_yet", message=message, headers={"Retry-After": RETRY_SECONDS})
        case JournalUnavailable():
            message = "The journal does not answer; nothing was lost. Try again shortly, GET /health tells the state."
            return ApiError(503, "journal_unavailable", message=message, headers={"Retry-After": RETRY_SECONDS})
        case BooksUnderPressure() | ShardClosed() | BalanceUnavailable():
            message = "Balances cannot be read at the moment; nothing was lost. Try again shortly, GET /health tells the state."
            return ApiError(503, "balances_unavailable", message=message, headers={"Retry-After": RETRY_SECONDS})
    return internal_error()


def internal_error() -> ApiError:
    """Return the answer to a fault of ours, which tells nothing of its cause."""
    return ApiError(500, "internal_error", message="This is a fault of ours. Try again; if it stays, give the operator the X-Request-Id of this answer.")


def too_slow() -> ApiError:
    """Return the answer to a request that took longer than any may."""
    message = "This took too long and was given up; GET /health tells the state. Try again shortly."
    return ApiError(503, "too_slow", message=message, headers={"Retry-After": RETRY_SECONDS})


async def answer_api_error(request: Request, error: Exception) -> Response:
    """Handle an ApiError that an endpoint raised."""
    return error_response(error if isinstance(error, ApiError) else internal_error(), path=request.url.path)


async def answer_ledger_error(request: Request, error: Exception) -> Response:
    """Handle a failure of the books that an endpoint let pass."""
    answer = logged_ledger_error(request, error) if isinstance(error, LedgerError) else internal_error()
    return error_response(answer, path=request.url.path)


def logged_ledger_error(request: Request, error: LedgerError) -> ApiError:
    """Say a failure of the books in words for the caller, and for the operator where a store is away."""
    answer = from_ledger(error)
    if answer.status >= 500:
        get_log().warning("books_unavailable", kind=type(error).__name__, reason=str(error), request_id=request.scope.get("level5.request_id"))
    return answer


def from_http_exception(error: Exception) -> ApiError:
    """Say in words what the router says: an unknown path or a wrong method."""
    if not isinstance(error, HTTPException):
        return internal_error()
    allowed = (error.headers or {}).get("Allow", "")
    if error.status_code == 404:
        return ApiError(404, "not_found", message="There is nothing at this path. GET /openapi.json lists what there is.")
    if error.status_code == 405:
        message = f"This path answers to {allowed} only."
        return ApiError(405, "method_not_allowed", message=message, details={"allowed": allowed.split(", ")}, headers={"Allow": allowed})
    return ApiError(error.status_code, "invalid_request", message=str(error.detail), headers=error.headers)
