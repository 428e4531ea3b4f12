"""The WebSocket side: one connection with its subscriptions, and the queue of what it is still to be sent."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from sandbox.chain.arguments import INVALID_PARAMS, Arguments, RpcError
from sandbox.chain.methods import answer, error_answer, read_body
from sandbox.chain.provider import Provider
from sandbox.chain.records import Record
from sandbox.chain.subscriptions import Subscription, already, news, read_subscription

WAITING_MAX: Final = 10_000  # messages for one connection; a client that reads more slowly than this is cut off
SUBSCRIPTIONS_MAX: Final = 1_000
TOO_SLOW: Final = 1008

numbers = itertools.count(1)


class SocketSession:
    """One client's connection to one provider."""

    def __init__(self, provider: Provider, connection: ServerConnection) -> None:
        self._provider, self._connection = provider, connection
        self._subscriptions: dict[int, Subscription] = {}
        self._waiting: asyncio.Queue[str] = asyncio.Queue(WAITING_MAX)
        self._overflown = asyncio.Event()

    async def run(self) -> None:
        """Answer requests and send notifications until the client goes."""
        with suppress(ConnectionClosed):
            async with asyncio.TaskGroup() as group:
                helpers = [group.create_task(self._write()), group.create_task(self._give_up())]
                async for message in self._connection:
                    self._send(self._answer(message if isinstance(message, bytes) else message.encode()))
                for helper in helpers:
                    helper.cancel()

    def tell(self, landed: Record | None) -> None:
        """Send what the subscriptions want to know, with what is wrong with the provider's sockets."""
        for one in list(self._subscriptions.values()):
            self._notify(one, list(news(self._provider, one, landed)))

    def _notify(self, one: Subscription, results: Sequence[Any]) -> None:
        faults = self._provider.faults
        if one.ended:
            self._subscriptions.pop(one.number, None)
        if faults.socket_silent:
            return
        for result in results:
            message = {"jsonrpc": "2.0", "method": f"{one.kind}Notification", "params": {"result": result, "subscription": one.number}}
            for _ in range(faults.socket_copies):
                if faults.socket_late_seconds:
                    asyncio.get_running_loop().call_later(faults.socket_late_seconds, self._send, message)
                else:
                    self._send(message)

    def _send(self, message: Any) -> None:
        try:
            self._waiting.put_nowait(json.dumps(message, separators=(",", ":")))
        except asyncio.QueueFull:
            self._overflown.set()

    async def _write(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                await self._connection.send(await self._waiting.get())

    async def _give_up(self) -> None:
        await self._overflown.wait()
        await self._connection.close(TOO_SLOW, "too slow")

    def _answer(self, body: bytes) -> Any:
        try:
            asked = read_body(body)
        except RpcError as error:
            return error_answer(None, error)
        return [self._answer_one(one) for one in asked] if isinstance(asked, list) else self._answer_one(asked)

    def _answer_one(self, asked: Any) -> Any:
        method = asked.get("method") if isinstance(asked, dict) else None
        if not isinstance(method, str) or not method.endswith(("Subscribe", "Unsubscribe")):
            return answer(self._provider, asked)
        try:
            given = Arguments(asked.get("params"))
            result = self._unsubscribe(given) if method.endswith("Unsubscribe") else self._subscribe(method, given)
        except RpcError as error:
            return error_answer(asked.get("id"), error)
        if result is None:
            return answer(self._provider, asked)
        return {"jsonrpc": "2.0", "result": result, "id": asked.get("id")}

    def _subscribe(self, method: str, given: Arguments) -> int | None:
        if len(self._subscriptions) >= SUBSCRIPTIONS_MAX:
            raise RpcError(INVALID_PARAMS, "too many subscriptions")
        one = read_subscription(self._provider, method, given=given, number=next(numbers))
        if one is None:
            return None
        self._provider.asked(method)
        self._subscriptions[one.number] = one
        # The client must know the number before the first notification comes.
        asyncio.get_running_loop().call_soon(lambda: self._notify(one, list(already(self._provider, one))))
        return one.number

    def _unsubscribe(self, given: Arguments) -> bool:
        if self._subscriptions.pop(given.number(0), None) is None:
            raise RpcError(INVALID_PARAMS, "Invalid subscription id.")
        return True
