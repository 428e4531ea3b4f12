"""Whether a provider is worth dialling: after several failures in a row it is left alone for a moment. Pure; the clock comes in.

Without this every request to a provider that is away waits its whole connect time, and holds money meanwhile.
"""

from typing import Final

FAILURES_MAX: Final = 5
PAUSE_SECONDS: Final = 1.0
PAUSE_SECONDS_MAX: Final = 15.0


class Circuit:
    """One address. Closed it lets every dial through; open, none; after the pause a single one, whose ending decides."""

    __slots__ = ("_failures", "_pause", "_probing", "_until")

    def __init__(self) -> None:
        self._failures, self._pause, self._until, self._probing = 0, PAUSE_SECONDS, 0.0, False

    @property
    def is_open(self) -> bool:
        """Whether dials are refused, but for the one that tries."""
        return self._failures >= FAILURES_MAX

    def lets_through(self, now: float) -> bool:
        """Tell whether to dial at `now`; whoever is let through must say how it ended."""
        if not self.is_open:
            return True
        if now < self._until or self._probing:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """A dial was answered."""
        self._failures, self._pause, self._probing = 0, PAUSE_SECONDS, False

    def failed(self, now: float) -> None:
        """A dial was not answered. Those that began before the circuit opened do not lengthen its pause."""
        if self.is_open and not self._probing:
            return
        if self._probing:
            self._pause = min(self._pause * 2, PAUSE_SECONDS_MAX)
        self._failures, self._probing = self._failures + 1, False
        self._until = now + self._pause

    def abandoned(self) -> None:
        """A dial was given up before it ended, by nobody's fault."""
        self._probing = False
