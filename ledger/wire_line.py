"""One connection of the small client for Redis: commands out, replies back in their order, each in its time."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ledger.prompt_reply import PromptReply
from ledger.wire_errors import read_error

IN_FLIGHT_MAX = 8192
UNSENT_BYTES_MAX = 16 * 1024 * 1024
REPLY_BYTES_MAX = 16 * 1024 * 1024
# A loop that was busy itself may find an answer and its time-out in the same turn: the answer is looked at first.
GRACE_SECONDS = 0.05

READ_BYTES_MAX = 256 * 1024

_NOTHING = object()
# Where all lines are read to, and read from at once: asyncio would make room for the most that can come at every read, which costs more than the read.
_room = memoryview(bytearray(READ_BYTES_MAX))

Word = str | bytes | int
pack = cast("Callable[[tuple[Word, ...]], bytes]", hiredis.pack_command)  # its types know tuples of one word only


class WireLine(asyncio.BufferedProtocol):
    """One connection. Replies are matched by order alone, so nothing may be read from it after a reply is missing."""

    def __init__(self, *, seconds_max: float, on_end: Callable[["WireLine"], None]) -> None:
        self._seconds_max, self._on_end = seconds_max, on_end
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=hiredis.ProtocolError, replyError=read_error, notEnoughData=_NOTHING)
        self._waiting: deque[PromptReply] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: PromptReply | None = None
        self._unread = 0
        self._choked = self._retired = False
        self.ended = False

    def send(self, command: bytes) -> PromptReply:
        """Put a command on its way and return its reply to come. Cancelling it gives up the reply alone.

        Raises:
            RedisConnectionError: the line has ended, or carries as much as it may; the command does not run.
        """
        if self.ended:
            raise RedisConnectionError("the connection was lost")
        waiting = self._waiting
        if self._choked or len(waiting) >= IN_FLIGHT_MAX:
            raise RedisConnectionError(f"{len(waiting)} commands wait for Redis already")
        reply = PromptReply(self._loop, monotonic() + self._seconds_max)  # by the loop's own clock
        if not waiting and self._transport is not None:
            self._transport.write(command)  # nothing is under way that others could be asked after: it need not wait for a turn of the loop
        else:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(command)
        waiting.append(reply)
        if self._timer is None:
            self._timer = self._loop.call_at(reply.overdue_at, self._check)
        return reply

    def close(self, reason: str) -> None:
        """End the connection; whoever waits is told that it was lost."""
        self._end(lambda _: RedisConnectionError(reason))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's signature
        return _room

    def buffer_updated(self, nbytes: int) -> None:
        if self.ended:
            return
        self._unread += nbytes
        read, waiting = self._reader.gets, self._waiting
        try:
            self._reader.feed(_room, 0, nbytes)  # type: ignore[arg-type]  # it takes any buffer, and keeps a copy
            while (value := read()) is not _NOTHING:
                self._unread = 0
                reply = waiting.popleft()
                if isinstance(value, RedisError):
                    self._refuse(reply, value)
                elif not reply.is_over:
                    reply.resolve(value)
        except (hiredis.HiredisError, IndexError) as error:
            self._end_garbled(f"what came is no answer of a Redis: {str(error)[:100]}")
            return
        if self._unread > REPLY_BYTES_MAX:
            self._end_garbled("the answer is too long")
        elif self._retired and not self._waiting:
            self.close("this Redis takes no writes any more")

    def pause_writing(self) -> None:
        self._choked = True

    def resume_writing(self) -> None:
        self._choked = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(f"Redis closed the connection{f': {exc}' if exc else ''}")

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self.ended:
            self._transport.write(b"".join(unsent))

    def _refuse(self, reply: PromptReply, error: RedisError) -> None:
        if not reply.is_over:
            reply.set_exception(error)
        if isinstance(error, ReadOnlyError) and not self._retired:
            # It was a primary once. A new connection may find the present one under the same address.
            self._retired = True
            self._on_end(self)

    def _check(self) -> None:
        """End the line when the oldest command has waited too long. One timer serves all: they are answered in order."""
        self._timer = None
        if not self._waiting:
            return
        oldest, now = self._waiting[0], monotonic()
        if oldest.overdue_at > now:
            self._timer = self._loop.call_at(oldest.overdue_at, self._check)
        elif self._overdue is not oldest:
            self._overdue = oldest
            self._timer = self._loop.call_at(now + GRACE_SECONDS, self._check)
        else:
            # The younger ones are told that the connection was lost, so that they may be asked again.
            self._end(lambda its: RedisTimeoutError("no answer in time") if its <= now else RedisConnectionError("an earlier command had no answer"))

    def _end_garbled(self, reason: str) -> None:
        self._end(lambda _: InvalidResponse(reason))

    def _end(self, error_for: Callable[[float], RedisError]) -> None:
        if self.ended:
            return
        self.ended = True
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()
        self._on_end(self)
        waiting, self._waiting = self._waiting, deque()
        for reply in waiting:
            if not reply.is_over:
                reply.set_exception(error_for(reply.overdue_at))
