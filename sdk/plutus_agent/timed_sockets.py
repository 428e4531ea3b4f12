"""Sockets that keep one deadline for a whole exchange, however slowly the other side drips."""

import io
import select
import socket
import time
from typing import Any


class TimedSocket:
    """A socket for `http.client` whose every wait ends at `deadline` (on the monotonic clock)."""

    def __init__(self, inner: socket.socket) -> None:
        self.deadline = float("inf")
        self._inner = inner
        self._readers = 0
        self._closing = False

    def arm(self) -> socket.socket:
        """Return the inner socket, set to give up at the deadline.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        self._inner.settimeout(left)
        return self._inner

    def sendall(self, data: Any) -> None:
        """Send everything before the deadline."""
        self.arm().sendall(data)

    def makefile(self, *_mode: Any, **_options: Any) -> io.BufferedReader:
        """Return a reader; the socket stays open for it even when the connection is closed meanwhile."""
        self._readers += 1
        return io.BufferedReader(_TimedReader(self))

    def reader_closed(self) -> None:
        """Close for good once the last reader has gone, if that was asked for."""
        self._readers -= 1
        if self._closing and self._readers <= 0:
            self._inner.close()

    def close(self) -> None:
        """Close, after the readers."""
        self._closing = True
        if self._readers <= 0:
            self._inner.close()

    def abandon(self) -> None:
        """Close this process's handle at once, without a word to the other side."""
        self._inner.close()

    def is_quiet(self) -> bool:
        """Tell whether nothing waits to be read: between answers that could only be the other side's farewell."""
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._inner, select.POLLIN)
                return not poll.poll(0)
            return not select.select([self._inner], [], [], 0)[0]
        except (OSError, ValueError):
            return False


class _TimedReader(io.RawIOBase):
    def __init__(self, owner: TimedSocket) -> None:
        super().__init__()
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._owner.arm().recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.reader_closed()
