"""Child processes that cannot outlive us: the kernel ends them when our process ends, however it ends."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from cli.service_user import ServiceUser

PR_SET_PDEATHSIG = 1
GROUP_SECONDS_MAX = 5.0  # where nobody takes note of the dead, they stay in their group


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None]:
    """Return a preexec function: the kernel sends `death_signal` when our process ends.

    It runs in the child after the user was changed, because a change of user clears it.
    The parent's own id is checked afterwards, since it may have died in between.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)

    def arm() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal))
        if os.getppid() != parent:
            os._exit(1)

    return arm


def spawn(
    command: Sequence[str],
    log: Path | None,
    *,
    death_signal: signal.Signals,
    user: ServiceUser | None = None,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own (Ctrl-C reaches only the supervisor) that dies with us.

    It writes to the end of `log`, or where we write. Call it from the main thread: the kernel watches
    the thread that spawned, not the whole process.
    """
    with nullcontext(None) if log is None else open(log, "ab", opener=_private) as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
            preexec_fn=die_with_parent(death_signal),  # noqa: PLW1509  # it makes two system calls and takes no lock
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )


def end_group(leader: subprocess.Popen[str]) -> None:
    """Kill a process that began a session of its own and all that it started, and wait until none of them is left."""
    deadline = time.monotonic() + GROUP_SECONDS_MAX
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(leader.pid, signal.SIGKILL)
            leader.poll()
            time.sleep(0.01)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
