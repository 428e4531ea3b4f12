"""One connection's bytes, between a socket and whoever listens to it at the moment."""

import asyncio
from collections.abc import Callable
from typing import override

READ_BYTES_MAX = 256 * 1024

# All connections are read into one place, from which each piece is copied at once. asyncio would make room for the most that can come at every
# read and give back what was not needed, which costs more than the read itself.
_room = memoryview(bytearray(READ_BYTES_MAX))


def _nothing() -> None:
    return


class Wire(asyncio.BufferedProtocol):
    """A connection. What comes before anybody listens is kept, and the other side is not read meanwhile."""

    def __init__(self, accept: Callable[["Wire"], None] = lambda _: None) -> None:
        self._accept = accept
        self.lent_as: object = None  # what a borrower before this one called the connection
        self.idle_since = 0.0  # by the loop's clock, while nobody uses the connection
        self._early: list[bytes] = []
        self._receive: Callable[[bytes], None] | None = None
        self._slowed, self._ended, self._lost = _nothing, _nothing, _nothing
        self.transport: asyncio.Transport
        self.is_slow = False  # the other side does not take what we write
        self.has_ended = False  # the other side sends no more
        self.is_lost = False  # the connection broke

    @property
    def is_open(self) -> bool:
        """Whether both directions are open and nothing waits to be written or read."""
        return not (self.has_ended or self.is_slow or self._early or self.transport.is_closing())

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP gives both directions
        self._accept(self)

    @override
    def get_buffer(self, sizehint: int) -> memoryview:
        return _room

    @override
    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_room[:nbytes])
        if self._receive is not None:
            self._receive(data)
        else:
            self._early.append(data)
            self.transport.pause_reading()

    @override
    def eof_received(self) -> bool:
        self._end()
        # The other side may still read, so who closes is decided by those who listen; TLS has no such half.
        return self.transport.get_extra_info("sslcontext") is None

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = exc is not None
        self._end()
        if self.is_lost:
            self._lost()

    @override
    def pause_writing(self) -> None:
        self.is_slow = True
        self._slowed()

    @override
    def resume_writing(self) -> None:
        self.is_slow = False
        self._slowed()

    def _end(self) -> None:
        if not self.has_ended:
            self.has_ended = True
            self._ended()

    def listen(
        self,
        *,
        receive: Callable[[bytes], None],
        ended: Callable[[], None] = _nothing,
        slowed: Callable[[], None] = _nothing,
        lost: Callable[[], None] = _nothing,
    ) -> None:
        """Hand what arrives to `receive` from now on. Tell when the other side has ended, reads too slowly, or is gone."""
        self._receive, self._ended, self._slowed, self._lost = receive, ended, slowed, lost
        early, self._early = self._early, []
        for data in early:
            receive(data)
        if early and not self.transport.is_closing():
            self.transport.resume_reading()
        if self.has_ended:
            ended()
        if self.is_lost:
            lost()

    def silence(self) -> None:
        """Nobody listens any more."""
        self._receive, self._ended, self._slowed, self._lost = (lambda _: None), _nothing, _nothing, _nothing

    def close(self) -> None:
        """Close the connection; nobody hears of it. What the other side has not taken by now is given up: nobody waits for it to be read."""
        self.silence()
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.close()


class ClientReader:
    """A wire where mitmproxy expects a stream reader: its `read` lets the bytes flow to `receive` until there are no more."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._over: asyncio.Future[None] | None = None

    def listen(self, *, receive: Callable[[bytes], None], slowed: Callable[[], None], lost: Callable[[], None]) -> None:
        """Remember who is to hear of what, once `read` is called."""
        self._receive, self._slowed, self._lost = receive, slowed, lost

    async def read(self, size: int) -> bytes:  # noqa: ARG002  # mitmproxy's signature
        """Return nothing, as a reader does at the end, when the other side has sent its last."""
        over = self._over = asyncio.get_running_loop().create_future()
        self.wire.listen(receive=self._receive, ended=self._end, slowed=self._slowed, lost=self._lost)
        try:
            await over
        finally:
            self.wire.silence()
        return b""

    def _end(self) -> None:
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
