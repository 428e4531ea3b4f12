"""A reply that whoever awaits it hears of in the same turn of the loop. asyncio's own future lets a turn pass, with all that a turn costs."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any

Callback = Callable[["PromptReply"], object]


class PromptReply:
    """What a task awaits as it would a future; cancelling it gives it up.

    Several are awaited by `all_of`: asyncio's own gathering looks into futures. `resolve` goes on with the waiting task
    there and then: it may be called from the loop alone (a protocol's or a timer's callback), never from within a task.
    An exception and a cancellation take a turn, so these may come from anywhere.
    """

    __slots__ = ("_asyncio_future_blocking", "_callbacks", "_cancelled", "_done", "_exception", "_loop", "_value")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._asyncio_future_blocking = loop, False
        self._callbacks: list[tuple[Callback, Context]] = []
        self._done = self._cancelled = False
        self._value: Any = None
        self._exception: BaseException | None = None

    def resolve(self, value: Any) -> None:
        """Here is the reply."""
        self._value, self._done = value, True
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            context.run(callback, self)

    def set_exception(self, error: BaseException) -> None:
        """There will be none, and this is why."""
        self._exception = error
        self._end()

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002  # asyncio's signature
        """Give the reply up; False where it is too late."""
        if self._done:
            return False
        self._cancelled = True
        self._end()
        return True

    def _end(self) -> None:
        self._done = True
        callbacks, self._callbacks = self._callbacks, []
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)

    # What asyncio asks of a future

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._cancelled

    def exception(self) -> BaseException | None:
        if self._cancelled:
            raise asyncio.CancelledError
        return self._exception

    def result(self) -> Any:
        if self._cancelled:
            raise asyncio.CancelledError
        if self._exception is not None:
            raise self._exception
        return self._value

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def add_done_callback(self, callback: Callback, *, context: Context | None = None) -> None:
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callbacks.append((callback, context or copy_context()))

    def remove_done_callback(self, callback: Callback) -> int:
        before = len(self._callbacks)
        self._callbacks = [kept for kept in self._callbacks if kept[0] != callback]
        return before - len(self._callbacks)

    def __await__(self) -> Generator["PromptReply", None, Any]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()


async def all_of(replies: Sequence[PromptReply]) -> list[Any]:
    """Return the values of all replies, and the exceptions of those that have none. Cancelled, it gives up what has not come."""
    results: list[Any] = []
    try:
        for reply in replies:
            try:
                results.append(await reply)
            except Exception as error:
                results.append(error)
    finally:
        for reply in replies[len(results) :]:
            reply.cancel()
    return results
