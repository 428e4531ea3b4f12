"""A reply that whoever awaits it hears of in the same turn of the loop. asyncio's own future lets a turn pass, with all that a turn costs."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from contextvars import Context, copy_context
from math import inf
from typing import Any

Callback = Callable[["PromptReply"], object]


class PromptReply:
    """What a task awaits as it would a future; cancelling it gives it up.

    Several are awaited by `all_of`: asyncio's own gathering looks into futures. `resolve` goes on with the waiting task
    there and then: it may be called from the loop alone (a protocol's or a timer's callback), never from within a task.
    An exception and a cancellation take a turn, so these may come from anywhere.

    Every request makes two of these. What nearly all have in common stands in the class, so that making one sets what is its own.
    """

    is_over = False  # as `done` tells, for those to whom a call is dear
    _asyncio_future_blocking = False
    _cancelled = False
    _value: Any = None
    _exception: BaseException | None = None
    _callback: Callback | None = None  # the first of those who wait, and nearly always the only one
    _context: Context
    _others: Sequence[tuple[Callback, Context]] = ()

    def __init__(self, loop: asyncio.AbstractEventLoop, overdue_at: float = inf) -> None:
        """`overdue_at` is a note of whoever promised the reply: by when it should be here."""
        self._loop, self.overdue_at = loop, overdue_at

    def resolve(self, value: Any) -> None:
        """Here is the reply."""
        self._value, self.is_over = value, True
        if self._callback is None:
            return
        callback, others, self._callback, self._others = self._callback, self._others, None, ()
        self._context.run(callback, self)
        for other, context in others:
            context.run(other, self)

    def set_exception(self, error: BaseException) -> None:
        """There will be none, and this is why."""
        self._exception = error
        self._end()

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002  # asyncio's signature
        """Give the reply up; False where it is too late."""
        if self.is_over:
            return False
        self._cancelled = True
        self._end()
        return True

    def _end(self) -> None:
        self.is_over = True
        if self._callback is None:
            return
        callbacks = ((self._callback, self._context), *self._others)
        self._callback, self._others = None, ()
        for callback, context in callbacks:
            self._loop.call_soon(callback, self, context=context)

    # What asyncio asks of a future

    def done(self) -> bool:
        return self.is_over

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
        if self.is_over:
            self._loop.call_soon(callback, self, context=context)
        elif self._callback is None:
            self._callback, self._context = callback, context or copy_context()
        else:
            self._others = (*self._others, (callback, context or copy_context()))

    def remove_done_callback(self, callback: Callback) -> int:
        if self._callback is None:
            return 0
        before = ((self._callback, self._context), *self._others)
        kept = [pair for pair in before if pair[0] != callback]
        self._callback, self._others = None, kept[1:]
        if kept:
            self._callback, self._context = kept[0]
        return len(before) - len(kept)

    def __await__(self) -> Generator["PromptReply", None, Any]:
        if not self.is_over:
            self._asyncio_future_blocking = True
            yield self
        if self._cancelled or self._exception is not None:
            return self.result()
        return self._value


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
