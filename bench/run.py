"""One interleaved measurement: every round takes every scenario to every system in turn.

A shared machine moves from minute to minute; figures may be compared within one run only,
and ratios are what counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.processes import BenchError, cpu_ms, memory_mb, pin
from bench.report import Sample, as_table, sum_up, write_results
from bench.systems import System, ask, compile_programs, run_level5, run_mitmdump, run_mock, verify_books

STARTERS = {"mitmdump": run_mitmdump, "level5": run_level5}
RESULTS = Path(__file__).parent / "results"
PACE_MS = 10
SETTLE_SECONDS_MAX = 20.0
PASSAGE = "Please say in three short sentences how a prepaid balance is held, settled and kept in the books. "


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of load. Runs are bounded by a count, so that no request is left in the air."""

    name: str
    concurrency: int
    requests: dict[str, int]
    seconds_max: float = 60.0
    stream: bool = False
    paced: bool = False
    new_connections: bool = False


SCENARIOS = (
    Scenario(name="json-1", concurrency=1, requests={"direct": 3000, "mitmdump": 250, "level5": 600}),
    Scenario(name="json-32", concurrency=32, requests={"direct": 20000, "mitmdump": 500, "level5": 3000}),
    Scenario(name="json-32-new", concurrency=32, requests={"direct": 4000, "mitmdump": 300, "level5": 1500}, new_connections=True),
    Scenario(name="stream-1", concurrency=1, requests={"direct": 1000, "mitmdump": 100, "level5": 300}, stream=True),
    Scenario(name="stream-32", concurrency=32, requests={"direct": 2000, "mitmdump": 160, "level5": 800}, stream=True),
    Scenario(name="paced-32", concurrency=32, requests={"direct": 96, "mitmdump": 96, "level5": 96}, stream=True, paced=True),
)


class Bench:
    """The systems of one measurement and the load that is put on them."""

    def __init__(self, load: Path, folder: Path, systems: Sequence[System]) -> None:
        self._load, self._systems = load, systems
        self._bodies = {stream: folder / f"body-{stream}.json" for stream in (False, True)}
        for stream, path in self._bodies.items():
            path.write_text(json.dumps(request_body(stream=stream), separators=(",", ":")))
        cores = sorted(os.sched_getaffinity(0))
        # Gateways have a core to themselves; load, provider and stores share the others.
        self._gateway_cores, self._other_cores = ({cores[-1]}, set(cores[:-1])) if len(cores) > 1 else (set(cores), set(cores))
        for system in systems:
            pin(system.pids, self._gateway_cores)
            pin(system.helpers, self._other_cores)

    def warm_up(self) -> None:
        for system in self._systems:
            for stream in (False, True):
                self._send(system, Scenario(name="warm-up", concurrency=8, requests={system.name: 200}, stream=stream))

    def measure(self, scenarios: Sequence[Scenario], rounds: int) -> list[Sample]:
        samples = []
        for number in range(rounds):
            for scenario in scenarios:
                samples += [self._sample(system, scenario, number) for system in self._systems]
                print(f"round {number + 1} of {rounds}: {scenario.name}", file=sys.stderr, flush=True)
        return samples

    def _sample(self, system: System, scenario: Scenario, number: int) -> Sample:
        before, before_all = cpu_ms(system.pids), cpu_ms((*system.pids, *system.helpers))
        told = self._send(system, scenario)
        requests = max(told["done"], 1)
        return Sample(
            system=system.name,
            scenario=scenario.name,
            round=number,
            cpu_ms=(cpu_ms(system.pids) - before) / requests,
            cpu_all_ms=(cpu_ms((*system.pids, *system.helpers)) - before_all) / requests,
            memory_mb=memory_mb(system.pids),
            asked=scenario.requests[system.name],
            **{key: told[key] for key in ("done", "errors", "not_200", "last_refusal", "rps", "p50_ms", "p99_ms", "ttfb_p50_ms", "ttfb_p99_ms")},
        )

    def _send(self, system: System, scenario: Scenario) -> dict[str, Any]:
        counts = [str(scenario.concurrency), str(scenario.requests[system.name]), str(scenario.seconds_max)]
        extra = ["-n"] if scenario.new_connections else []
        extra += ["-H", f"x-bench-pace: {PACE_MS}"] if scenario.paced else []
        command = [str(self._load), str(system.port), system.path, str(self._bodies[scenario.stream]), *counts, *extra]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=scenario.seconds_max + 30,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, self._other_cores),
        )
        if done.returncode:
            raise BenchError(f"the load generator failed: {done.stderr}")
        told: dict[str, Any] = json.loads(done.stdout)
        return told


def request_body(*, stream: bool) -> dict[str, Any]:
    """Return a request of about 2 KB."""
    turns = [{"role": role, "content": PASSAGE * 3} for role in ("user", "assistant", "user", "assistant", "user")]
    return {"model": "claude-sonnet-4-6", "max_tokens": 1024, "stream": stream, "system": PASSAGE * 2, "messages": turns}


def read_balance(system: System) -> int:
    """Return an account's balance when none of it is held any more."""
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    while True:
        state = ask(system.port, f"/proxy/{system.token}/balance")
        if not state.get("held"):
            return int(state["usdc_balance"])
        if time.monotonic() > deadline:
            raise BenchError(f"{state['held']} microunits are still held after {SETTLE_SECONDS_MAX:.0f} s")
        time.sleep(0.1)


def check_billing(system: System, before: int, samples: Sequence[Sample]) -> list[str]:
    """Every answer must have been charged, all the same (the mock's usage never changes); return what is wrong.

    Requests that were given up when the time was over may or may not have been charged.
    """
    faults = []
    ours = [sample for sample in samples if sample.system == system.name]
    answered, given_up = sum(sample.done - sample.not_200 for sample in ours), sum(sample.asked - sample.done for sample in ours)
    try:
        charged = before - read_balance(system)
        charge = read_charge(system)
        if charged < answered * charge or (charged != answered * charge and not given_up):
            faults.append(f"{answered} answers at {charge} microunits were charged {charged} together")
        verify_books(system)
    except BenchError as error:
        faults.append(str(error))
    return faults


def read_charge(system: System) -> int:
    """Return what one answer costs, as the gateway tells it."""
    body = json.dumps(request_body(stream=False)).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{system.port}{system.path}", data=body, headers={"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return int(answer.headers["x-level5-charge"])


def run(scenarios: Sequence[Scenario], rounds: int, systems: Sequence[str]) -> int:
    """Measure, print and keep the figures; return the exit code."""
    RESULTS.mkdir(exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l5bench-")))
        programs = compile_programs(folder)
        mock = stack.enter_context(run_mock(programs["mock_provider"], folder))
        measured = [mock, *(stack.enter_context(STARTERS[name](mock, folder)) for name in systems)]
        bench = Bench(programs["load"], folder, measured)
        bench.warm_up()
        before = {system.name: read_balance(system) for system in measured if system.token}
        samples = bench.measure(scenarios, rounds)
        print(as_table(sum_up(samples)))
        failures = sum(sample.errors + sample.not_200 for sample in samples)
        statuses = sorted({sample.last_refusal for sample in samples if sample.last_refusal})
        faults = [f"{failures} requests failed, with statuses such as {statuses}"] if failures else []
        for system in measured:
            if system.token:
                faults += check_billing(system, before[system.name], samples)
    print("\n".join(faults) or "no request failed; every answer was charged the same, and the books are whole")
    print(f"written to {write_results(RESULTS, samples, faults)}")
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the interleaved measurement (default 3)")
    parser.add_argument("--scenarios", default=",".join(scenario.name for scenario in SCENARIOS), help="some of %(default)s")
    parser.add_argument("--systems", default=",".join(STARTERS), help="what to measure beside the direct path (default %(default)s)")
    flags = parser.parse_args(arguments)
    wanted, systems = flags.scenarios.split(","), flags.systems.split(",")
    chosen = [scenario for scenario in SCENARIOS if scenario.name in wanted]
    if len(chosen) != len(wanted) or flags.rounds < 1 or not set(systems) <= set(STARTERS):
        parser.error("unknown scenario or system, or no round at all")
    try:
        return run(chosen, flags.rounds, systems)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
