"""One appliance per home: two locks that the kernel lets go when their holders are gone, so that nothing is left behind.

The supervisor alone holds the lock on the home. The lock on the socket folder is handed to every
child too, so it is free only when nothing of an earlier appliance runs any more, however that ended.
"""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

POLL_SECONDS = 0.1
LEFTOVER_SECONDS_MAX = 90.0  # longer than workers drain and stores take to stop


class HomeInUse(Exception):
    """Another appliance runs on this home; the text names it."""


class HomeLock:
    """The two locks of one home; `children_fd` is to be passed to every child."""

    def __init__(self, home_fd: int, children_fd: int) -> None:
        self._home_fd, self.children_fd = home_fd, children_fd

    @classmethod
    def take(cls, home: Path, sockets: Path, *, say_waiting: Callable[[], None]) -> Self:
        """Take both locks; waits for the children of a supervisor that was killed.

        Raises:
            HomeInUse: an appliance runs, or what is left of one does not end.
        """
        home_fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
        children_fd = os.open(sockets, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not _lock_within(home_fd, 1.0):
                raise HomeInUse(f"an appliance is already running on {home}; stop it, or choose another folder with --home (LEVEL5_HOME)")
            if not _try_lock(children_fd):
                say_waiting()
                if not _lock_within(children_fd, LEFTOVER_SECONDS_MAX):
                    raise HomeInUse(f"processes of an earlier appliance on {home} are still running; end them and start again")
        except BaseException:
            os.close(home_fd)
            os.close(children_fd)
            raise
        return cls(home_fd, children_fd)

    def release(self) -> None:
        """Let another appliance start."""
        os.close(self.children_fd)
        os.close(self._home_fd)


def is_running(home: Path) -> bool:
    """Tell whether an appliance runs on this home."""
    try:
        descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_within(descriptor: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _try_lock(descriptor):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
