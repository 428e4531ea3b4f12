"""A provider on a bare socket: says exactly the bytes a test wants, when it wants, and remembers what it was asked."""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class RawProvider:
    """`script` answers each request; a connection that it has closed is over, any other is read on."""

    port: int = 0
    script: Script | None = None
    asked: list[Asked] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)  # set whenever a peer has closed its connection
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def hang_up(self) -> None:
        """Close every connection that is open."""
        for writer in list(self._writers):
            writer.close()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while (asked := await _read_request(reader)) is not None:
                self.asked.append(asked)
                assert self.script is not None
                watching = asyncio.create_task(self._watch(reader))
                try:
                    await self.script(asked, writer)
                finally:
                    watching.cancel()
                if writer.is_closing():
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.closed.set()
            self._writers.discard(writer)
            writer.close()

    async def _watch(self, reader: asyncio.StreamReader) -> None:
        while not reader.at_eof():
            await asyncio.sleep(0.01)
        self.closed.set()


async def _read_request(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (item.partition(":") for item in rest if item)]
    asked = Asked(line, headers, b"")
    if asked.header("transfer-encoding"):
        asked.body = await _read_chunks(reader)
    else:
        asked.body = await reader.readexactly(int(asked.header("content-length") or 0))
    return asked


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    """Read what the gateway writes: chunks without extensions or trailers."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:size]
    await reader.readexactly(2)
    return body


def answer(body: bytes | dict[str, Any], *, status: int = 200, kind: str = "application/json", more: str = "") -> bytes:
    """A whole answer with a content length."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}content-length: {len(raw)}\r\n\r\n".encode() + raw


def stream_head(more: str = "", *, chunked: bool = True) -> bytes:
    framing = "transfer-encoding: chunked\r\n" if chunked else ""
    return f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{framing}{more}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def message(*, input_tokens: int = 100, output_tokens: int = 50, text: str = "Hello", **usage: int) -> dict[str, Any]:
    """An answer of /v1/messages."""
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6", "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens, **usage},
    }  # fmt: skip


def event(name: str | None, data: dict[str, Any] | str) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {name}\n" if name else "").encode() + f"data: {text}\n\n".encode()


def message_events(*, input_tokens: int = 100, output_tokens: int = 50, words: int = 3) -> list[bytes]:
    """The events of a streamed message, the last of them terminal."""
    start = {**message(input_tokens=input_tokens, output_tokens=1), "content": [], "stop_reason": None}
    deltas = [
        event("content_block_delta", {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"word{number} "}})
        for number in range(words)
    ]
    return [
        event("message_start", {"type": "message_start", "message": start}),
        event("content_block_start", {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        *deltas,
        event("content_block_stop", {"type": "content_block_stop", "index": 0}),
        event(
            "message_delta",
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": output_tokens}},
        ),
        event("message_stop", {"type": "message_stop"}),
    ]


def chat_chunks(*, words: int = 3, prompt: int = 100, completion: int = 50, usage: bool = True) -> list[bytes]:
    """The events of a streamed chat completion with its usage chunk."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o"}
    deltas = [
        event(None, {**base, "choices": [{"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": None}], "usage": None})
        for number in range(words)
    ]
    last = event(None, {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    counted = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return [*deltas, last, *([event(None, {**base, "choices": [], "usage": counted})] if usage else []), event(None, "[DONE]")]


def says(*pieces: bytes, pause: float = 0.0, close: bool = False) -> Script:
    """A script that writes these bytes to every request."""

    async def script(asked: Asked, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        if close:
            writer.close()

    return script


def streams(events: list[bytes], *, pause: float = 0.0, end: bool = True, more: str = "") -> Script:
    """A script that streams these events in chunks; without `end` the connection is cut after the last."""
    last = [LAST_CHUNK] if end else []
    return says(stream_head(more), *(chunk(one) for one in events), *last, pause=pause, close=not end)
