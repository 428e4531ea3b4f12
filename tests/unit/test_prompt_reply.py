"""A reply that is heard of in the same turn of the loop, and is otherwise what asyncio takes for a future."""

import asyncio
from typing import Any

import pytest

from ledger.prompt_reply import PromptReply, all_of


def a_reply() -> PromptReply:
    return PromptReply(asyncio.get_running_loop())


async def waiting_on(reply: PromptReply) -> "asyncio.Task[Any]":
    async def wait() -> Any:
        return await reply

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    return task


async def test_whoever_waits_goes_on_in_the_same_turn() -> None:
    reply, heard = a_reply(), []

    async def wait() -> None:
        heard.append(await reply)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(lambda: (reply.resolve(b"answer"), heard.append("next")))
    await task

    assert heard == [b"answer", "next"]


async def test_a_reply_that_is_there_already_is_returned_at_once() -> None:
    reply = a_reply()
    reply.resolve(7)

    assert await reply == 7


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    reply = a_reply()
    task = await waiting_on(reply)

    reply.set_exception(ConnectionError("lost"))

    with pytest.raises(ConnectionError, match="lost"):
        await task


async def test_a_waiter_that_is_cancelled_gives_the_reply_up() -> None:
    reply = a_reply()
    task = await waiting_on(reply)

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert reply.cancelled()
    assert reply.done()
    assert not reply.cancel()


async def test_of_several_all_values_and_errors_are_returned_in_order() -> None:
    first, second, third = a_reply(), a_reply(), a_reply()
    loop, error = asyncio.get_running_loop(), ValueError("no")

    loop.call_soon(third.resolve, 3)
    loop.call_soon(second.set_exception, error)
    loop.call_soon(first.resolve, 1)

    assert await all_of([first, second, third]) == [1, error, 3]


async def test_waiting_for_several_ends_with_its_time_limit() -> None:
    first, second = a_reply(), a_reply()
    first.resolve(1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await all_of([first, second])

    assert second.cancelled()


async def test_a_time_limit_ends_the_waiting() -> None:
    reply = a_reply()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await reply

    assert reply.cancelled()


async def test_what_the_waiter_does_next_sees_its_own_context() -> None:
    import contextvars

    name: contextvars.ContextVar[str] = contextvars.ContextVar("name")
    reply, seen = a_reply(), []

    async def wait() -> None:
        name.set("waiter")
        await reply
        seen.append(name.get())

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    name.set("loop")
    asyncio.get_running_loop().call_soon(reply.resolve, None)
    await task

    assert seen == ["waiter"]
