"""Requests as they come on the fast lane: the head once it is whole, then the body, of a known length or in chunks.

Chunks are read by the very reader that mitmproxy's own layers use, so what a sound body is, and where it ends, cannot differ between the
two paths. Only its bounds are our own: it would keep a chunk's extension or a trailer of any length.
"""

from typing import Final

import h11
from h11._readers import ChunkedReader  # mitmproxy takes it from there as well
from h11._receivebuffer import ReceiveBuffer
from mitmproxy import http

from addons.lane_heads import NotHere, read_request_head

FRAMING_BYTES_MAX: Final = 64 * 1024  # of one chunk's first line, or of all trailers


def take_request_head(buffer: bytearray, *, bytes_max: int) -> tuple[http.Request, int | None, bool] | None:
    """Take the next request's head out of what has come and return it as `read_request_head` does; None where more must come first.

    Raises:
        NotHere: the same, or it does not end, or ends otherwise: it is refused by those who know how.
    """
    end = buffer.find(b"\r\n\r\n")
    if end > bytes_max or (end < 0 and (len(buffer) > bytes_max or b"\n\n" in buffer or b"\n\r\n" in buffer)):
        raise NotHere
    if end < 0:
        return None
    found = read_request_head(bytes(buffer[: end + 4]))
    del buffer[: end + 4]
    return found


class BadChunks(Exception):
    """These are no chunks, or their framing is beyond all bounds; the text quotes nothing."""


class SizedBody:
    """A body whose length was told."""

    def __init__(self, length: int) -> None:
        self._left, self._data = length, b""

    @property
    def complete(self) -> bool:
        """Whether all of it was taken."""
        return not self._left

    def add(self, data: bytes) -> None:
        """Take in what has come."""
        self._data += data

    def next_piece(self) -> bytes | None:
        """Return the next piece, None where more must come first or there is no more."""
        if not self._left or not self._data:
            return None
        piece, self._data = (self._data, b"") if len(self._data) <= self._left else (self._data[: self._left], self._data[self._left :])
        self._left -= len(piece)
        return piece

    def rest(self) -> bytes:
        """Return what has come after the body."""
        return self._data


class ChunkedBody:
    """A body in chunks. Extensions and trailers are forgotten: nobody needs them."""

    def __init__(self) -> None:
        self._reader, self._buffer = ChunkedReader(), ReceiveBuffer()
        self.complete = False

    def add(self, data: bytes) -> None:
        """Take in what has come."""
        self._buffer += data

    def next_piece(self) -> bytes | None:
        """Return the next piece, None where more must come first or there is no more.

        Raises:
            BadChunks: the client does not keep to the rules.
        """
        if self.complete:
            return None
        try:
            event = self._reader(self._buffer)
        except h11.ProtocolError as error:
            raise BadChunks("the chunks of the request are not valid") from error
        if isinstance(event, h11.EndOfMessage):
            self.complete = True
        elif event is not None:
            return bytes(event.data)
        elif len(self._buffer) > FRAMING_BYTES_MAX:
            raise BadChunks("the framing of the request's chunks is too long")
        return None

    def rest(self) -> bytes:
        """Return what has come after the body."""
        return bytes(self._buffer)


def chunk(data: bytes) -> bytes:
    """Return one chunk; of no data that is the last one, which ends a body."""
    return b"%x\r\n%s\r\n" % (len(data), data)
