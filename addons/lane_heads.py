"""Heads of HTTP/1.1 on the fast lane: those of requests read by llhttp in its strict mode, all of them written in one piece.

What a client's head must be to be served here is said in `read_request_head`: plain requests with a known length, or in chunks.
Anything else, however legal, is left to mitmproxy's own layers, which also know how to refuse it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import httptools
from mitmproxy import http
from mitmproxy.proxy.layers.http import HTTPMode, validate_request

from addons.checked_headers import CheckedHeaders
from addons.light_objects import make_request

METHODS: Final = frozenset({b"GET", b"POST", b"DELETE"})
# Each of these changes framing, hops or protocol: mitmproxy's layers handle them.
_NOT_HERE: Final = frozenset({b"expect", b"upgrade", b"te", b"trailer", b"http2-settings", b"proxy-connection", b"keep-alive"})
_CONNECTION_WISHES: Final = {b"keep-alive": False, b"close": True}
_LENGTH_SPELLINGS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
KNOWN_BYTES_MAX: Final = 8192
BODILESS: Final = frozenset({204, 304})


class NotHere(Exception):
    """A head that the fast lane does not serve."""


class _RequestHead:
    """What llhttp finds in a request's head."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


def read_request_head(head: bytes) -> tuple[http.Request, int | None, bool]:
    """Return the request, the length of its body (None: it comes in chunks), and whether the client wants the connection closed afterwards.

    `head` ends with its empty line.

    Raises:
        NotHere: it is not of the kind that is served here, or no valid HTTP/1.1 at all.
    """
    shape, figure = _split_length(head)
    read = (_known_shape if len(shape) <= KNOWN_BYTES_MAX else _read_shape)(shape)
    fields, at = read.fields, read.length_at
    if figure is None:
        figure = b"0" if at is None else fields[at][1]
    elif at is not None:
        fields = (*fields[:at], (fields[at][0], figure), *fields[at + 1 :])
    request = make_request(
        host="", port=0, method=read.method, scheme=b"", authority=b"", path=read.target, http_version=b"HTTP/1.1",
        headers=CheckedHeaders(fields, read.names, findings=read.findings), content=None, trailers=None, timestamp_start=time.time(), timestamp_end=None,
    )  # fmt: skip
    return request, None if read.chunked else _read_length(figure), read.closes


def _split_length(head: bytes) -> tuple[bytes, bytes | None]:
    """Return a head with 0 for the figure of the first Content-Length that is spelled as usual, and that figure; None where there is no such field."""
    for spelling in _LENGTH_SPELLINGS:
        at = head.find(spelling)
        if at >= 0:
            begin = at + len(spelling)
            end = head.index(b"\r\n", begin)
            return b"%s0%s" % (head[:begin], head[end:]), head[begin:end].strip(b" \t")
    return head, None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """A request's head but for the figure of its Content-Length, which is the field at `length_at` (None: there is none)."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...]
    names: list[bytes]
    findings: dict[object, Any]
    length_at: int | None
    chunked: bool
    closes: bool


def _read_shape(head: bytes) -> _Shape:
    method, _, rest = head.partition(b" ")
    if method not in METHODS or not rest.startswith(b"/") or head.count(b" ", 0, head.index(b"\r")) != 2:
        raise NotHere
    found = _RequestHead()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(head)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        raise NotHere from None
    if not found.complete or parser.get_http_version() != "1.1" or parser.should_upgrade():
        raise NotHere
    names = [name.lower() for name, _ in found.fields]
    length_at = names.index(b"content-length") if b"content-length" in names else None
    return _Shape(
        method=method, target=found.target, fields=tuple(found.fields), names=names, findings={}, length_at=length_at,
        chunked=_is_chunked(method, found.fields, names), closes=_closes(found.fields, names),
    )  # fmt: skip


# A client sends nearly the same head again and again. What llhttp made of it once, it makes of it always, so that only heads that were
# good in every respect are found here. They hold what clients send, credentials included: memory of this process, never written anywhere.
_known_shape = lru_cache(maxsize=256)(_read_shape)


def _closes(fields: Sequence[tuple[bytes, bytes]], names: Sequence[bytes]) -> bool:
    """Return whether the connection ends after the answer; refuse what could be framed in two ways."""
    if not _NOT_HERE.isdisjoint(names):
        raise NotHere
    wish = _only(b"connection", fields, names, absent=b"keep-alive").lower()
    if wish not in _CONNECTION_WISHES or names.count(b"host") > 1 or names.count(b"content-length") > 1:
        raise NotHere
    return _CONNECTION_WISHES[wish]


def _is_chunked(method: bytes, fields: Sequence[tuple[bytes, bytes]], names: Sequence[bytes]) -> bool:
    """Return whether the body comes in chunks; refuse any other coding, and one beside a length."""
    if b"transfer-encoding" not in names:
        return False
    if method != b"POST" or b"content-length" in names or _only(b"transfer-encoding", fields, names, absent=b"").lower() != b"chunked":
        raise NotHere
    return True


def _only(name: bytes, fields: Sequence[tuple[bytes, bytes]], names: Sequence[bytes], *, absent: bytes) -> bytes:
    """Return the value of a field that may be there once."""
    count = names.count(name)
    if count > 1:
        raise NotHere
    return fields[names.index(name)][1] if count else absent


def _read_length(value: bytes) -> int:
    if not value.isdigit() or (value.startswith(b"0") and value != b"0") or len(value) > 15:
        raise NotHere
    return int(value)


def write_request(request: http.Request) -> bytes:
    """Return the head of a request as it goes to a provider."""
    data = request.data
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (data.method, data.path, _write_fields(data.headers.fields))


def write_response_head(response: http.Response) -> bytes:
    """Return the head of an answer as it goes to a client."""
    data = response.data
    return b"HTTP/1.1 %d %s\r\n%s\r\n" % (data.status_code, data.reason, _write_fields(data.headers.fields))


def _write_fields(fields: Any) -> bytes:
    return b"".join([b"%s: %s\r\n" % field for field in fields])


def ends_with_connection(response: http.Response) -> bool:
    """Tell whether the client learns by the connection's end that the answer is over, or is told that it will be closed."""
    headers = response.headers
    if headers.get("connection", "").lower() == "close":
        return True
    return "content-length" not in headers and "transfer-encoding" not in headers and response.status_code not in BODILESS


def is_valid(request: http.Request) -> bool:
    """Tell whether mitmproxy finds nothing wrong with a request's head."""
    headers = request.headers
    if isinstance(headers, CheckedHeaders) and headers.is_known_valid:
        return True
    if validate_request(HTTPMode.transparent, request, True) is not None:  # mitmproxy's signature
        return False
    if isinstance(headers, CheckedHeaders):
        headers.remember_valid()
    return True
