"""A provider that says exactly what a test wants, in the pieces it wants, and reads requests as strictly as one can."""

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

TURNS = 3  # of the loop, after each piece: enough for it to be read alone

_TOKEN_CHARACTERS = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = re.compile(rb"(" + _TOKEN_CHARACTERS + rb") (/[!-~]*) HTTP/1\.1\Z")
_FIELD = re.compile(rb"(" + _TOKEN_CHARACTERS + rb"): ?([^\r\n\0]*)\Z")
_ONE_HOP = {b"connection", b"upgrade", b"expect", b"te", b"trailer", b"keep-alive", b"proxy-connection"}


@dataclass(frozen=True)
class Received:
    """One request as a provider reads it, who is as strict as one can be."""

    method: str
    target: str
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes


class Ambiguous(Exception):
    """Bytes that two readers could take for different requests."""


def read_strictly(data: bytes, *, relayed: bool) -> tuple[Received, bytes] | None:
    """Return the request that the bytes begin with and what follows it; None while it is not whole.

    What is `relayed` keeps its client's framing and may have no body; anything else tells its length.

    Raises:
        Ambiguous: this is not one plain request of one certain length.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    line, *rest = data[:end].split(b"\r\n")
    first, found = _LINE.match(line), [_FIELD.match(one) for one in rest]
    if first is None or None in found:
        raise Ambiguous(data[: end + 4])
    fields = [(one[1].lower(), one[2]) for one in found if one is not None]
    names = [name for name, _ in fields]
    framing = [field for field in fields if field[0] in {b"content-length", b"transfer-encoding"}]
    if names.count(b"host") != 1 or len(framing) > 1 or not _ONE_HOP.isdisjoint(names) or not (relayed or framing):
        raise Ambiguous(data[: end + 4])
    name, value = framing[0] if framing else (b"content-length", b"0")
    read = _read_chunks(data[end + 4 :]) if relayed and (name, value.lower()) == (b"transfer-encoding", b"chunked") else _read_length(value, data[end + 4 :])
    if read is None:
        return None
    return Received(first[1].decode(), first[2].decode(), tuple(sorted(field for field in fields if field not in framing)), read[0]), read[1]


def _read_length(value: bytes, data: bytes) -> tuple[bytes, bytes] | None:
    if not re.fullmatch(rb"0|[1-9][0-9]*", value):
        raise Ambiguous(value)
    length = int(value)
    return (data[:length], data[length:]) if len(data) >= length else None


def _read_chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while (found := re.match(rb"([0-9a-f]+)\r\n", data)) is not None:
        length, start = int(found[1], 16), found.end()
        if len(data) < start + length + 2:
            return None
        if data[start + length : start + length + 2] != b"\r\n":
            raise Ambiguous(data)
        body, data = body + data[start : start + length], data[start + length + 2 :]
        if not length:
            return body, data
    if b"\r\n" in data:
        raise Ambiguous(data)
    return None


@dataclass(frozen=True)
class Answering:
    """What a provider says to one request, piece by piece, and whether it closes the connection afterwards."""

    pieces: tuple[bytes, ...]
    closes: bool = False


Script = Callable[[int, Received], Answering]


@dataclass
class CarefulProvider:
    """Answers by a script, one request at a time, and remembers what it was asked and every ambiguity."""

    script: Script
    relayed: bool = False
    asked: list[Received] = field(default_factory=list)
    faults: list[bytes] = field(default_factory=list)
    busy: int = 0
    port: int = 0
    open: "set[_ProviderSide]" = field(default_factory=set)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.get_running_loop().create_server(lambda: _ProviderSide(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def begin(self, script: Script) -> None:
        self.script = script
        self.asked, self.faults = [], []

    def hang_up(self) -> None:
        for side in list(self.open):
            side.transport.abort()

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()


class _ProviderSide(asyncio.Protocol):
    def __init__(self, provider: CarefulProvider) -> None:
        self._provider, self._buffer, self._answering = provider, b"", False
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._provider.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.open.discard(self)
        if self._buffer:
            self._provider.faults.append(self._buffer)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering:
            return
        try:
            read = read_strictly(self._buffer, relayed=self._provider.relayed)
        except Ambiguous:
            self._provider.faults.append(self._buffer)
            self.transport.abort()
            return
        if read is not None:
            received, self._buffer = read
            if self._buffer:  # nobody pipelines to a provider
                self._provider.faults.append(self._buffer)
            self._provider.asked.append(received)
            self._answering = True
            self._provider.busy += 1
            asyncio.get_running_loop().create_task(self._answer(self._provider.script(len(self._provider.asked) - 1, received)))

    async def _answer(self, answering: Answering) -> None:
        *before, last = answering.pieces or (b"",)
        for piece in before:
            self.transport.write(piece)
            await turns()
        # Together, so that nobody can use the connection between the answer's end and its own: to close takes a turn longer.
        self.transport.write(last)
        if answering.closes and not self.transport.is_closing():
            with suppress(OSError):  # the other side has reset the connection
                self.transport.write_eof()
        self._answering = False
        self._provider.busy -= 1


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Return the bytes in pieces that end at these places."""
    places = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)] or [b""]


async def turns(count: int = TURNS) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
