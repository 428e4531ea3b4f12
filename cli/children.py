"""The supervisor's children: started, started again with growing pauses when they die, stopped in order."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PAUSE_SECONDS_MIN = 0.2
PAUSE_SECONDS_MAX = 30.0
HEALTHY_SECONDS = 30.0  # one that lived this long begins again with the shortest pause
LOG_BYTES_MAX = 32 * 1024 * 1024
LOG_TAIL_CHARACTERS = 1500


@dataclass(slots=True)
class Child:
    """One child process and what became of its earlier lives. `start` spawns it."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    log: Path | None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds_max: float = 30.0
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    started_at: float = 0.0
    next_start_at: float = 0.0
    last_ending: str = field(default="")

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def run(self, now: float) -> None:
        """Start it."""
        self.process = self.start()
        self.started_at = now

    def notice_ending(self, now: float) -> str:
        """Record that it ended and when to start it again; return how it ended, in words."""
        code = self.process.returncode if self.process is not None else None
        self.failures = 1 if now - self.started_at > HEALTHY_SECONDS else self.failures + 1
        self.next_start_at = now + min(PAUSE_SECONDS_MIN * 2 ** (self.failures - 1), PAUSE_SECONDS_MAX)
        self.process = None
        self.last_ending = describe_ending(code)
        return self.last_ending

    def send_stop(self) -> None:
        """Ask it to stop."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)

    def log_tail(self) -> str:
        """Return the last words of its log, where it has one of its own."""
        if self.log is None:
            return ""
        try:
            return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:].strip()
        except OSError:
            return ""


def describe_ending(code: int | None) -> str:
    """Return how a process ended: "was killed by SIGKILL", "ended with code 1"."""
    if code is None:
        return "could not be started"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}" if -code in signal.valid_signals() else f"was killed by signal {-code}"
    return f"ended with code {code}"


def tend(children: Sequence[Child], now: float, *, say: Callable[[str], None]) -> None:
    """Notice which children ended and start those whose pause is over."""
    for child in children:
        if child.process is not None and child.process.poll() is not None:
            ending = child.notice_ending(now)
            pause = child.next_start_at - now
            say(f"{child.name} {ending}; starting it again in {pause:.1f} s{f' (log: {child.log})' if child.log else ''}")
        if child.process is None and now >= child.next_start_at:
            _start_again(child, now, say=say)


def _start_again(child: Child, now: float, *, say: Callable[[str], None]) -> None:
    try:
        child.run(now)
    except (OSError, subprocess.SubprocessError) as error:
        child.notice_ending(now)
        say(f"{child.name} could not be started: {error}")


def stop_together(children: Sequence[Child], *, is_urgent: Callable[[], bool]) -> list[str]:
    """Ask all to stop and wait for them; return the names of those that had to be killed.

    Each has its own time; when `is_urgent` turns true (the operator asked twice) nobody has any left.
    """
    for child in children:
        child.send_stop()
    begun = time.monotonic()
    killed = []
    for child in children:
        while child.is_alive:
            if is_urgent() or time.monotonic() - begun > child.stop_seconds_max:
                _kill(child)
                killed.append(child.name)
                break
            time.sleep(0.02)
    return killed


def _kill(child: Child) -> None:
    if child.process is not None:
        child.process.kill()
        child.process.wait()


def rotate_log(path: Path) -> None:
    """Move a log that grew too long to `<name>.1` by copying: its writer keeps the file open."""
    try:
        if path.stat().st_size <= LOG_BYTES_MAX:
            return
        with path.open("r+b") as log, path.with_name(f"{path.name}.1").open("wb") as earlier:
            while block := log.read(1024 * 1024):
                earlier.write(block)
            log.truncate(0)
    except OSError:
        return  # a log that cannot be moved must not stop the appliance
