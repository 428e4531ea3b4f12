"""Strategies for what two data paths are given alike: requests, answers, and what may be wrong with their bytes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.fakes.careful_provider import Answering, Received, cut
from tests.fakes.raw_provider import chat_chunks, message, message_events
from tests.fakes.two_paths import TOKEN

RECORDINGS = Path(__file__).parent.parent / "recordings"
CUTS = st.lists(st.integers(0, 1 << 20), max_size=6)

_TEXT = [{"role": "user", "content": "Say hi"}]
_BODIES: dict[str, dict[str, Any]] = {
    "/v1/messages": {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": _TEXT},
    "/v1/chat/completions": {"model": "gpt-4o", "max_tokens": 500, "messages": _TEXT},
    "/v1/responses": {"model": "gpt-5.2", "max_output_tokens": 500, "input": "Say hi"},
    "/v1/messages/count_tokens": {"model": "claude-sonnet-4-6", "messages": _TEXT},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "Say hi"},
}
_STREAMABLE = {"/v1/messages", "/v1/chat/completions", "/v1/responses"}


@dataclass(frozen=True)
class Request:
    """One request in parts, so that its head can be changed line by line."""

    line: bytes
    lines: tuple[bytes, ...]
    body: bytes

    @property
    def data(self) -> bytes:
        return b"\r\n".join([self.line, *self.lines, b"", b""]) + self.body


PLAIN_LINES = st.lists(
    st.sampled_from([
        b"content-type: application/json", b"anthropic-version: 2023-06-01", b"X-Level5-Events: 1", b"User-Agent: agent/1.0", b"Accept: */*",
        b"accept-encoding: gzip", b"X-Thing:  two words \t", b"anthropic-beta: one", b"x-stainless-lang: python", b"cookie: a=b",
    ]), max_size=4, unique=True,
)  # fmt: skip
CONNECTIONS = st.sampled_from([b"", b"", b"", b"Connection: close", b"Connection: keep-alive", b"connection: Close", b"Connection: x-thing"])


def _chunked(body: bytes, cuts: Sequence[int], *, extension: bytes, trailer: bytes) -> bytes:
    pieces = [piece for piece in cut(body, cuts) if piece]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


@st.composite
def posted(draw: st.DrawFn) -> Request:
    """A request of the kinds that are billed or counted, in one of the framings that HTTP/1.1 has."""
    path = draw(st.sampled_from(sorted(_BODIES)))
    fields = dict(_BODIES[path])
    if path in _STREAMABLE and draw(st.booleans()):
        fields["stream"] = True
    body = json.dumps(fields).encode()
    lines = [b"Host: gateway", *draw(PLAIN_LINES), draw(CONNECTIONS)]
    if draw(st.integers(0, 3)):
        lines.append(b"Content-Length: %d" % len(body))
    else:
        lines.append(b"Transfer-Encoding: chunked")
        body = _chunked(
            body, draw(CUTS), extension=draw(st.sampled_from([b"", b"", b";a=b", b';a="b"'])), trailer=draw(st.sampled_from([b"", b"", b"x-trailer: 1\r\n"]))
        )
    if draw(st.integers(0, 9)) == 0:
        lines.append(b"Expect: 100-continue")
    return Request(b"POST /proxy/%s%s HTTP/1.1" % (TOKEN, path.encode()), tuple(line for line in lines if line), body)


BODILESS = st.builds(
    lambda line, lines, connection: Request(line, tuple(one for one in (b"Host: gateway", *lines, connection) if one), b""),
    st.sampled_from([
        b"GET /proxy/%s/v1/models HTTP/1.1" % TOKEN, b"GET /proxy/%s/v1/models/claude-sonnet-4-6 HTTP/1.1" % TOKEN,
        b"HEAD /proxy/%s/v1/models HTTP/1.1" % TOKEN,
        b"GET /proxy/%s/balance HTTP/1.1" % TOKEN, b"GET /health HTTP/1.1", b"HEAD /health HTTP/1.1", b"OPTIONS * HTTP/1.1",
        b"DELETE /proxy/%s/v1/responses/resp_1 HTTP/1.1" % TOKEN,
        b"GET /nothing/here HTTP/1.1", b"GET /proxy/l5_1_0/v1/models HTTP/1.1", b"PUT /proxy/%s/v1/messages HTTP/1.1" % TOKEN,
    ]), PLAIN_LINES, CONNECTIONS,
)  # fmt: skip
REQUESTS = st.one_of(posted(), posted(), posted(), BODILESS)

# What may be wrong with a request

EVIL_LINES = st.sampled_from([
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: +5", b"Content-Length: 05", b"Content-Length: 5, 5", b"Content-Length: 0x5",
    b"Content-Length:", b"Content-Length : 5", b"Content-Length: 99999999999999999999", b"Content-Length: 5 6", b"Content-Length: -1", b"content_length: 5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked", b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, identity", b"Transfer-Encoding: identity", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked\x0b",
    b"Transfer-Encoding: \"chunked\"", b"Transfer-Encoding:", b"X: y\nTransfer-Encoding: chunked", b"X: y\rTransfer-Encoding: chunked", b" folded",
    b"\tfolded",
    b"Host: other", b"Host:", b"host : other", b"Expect: 100-continue", b"Expect: 200-ok", b"Expect: 100-Continue", b"Upgrade: websocket", b"Upgrade: h2c",
    b"Connection: upgrade", b"Connection: close, content-length", b"Connection: host", b"Connection: close", b"Keep-Alive: timeout=5", b"TE: trailers",
    b"Trailer: x", b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", b"Proxy-Connection: close", b"X-\x00: a", b"X: a\x00b", b"X: \xff\xfe", b"X\xff: a",
    b"X: a\x7fb", b"X: a\x01b",
    b": empty", b"no colon at all", b"X:", b"X Y: z", b"X-Level5-Peer: 1.2.3.4", b"Authorization: Bearer l5_1_0", b"x-api-key: other",
    b"Content-Encoding: gzip",
    b"X: " + b"a" * 70_000, b"",
])  # fmt: skip
EVIL_TARGETS = st.sampled_from([
    b"http://gateway/proxy/%s/v1/messages" % TOKEN, b"//proxy/%s/v1/messages" % TOKEN, b"/proxy/%s/v1/messages#x" % TOKEN,
    b"/proxy/%s/v1/mess\xffages" % TOKEN,
    b"/proxy/%s/v1/messages HTTP/1.1\r\nX:" % TOKEN, b"/proxy/%s/v1/messages\tx" % TOKEN, b"/proxy/%s/v1/messages?a=%%0d%%0a" % TOKEN, b"*",
    b"/proxy/%s/v1/../v1/messages" % TOKEN, b"/proxy/%s/v1/messages\x00" % TOKEN, b"gateway:443", b"/" + b"a" * 9000, b"/proxy/%s/v1/messages /x" % TOKEN,
])  # fmt: skip
EVIL_METHODS = st.sampled_from(
    [b"post", b"POST\t", b"HEAD", b"PATCH", b"CONNECT", b"TRACE", b"PRI", b"M-SEARCH", b"\r\nPOST", b"\nPOST", b" POST", b"P\x00ST", b"SOURCE", b""]
)
EVIL_VERSIONS = st.sampled_from([b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/1", b"HTTP/11.1", b"", b"HTTP/1.1\x0b"])


def _change_line(draw: st.DrawFn, request: Request) -> Request:
    method, target, version = request.line.split(b" ", 2)
    what = draw(st.integers(0, 2))
    parts = [
        draw(EVIL_METHODS) if what == 0 else method, draw(EVIL_TARGETS) if what == 1 else target, draw(EVIL_VERSIONS) if what == 2 else version,
    ]  # fmt: skip
    return Request(draw(st.sampled_from([b" ", b" ", b" ", b"  ", b"\t"])).join(parts), request.lines, request.body)


def _change_lines(draw: st.DrawFn, request: Request) -> Request:
    lines = list(request.lines)
    place = draw(st.integers(0, len(lines)))
    what = draw(st.sampled_from(["insert", "insert", "insert", "duplicate", "delete", "move", "bare"]))
    if what == "insert" or place == len(lines):
        lines.insert(place, draw(EVIL_LINES))
    elif what == "duplicate":
        lines.append(lines[place])
    elif what == "delete":
        del lines[place]
    elif what == "move":
        lines.insert(0, lines.pop(place))
    else:
        lines[place : place + 2] = [draw(st.sampled_from([b"\n", b"\r", b"\n\r"])).join(lines[place : place + 2])]
    return Request(request.line, tuple(lines), request.body)


SNIPPETS = st.one_of(
    st.binary(min_size=1, max_size=3),
    st.sampled_from([
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\n\r\n", b"\0", b" ", b":", b"0\r\n\r\n", b"5\r\nhello\r\n", b"ffffffffffffffff1\r\n", b"5;\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"GARBAGE",
    ]),
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, data: bytes, *, times: int = 2) -> bytes:
    """Bytes with some of them flipped, deleted, doubled, or others between them. Heads are hit more often than what follows."""
    for _ in range(draw(st.integers(1, times))):
        end = data.find(b"\r\n\r\n") + 4 if draw(st.booleans()) and b"\r\n\r\n" in data else len(data)
        place = draw(st.integers(0, max(0, end - 1)))
        what = draw(st.sampled_from(["flip", "insert", "delete", "double"]))
        if what == "flip" and data:
            data = data[:place] + bytes([data[place] ^ (1 << draw(st.integers(0, 7)))]) + data[place + 1 :]
        elif what == "insert":
            data = data[:place] + draw(SNIPPETS) + data[place:]
        else:
            span = draw(st.integers(1, 12))
            data = data[:place] + (data[place + span :] if what == "delete" else data[place : place + span] + data[place:])
    return data


@st.composite
def odd_request(draw: st.DrawFn) -> bytes:
    """The bytes of a request with something wrong, or unusual, about its head or its bytes."""
    request = draw(REQUESTS)
    what = draw(st.integers(0, 5))
    if what == 0:
        request = _change_line(draw, request)
    elif what < 4:
        for _ in range(draw(st.integers(1, 2))):
            request = _change_lines(draw, request)
    return draw(damaged(request.data)) if what >= 4 else request.data


# Answers


@dataclass(frozen=True)
class Answer:
    """How a provider answers: what it says depends on what it is asked. Bytes that are `wrong` are changed in the same places on every path."""

    status: int = 200
    framing: str = "length"  # or chunked, or close
    version: bytes = b"HTTP/1.1"
    before: bytes = b""
    lines: tuple[bytes, ...] = ()
    trailer: bytes = b""
    recorded: bool = False
    cuts: tuple[int, ...] = ()
    wrong: tuple[tuple[str, int, bytes], ...] = ()
    closes: bool = False

    def to(self, received: Received) -> Answering:
        kind, body = _content(received, self)
        lines = [b"%s %d Said" % (self.version, self.status), b"content-type: " + kind, *self.lines]
        bodiless = self.status in {204, 304}
        if bodiless or (self.closes and self.framing != "close"):
            lines.append(b"Connection: close")  # unannounced, it would be chance whether the next request is already on its way
        if bodiless:
            body = b""
        elif self.framing == "length":
            lines.append(b"Content-Length: %d" % len(body))
        elif self.framing == "chunked":
            lines.append(b"Transfer-Encoding: chunked")
            body = _chunked(body, self.cuts, extension=b"", trailer=self.trailer)
        data = self.before + b"\r\n".join([*lines, b"", b""]) + (b"" if received.method == "HEAD" else body)
        for wrong in self.wrong:
            data = _damage(data, *wrong)
        return Answering(tuple(cut(data, self.cuts)), self.closes or self.framing == "close" or bool(self.wrong))


def _damage(data: bytes, what: str, place: int, snippet: bytes) -> bytes:
    end = data.find(b"\r\n\r\n") + 4 if place % 2 else len(data)
    place = (place // 2) % max(end, 1)
    if what == "flip":
        return data[:place] + bytes([data[place] ^ (1 << snippet[0] % 8)]) + data[place + 1 :]
    if what == "insert":
        return data[:place] + snippet + data[place:]
    if what == "delete":
        return data[:place] + data[place + 1 + len(snippet) :]
    return data[:place]  # it stops there


def _content(received: Received, answer: Answer) -> tuple[bytes, bytes]:
    if answer.status >= 300:
        return b"application/json", b'{"error":{"type":"invalid_request_error","message":"No.","code":null},"type":"error"}'
    path = received.target.partition("?")[0]
    streams = b'"stream": true' in received.body or b'"stream":true' in received.body
    if path.endswith("/messages"):
        events = _recorded("anthropic/messages-sse-crlf-tool-thinking") if answer.recorded else b"".join(message_events())
        return (b"text/event-stream", events) if streams else (b"application/json", json.dumps(message()).encode())
    if path.endswith("/chat/completions"):
        events = _recorded("openai/chat-completions-sse-usage-chunk") if answer.recorded else b"".join(chat_chunks())
        return (b"text/event-stream", events) if streams else (b"application/json", _recorded("openai/chat-completions-json-two-choices"))
    if path.endswith("/responses"):
        events = _recorded("openai/responses-sse-" + ("incomplete" if answer.recorded else "completed"))
        return (b"text/event-stream", events) if streams else (b"application/json", _last_response(events))
    if path.endswith("/count_tokens"):
        return b"application/json", b'{"input_tokens": 9}'
    if path.endswith("/embeddings"):
        return b"application/json", _recorded("openai/embeddings-json")
    return b"application/json", b'{"from":"control"}'


def _recorded(name: str) -> bytes:
    return next((RECORDINGS / name).glob("response.*")).read_bytes()


def _last_response(events: bytes) -> bytes:
    last = events.strip().rsplit(b"data: ", 1)[1]
    return json.dumps(json.loads(last)["response"]).encode()


ANSWER_LINES = st.lists(
    st.sampled_from([
        b"x-request-id: req_1", b"set-cookie: a=b", b"anthropic-organization-id: org", b"Connection: keep-alive", b"connection: close",
        b"X-Thing:  a b ", b"location: /x",
        b"retry-after: 1", b"x-balance-remaining: 5", b"Keep-Alive: timeout=5", b"connection: x-thing",
    ]), max_size=2, unique=True,
)  # fmt: skip
EVIL_ANSWER_LINES = st.lists(
    st.sampled_from([
        b"Content-Length: 5", b"Content-Length: 05", b"Content-Length: +5", b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, gzip", b"Transfer-Encoding: identity", b"Transfer-Encoding : chunked", b" folded", b"X: a\nY: b", b"X: a\rY: b",
        b"X\x00: a", b"X: \xff", b"X: a\x01",
        b"Upgrade: websocket", b"connection: upgrade", b"X: " + b"a" * 300_000, b"no colon", b": empty", b"content-length:", b"X Y: z", b"Trailer: x",
        b"Content-Encoding: gzip",
    ]), max_size=2,
)  # fmt: skip
INTERIM = st.sampled_from([
    b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n" * 2,
    b"HTTP/1.1 100 Continue\r\n\r\n" * 9,
])  # fmt: skip
EVIL_INTERIM = st.sampled_from([
    b"HTTP/1.0 100 Continue\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
    b"HTTP/1.1 103 E\r\nContent-Length: 3\r\n\r\n",
    b"HTTP/1.1 103 E\r\nContent-Length: 3\r\n\r\nabc", b"HTTP/1.1 099 E\r\n\r\n", b"HTTP/1.1 000 E\r\n\r\n",
    b"HTTP/1.1 103 E\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 103 E\r\nConnection: close\r\n\r\n", b"\r\n", b"\n", b"\r\n\r\n", b"HTTP/1.1 204 E\r\n\r\n", b"HTTP/1.1 304 E\r\nContent-Length: 9\r\n\r\n",
    b"HTTP/1.1 199 E\r\n\r\n", b"HTTP/1.1 1 E\r\n\r\n", b"HTTP/1.1 1000 E\r\n\r\n", b"HTTP/1.1 100 E\n\n",
])  # fmt: skip
EVIL_VERSIONS_SAID = st.sampled_from([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2", b"http/1.1", b"RTSP/1.0", b"ICY", b"HTTP/1", b"HTTP/1.1 "])
STATUSES = st.sampled_from([200, 200, 200, 200, 200, 201, 204, 205, 206, 302, 304, 400, 401, 402, 404, 429, 500, 503, 529])
FRAMINGS = st.sampled_from(["length", "chunked", "close"])
SOUND_ANSWERS = st.builds(
    Answer, status=STATUSES, framing=FRAMINGS, before=st.one_of(st.just(b""), st.just(b""), INTERIM), lines=ANSWER_LINES.map(tuple),
    trailer=st.sampled_from([b"", b"x-trailer: 1\r\n"]), recorded=st.booleans(), cuts=CUTS.map(tuple), closes=st.booleans(),
)  # fmt: skip
_WRONG = st.lists(
    st.tuples(
        st.sampled_from(["flip", "flip", "insert", "insert", "delete", "stop"]), st.integers(0, 1 << 20), SNIPPETS
    ), max_size=2,
).map(tuple)  # fmt: skip
ODD_ANSWERS = st.builds(
    Answer, status=STATUSES | st.sampled_from([100, 199, 203, 226, 299, 599, 600, 999]), framing=FRAMINGS, version=st.just(b"HTTP/1.1") | EVIL_VERSIONS_SAID,
    before=st.one_of(st.just(b""), st.just(b""), EVIL_INTERIM), lines=st.one_of(ANSWER_LINES, EVIL_ANSWER_LINES).map(tuple),
    trailer=st.sampled_from([b"", b"x-trailer: 1\r\n", b"x: 1\n", b" folded\r\n", b"content-length: 9\r\n", b"connection: close\r\n", b"no colon\r\n",
    b"x\x00: 1\r\n"]),
    recorded=st.booleans(), cuts=CUTS.map(tuple), wrong=_WRONG, closes=st.just(True),
)  # fmt: skip
