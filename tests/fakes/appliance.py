"""A whole appliance for tests: `level5 up --sandbox` as an operator starts it, on free ports and a home of its own."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.commands import run_command
from tests.fakes.interpreter import level5_command

START_SECONDS_MAX = 60.0
PORTS = (12_000, 32_000)
CLIENT = httpx.Client(timeout=30, verify=False)  # plain HTTP on loopback; a TLS context for each call is slow


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now; all are held open together so that none repeats.

    They lie below those that the kernel gives out by itself, or a server of another test on port 0 could take one before the
    appliance has it, and answer in its place.
    """
    sockets: list[socket.socket] = []
    try:
        while len(sockets) < count:
            one = socket.socket()
            try:
                one.bind(("127.0.0.1", random.randrange(*PORTS)))
            except OSError:
                one.close()
            else:
                sockets.append(one)
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def descendants(pid: int) -> dict[int, str]:
    """Return the command line of every living process below `pid`."""
    found: dict[int, str] = {}
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            try:
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            found |= descendants(child)
    return found


@dataclass
class Account:
    """What registering gave: the secret of the path and the public code to pay to."""

    api_token: str
    deposit_code: str


@dataclass
class Appliance:
    """One running appliance and the commands of its operator."""

    home: Path
    environment: dict[str, str]
    gateway_port: int
    control_port: int
    metrics_port: int
    provider_port: int
    chain_port: int
    chain_ws_port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def rpc_url(self) -> str:
        """The simulated chain's JSON-RPC; its switches are below `/_sandbox`."""
        return f"http://127.0.0.1:{self.chain_port}"

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.home.name}.log"

    def start(self) -> None:
        """Start it and wait until it is ready; raises with its last words when it is not in time."""
        with self.log.open("ab") as output:
            command = level5_command("up", "--sandbox")
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment, start_new_session=True)
        self.wait_ready()

    def wait_ready(self, seconds_max: float = START_SECONDS_MAX) -> None:
        deadline = time.monotonic() + seconds_max
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                break
            try:
                if CLIENT.get(f"{self.url}/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise AssertionError("the appliance did not become ready; it said:\n" + self.log.read_text(errors="replace")[-4000:])

    def stop(self, how: signal.Signals = signal.SIGTERM, seconds_max: float = 60.0) -> int:
        """Send `how` to the supervisor and return its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        return self.process.wait(seconds_max)

    def processes(self) -> dict[int, str]:
        assert self.process is not None
        return descendants(self.process.pid)

    def pids(self, part: str) -> list[int]:
        """Return the processes of this appliance whose command line contains `part`, oldest first."""
        return sorted(pid for pid, command in self.processes().items() if part in command)

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a `level5` command as the operator does in a second terminal."""
        done = run_command(*arguments, environment=self.environment)
        if check and done.returncode != 0:
            raise AssertionError(f"level5 {' '.join(arguments)} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def ask(self, *arguments: str) -> Any:
        """Run a `level5` command with `--json` and return what it printed."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def register(self, usdc: str | None = None) -> Account:
        """Open an account, with money on it when `usdc` is given."""
        answer = CLIENT.post(f"{self.url}/v1/register").raise_for_status().json()
        account = Account(answer["api_token"], answer["deposit_code"])
        if usdc is not None:
            self.run("credit", account.deposit_code, usdc, "--reason", "test money")
        return account

    def balance(self, account: Account) -> dict[str, Any]:
        answer: dict[str, Any] = CLIENT.get(f"{self.url}/proxy/{account.api_token}/balance").raise_for_status().json()
        return answer

    def transactions(self, account: Account, **query: str) -> list[dict[str, Any]]:
        answer = CLIENT.get(f"{self.url}/proxy/{account.api_token}/transactions", params=query).raise_for_status().json()
        found: list[dict[str, Any]] = answer["transactions"]
        return found

    def verify(self) -> None:
        """Fail unless `level5 verify` finds the books whole."""
        done = self.run("verify", check=False)
        assert done.returncode == 0, f"the books are not whole:\n{done.stdout}\n{done.stderr}"


@contextmanager
def appliance(parent: Path, *, workers: int = 2, start: bool = True, **environment: str) -> Iterator[Appliance]:
    """Yield an appliance below `parent`, and see to it that nothing of it stays behind."""
    home = Path(tempfile.mkdtemp(prefix="h", dir=parent))
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)
    gateway, control, metrics, provider, forward, chain, chain_ws = free_ports(7)
    inherited: Mapping[str, str] = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
    made = Appliance(
        home=home,
        environment={
            **inherited,
            "LEVEL5_HOME": str(home),
            "LEVEL5_GATEWAY__PORT": str(gateway),
            "LEVEL5_GATEWAY__WORKERS": str(workers),
            "LEVEL5_CONTROL__PORT": str(control),
            "LEVEL5_METRICS__PORT": str(metrics),
            "LEVEL5_SANDBOX__PROVIDER_PORT": str(provider),
            "LEVEL5_SANDBOX__CHAIN_PORT": str(chain),
            "LEVEL5_SANDBOX__CHAIN_WS_PORT": str(chain_ws),
            "LEVEL5_FORWARD__PORT": str(forward),
            "LEVEL5_REGISTER__RATE_PER_MINUTE": "0",
            **environment,
        },
        gateway_port=gateway,
        control_port=control,
        metrics_port=metrics,
        provider_port=provider,
        chain_port=chain,
        chain_ws_port=chain_ws,
    )
    try:
        if start:
            made.start()
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            left = made.processes()
            made.process.terminate()
            try:
                made.process.wait(60)
            except subprocess.TimeoutExpired:
                made.process.kill()
                made.process.wait()
                for pid in left:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
        shutil.rmtree(home, ignore_errors=True)
