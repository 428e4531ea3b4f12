"""The systems that are measured: the direct path, bare mitmdump, and the whole gateway."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.processes import BenchError, descendants, free_ports, start, stop, wait_for_port

HERE = Path(__file__).parent
CREDIT_USDC = "1000000"
MESSAGES_PATH = "/v1/messages"
READY_SECONDS_MAX = 90.0


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """Something that takes requests for the mock provider."""

    name: str
    port: int
    path: str = MESSAGES_PATH
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
def run_mock(program: Path, folder: Path) -> Iterator[System]:
    """Run the mock provider; asked directly it is the floor of every latency."""
    (port,) = free_ports(1)
    log = folder / "mock.log"
    process = start([str(program), str(port)], log)
    try:
        wait_for_port(port, process, log)
        yield System(name="direct", port=port, helpers=(process.pid,))
    finally:
        stop(process)


@contextmanager
def run_mitmdump(provider: System, folder: Path) -> Iterator[System]:
    """Run the proxy that Level5 is built on, with nothing but a script that streams."""
    (port,) = free_ports(1)
    log = folder / "mitmdump.log"
    options = ["-q", "--set", "flow_detail=0", "--set", f"confdir={folder / 'mitmproxy'}", "-s", str(HERE / "streaming_script.py")]
    mode = ["--mode", f"reverse:http://127.0.0.1:{provider.port}", "--listen-host", "127.0.0.1", "-p", str(port)]
    process = start([str(Path(sys.executable).with_name("mitmdump")), *options, *mode], log)
    try:
        wait_for_port(port, process, log)
        yield System(name="mitmdump", port=port, pids=(process.pid, *descendants(process.pid)))
    finally:
        stop(process)


@contextmanager
def run_level5(provider: System, folder: Path) -> Iterator[System]:
    """Run a whole appliance with one worker, its stores durable, and an account with money on it."""
    home = Path(tempfile.mkdtemp(prefix="l5bench-"))
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    ports = dict(zip(("GATEWAY", "FORWARD", "CONTROL", "METRICS", "SANDBOX", "CHAIN", "CHAIN_WS"), free_ports(7), strict=True))
    environment = _environment(home, ports, provider)
    log = folder / "level5.log"
    process = start([sys.executable, "-m", "cli.main", "up", "--sandbox"], log, environment=environment)
    try:
        _wait_until_ready(ports["GATEWAY"], process, log)
        token = _open_account(ports["GATEWAY"], environment)
        below = descendants(process.pid)
        workers = tuple(pid for pid, command in below.items() if "addons.worker" in command)
        if not workers:
            raise BenchError("the appliance has no worker")
        helpers = tuple(pid for pid in below if pid not in workers)
        path = f"/proxy/{token}{MESSAGES_PATH}"
        yield System(name="level5", port=ports["GATEWAY"], path=path, pids=workers, helpers=helpers, token=token, environment=environment)
    finally:
        stop(process)
        shutil.rmtree(home, ignore_errors=True)


def _environment(home: Path, ports: dict[str, int], provider: System) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
    return {
        **inherited,
        "LEVEL5_HOME": str(home),
        "LEVEL5_GATEWAY__PORT": str(ports["GATEWAY"]),
        "LEVEL5_GATEWAY__WORKERS": "1",
        "LEVEL5_FORWARD__PORT": str(ports["FORWARD"]),
        "LEVEL5_CONTROL__PORT": str(ports["CONTROL"]),
        "LEVEL5_METRICS__PORT": str(ports["METRICS"]),
        "LEVEL5_SANDBOX__PROVIDER_PORT": str(ports["SANDBOX"]),
        "LEVEL5_SANDBOX__CHAIN_PORT": str(ports["CHAIN"]),
        "LEVEL5_SANDBOX__CHAIN_WS_PORT": str(ports["CHAIN_WS"]),
        "LEVEL5_PROVIDERS__ANTHROPIC__BASE_URL": f"http://127.0.0.1:{provider.port}",
        "LEVEL5_LEDGER__CONCURRENT_REQUESTS": "256",
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


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    wait_for_port(port, process, log)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        try:
            ask(port, "/health")
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise BenchError(f"the appliance did not become ready; it said:\n{log.read_text(errors='replace')[-2000:]}")


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
