"""A process of its own that is killed, as by `kill -9`, right before the k-th thing it wants of a store."""

import asyncio
import os
import signal
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import asyncpg

from ledger.balances import Balances, connect_redis
from ledger.deposits import Deposits
from ledger.journal import open_pool

STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table")
CHILD_SECONDS_MAX = 60

type Work = Callable[..., Awaitable[object]]


class Clock:
    """Counts down with everything that is asked of a store; at zero the process is gone."""

    def __init__(self, left: int) -> None:
        self.left = left

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(self, owner: type, name: str) -> None:
        call = getattr(owner, name)

        async def counted(this: Any, *arguments: Any, **options: Any) -> Any:
            self.tick()
            return await call(this, *arguments, **options)

        setattr(owner, name, counted)


def _child(work: Work, stores: tuple[str, str], lives: int, arguments: tuple[object, ...]) -> NoReturn:
    try:
        asyncio.run(_work(work, stores, lives, arguments))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


async def _work(work: Work, stores: tuple[str, str], lives: int, arguments: tuple[object, ...]) -> None:
    pool, redis = await open_pool(stores[0]), connect_redis(stores[1], command_seconds_max=10)
    balances = Balances(redis, instance="")
    await balances.load()
    clock = Clock(lives)
    for name in STATEMENTS:
        clock.watch(asyncpg.Connection, name)
    for name in ("read_all_meta", "apply_change"):
        clock.watch(Balances, name)
    await work(Deposits(pool, balances), *arguments)
    os._exit(0)  # it says no goodbye either


async def survives(work: Work, *arguments: object, stores: tuple[str, str], lives: int) -> bool:
    """Let a process do `work(deposits, *arguments)` and kill it before its store call number `lives`; True where it came to its end first.

    It is forked, for to import everything anew takes a hundred times as long as what it does. It touches nothing of the loop that it was forked in.
    """
    child = os.fork()
    if child == 0:
        _child(work, stores, lives, arguments)
    ending, ended = os.pidfd_open(child), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(ending, ended.set)
    try:
        async with asyncio.timeout(CHILD_SECONDS_MAX):
            await ended.wait()
    except BaseException:
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        loop.remove_reader(ending)
        os.close(ending)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])  # noqa: ASYNC222  # it has ended
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the child ended with {code}")
    return code == 0
