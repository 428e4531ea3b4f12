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
from collections.abc import Awaitable, Sequence
from typing import Any

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from ledger.prompt_reply import PromptReply, all_of
from ledger.wire_address import WireAddress
from ledger.wire_line import WireLine, Word, pack

log = structlog.get_logger("ledger")

BACK_OFF_SECONDS = 0.01
BACK_OFF_SECONDS_MAX = 0.1


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
        return await self.begin(words)

    def begin(self, words: tuple[Word, ...]) -> Awaitable[Any]:
        """Send what `ask` sends, for a caller who awaits the reply at once: over a connection that stands, nothing of ours is between."""
        line = self._line
        return self._send_when_connected(words) if line is None else line.send(pack(words))

    async def _send_when_connected(self, words: tuple[Word, ...]) -> Any:
        line = await self._connected()
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
