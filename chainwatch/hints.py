"""Hints by WebSocket that something happened to the vault: poll now. Never more than a hint.

A socket may stay silent, tell twice, tell late, or tell of a fork that was dropped; polling alone is what finds payments.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog
from solana.rpc.commitment import Confirmed, Finalized
from solana.rpc.websocket_api import OverflowPolicy, SolanaWsClient
from solders.pubkey import Pubkey
from solders.rpc.config import RpcTransactionLogsFilterMentions

from chainwatch.rpc import host_of, is_of_this_machine

log = structlog.get_logger("chainwatch")

SILENCE_SECONDS_MAX: Final = 300.0  # sockets die without closing; a new one costs little
REQUEST_SECONDS_MAX: Final = 10.0
CLOSE_SECONDS_MAX: Final = 2.0
QUEUE_MAX: Final = 64
PAUSE_SECONDS_MIN: Final = 1.0
PAUSE_SECONDS_MAX: Final = 60.0


class Hints:
    """Listens to one WebSocket address and calls `hint` whenever the vault is spoken of."""

    def __init__(self, url: str, address: str, *, hint: Callable[[], None], silence_seconds_max: float = SILENCE_SECONDS_MAX) -> None:
        self._url, self._key, self._hint, self._silence = url, Pubkey.from_string(address), hint, silence_seconds_max
        self._pause = PAUSE_SECONDS_MIN

    async def run(self) -> None:
        """Listen until cancelled; connect again, with growing pauses, whenever that ends."""
        while True:
            try:
                await self._listen()
            except asyncio.CancelledError:
                raise
            except Exception as error:  # whatever a socket comes up with, polling goes on without it; its text may hold the address
                log.info("hints_stopped", provider=host_of(self._url), reason=type(error).__name__, pause_seconds=self._pause)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311
            self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)

    async def _listen(self) -> None:
        client = SolanaWsClient(
            self._url, request_timeout=REQUEST_SECONDS_MAX, notification_queue_size=QUEUE_MAX, overflow=OverflowPolicy.DROP_OLDEST,
            open_timeout=REQUEST_SECONDS_MAX, close_timeout=CLOSE_SECONDS_MAX, proxy=None if is_of_this_machine(self._url) else True,
        )  # fmt: skip
        async with client:
            await client.logs_subscribe(filter_=RpcTransactionLogsFilterMentions(self._key), commitment=Confirmed)
            with suppress(Exception):  # the other one alone is of use too
                await client.account_subscribe(pubkey=self._key, commitment=Finalized, encoding="base64")
            self._hint()  # something may have happened while nobody listened
            while True:
                async with asyncio.timeout(self._silence):
                    await client.recv()
                self._pause = PAUSE_SECONDS_MIN
                self._hint()
