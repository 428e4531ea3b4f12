"""Heads and bodies of HTTP/1.1 on the fast lane: read by llhttp in its strict mode, written in one piece.

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
from mitmproxy.net.http.validate import validate_headers

from addons.checked_headers import CheckedHeaders
from addons.connections import PROVIDER_HEAD_BYTES_MAX
from addons.light_objects import make_request, make_response

METHODS: Final = frozenset({b"GET", b"POST", b"DELETE"})
# Each of these changes framing, hops or protocol: mitmproxy's layers handle them.
_NOT_HERE: Final = frozenset({b"expect", b"upgrade", b"te", b"trailer", b"http2-settings", b"proxy-connection", b"keep-alive"})
_CONNECTION_WISHES: Final = {b"keep-alive": False, b"close": True}
_LENGTH_SPELLINGS: Final = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
KNOWN_BYTES_MAX: Final = 8192
INTERIM_MAX: Final = 8  # 1xx answers in a row that are waved through
_PLAIN_CODINGS: Final = frozenset({b"", b"chunked"})
_PROTOCOL: Final = b"HTTP/"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _AnswerShape:
    """What the names of an answer's fields tell: in small letters, where the last of each kind of framing is, and whether there is one of one kind."""

    names: list[bytes]
    length_at: int | None
    coding_at: int | None
    is_plain: bool


@lru_cache(maxsize=1024)  # a provider's answers have nearly the same fields again and again
def _answer_shape(raw_names: tuple[bytes, ...]) -> _AnswerShape:
    names = [name.lower() for name in raw_names]
    places = {name: place for place, name in enumerate(names)}
    values = {b"content-length": b"0", b"transfer-encoding": b"chunked"}
    message = make_response(
        http_version=b"HTTP/1.1", status_code=200, reason=b"", headers=CheckedHeaders([(name, values.get(name, b"")) for name in raw_names]), content=None,
        trailers=None, timestamp_start=0, timestamp_end=None,
    )  # fmt: skip
    try:
        validate_headers(message)
        is_plain = names.count(b"content-length") + names.count(b"transfer-encoding") == 1
    except ValueError:
        is_plain = False
    return _AnswerShape(names=names, length_at=places.get(b"content-length"), coding_at=places.get(b"transfer-encoding"), is_plain=is_plain)


class AnswerReader:
    """Reads one answer of a provider. `feed` may raise; afterwards the fields below say how far it is.

    `take_head` returns the head once; `take_body` what has come of the body since it was last asked.
    """

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._fields: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._body: list[bytes] = []
        self._interim = 0
        self._begun = False
        self._protocol = b""
        self._head_bytes, self._head_taken = 0, False
        self.head: http.Response | None = None
        self.complete = False
        self.has_body = True
        self.until_close = False  # the body ends with the connection
        self.reusable = False  # the connection may carry another request
        self.is_plain = False  # mitmproxy finds nothing wrong with the head

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            ValueError: this is no answer that is understood here; the text says why, and quotes nothing.
        """
        if self.complete or self._parser is None:
            raise ValueError("bytes after the end of the answer")
        if len(self._protocol) < len(_PROTOCOL):
            self._protocol += data[: len(_PROTOCOL) - len(self._protocol)]
            if not _PROTOCOL.startswith(self._protocol):
                raise ValueError("not valid HTTP/1.1: another protocol")  # llhttp reads others too
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise ValueError("the provider switched protocols") from None
        except httptools.HttpParserError as error:
            raise ValueError(f"not valid HTTP/1.1: {type(error).__name__}") from None
        if self.head is None:
            self._head_bytes += len(data)
            if self._head_bytes > PROVIDER_HEAD_BYTES_MAX:
                raise ValueError("the head of the answer is too long")

    def take_head(self) -> http.Response | None:
        """Return the head once, when it has come."""
        if self._head_taken or self.head is None:
            return None
        self._head_taken = True
        return self.head

    def take_body(self) -> bytes:
        """Return what has come of the body since the last call."""
        pieces, self._body = self._body, []
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def put_back(self, body: bytes) -> None:
        """Keep what was taken of the body for the next who asks."""
        self._body.insert(0, body)

    @property
    def in_body(self) -> bool:
        """Whether the head was taken and the answer goes on."""
        return self._head_taken and not self.complete

    def close(self) -> bool:
        """The connection has ended: tell whether that was the answer's end."""
        if self.until_close and not self.complete:
            self.complete = True
        return self.complete

    # What llhttp calls

    def on_message_begin(self) -> None:
        if self.complete:
            self.reusable = False  # it sends what nobody asked for
            raise ValueError("a second answer")
        self._fields, self._reason = [], b""

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.head is None:  # what follows the body is a trailer, which nobody needs
            self._fields.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version != "1.1" and (version != "1.0" or self._interim):
            raise ValueError("a version that is not understood")
        if status < 200:
            self._interim += 1
            if status < 100 or status == 101 or version != "1.1" or self._interim > INTERIM_MAX:
                raise ValueError("an interim answer that is not understood")
            self._begun = False
            return
        self._begun = True
        shape = _answer_shape(tuple([name for name, _ in self._fields]))
        length = None if shape.length_at is None else self._fields[shape.length_at][1]
        coding = b"" if shape.coding_at is None else self._fields[shape.coding_at][1].lower()
        self.has_body = status not in BODILESS and length != b"0"
        self.until_close = status not in BODILESS and length is None and not coding.endswith(b"chunked")
        self.is_plain = shape.is_plain and version == "1.1" and coding in _PLAIN_CODINGS
        self.head = make_response(
            http_version=b"HTTP/1.1" if version == "1.1" else b"HTTP/1.0", status_code=status, reason=self._reason,
            headers=CheckedHeaders(self._fields, shape.names),
            content=None, trailers=None, timestamp_start=time.time(), timestamp_end=None,
        )  # fmt: skip

    def on_body(self, body: bytes) -> None:
        if self.head is None:
            raise ValueError("an interim answer with a body")  # llhttp reads its chunks, though it cannot have any
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._begun and not self.complete:
            self.complete = True
            self.reusable = self._parser.should_keep_alive() and not self.until_close

    def let_go(self) -> None:
        """The answer is done with. The parser holds this object and this object the parser, which only a garbage collector would end."""
        self._parser = None
