"""How often and when one provider may be asked: its rate, and its rest after failures. The clock comes in, so that tests can turn it."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

BURST_SECONDS: Final = 1.0  # as many calls as this time allows may be made at once
FAILURES_BEFORE_REST: Final = 3
REST_SECONDS_MIN: Final = 0.5
REST_SECONDS_MAX: Final = 60.0

type Clock = Callable[[], float]
type Sleep = Callable[[float], Awaitable[object]]


class TokenBucket:
    """Lets through so many calls a second, in the order in which they came."""

    def __init__(self, per_second: float, *, clock: Clock = time.monotonic, sleep: Sleep = asyncio.sleep) -> None:
        self._interval, self._clock, self._sleep = 1 / per_second, clock, sleep
        self._burst = max(BURST_SECONDS, self._interval)
        self._due = clock() - self._burst  # when the last call let through would have been at a steady pace

    async def take(self) -> None:
        """Return when one more call may be made."""
        now = self._clock()
        self._due = max(self._due, now - self._burst) + self._interval
        if self._due > now:
            await self._sleep(self._due - now)

    @property
    def is_idle(self) -> bool:
        """Whether half of a burst or more is left: a call that is not strictly needed delays nobody."""
        return self._clock() - self._due >= self._burst / 2


class Rest:
    """Leaves a provider alone: for as long as it asks, or for growing times after several failures on end."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock, self._until = clock, clock()
        self.failures = 0

    @property
    def seconds(self) -> float:
        """How long it is still to be left alone."""
        return max(0.0, self._until - self._clock())

    def note_success(self) -> None:
        """It answered."""
        self.failures = 0

    def note_failure(self) -> None:
        """It did not answer, or not in its right mind; after some such calls it rests."""
        self.failures += 1
        if self.failures >= FAILURES_BEFORE_REST:
            self._extend(self._growing())

    def note_throttled(self, retry_after: float | None) -> None:
        """It asked to be left alone. Others ask it too, so all come back at slightly different times."""
        self.failures += 1
        self._extend(self._growing() if retry_after is None else retry_after * random.uniform(1.0, 1.2))  # noqa: S311

    def _growing(self) -> float:
        doublings = min(max(self.failures - FAILURES_BEFORE_REST, 0), 10)
        return min(REST_SECONDS_MIN * (1 << doublings), REST_SECONDS_MAX) * random.uniform(0.5, 1.0)  # noqa: S311

    def _extend(self, seconds: float) -> None:
        self._until = max(self._until, self._clock() + seconds)
