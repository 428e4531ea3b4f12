"""The mock provider, with TLS or without, and the whole gateway before it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.certificates import make_certificate
from bench.processes import BenchError, descendants, free_ports, start, stop, wait_for_answer, wait_for_port

HERE = Path(__file__).parent
CREDIT_USDC = "1000000"
MESSAGES_PATH = "/v1/messages"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """Where the systems send their requests on to. With TLS it counts connections and tells them on a port of its own."""

    port: int
    ca_file: Path | None = None
    counts_port: int = 0
    pids: tuple[int, ...] = ()

    @property
    def scheme(self) -> str:
        """`https` where it speaks TLS."""
        return "https" if self.ca_file else "http"

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{self.scheme}://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Something that takes requests for the mock provider."""

    name: str
    port: int
    path: str = MESSAGES_PATH
    headers: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()  # the processes that a request passes through
    helpers: tuple[int, ...] = ()  # those that work for it besides: stores, poster, control
    token: str = ""
    environment: dict[str, str] = field(default_factory=dict)  # for commands of its operator


def compile_programs(folder: Path) -> dict[str, Path]:
    """Compile the load generator and the mock provider.

    Raises:
        BenchError: there is no C compiler, or it failed.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise BenchError("the measurement needs a C compiler (gcc or cc)")
    programs = {name: folder / name for name in ("load", "mock_provider")}
    for name, program in programs.items():
        done = subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / f"{name}.c")], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"{name}.c does not compile:\n{done.stderr}")
    return programs


@contextmanager
def run_mock(program: Path, folder: Path) -> Iterator[Provider]:
    """Run the mock provider; asked directly it is the floor of every latency."""
    (port,) = free_ports(1)
    log = folder / "mock.log"
    process = start([str(program), str(port)], log)
    try:
        wait_for_port(port, process, log)
        yield Provider(port=port, pids=(process.pid,))
    finally:
        stop(process)


@contextmanager
def run_tls_front(mock: Provider, folder: Path) -> Iterator[Provider]:
    """Run TLS before the mock provider."""
    port, counts_port = free_ports(2)
    log = folder / "tls-front.log"
    certificate, ca_file = make_certificate(folder)
    process = start([sys.executable, "-m", "bench.tls_front", str(port), str(mock.port), str(counts_port), str(certificate)], log)
    try:
        wait_for_port(counts_port, process, log)
        wait_for_port(port, process, log)
        yield Provider(port=port, ca_file=ca_file, counts_port=counts_port, pids=(process.pid, *mock.pids))
    finally:
        stop(process)


def read_counts(provider: Provider) -> tuple[int, int]:
    """Return how many connections were made to a provider with TLS, and how many of them resumed a session; zeros without TLS."""
    if not provider.counts_port:
        return 0, 0
    with socket.create_connection(("127.0.0.1", provider.counts_port), 10) as counts:
        told = json.loads(counts.makefile("rb").readline())
    return int(told["connections"]), int(told["resumed"])


@contextmanager
def run_level5(provider: Provider, folder: Path, workers: int = 1, *, name: str = "level5", settings: Mapping[str, str] | None = None) -> Iterator[System]:
    """Run a whole appliance, its stores durable, and an account with money on it."""
    home = Path(tempfile.mkdtemp(prefix="l5bench-"))
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    ports = dict(zip(("GATEWAY", "FORWARD", "CONTROL", "METRICS", "SANDBOX", "CHAIN", "CHAIN_WS"), free_ports(7), strict=True))
    environment = _environment(home, ports, provider) | {"LEVEL5_GATEWAY__WORKERS": str(workers)} | dict(settings or {})
    log = folder / f"{name}-{ports['GATEWAY']}.log"
    process = start([sys.executable, "-m", "cli.main", "up", "--sandbox"], log, environment=environment)
    try:
        wait_for_port(ports["GATEWAY"], process, log)
        wait_for_answer(ports["GATEWAY"], "/health", process, log)
        token = _open_account(ports["GATEWAY"], environment)
        below = descendants(process.pid)
        pids = tuple(pid for pid, command in below.items() if "addons.worker" in command)
        if len(pids) != workers:
            raise BenchError(f"the appliance has {len(pids)} workers, not {workers}")
        helpers = (process.pid, *(pid for pid in below if pid not in pids))
        path = f"/proxy/{token}{MESSAGES_PATH}"
        yield System(name=name, port=ports["GATEWAY"], path=path, pids=pids, helpers=helpers, token=token, environment=environment)
    finally:
        stop(process)
        shutil.rmtree(home, ignore_errors=True)


def run_stock_path(provider: Provider, folder: Path, workers: int = 1) -> AbstractContextManager[System]:
    """Run an appliance whose every request takes mitmproxy's own layers."""
    return run_level5(provider, folder, workers, name="level5-stock", settings={"LEVEL5_GATEWAY__FAST_LANE": "false"})


def _environment(home: Path, ports: dict[str, int], provider: Provider) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
    return {
        **inherited,
        "LEVEL5_HOME": str(home),
        "LEVEL5_GATEWAY__PORT": str(ports["GATEWAY"]),
        "LEVEL5_FORWARD__PORT": str(ports["FORWARD"]),
        "LEVEL5_CONTROL__PORT": str(ports["CONTROL"]),
        "LEVEL5_METRICS__PORT": str(ports["METRICS"]),
        "LEVEL5_SANDBOX__PROVIDER_PORT": str(ports["SANDBOX"]),
        "LEVEL5_SANDBOX__CHAIN_PORT": str(ports["CHAIN"]),
        "LEVEL5_SANDBOX__CHAIN_WS_PORT": str(ports["CHAIN_WS"]),
        "LEVEL5_PROVIDERS__ANTHROPIC__BASE_URL": provider.url,
        **({"LEVEL5_PROVIDERS__ANTHROPIC__CA_FILE": str(provider.ca_file)} if provider.ca_file else {}),
        "LEVEL5_LEDGER__CONCURRENT_REQUESTS": "1024",
        "LEVEL5_REGISTER__RATE_PER_MINUTE": "0",
        "LEVEL5_INGEST__RATE_PER_MINUTE": "0",
    }


def ask(port: int, path: str, *, method: str = "GET") -> dict[str, Any]:
    """Ask the control API through the gateway."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy the environment names
    with opener.open(request, timeout=10) as answer:
        body: dict[str, Any] = json.load(answer)
    return body


def _level5(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "cli.main", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300, check=False)
    if done.returncode:
        raise BenchError(f"level5 {arguments[0]} failed:\n{done.stdout}\n{done.stderr}")


def _open_account(port: int, environment: dict[str, str]) -> str:
    account = ask(port, "/v1/register", method="POST")
    _level5(environment, "credit", account["deposit_code"], CREDIT_USDC, "--reason", "bench")
    return str(account["api_token"])


def verify_books(system: System) -> None:
    """A fast gateway that keeps wrong books has measured nothing.

    Raises:
        BenchError: the books are not whole.
    """
    _level5(system.environment, "verify")
