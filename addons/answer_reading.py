"""Answers of providers as they come on the fast lane: read by llhttp in its strict mode, head and body."""

import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import httptools
from mitmproxy import http
from mitmproxy.net.http.validate import validate_headers

from addons.checked_headers import CheckedHeaders
from addons.connections import PROVIDER_HEAD_BYTES_MAX
from addons.lane_heads import BODILESS
from addons.light_objects import make_response

INTERIM_MAX: Final = 8  # 1xx answers in a row that are waved through
_PROTOCOL: Final = b"HTTP/"
_PLAIN_CODINGS: Final = frozenset({b"", b"chunked"})


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
        self.fault: str | None = None  # what `read_piece` has found wrong

    def read_piece(self, data: bytes) -> bytes | None:
        """Read on in the middle of the body and return what came of it; None where it ended, or `fault` is what is wrong. What was read is kept then."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.fault = None if self.complete else f"not valid HTTP/1.1: {type(error).__name__}"
            return None
        pieces = self._body
        if len(pieces) == 1 and not self.complete:
            return pieces.pop()
        return None if self.complete else self.take_body()

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
