"""Starting, pinning, measuring and stopping processes, each by its own id."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 60.0


class BenchError(Exception):
    """Something that is measured did not work; the text says what."""


class Absent(BenchError):
    """A system that cannot be measured here; the text says why."""


def unwind_on_sigterm() -> None:
    """Let a measurement that is told to end stop what it has started."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def start(command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own, its output in `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to stop, and end it when it does not."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now; all are held open together so that none repeats."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until something listens.

    Raises:
        BenchError: the process ended or was not in time; the text ends with its last words.
    """
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise BenchError(f"nothing listens on port {port}; {process.args!r} said:\n{log.read_text(errors='replace')[-2000:]}")


def wait_for_answer(port: int, path: str, process: subprocess.Popen[bytes], log: Path, *, seconds_max: float = START_SECONDS_MAX) -> None:
    """Wait until a GET is answered with 200.

    Raises:
        BenchError: the process ended or was not in time; the text ends with its last words.
    """
    deadline = time.monotonic() + seconds_max
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy the environment names
    while time.monotonic() < deadline and process.poll() is None:
        try:
            opener.open(f"http://127.0.0.1:{port}{path}", timeout=10).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise BenchError(f"{path} was not answered; {process.args!r} said:\n{log.read_text(errors='replace')[-2000:]}")


def wait_for_children(process: subprocess.Popen[bytes], count: int) -> None:
    """Wait until a process has so many others below it.

    Raises:
        BenchError: it was not in time.
    """
    deadline = time.monotonic() + START_SECONDS_MAX
    while len(descendants(process.pid)) < count:
        if time.monotonic() > deadline or process.poll() is not None:
            raise BenchError(f"{process.args!r} has not started its {count} processes")
        time.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """Return the command line of every living process below `pid`."""
    found: dict[int, str] = {}
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = [int(child) for child in children.read_text().split()]
            found |= {child: Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace") for child in below}
        except OSError:
            continue
        for child in below:
            found |= descendants(child)
    return found


def pin(pids: Iterable[int], cores: set[int]) -> None:
    """Keep all threads of the processes on some cores."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                os.sched_setaffinity(int(task.name), cores)
            except ProcessLookupError:
                continue


def cpu_ms(pids: Iterable[int]) -> float:
    """Return the time that all threads of the processes have run, in ms."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            try:
                total += int(task.read_text().split()[0])
            except OSError:
                continue
    return total / 1e6


def resident_mb(pids: Iterable[int]) -> float:
    """Return the resident size of the processes now, summed, in MB."""
    return sum(_status_kb(pid, "VmRSS:") for pid in pids) / 1024


def open_files(pids: Iterable[int]) -> int:
    """Return how many files and sockets the processes have open."""
    return sum(sum(1 for _ in Path(f"/proc/{pid}/fd").glob("*")) for pid in pids)


def memory_mb(pids: Iterable[int]) -> float:
    """Return the largest resident size that the processes have had, summed, in MB."""
    return sum(_status_kb(pid, "VmHWM:") for pid in pids) / 1024


def _status_kb(pid: int, field: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/status").read_text().split(field)[1].split()[0])
    except (OSError, IndexError):  # it has ended
        return 0
