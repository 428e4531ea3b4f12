"""A process of its own that is killed, as by `kill -9`, right before the k-th thing it wants of a store."""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

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


def _child(work: Work, stores: tuple[str, str], lives: int, arguments: tuple[object, ...]) -> None:
    asyncio.run(_work(work, stores, lives, arguments))


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
    os._exit(0)


async def survives(work: Work, *arguments: object, stores: tuple[str, str], lives: int) -> bool:
    """Let a process do `work(deposits, *arguments)` and kill it before its store call number `lives`; True where it came to its end first."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    child = context.Process(target=_child, args=(work, stores, lives, arguments))
    child.start()
    try:
        await asyncio.to_thread(child.join, CHILD_SECONDS_MAX)
        if child.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the child ended with {child.exitcode}")
        return child.exitcode == 0
    finally:
        child.kill()
        await asyncio.to_thread(child.join)
        child.close()
