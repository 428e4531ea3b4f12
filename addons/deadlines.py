"""Clocks that mitmproxy lacks: for connecting, for the first byte, for silence within an answer."""

import asyncio
from collections.abc import Callable

# A clock looks at least this often, so that a phase that begins within it needs no timer of its own: most requests need one in all.
LOOK_SECONDS = 5.0


class Watch:
    """One request's clock. It calls `fire(reason)` once when the time of its present phase is over."""

    __slots__ = ("_fire", "_handle", "_loop", "_reason", "_seconds", "_touched")

    def __init__(self, fire: Callable[[str], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._fire = fire
        self._handle: asyncio.TimerHandle | None = None
        self._reason, self._seconds, self._touched = "", 0.0, 0.0

    def start(self, reason: str, seconds: float) -> None:
        """Begin a phase; the one before it is over."""
        now = self._loop.time()
        self._reason, self._seconds, self._touched = reason, seconds, now
        if self._handle is not None:
            if self._handle.when() <= now + seconds:
                return  # it looks in time, and then sees how long it still is
            self._handle.cancel()
        self._handle = self._loop.call_at(now + min(seconds, LOOK_SECONDS), self._look)

    def touch(self) -> None:
        """Something came: the phase's time begins anew. Costs no timer."""
        self._touched = self._loop.time()

    def stop(self) -> None:
        """End the clock."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _look(self) -> None:
        left = self._touched + self._seconds - self._loop.time()
        if left > 0:
            self._handle = self._loop.call_later(min(left, LOOK_SECONDS), self._look)
            return
        self._handle = None
        self._fire(self._reason)


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
