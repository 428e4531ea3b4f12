# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""How the body of an answer is framed towards the client."""

from typing import Final

from mitmproxy import http

NOT_MODIFIED: Final = 304  # may tell the length that a full answer would have
BODILESS: Final = frozenset({204, NOT_MODIFIED})


def frame(response: http.Response, request: http.Request, *, http10: bool) -> None:
    """Choose the framing of an answer that leaves as it comes: chunks where its length is open, so that a cut can be told from an end."""
    if response.status_code in BODILESS:
        unframe(response)
        return
    if "content-length" in response.headers:
        return
    response.headers.pop("transfer-encoding", None)
    if http10:
        response.headers["connection"] = "close"
    elif not request.is_http2:
        response.headers["transfer-encoding"] = "chunked"


def unframe(response: http.Response) -> None:
    """Say nothing of a body where there is none: a client would wait for one, and RFC 9112 forbids it."""
    response.headers.pop("transfer-encoding", None)
    if response.status_code != NOT_MODIFIED:
        response.headers.pop("content-length", None)
