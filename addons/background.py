"""Tasks that outlive the hook that began them: held by one group, bounded in number, waited for at the drain."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from telemetry.logs import log

TASKS_MAX = 20_000


class Background:
    """A task group that a failing task does not bring down."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], *, name: str, at_once: bool = False) -> "asyncio.Task[None]":
        """Run `work`, from the loop's next turn on or as far as it gets at once; what it raises is logged."""
        task = asyncio.Task(self._guard(work, name), loop=asyncio.get_running_loop(), name=name, eager_start=at_once)
        if task.done():
            return task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if len(self._tasks) > TASKS_MAX:
            log.error("too_many_background_tasks", count=len(self._tasks))
        return task

    async def _guard(self, work: Coroutine[Any, Any, None], name: str) -> None:
        try:
            await work
        except Exception:
            log.error("background_task_failed", task=name, exc_info=True)

    async def finish(self, seconds_max: float) -> None:
        """Wait for all tasks, for a limited time."""
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=seconds_max)
