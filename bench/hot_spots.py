"""Where a worker's time goes: `python -m bench.hot_spots [--seconds 20]`, sampled from outside by py-spy while requests come in.

py-spy is installed into an environment of its own (`make bench-profile`). Only time on the processor counts, so what waits is not seen.
"""

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.page import replace_section, table
from bench.peers import INSTALLED
from bench.processes import BenchError, pin, start, stop, unwind_on_sigterm
from bench.report import describe_machine
from bench.scenarios import Body, write_bodies
from bench.systems import HERE, System, compile_programs, run_level5, run_mock

SHOWN: Final = 25
RATE: Final = 200
LEAD_SECONDS: Final = 3
LOADS: Final = (
    ("JSON, 32 connections", Body.JSON, ()),
    ("JSON, each on a new connection, 32 at a time", Body.JSON, ("-n",)),
    ("60 events 10 ms apart, 32 streams", Body.PACED, ("-s", "600")),
)

IDLE: Final = "_worker (concurrent/futures/thread.py)"  # a thread that waits for work without py-spy seeing that it waits

type Stacks = Counter[tuple[str, ...]]  # from the outermost function in, with the number of samples


def read_stacks(text: str) -> Stacks:
    """Read collapsed stacks: functions divided by semicolons, then the count."""
    stacks: Stacks = Counter()
    for line in text.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = tuple(_short(frame) for frame in frames.split(";"))
        if stack[-1] != IDLE:
            stacks[stack] += int(count)
    return stacks


def _short(frame: str) -> str:
    """Return a function and its file, from the package on, without the line."""
    name, _, place = frame.partition(" (")
    path = place.rstrip(")").rpartition(":")[0] or place.rstrip(")")
    parts = Path(path).parts
    for root in ("site-packages", "python3.13", "python3.12", HERE.parent.name):
        if root in parts:
            parts = parts[parts.index(root) + 1 :]
    return f"{name} ({'/'.join(parts)})" if parts else name


def own_and_inclusive(stacks: Stacks) -> list[tuple[str, float, float]]:
    """Return each function's share of the samples in percent, in itself and with what it called; the most expensive in themselves first."""
    whole = stacks.total() or 1
    own: Counter[str] = Counter()
    inclusive: Counter[str] = Counter()
    for stack, count in stacks.items():
        own[stack[-1]] += count
        for function in set(stack):
            inclusive[function] += count
    return [(function, 100 * count / whole, 100 * inclusive[function] / whole) for function, count in own.most_common(SHOWN)]


def sample(system: System, program: Path, *, load: Path, body: Path, flags: Sequence[str], seconds: int, folder: Path) -> Stacks:
    """Send requests and sample the worker meanwhile.

    Raises:
        BenchError: py-spy does not run here.
    """
    told = folder / "load.log"
    time_of_load = str(seconds + 2 * LEAD_SECONDS)
    running = start([str(load), str(system.port), system.path, str(body), "32", "1000000", time_of_load, *flags], told)
    pin([running.pid], {0})
    output = folder / "stacks.txt"
    command = [str(program), "record", "--pid", str(system.pids[0]), "--format", "raw", "--output", str(output), "--nolineno"]
    try:
        done = subprocess.run([*command, "--rate", str(RATE), "--duration", str(seconds)], capture_output=True, text=True, timeout=seconds + 60, check=False)
    finally:
        stop(running)
    if done.returncode:
        raise BenchError(f"py-spy failed: {done.stderr.strip()[-300:]}")
    return read_stacks(output.read_text())


def run(*, seconds: int, page: Path | None) -> int:
    """Sample every load, print and write what was found; return the exit code."""
    program = INSTALLED / "profiler" / "bin" / "py-spy"
    if not program.exists():
        raise BenchError("py-spy is not installed (`make bench-profile`)")
    machine, sections = describe_machine(), []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l5bench-")))
        programs, bodies = compile_programs(folder), write_bodies(folder)
        mock = stack.enter_context(run_mock(programs["mock_provider"], folder))
        system = stack.enter_context(run_level5(mock, folder))
        for says, body, flags in LOADS:
            stacks = sample(system, program, load=programs["load"], body=bodies[body], flags=flags, seconds=seconds, folder=folder)
            sections.append("\n".join(_section(says, own_and_inclusive(stacks), stacks.total())))
    text = f"{machine['day']}, Python {machine['python']}: share of the samples of one worker, {seconds} s each.\n" + "\n".join(sections)
    print(text)
    if page is not None:
        replace_section(page, "profile", text)
    return 0


def _section(says: str, found: Sequence[tuple[str, float, float]], samples: int) -> Iterator[str]:
    yield f"\n{says} ({samples:,} samples):\n"
    yield from table(("function", "in itself", "with what it calls"), [(f"`{name}`", f"{own:.1f} %", f"{whole:.1f} %") for name, own, whole in found])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and sample."""
    parser = argparse.ArgumentParser(prog="python -m bench.hot_spots", description=__doc__)
    parser.add_argument("--seconds", type=int, default=20, help="time of sampling for each load (default 20)")
    parser.add_argument("--page", type=Path, help="the Markdown file whose section between the profile marks is written anew")
    flags = parser.parse_args(arguments)
    unwind_on_sigterm()
    try:
        return run(seconds=max(flags.seconds, 1), page=flags.page)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
