"""Sends replies over a socket, correctly or as badly as the script wants."""

import asyncio
import socket
import struct
from email.utils import formatdate
from http import HTTPStatus

from sandbox.pieces import prepare_pieces
from sandbox.replies import Reply
from sandbox.script import WAIT_MS_MAX, WireScript
from sandbox.visits import Visit

DRAIN_SECONDS_MAX = 600.0
MARK = ("x-level5-sandbox", "1")
RESET_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time
BROKEN_CHUNK = b"zz\r\nthis is no chunk\r\n"


class ClientLeft(Exception):
    """The client closed the connection before the answer was complete."""


class Hangup(Exception):
    """The script wants the connection closed here."""


class Wire:
    """The writing side of one connection."""

    def __init__(self, writer: asyncio.StreamWriter, left: asyncio.Event) -> None:
        self._writer, self._left = writer, left
        # Nothing of ours may linger in a buffer: a cut at byte k must have sent k bytes.
        writer.transport.set_write_buffer_limits(0)

    async def send(self, data: bytes) -> None:
        if self._left.is_set():
            raise ClientLeft
        try:
            self._writer.write(data)
            async with asyncio.timeout(DRAIN_SECONDS_MAX):
                await self._writer.drain()
        except OSError as error:  # TimeoutError is one, too
            raise ClientLeft from error

    async def wait(self, milliseconds: int) -> None:
        """Wait, or notice earlier that the client has left."""
        try:
            async with asyncio.timeout(milliseconds / 1000):
                await self._left.wait()
        except TimeoutError:
            return
        raise ClientLeft

    def close(self, how: str) -> None:
        """Close politely, or by a reset."""
        if how == "reset":
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
            self._writer.transport.abort()
        else:
            self._writer.close()


async def send_reply(reply: Reply, script: WireScript, wire: Wire, *, visit: Visit, keep_alive: bool, head_only: bool) -> bool:
    """Send a reply as its script wants. Return whether the connection may serve another request.

    Raises:
        ClientLeft: the client is gone; what was sent is in `visit`.
        Hangup: the script ends the connection here.
    """
    pieces = [] if head_only else prepare_pieces(reply, script)
    framing = script.framing or ("chunked" if reply.streamed else "length")
    reuse = keep_alive and framing != "close" and script.length == 0
    visit.status = reply.status
    await wire.wait(script.head_delay_ms)
    await _send_head(script, wire, encode_head(reply, script, pieces, framing=framing, keep_alive=reuse))
    if head_only:
        return reuse
    await _send_body(pieces, script, wire, visit=visit, chunked=framing == "chunked")
    if script.cut_after is not None or script.cut_bytes is not None:
        raise Hangup
    if framing == "chunked":
        trailer = b"x-sandbox-trailer: 1\r\n" if script.trailers else b""
        await wire.send(b"0\r\n" + trailer + b"\r\n")
    return reuse


def encode_head(reply: Reply, script: WireScript, pieces: list[bytes], *, framing: str, keep_alive: bool) -> bytes:
    """Return the status line and the headers."""
    headers = [("date", formatdate(usegmt=True)), ("server", "level5-sandbox"), MARK, *reply.headers]
    if script.encoding:
        headers.append(("content-encoding", script.encoding))
    if framing == "chunked":
        headers.append(("transfer-encoding", "chunked"))
    elif framing == "length":
        whole = sum(map(len, pieces)) if script.cut_bytes is None else sum(map(len, reply.pieces))
        headers.append(("content-length", str(max(whole + script.length, 0))))
    if script.trailers:
        headers.append(("trailer", "x-sandbox-trailer"))
    if script.bad == "header":
        headers.append(("x-sandbox-nul", "a\x00b"))
    if not keep_alive:
        headers.append(("connection", "close"))
    version = "HTTQ/1.1" if script.bad == "head" else "HTTP/1.1"
    lines = [f"{version} {reply.status} {_reason(reply.status)}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Overloaded" if status == 529 else "Sandbox"


async def _send_head(script: WireScript, wire: Wire, head: bytes) -> None:
    if script.close == "before_head":
        raise Hangup
    if script.stall == "head":
        await wire.wait(WAIT_MS_MAX)
    if script.informational:
        await wire.send(f"HTTP/1.1 {script.informational} Sandbox\r\nx-sandbox-informational: 1\r\n\r\n".encode())
    if script.close == "in_head" or script.stall == "in_head":
        await wire.send(head[: len(head) // 2])
        await wire.wait(WAIT_MS_MAX if script.stall else 0)
        raise Hangup
    await wire.send(head)


async def _send_body(pieces: list[bytes], script: WireScript, wire: Wire, *, visit: Visit, chunked: bool) -> None:
    for index, piece in enumerate(pieces):
        if index == script.stall_after:
            break
        if index:
            await wire.wait(script.delay_ms)
        if script.bad == "chunk" and index >= len(pieces) // 2:
            await wire.send(BROKEN_CHUNK)
            raise Hangup
        if piece:
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        visit.pieces_sent += 1
        visit.bytes_sent += len(piece)
    if script.stall_after is not None:
        await wire.wait(WAIT_MS_MAX)
        raise Hangup
