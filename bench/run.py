"""One interleaved measurement: within a block every round takes every scenario to every system in turn.

A shared machine moves from minute to minute; figures may be compared within one block only,
and ratios are what counts.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.marks import marks, marks_table
from bench.measuring import Bench, check_billing, read_balance
from bench.page import write_page
from bench.peers import run_litellm, run_mitmdump, run_nginx, run_portkey
from bench.processes import Absent, BenchError, unwind_on_sigterm
from bench.report import Sample, as_table, sum_up, write_results
from bench.scenarios import BLOCKS, Block
from bench.systems import Provider, System, compile_programs, run_level5, run_mock, run_stock_path, run_tls_front

type Starter = Callable[[Provider, Path, int], AbstractContextManager[System]]

STARTERS: Final[dict[str, Starter]] = {
    "nginx": run_nginx,
    "mitmdump": run_mitmdump,
    "portkey": run_portkey,
    "litellm": run_litellm,
    "level5-stock": run_stock_path,
    "level5": run_level5,
}
RESULTS = Path(__file__).parent / "results"


@dataclass(slots=True)
class Measured:
    """What a run has found: samples, what was wrong, and which systems were not there."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


@contextmanager
def _provider_of(block: Block, mock: Provider, folder: Path) -> Iterator[Provider]:
    if block.tls:
        with run_tls_front(mock, folder) as front:
            yield front
    else:
        yield mock


def _start(names: Sequence[str], block: Block, provider: Provider, folder: Path, *, stack: ExitStack, absent: dict[str, str]) -> list[System]:
    """Start the systems. One that is not there, or a peer that does not run here, is noted."""
    started = []
    for name in names:
        try:
            started.append(stack.enter_context(STARTERS[name](provider, folder, block.workers)))
        except Absent as reason:
            absent[name] = str(reason)
        except BenchError as error:
            if name.startswith("level5"):
                raise
            absent[name] = f"it did not start: {str(error).splitlines()[0]}"
    return started


def measure_block(block: Block, programs: dict[str, Path], folder: Path, *, systems: Sequence[str], rounds: int, seconds: float, found: Measured) -> None:
    """Measure one block and check the books of those that keep some."""
    with ExitStack() as stack:
        mock = stack.enter_context(run_mock(programs["mock_provider"], folder))
        provider = stack.enter_context(_provider_of(block, mock, folder))
        names = [name for name in block.systems if name in systems]
        measured = [System(name="direct", port=mock.port), *_start(names, block, provider, folder, stack=stack, absent=found.absent)]
        bench = Bench(programs["load"], folder, block, provider=provider, systems=measured, seconds=seconds)
        bench.warm_up()
        before = {system.name: read_balance(system) for system in measured if system.token}
        samples = bench.measure(block.scenarios, rounds)
        for system in measured:
            if system.token:
                found.faults += check_billing(system, before[system.name], samples)
    found.samples += samples


def run(blocks: Sequence[Block], *, systems: Sequence[str], rounds: int, seconds: float, page: Path | None) -> int:
    """Measure, print and keep the figures; return the exit code."""
    RESULTS.mkdir(exist_ok=True)
    found = Measured()
    with tempfile.TemporaryDirectory(prefix="l5bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        programs = compile_programs(folder)
        for block in blocks:
            measure_block(block, programs, folder, systems=systems, rounds=rounds, seconds=seconds, found=found)
    figures = sum_up(found.samples)
    print(as_table(figures))
    print(marks_table(marks(figures)))
    failed = {sample.system: sample for sample in found.samples if sample.errors + sample.not_200}
    found.faults += [
        f"{name}: requests failed, in {sample.scenario} {sample.errors + sample.not_200} (last status {sample.last_refusal})" for name, sample in failed.items()
    ]
    for name, reason in found.absent.items():
        print(f"not measured: {name}: {reason}")
    print("\n".join(found.faults) or "no request failed; every answer was charged the same, and the books are whole")
    print(f"written to {write_results(RESULTS, found.samples, found.faults, found.absent)}")
    if page is not None:
        write_page(page, figures, absent=found.absent, faults=found.faults, rounds=rounds, seconds=seconds)
        print(f"written to {page}")
    return 1 if found.faults else 0


def choose(scenarios: Sequence[str]) -> list[Block]:
    """Return the blocks with only these scenarios, without those that have none of them."""
    chosen = []
    for block in BLOCKS:
        kept = tuple(scenario for scenario in block.scenarios if scenario.name in scenarios or block.name in scenarios)
        if kept:
            chosen.append(Block(name=block.name, says=block.says, systems=block.systems, scenarios=kept, tls=block.tls, workers=block.workers))
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and measure."""
    known = [block.name for block in BLOCKS] + [scenario.name for block in BLOCKS for scenario in block.scenarios]
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the interleaved measurement (default 3)")
    parser.add_argument("--seconds", type=float, default=1.0, help="time in which one system is sent new requests of one scenario (default 1)")
    parser.add_argument("--scenarios", default=",".join(block.name for block in BLOCKS), help=f"blocks or scenarios among {', '.join(known)}")
    parser.add_argument("--systems", default=",".join(STARTERS), help="what to measure beside the direct path (default %(default)s)")
    parser.add_argument("--page", type=Path, help="the Markdown file whose section between the bench marks is written anew, with charts beside it")
    flags = parser.parse_args(arguments)
    scenarios, systems = flags.scenarios.split(","), flags.systems.split(",")
    if flags.rounds < 1 or flags.seconds <= 0 or not set(systems) <= set(STARTERS) or not set(scenarios) <= set(known):
        parser.error("unknown scenario or system, or no round at all")
    unwind_on_sigterm()
    try:
        return run(choose(scenarios), systems=systems, rounds=flags.rounds, seconds=flags.seconds, page=flags.page)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
