"""Errors as pages for people, and as JSON for everybody else."""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control import errors
from control.errors import ApiError
from control.web.rendering import render
from ledger.errors import LedgerError

PAGES: Final = ("/dashboard", "/admin", "/open", "/pay", "/pricing")
HEADINGS: Final[Mapping[int, str]] = {
    400: "This cannot be read",
    401: "No account opens with this address",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This address does something else",
    409: "That was done before",
    410: "Its time is over",
    413: "That is too large",
    422: "This cannot be done as asked",
    429: "A little slower, please",
    500: "This is a fault of ours",
    503: "Not at the moment",
}


def wants_page(request: Request) -> bool:
    """Tell whether a person is looking. A script of our pages asks for `application/json` or `text/event-stream`, and gets JSON."""
    accepted = request.headers.get("accept", "")
    if "text/html" in accepted:
        return True
    below = any(request.url.path == path or request.url.path.startswith(f"{path}/") for path in PAGES)
    return below and not request.url.path.endswith(".svg") and not any(kind in accepted for kind in ("application/json", "text/event-stream"))


def error_page(request: Request, error: ApiError) -> Response:
    """Return an error as a page: what happened, and what to do."""
    heading = HEADINGS.get(error.status, "That did not work")
    request_id = str(request.scope.get("level5.request_id", ""))
    return render(
        request, "error.html", title=heading, status=error.status, headers=error.headers, heading=heading, error=error, request_id=request_id
    )  # fmt: skip


async def answer_api_error(request: Request, error: Exception) -> Response:
    """Handle an ApiError that an endpoint raised."""
    if isinstance(error, ApiError) and wants_page(request):
        return error_page(request, error)
    return await errors.answer_api_error(request, error)


async def answer_ledger_error(request: Request, error: Exception) -> Response:
    """Handle a failure of the books that an endpoint let pass."""
    if isinstance(error, LedgerError) and wants_page(request):
        return error_page(request, errors.logged_ledger_error(request, error))
    return await errors.answer_ledger_error(request, error)


async def answer_http_exception(request: Request, error: Exception) -> Response:
    """Handle what the router says: an unknown path or a wrong method."""
    refusal = errors.from_http_exception(error)
    return error_page(request, refusal) if wants_page(request) else errors.error_response(refusal, path=request.url.path)
