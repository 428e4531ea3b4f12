"""Proof that a request which changes something came from a page of ours, and not from one that the person happened to look at."""

from urllib.parse import urlsplit

from starlette.requests import Request

from control.context import context_of
from control.errors import ApiError

SAME_ORIGIN = "same-origin"


def require_same_origin(request: Request) -> None:
    """Let a request pass that the browser vouches for: by Sec-Fetch-Site where it sends it, else by Origin.

    Raises:
        ApiError: 403 where another site's page sent it, or nothing tells who did.
    """
    site = request.headers.get("sec-fetch-site")
    proven = site == SAME_ORIGIN if site is not None else request.headers.get("origin") in _own_origins(request)
    if not proven:
        message = "This was not sent by a page of this service, so nothing was done. Open the page again and repeat it there."
        raise ApiError(403, "other_origin", message=message)


def _own_origins(request: Request) -> frozenset[str]:
    """Return the origins of pages that we served: as the operator calls us, and as the caller did."""
    public = urlsplit(context_of(request).public_url)
    called = {f"{scheme}://{host}" for host in request.headers.getlist("host") for scheme in ("http", "https")}
    return frozenset({f"{public.scheme}://{public.netloc}", *called})
