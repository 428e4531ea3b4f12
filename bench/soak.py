"""Does anything grow? `python -m bench.soak [--requests 1000000] [--minutes 60]`.

A whole appliance serves JSON over connections kept alive, JSON with a new connection each, and paced streams, all at the same
time, until so many requests were answered and so many minutes have passed. What its worker and Valkey hold is looked at all the
while; afterwards the second quarter of that time is compared with the last one. Books and charges are checked at the end.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.charts import Line, draw_lines
from bench.measuring import read_balance, read_charge
from bench.page import replace_section, table, write_chart
from bench.processes import BenchError, open_files, pin, resident_mb, start, stop, unwind_on_sigterm
from bench.report import describe_machine
from bench.scenarios import Body, write_bodies
from bench.systems import System, compile_programs, run_level5, run_mock, verify_books
from cli.service_user import socket_path

RESULTS = Path(__file__).parent / "results"
LOOKS: Final = 240
LOOK_SECONDS_MIN: Final = 1.0
NEW_CONNECTION_SHARE: Final = 10  # one request in so many
KEPT_ALIVE: Final = 16
RENEWED: Final = 4
STREAMS: Final = 16
AT_ONCE: Final = KEPT_ALIVE + RENEWED + STREAMS  # as many connections to the provider as were ever needed at a time are kept open
STREAMS_MAX: Final = 2_000_000
HOURS_MAX: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was there at one moment. Sizes are in MB."""

    seconds: float
    requests: float
    worker_mb: float
    open_files: float
    tasks: float
    holds: float
    provider_connections: float
    keys: float  # that do not expire by themselves
    remembered: float  # those that do
    valkey_mb: float
    others_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """A figure that must not grow by more than `room`, or may grow for a reason that is told."""

    name: str
    says: str
    read: Callable[[Look], float]
    room: float | None
    why: str = ""


TRACKED: Final = (
    Tracked(name="worker_mb", says="memory of the worker, MB", read=lambda look: look.worker_mb, room=4.0),
    Tracked(name="open_files", says="files and sockets the worker has open", read=lambda look: look.open_files, room=AT_ONCE),
    Tracked(name="tasks", says="tasks of the worker", read=lambda look: look.tasks, room=8.0),
    Tracked(name="holds", says="holds open", read=lambda look: look.holds, room=8.0),
    Tracked(name="provider_connections", says="connections to the provider kept open", read=lambda look: look.provider_connections, room=AT_ONCE),
    Tracked(name="keys", says="keys in Valkey that do not expire", read=lambda look: look.keys, room=64.0),
    Tracked(
        name="remembered", says="keys in Valkey that expire", read=lambda look: look.remembered, room=None,
        why="an ended request is remembered for a quarter of an hour, so that nothing settles it twice",
    ),
    Tracked(
        name="valkey_mb", says="memory of Valkey, MB", read=lambda look: look.valkey_mb, room=None,
        why="it keeps what was posted for 48 hours, for a Postgres that is restored",
    ),
    Tracked(name="others_mb", says="memory of poster, control, watcher, sandbox and supervisor, MB", read=lambda look: look.others_mb, room=64.0),
)  # fmt: skip


class Watch:
    """Looks at an appliance from outside: at its processes, its metrics page and its Valkey."""

    def __init__(self, system: System) -> None:
        self._system, self._began = system, time.monotonic()
        self._metrics = f"http://127.0.0.1:{system.environment['LEVEL5_METRICS__PORT']}/metrics"
        self._valkey = socket_path(Path(system.environment["LEVEL5_HOME"]) / "sandbox") / "valkey.sock"
        commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in system.helpers}
        self._valkey_pids = [pid for pid, command in commands.items() if b"valkey" in command or b"redis-server" in command]
        # By the program itself: the embedded Postgres lies in a folder of Python's, and each of its processes counts the buffers that all share.
        self._others = [pid for pid, command in commands.items() if Path(command.partition(b"\0")[0].decode()).name.startswith("python")]

    def look(self) -> Look:
        """Return what is there now."""
        figures, (keys, expiring) = self._read_metrics(), self._count_keys()
        return Look(
            seconds=time.monotonic() - self._began,
            requests=figures.get("level5_requests_total", 0),
            worker_mb=resident_mb(self._system.pids) / len(self._system.pids),
            open_files=open_files(self._system.pids),
            tasks=figures.get("level5_worker_tasks", 0),
            holds=figures.get("level5_holds_open", 0),
            provider_connections=figures.get("level5_provider_connections_idle", 0),
            keys=keys - expiring,
            remembered=expiring,
            valkey_mb=resident_mb(self._valkey_pids),
            others_mb=resident_mb(self._others),
        )

    def _read_metrics(self) -> dict[str, float]:
        """Return each metric, summed over its labels."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self._metrics, timeout=30) as answer:
            lines = [line for line in answer.read().decode().splitlines() if line and not line.startswith("#")]
        found: dict[str, float] = {}
        for line in lines:
            place, _, value = line.rpartition(" ")
            name = place.partition("{")[0]
            found[name] = found.get(name, 0.0) + float(value)
        return found

    def _count_keys(self) -> tuple[int, int]:
        with socket.socket(socket.AF_UNIX) as valkey:
            valkey.settimeout(10)
            valkey.connect(str(self._valkey))
            valkey.sendall(b"INFO keyspace\r\n")
            told = valkey.recv(4096).decode()
        counts = dict(part.split("=") for line in told.splitlines() if line.startswith("db0:") for part in line.removeprefix("db0:").split(","))
        return int(counts.get("keys", 0)), int(counts.get("expires", 0))


def soak(system: System, load: Path, folder: Path, *, requests: int, minutes: float) -> tuple[list[Look], list[dict[str, float]]]:
    """Put all loads on an appliance and look at it until they have ended; return the looks and what each load has told."""
    bodies, cores = write_bodies(folder), sorted(os.sched_getaffinity(0))
    others = set(cores[:-1]) or set(cores)
    pin(system.pids, {cores[-1]})
    pin(system.helpers, others)
    fresh = requests // NEW_CONNECTION_SHARE
    rate, again = (requests - fresh) / (minutes * 60), fresh / (minutes * 60)  # spread over the whole time, so that its quarters are alike
    loads = (
        (Body.JSON, (str(KEPT_ALIVE), str(requests - fresh), str(HOURS_MAX * 3600), "-r", str(rate))),
        (Body.JSON, (str(RENEWED), str(fresh), str(HOURS_MAX * 3600), "-n", "-r", str(again))),
        (Body.PACED, (str(STREAMS), str(STREAMS_MAX), str(minutes * 60), "-s", "600")),
    )
    running = []
    for number, (body, arguments) in enumerate(loads):
        log = folder / f"load-{number}.log"
        running.append((start([str(load), str(system.port), system.path, str(bodies[body]), *arguments], log), log))
        pin([running[-1][0].pid], others)
    try:
        looks = list(_look_until_ended(Watch(system), [process for process, _ in running], pause=max(minutes * 60 / LOOKS, LOOK_SECONDS_MIN)))
    finally:
        for process, _ in running:
            stop(process)
    return looks, [json.loads(log.read_text()) for _, log in running]


def _look_until_ended(watch: Watch, running: Sequence[subprocess.Popen[bytes]], *, pause: float) -> Iterator[Look]:
    while any(process.poll() is None for process in running):
        look = watch.look()
        if len(running) and int(look.seconds / pause) % 20 == 0:
            print(f"{look.seconds:,.0f} s: {look.requests:,.0f} requests, worker {look.worker_mb:.0f} MB", file=sys.stderr, flush=True)
        yield look
        time.sleep(pause)


def compare_quarters(looks: Sequence[Look], tracked: Tracked) -> tuple[float, float]:
    """Return the median of the second quarter of the time and that of the last, in which everything is under way as in the second."""
    end = looks[-1].seconds
    second = [tracked.read(look) for look in looks if end / 4 <= look.seconds <= end / 2]
    last = [tracked.read(look) for look in looks if look.seconds >= end * 3 / 4]
    if not second or not last:
        raise BenchError("the soak was too short to say anything")
    return statistics.median(second), statistics.median(last)


def find_faults(looks: Sequence[Look]) -> list[str]:
    """Return what has grown though nothing is to be kept."""
    faults = []
    for tracked in TRACKED:
        before, after = compare_quarters(looks, tracked)
        if tracked.room is not None and after > before + tracked.room:
            faults.append(f"{tracked.says}: grew from {before:,.1f} to {after:,.1f}")
    return faults


def write_section(page: Path, looks: Sequence[Look], *, answered: int, faults: Sequence[str]) -> None:
    """Write the soak's section of the page, with its chart."""
    lines = [Line(title=tracked.says, points=tuple((look.seconds, tracked.read(look)) for look in looks)) for tracked in TRACKED]
    chart = write_chart(page, "soak", draw_lines(lines, title="One worker over the whole soak"))
    machine = describe_machine()
    said = f"{machine['day']}: {answered:,} requests in {looks[-1].seconds / 60:.0f} minutes, streams all the while, on {machine['cores']} cores."
    rows = []
    for tracked in TRACKED:
        before, after = compare_quarters(looks, tracked)
        rows.append([tracked.says, f"{before:,.1f}", f"{after:,.1f}", tracked.why or f"may differ by {tracked.room:g}"])
    ending = "\n".join(f"- Fault: {fault}" for fault in faults) or "Nothing has grown; no request failed, every answer was charged, and the books were whole."
    head = table(("figure", "second quarter", "last quarter", ""), rows)
    replace_section(page, "soak", "\n".join([said, "", *head, "", f"![What one worker holds]({chart})", "", ending]))


def run(*, requests: int, minutes: float, page: Path | None) -> int:
    """Soak, print and keep the figures; return the exit code."""
    RESULTS.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l5soak-")))
        programs = compile_programs(folder)
        mock = stack.enter_context(run_mock(programs["mock_provider"], folder))
        system = stack.enter_context(run_level5(mock, folder))
        charge, before = read_charge(system), read_balance(system)
        looks, told = soak(system, programs["load"], folder, requests=requests, minutes=minutes)
        answered = int(sum(load["done"] - load["not_200"] for load in told))
        failed = int(sum(load["errors"] + load["not_200"] + load["asked"] - load["done"] - load["errors"] for load in told))
        faults = find_faults(looks) + ([f"{failed} requests failed"] if failed else [])
        charged = before - read_balance(system)
        if charged != answered * charge:
            faults.append(f"{answered} answers at {charge} microunits were charged {charged} together")
        verify_books(system)
    for tracked in TRACKED:
        print(f"{tracked.says:45} {' -> '.join(f'{value:,.1f}' for value in compare_quarters(looks, tracked))}")
    print("\n".join(faults) or f"{answered:,} requests in {looks[-1].seconds:,.0f} s: nothing has grown, and the books are whole")
    path = RESULTS / time.strftime("soak-%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps({"machine": describe_machine(), "faults": faults, "answered": answered, "looks": list(map(asdict, looks))}, indent=1) + "\n")
    if page is not None:
        write_section(page, looks, answered=answered, faults=faults)
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and soak."""
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests that are not streamed (default 1000000)")
    parser.add_argument("--minutes", type=float, default=60.0, help="time of the streams (default 60)")
    parser.add_argument("--page", type=Path, help="the Markdown file whose section between the soak marks is written anew, with its chart")
    flags = parser.parse_args(arguments)
    if flags.requests < NEW_CONNECTION_SHARE or not 0 < flags.minutes <= HOURS_MAX * 60:
        parser.error("too few requests, or too short or too long a time")
    unwind_on_sigterm()
    try:
        return run(requests=flags.requests, minutes=flags.minutes, page=flags.page)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
