"""Clocks that mitmproxy lacks: for connecting, for the first byte, for silence within an answer."""

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic

# A clock is looked at this often, so that a phase that is longer needs no timer of its own: all such clocks share one.
LOOK_SECONDS = 5.0
ROUND_SECONDS = 0.25  # between two looks of the shared timer


class Watch:
    """One request's clock. It calls `fire(reason)` once when the time of its present phase is over."""

    __slots__ = ("_fire", "_handle", "_reason", "_round", "_seconds", "listed_until", "touched_at")

    def __init__(self, fire: Callable[[str], None]) -> None:
        self._round = _round_of(asyncio.get_running_loop())
        self._fire: Callable[[str], None] | None = fire
        self._handle: asyncio.TimerHandle | None = None
        self._reason, self._seconds = "", inf
        self.touched_at = 0.0  # when something last came; set, the phase's time begins anew, which costs no timer
        self.listed_until: float | None = None  # when the shared timer looks at the latest, None where it does not

    def start(self, reason: str, seconds: float) -> None:
        """Begin a phase; the one before it is over."""
        now = monotonic()
        self._reason, self._seconds, self.touched_at = reason, seconds, now
        if seconds < LOOK_SECONDS:
            self._look_at(now + seconds)
        elif self.listed_until is None:
            self._round.add(self, now)  # where it is listed it is looked at sooner, and then sees how long it still is

    def stop(self) -> None:
        """End the phase; another may begin."""
        self._seconds = inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        """End the clock for good. It may be listed a while longer, and must not keep the request's memory so long."""
        self.stop()
        self._fire = None

    def look(self) -> None:
        """Fire if it is time to, or see to it that somebody looks again in time."""
        if self._fire is None or self._seconds == inf:
            return
        now = monotonic()
        left = self.touched_at + self._seconds - now
        if left <= 0:
            self._seconds = inf
            self._fire(self._reason)
        elif left < LOOK_SECONDS:
            self._look_at(now + left)
        elif self.listed_until is None:
            self._round.add(self, now)

    def _look_at(self, when: float) -> None:
        if self._handle is not None:
            if self._handle.when() <= when:
                return
            self._handle.cancel()
        self._handle = self._round.loop.call_at(when, self._look_alone)

    def _look_alone(self) -> None:
        self._handle = None
        self.look()


class Round:
    """One timer for the clocks of a loop: whoever is listed is looked at once, not later than `LOOK_SECONDS` after that."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._listed: deque[Watch] = deque()  # in the order in which they were listed, which is that of their looks
        self._timer: asyncio.TimerHandle | None = None

    def add(self, watch: Watch, now: float) -> None:
        """List a clock, unless it is listed."""
        watch.listed_until = now + LOOK_SECONDS
        self._listed.append(watch)
        if self._timer is None:
            self._timer = self.loop.call_at(now + LOOK_SECONDS - ROUND_SECONDS, self._go_round)

    def _go_round(self) -> None:
        listed, next_round = self._listed, monotonic() + ROUND_SECONDS
        try:
            while listed and (listed[0].listed_until or 0.0) <= next_round:
                watch = listed.popleft()
                watch.listed_until = None
                watch.look()
        finally:
            self._timer = self.loop.call_at(max(next_round, (listed[0].listed_until or 0.0) - ROUND_SECONDS), self._go_round) if listed else None


_round: Round | None = None  # a worker has one loop


def _round_of(loop: asyncio.AbstractEventLoop) -> Round:
    global _round
    if _round is None or _round.loop is not loop:
        _round = Round(loop)
    return _round


class ConnectClocks:
    """Limits how long a connection to a provider may take, TLS included; kept by server connection id."""

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def start(self, connection_id: str, seconds: float, *, give_up: Callable[[], None]) -> None:
        """Call `give_up` unless `stop` comes in time."""

        def expire() -> None:
            self._handles.pop(connection_id, None)
            give_up()

        self._handles[connection_id] = asyncio.get_running_loop().call_later(seconds, expire)

    def stop(self, connection_id: str) -> None:
        """The connection stands, or has failed otherwise."""
        handle = self._handles.pop(connection_id, None)
        if handle is not None:
            handle.cancel()
