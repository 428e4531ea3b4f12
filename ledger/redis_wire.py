"""A small pipelined client for Redis, for the few commands that every request needs.

redis-py spends about 0.15 ms of CPU on a command, most of it on connections, encodings and features that
a script call does not need. Here one connection carries all commands of a process: what is asked in one turn
of the loop leaves in one write, and replies come back in order. Commands are RESP2 and text or whole numbers.

Whoever asks learns what redis-py would have told: `ConnectionError` where the connection was lost (the command
may or may not have run), `TimeoutError` where it was not answered in time, `ResponseError` and its kind where Redis
refused. Nothing is repeated here.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

import hiredis
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoPermissionError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ledger.prompt_reply import PromptReply, all_of
from ledger.wire_address import WireAddress
from ledger.wire_errors import read_error

log = structlog.get_logger("ledger")

IN_FLIGHT_MAX = 8192
UNSENT_BYTES_MAX = 16 * 1024 * 1024
REPLY_BYTES_MAX = 16 * 1024 * 1024
# A loop that was busy itself may find an answer and its time-out in the same turn: the answer is looked at first.
GRACE_SECONDS = 0.05
BACK_OFF_SECONDS = 0.01
BACK_OFF_SECONDS_MAX = 0.1

_NOTHING = object()

Word = str | bytes | int
pack = cast("Callable[[tuple[Word, ...]], bytes]", hiredis.pack_command)  # its types know tuples of one word only


class WireLine(asyncio.Protocol):
    """One connection. Replies are matched by order alone, so nothing may be read from it after a reply is missing."""

    def __init__(self, *, seconds_max: float, on_end: Callable[["WireLine"], None]) -> None:
        self._seconds_max, self._on_end = seconds_max, on_end
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(protocolError=hiredis.ProtocolError, replyError=read_error, notEnoughData=_NOTHING)
        self._waiting: deque[tuple[PromptReply, float]] = deque()
        self._unsent: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._overdue: PromptReply | None = None
        self._unread = 0
        self._choked = self._retired = False
        self.ended = False

    def send(self, command: bytes) -> PromptReply:
        """Put a command on its way and return the future of its reply. Cancelling it gives up the reply alone.

        Raises:
            RedisConnectionError: the line has ended, or carries as much as it may; the command does not run.
        """
        if self.ended:
            raise RedisConnectionError("the connection was lost")
        if self._choked or len(self._waiting) >= IN_FLIGHT_MAX:
            raise RedisConnectionError(f"{len(self._waiting)} commands wait for Redis already")
        future = PromptReply(self._loop)
        deadline = self._loop.time() + self._seconds_max
        alone = not self._waiting
        self._waiting.append((future, deadline))
        if alone and self._transport is not None:
            self._transport.write(command)  # nothing is under way that others could be asked after: it need not wait for a turn of the loop
        else:
            if not self._unsent:
                self._loop.call_soon(self._flush)
            self._unsent.append(command)
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._check)
        return future

    def close(self, reason: str) -> None:
        """End the connection; whoever waits is told that it was lost."""
        self._end(lambda _: RedisConnectionError(reason))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)

    def data_received(self, data: bytes) -> None:
        if self.ended:
            return
        self._unread += len(data)
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _NOTHING:
                self._unread = 0
                future, _ = self._waiting.popleft()
                if isinstance(reply, RedisError):
                    self._refuse(future, reply)
                elif not future.done():
                    future.resolve(reply)
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

    def _refuse(self, future: PromptReply, error: RedisError) -> None:
        if not future.done():
            future.set_exception(error)
        if isinstance(error, ReadOnlyError) and not self._retired:
            # It was a primary once. A new connection may find the present one under the same address.
            self._retired = True
            self._on_end(self)

    def _check(self) -> None:
        """End the line when the oldest command has waited too long. One timer serves all: they are answered in order."""
        self._timer = None
        if not self._waiting:
            return
        oldest, deadline = self._waiting[0]
        now = self._loop.time()
        if deadline > now:
            self._timer = self._loop.call_at(deadline, self._check)
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
        for future, deadline in waiting:
            if not future.done():
                future.set_exception(error_for(deadline))


class RedisWire:
    """One connection to Redis for all that ask in this process; it is opened, and opened again, when somebody asks."""

    def __init__(self, address: WireAddress) -> None:
        self._address = address
        self._line: WireLine | None = None
        self._connecting: asyncio.Task[WireLine] | None = None
        self._failures, self._not_before = 0, 0.0
        self._closed = False

    async def ask(self, *words: Word) -> Any:
        """Send one command and return its reply: bytes, a whole number, None, or a list of them.

        Raises:
            RedisConnectionError: the connection was lost or could not be made; the command may have run.
            RedisTimeoutError: it was not answered in time; it may have run, or run later.
            ResponseError: Redis refused.
        """
        line = self._line or await self._connected()
        return await line.send(pack(words))

    async def ask_all(self, commands: Sequence[bytes]) -> list[Any]:
        """Send packed commands on one and the same connection; return their replies, refusals and losses among them.

        Raises:
            RedisConnectionError, RedisTimeoutError: as `ask`, for all of them.
        """
        line = self._line or await self._connected()
        replies: list[PromptReply] = []
        try:
            replies += (line.send(command) for command in commands)
        except RedisConnectionError:
            for reply in replies:
                reply.cancel()
            raise
        return await all_of(replies)

    async def ask_each(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send commands as `ask_all` does; return their replies, or raise the first refusal or loss among them."""
        replies = await self.ask_all([pack(words) for words in commands])
        if failure := next((reply for reply in replies if isinstance(reply, BaseException)), None):
            raise failure
        return replies

    async def aclose(self) -> None:
        """Close the connection for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._line is not None:
            self._line.close("this client was closed")

    async def _connected(self) -> WireLine:
        """Wait for the connection that is being made: one at a time, whoever needs it."""
        if self._closed:
            raise RedisConnectionError("this client was closed")
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="redis-wire")
            self._connecting.add_done_callback(self._connect_ended)
        connecting, caller = self._connecting, asyncio.current_task()
        try:
            # A caller that is cancelled must not take the connection from the others.
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            if connecting.cancelled() and caller is not None and not caller.cancelling():
                raise RedisConnectionError("this client was closed") from None
            raise

    def _connect_ended(self, task: "asyncio.Task[WireLine]") -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is not None:
            log.debug("redis_wire_not_connected", reason=str(task.exception()))

    async def _connect(self) -> WireLine:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._not_before - loop.time())
        line = None
        try:
            line = await self._dial()
            await self._greet(line)
            if line.ended:
                raise RedisConnectionError("the connection was lost at once")
        except (RedisError, OSError) as error:
            if line is not None:
                line.close("the connection could not be prepared")
            self._back_off()
            if isinstance(error, RedisError):
                raise
            raise RedisConnectionError(f"cannot connect: {error}") from error
        except BaseException:
            if line is not None:
                line.close("this client was closed")
            raise
        self._failures = 0
        self._line = line
        return line

    async def _dial(self) -> WireLine:
        loop, address = asyncio.get_running_loop(), self._address

        def make_line() -> WireLine:
            return WireLine(seconds_max=address.command_seconds_max, on_end=self._forget)

        try:
            async with asyncio.timeout(address.connect_seconds_max):
                if address.path is not None:
                    _, line = await loop.create_unix_connection(make_line, address.path)
                else:
                    _, line = await loop.create_connection(make_line, address.host, address.port, ssl=address.tls)
        except TimeoutError as error:
            raise RedisTimeoutError("Redis did not accept a connection in time") from error
        return line

    async def _greet(self, line: WireLine) -> None:
        """Say who we are; the line is good for nothing until Redis has answered that."""
        greeting = self._address.greeting()
        for (word, *_), result in zip(greeting, await all_of([line.send(pack(words)) for words in greeting]), strict=True):
            if isinstance(result, NoPermissionError) and word in {"PING", "CLIENT"}:
                continue  # a user who may do nothing but what the books need; the answer alone says that Redis is there
            if isinstance(result, BaseException):
                raise result

    def _forget(self, line: WireLine) -> None:
        if self._line is line:
            self._line = None
            self._back_off()

    def _back_off(self) -> None:
        pause = min(BACK_OFF_SECONDS_MAX, BACK_OFF_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 10)
        self._not_before = asyncio.get_running_loop().time() + pause * random.uniform(0.5, 1.0)  # noqa: S311
