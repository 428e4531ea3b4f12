"""How the supervisor hears of signals: a request to stop, and that a child ended."""

import os
import select
import signal
from types import FrameType


class StopRequested(BaseException):
    """The operator asked to stop while the appliance was starting."""


class SignalWatch:
    """Counts requests to stop (SIGINT, SIGTERM, SIGHUP) and wakes the supervisor for them and for ended children.

    While `raises` is true a request interrupts whatever goes on; later it is only counted.
    """

    def __init__(self) -> None:
        self.requests = 0
        self.raises = True
        self._reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._count)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, so that the wake-up pipe is written to

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.requests += 1
        if self.raises:
            self.raises = False
            raise StopRequested

    def is_urgent(self) -> bool:
        """Tell whether the operator asked more than once."""
        return self.requests > 1

    def wait(self, seconds: float) -> None:
        """Sleep until a signal arrives, `seconds` at most."""
        ready, _, _ = select.select([self._reader], [], [], seconds)
        if ready:
            os.read(self._reader, 4096)
