"""Usage ingest measured: single events, batches, and what an event costs with a long history behind it.

`python -m bench.ingest [--history 100000,2000000] [--requests N] [--peer]`. A whole appliance takes the events, its stores durable;
with `--peer` the peer's own server, where `plutus-agent` can be installed, is measured in the same run. Figures of one run only may be
compared: a shared machine moves by half from minute to minute, and CPU moves less than rates do.
"""

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.processes import BenchError, descendants, free_ports, start, stop, wait_for_port
from bench.systems import compile_programs, run_level5, run_mock

PEER = "plutus-agent==1.1.0"
EVENT = {"provider": "anthropic", "model": "claude-opus-4-8", "input_tokens": 1200, "output_tokens": 800, "task_type": "code_review"}
BATCH = 1000
RESULTS = Path(__file__).parent / "results"
PEER_REQUESTS_MAX = 300  # each of its events costs more than the one before
SECONDS_MAX = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server that takes events: its front processes, and those that work for it besides."""

    name: str
    port: int
    key: str
    pids: tuple[int, ...]
    helpers: tuple[int, ...]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One scenario of one server, behind so many stored events. CPU is that of the front processes, and of all."""

    system: str
    scenario: str
    history: int
    requests_per_second: float
    events_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us_per_event: float
    cpu_all_us_per_event: float
    failures: int


@contextmanager
def level5_target(mock_program: Path, folder: Path) -> Iterator[Target]:
    """Run an appliance and open an organisation without limits."""
    with run_mock(mock_program, folder) as mock, run_level5(mock, folder) as system:
        name = f"bench-{secrets.token_hex(4)}"
        _level5(system.environment, "accounts", "create", "--name", name, "--tier", "pro")
        key = json.loads(_level5(system.environment, "keys", "create", "--org", name, "--json"))["secret"]
        everything = dict(_processes(system.helpers, system.pids))
        front = tuple(pid for pid, command in everything.items() if "-m control" in command)
        others = tuple(pid for pid in everything if pid not in front)
        yield Target(name="level5", port=int(system.environment["LEVEL5_CONTROL__PORT"]), key=key, pids=front, helpers=others, environment=system.environment)


@contextmanager
def peer_target(folder: Path) -> Iterator[Target]:
    """Install and run the peer's server.

    Raises:
        BenchError: it cannot be had.
    """
    place, home = folder / "peer", folder / "peer-home"
    venv.create(place, with_pip=True)
    done = subprocess.run([place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", PEER], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"{PEER} cannot be installed: {done.stderr.strip()[-200:]}")
    home.mkdir()
    (home / "config.yaml").write_text("ingest:\n  rate_per_min: 0\n  burst: 0\n")
    environment = {**os.environ, "HOME": str(home), "PLUTUS_HOME": str(home)}
    plutus = str(place / "bin" / "plutus")
    for arguments in (["init"], ["org", "create", "Acme", "--tier", "pro"]):
        subprocess.run([plutus, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60)
    created = subprocess.run(
        [plutus, "keys", "create", "--name", "bench", "--org", "Acme"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    key = next((word for word in created.stdout.split() if word.startswith("plutus_sk_")), "")
    if not key:
        raise BenchError(f"the peer made no key: {created.stdout}{created.stderr}")
    (port,) = free_ports(1)
    log = folder / "peer.log"
    process = start([plutus, "serve", "--port", str(port)], log, environment=environment)
    try:
        wait_for_port(port, process, log)
        yield Target(name="plutus-agent", port=port, key=key, pids=(process.pid, *descendants(process.pid)), helpers=(), environment=environment)
    finally:
        stop(process)


def cpu_ms(pids: Sequence[int]) -> float:
    """Return the time that the processes have run, in ms, that of threads which have ended included: the peer has one for each event."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total * 1000 / os.sysconf("SC_CLK_TCK")


def _processes(*groups: Sequence[int]) -> Iterator[tuple[int, str]]:
    for pid in (pid for group in groups for pid in group):
        with suppress(OSError):
            yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def _level5(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "cli.main", *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BenchError(f"level5 {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def measure(target: Target, load: Path, folder: Path, *, scenario: str, clients: int, requests: int, batch: int, history: int) -> Figure:
    """Send one kind of load and read what it cost."""
    body = folder / f"events-{batch}.json"
    body.write_text(json.dumps(EVENT if batch == 1 else [EVENT] * batch, separators=(",", ":")))
    before, before_all = cpu_ms(target.pids), cpu_ms((*target.pids, *target.helpers))
    headers = ["-H", f"authorization: Bearer {target.key}"]
    new = ["-n"] if target.name != "level5" else []  # the peer speaks HTTP/1.0: a connection an event
    command = [str(load), str(target.port), "/v1/usage", str(body), str(clients), str(requests), str(SECONDS_MAX), *headers, *new]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS_MAX + 60).stdout)
    events = max(told["done"], 1) * batch
    wait_until_posted(target)  # what the journal costs belongs to the events that were answered before
    return Figure(
        system=target.name,
        scenario=scenario,
        history=history,
        requests_per_second=told["rps"],
        events_per_second=told["rps"] * batch,
        p50_ms=told["p50_ms"],
        p99_ms=told["p99_ms"],
        cpu_us_per_event=(cpu_ms(target.pids) - before) * 1000 / events,
        cpu_all_us_per_event=(cpu_ms((*target.pids, *target.helpers)) - before_all) * 1000 / events,
        failures=told["errors"] + told["not_200"],
    )


def fill(target: Target, events: int) -> None:
    """Report so many events, in batches, and wait until they are in the journal."""
    body = json.dumps([EVENT] * BATCH).encode()
    for _ in range(-(-events // BATCH)):
        request = urllib.request.Request(f"http://127.0.0.1:{target.port}/v1/usage", data=body, headers={"Authorization": f"Bearer {target.key}"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=SECONDS_MAX) as answer:
            answer.read()
    wait_until_posted(target)


def wait_until_posted(target: Target) -> None:
    """Wait until everything that was answered is in the journal, where there is one.

    Raises:
        BenchError: it takes longer than an hour.
    """
    deadline = time.monotonic() + 3600
    while target.name == "level5":
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://127.0.0.1:{target.port}/health", timeout=30) as answer:
            if json.load(answer)["details"]["outbox_depth"] == 0:
                return
        if time.monotonic() > deadline:
            raise BenchError("the poster does not catch up")
        time.sleep(0.1)


def measure_target(target: Target, load: Path, folder: Path, *, histories: Sequence[int], requests: int) -> list[Figure]:
    """Measure one server behind each length of history, shortest first."""
    figures, stored = list[Figure](), 0
    is_peer = target.name != "level5"
    count = min(requests, PEER_REQUESTS_MAX) if is_peer else requests
    loads = (("single-1", 1, 1, count // 4), ("single-32", 32, 1, count), (f"batch-{BATCH}", 1, BATCH, 1 if is_peer else 40))
    for history in histories:
        if history > stored:
            print(f"{target.name}: storing {history - stored} events", file=sys.stderr, flush=True)
            fill(target, history - stored)
            stored = history
        for scenario, clients, batch, number in loads:
            figures.append(measure(target, load, folder, scenario=scenario, clients=clients, requests=number, batch=batch, history=stored))
            stored += number * batch
            print(f"{target.name}: {scenario}", file=sys.stderr, flush=True)
    return figures


def as_table(figures: Sequence[Figure]) -> str:
    """Return the figures as lines of text."""
    lines = [f"{'system':14}{'scenario':12}{'stored':>9}{'req/s':>9}{'events/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs/event':>14}{'all CPU':>9}"]
    lines += [
        f"{one.system:14}{one.scenario:12}{one.history:>9}{one.requests_per_second:>9.0f}{one.events_per_second:>10.0f}{one.p50_ms:>9.2f}{one.p99_ms:>9.2f}"
        f"{one.cpu_us_per_event:>14.1f}{one.cpu_all_us_per_event:>9.1f}"
        for one in figures
    ]
    return "\n".join(lines)


def run(*, histories: Sequence[int], requests: int, peer: bool) -> int:
    """Measure, print and keep the figures; return the exit code."""
    RESULTS.mkdir(exist_ok=True)
    figures = list[Figure]()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="l5ingest-")))
        programs = compile_programs(folder)
        with level5_target(programs["mock_provider"], folder) as target:
            figures += measure_target(target, programs["load"], folder, histories=histories, requests=requests)
            _level5(target.environment, "verify")
        if peer:
            try:
                with peer_target(folder) as target:
                    figures += measure_target(target, programs["load"], folder, histories=[0], requests=requests)
            except BenchError as error:
                print(f"the peer was not measured: {error}", file=sys.stderr)
    print(as_table(figures))
    place = RESULTS / f"ingest-{time.strftime('%Y%m%d-%H%M%S')}.json"
    place.write_text(json.dumps([asdict(figure) for figure in figures], indent=1) + "\n")
    failures = sum(figure.failures for figure in figures)
    print(f"{failures or 'no'} requests failed; the books are whole; written to {place}")
    return 1 if failures else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.ingest", description=__doc__)
    parser.add_argument("--history", default="0,100000", help="stored events behind which to measure (default %(default)s)")
    parser.add_argument("--requests", type=int, default=12000, help="single events from 32 clients, a quarter of it from one (default %(default)s)")
    parser.add_argument("--peer", action="store_true", help=f"measure {PEER} too, where it can be installed")
    flags = parser.parse_args(arguments)
    histories = sorted(int(text) for text in flags.history.split(","))
    if flags.requests < 4 or not histories or histories[0] < 0:
        parser.error("counts are above zero")
    try:
        return run(histories=histories, requests=flags.requests, peer=flags.peer)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
