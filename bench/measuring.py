"""Putting load on systems that run side by side, and what each of them did with it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.processes import BenchError, cpu_ms, memory_mb, pin
from bench.report import Sample
from bench.scenarios import Block, Body, Scenario, request_body, write_bodies
from bench.systems import Provider, System, ask, read_counts, verify_books

REQUESTS_MAX = 2_000_000
END_SECONDS_MAX = 150
SETTLE_SECONDS_MAX = 20.0
WARM_UP = tuple(Scenario(name="warm-up", says="", body=body, concurrency=8, seconds_factor=0.5) for body in (Body.JSON, Body.STREAM))


class Bench:
    """The systems of one block and the load that is put on them."""

    def __init__(self, load: Path, folder: Path, block: Block, *, provider: Provider, systems: Sequence[System], seconds: float) -> None:
        self._load, self._block, self._provider, self._systems, self._seconds = load, block, provider, systems, seconds
        self._bodies = write_bodies(folder)
        cores = sorted(os.sched_getaffinity(0))
        # One process has a core to itself; load, provider and stores share the others.
        alone = block.workers == 1 and len(cores) > 1
        self._other_cores = set(cores[:-1]) if alone else set(cores)
        for system in systems:
            pin(system.pids, {cores[-1]} if alone else set(cores))
            pin(system.helpers, self._other_cores)
        pin(provider.pids, self._other_cores)

    def warm_up(self) -> None:
        """Let every system open its connections and compile what it compiles."""
        for system in self._systems:
            for scenario in WARM_UP:
                self._send(system, scenario)

    def measure(self, scenarios: Sequence[Scenario], rounds: int) -> list[Sample]:
        """Take every scenario to every system in turn, round after round."""
        samples = []
        for number in range(rounds):
            for scenario in scenarios:
                without = dict(scenario.without)
                samples += [self._sample(system, scenario, number) for system in self._systems if system.name not in without]
                print(f"round {number + 1} of {rounds}: {scenario.name}", file=sys.stderr, flush=True)
        return samples

    def _sample(self, system: System, scenario: Scenario, number: int) -> Sample:
        before, before_all, (connections, resumed) = cpu_ms(system.pids), cpu_ms((*system.pids, *system.helpers)), read_counts(self._provider)
        told = self._send(system, scenario)
        after, after_all, (connections_after, resumed_after) = cpu_ms(system.pids), cpu_ms((*system.pids, *system.helpers)), read_counts(self._provider)
        requests = max(told["done"], 1)
        return Sample(
            block=self._block.name,
            system=system.name,
            scenario=scenario.name,
            round=number,
            cpu_ms=(after - before) / requests,
            cpu_all_ms=(after_all - before_all) / requests,
            memory_mb=memory_mb(system.pids) / max(len(system.pids), 1),
            connections=connections_after - connections,
            resumed=resumed_after - resumed,
            **{key: told[key] for key in ("asked", "done", "errors", "not_200", "last_refusal", "rps", "p50_ms", "p99_ms", "ttfb_p50_ms", "ttfb_p99_ms")},
        )

    def _send(self, system: System, scenario: Scenario) -> dict[str, Any]:
        counts = [str(scenario.concurrency), str(REQUESTS_MAX), str(self._seconds * scenario.seconds_factor)]
        extra = ["-n"] if scenario.new_connections else []
        extra += ["-s", str(scenario.spread_ms)] if scenario.spread_ms else []
        extra += [part for header in system.headers for part in ("-H", header)]
        command = [str(self._load), str(system.port), system.path, str(self._bodies[scenario.body]), *counts, *extra]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=END_SECONDS_MAX,
            check=False,
            preexec_fn=lambda: os.sched_setaffinity(0, self._other_cores),
        )
        if done.returncode:
            raise BenchError(f"the load generator failed: {done.stderr}")
        told: dict[str, Any] = json.loads(done.stdout)
        return told


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
            faults.append(f"{system.name}: {answered} answers at {charge} microunits were charged {charged} together")
        verify_books(system)
    except BenchError as error:
        faults.append(str(error))
    return faults


def read_charge(system: System) -> int:
    """Return what one answer costs, as the gateway tells it."""
    request = urllib.request.Request(f"http://127.0.0.1:{system.port}{system.path}", data=request_body(Body.JSON), headers={"content-type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
        return int(answer.headers["x-level5-charge"])
