"""Counts of a path that is run through thousands of times a second: gathered in memory, written to the metrics a moment later.

A count in a metrics file costs a lock and two writes, whether it adds one or a hundred. What a process that is killed had gathered
in its last moment is lost to the metrics; it is in no books.
"""

import asyncio
from bisect import bisect_left
from collections import Counter as Multiset
from collections.abc import Callable, Iterable
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

WRITE_SECONDS: Final = 0.25


class Tallies:
    """What one process has counted and not yet written. Used from its loop's thread alone."""

    def __init__(self) -> None:
        self._gathered: dict[Callable[[list[Any]], None], list[Any]] = {}
        self._counts: dict[Counter, float] = {}
        self._values: dict[Histogram, list[float]] = {}
        self._states: dict[Gauge, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the one that will write; None when nothing waits

    def gather[Figures](self, count_all: Callable[[list[Figures]], None], figures: Figures) -> None:
        """Keep what has happened as it is; a moment later `count_all` gets all of it at once and counts it here, in a few sums."""
        gathered = self._gathered.get(count_all)
        if gathered is None:
            gathered = self._gathered[count_all] = []
        gathered.append(figures)
        if self._loop is None or self._loop is not asyncio._get_running_loop():
            self._schedule()

    def count(self, counter: Counter, amount: float = 1) -> None:
        """Add to a counter."""
        counts = self._counts
        counts[counter] = counts.get(counter, 0) + amount
        if self._loop is None or self._loop is not asyncio._get_running_loop():
            self._schedule()

    def observe(self, histogram: Histogram, value: float) -> None:
        """Add a value to a histogram."""
        self.observe_all(histogram, (value,))

    def observe_all(self, histogram: Histogram, observed: Iterable[float]) -> None:
        """Add values to a histogram."""
        values = self._values.get(histogram)
        if values is None:
            values = self._values[histogram] = []
        values += observed
        if self._loop is None or self._loop is not asyncio._get_running_loop():
            self._schedule()

    def show(self, gauge: Gauge, value: float) -> None:
        """Let a gauge stand at a value."""
        self._states[gauge] = value
        if self._loop is None or self._loop is not asyncio._get_running_loop():
            self._schedule()

    def write(self) -> None:
        """Write what was gathered."""
        gathered, self._gathered = self._gathered, {}
        for count_all, figures in gathered.items():
            count_all(figures)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None
        counts, self._counts = self._counts, {}
        values, self._values = self._values, {}
        states, self._states = self._states, {}
        for gauge, value in states.items():
            gauge.set(value)
        for counter, amount in counts.items():
            counter.inc(amount)
        for histogram, observed in values.items():
            _observe_all(histogram, observed)

    def _schedule(self) -> None:
        """Have it written a moment later, also where the loop that was to do it is another one, and perhaps gone."""
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write()  # no loop would do it later
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(WRITE_SECONDS, self.write)


def _observe_all(histogram: Any, observed: list[float]) -> None:
    """Do what `Histogram.observe` does, for several values at once, for which the library has no call."""
    histogram._sum.inc(sum(observed))
    for index, count in Multiset(bisect_left(histogram._upper_bounds, value) for value in observed).items():
        histogram._buckets[index].inc(count)


tallies: Final = Tallies()
