"""Changes that count only when a replica has them: one question to the replicas for all changes of a batch.

WAIT holds up its connection until a replica has all that the connection wrote before. So there is a connection
for these changes alone, and while one batch waits, the next one gathers.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from ledger.redis_wire import RedisWire
from ledger.wire_line import Word, pack

WAIT_MS_MAX = 500
GATHERED_MAX = 4096

Change = tuple[bytes, "asyncio.Future[tuple[Any, int]]"]


class ReplicatedWire:
    """Sends changes in batches, each followed by one WAIT."""

    def __init__(self, wire: RedisWire) -> None:
        self._wire = wire
        self._gathered: list[Change] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, *words: Word) -> tuple[Any, int]:
        """Send one change; return its reply, and how many replicas had it in time.

        Raises:
            RedisConnectionError, RedisTimeoutError, ResponseError: as `RedisWire.ask`; also where only the
                question to the replicas had no answer.
        """
        if len(self._gathered) >= GATHERED_MAX:
            raise RedisConnectionError(f"{GATHERED_MAX} changes wait for the replicas already")
        future: asyncio.Future[tuple[Any, int]] = asyncio.get_running_loop().create_future()
        self._gathered.append((pack(words), future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="replicated-wire")
        return await future

    async def aclose(self) -> None:
        """Close the connection for good; whoever waits is told that it was lost."""
        await self._wire.aclose()
        if self._sending is not None:
            await self._sending

    async def _send_all(self) -> None:
        await asyncio.sleep(0)  # what is asked in this turn goes with the first batch
        while self._gathered:
            batch, self._gathered = self._gathered, []
            await self._send(batch)
        self._sending = None

    async def _send(self, batch: Sequence[Change]) -> None:
        try:
            *replies, copies = await self._wire.ask_all([*(command for command, _ in batch), pack(("WAIT", 1, WAIT_MS_MAX))])
        except Exception as error:
            replies, copies = [error] * len(batch), error
        for (_, future), reply in zip(batch, replies, strict=True):
            failure = next((part for part in (reply, copies) if isinstance(part, Exception)), None)
            if future.done():
                continue  # its caller was cancelled
            if failure is not None:
                future.set_exception(type(failure)(*failure.args))
            else:
                future.set_result((reply, copies))
