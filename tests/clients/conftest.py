"""One running sandbox for all clients, and what the simulated providers and the books say about each turn."""

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from config.clients.catalogue import default_model
from config.clients.connection import Connection, Door, Provider
from config.clients.recipes import Recipe
from tests.fakes.appliance import CLIENT, Account, Appliance

INSTALLED = Path(__file__).parents[2] / ".venv-clients"
DRIVERS = Path(__file__).parent / "drivers"
SETTLE_SECONDS_MAX = 30.0
LOG_SECONDS_MAX = 10.0
TURN_SECONDS_MAX = 100.0
GREETING = "Hello from the Level5 sandbox."
KINDS = {"input": "input_per_1m", "output": "output_per_1m", "cache_read": "cache_read_per_1m", "cache_write_5m": "cache_write_per_1m"}


@dataclass(frozen=True)
class Visit:
    """One request that reached a provider, and what its whole answer bills."""

    path: str
    status: int
    ended: str
    model: str
    billed: dict[str, int]

    @property
    def provider(self) -> str:
        return self.path.split("/")[1]


@dataclass
class House:
    """A running appliance, seen by its clients' users, its operator and its providers."""

    appliance: Appliance
    certificate: Path
    pricing: dict[str, Any]
    empty: Account
    funded: Account
    seen: int = field(default=0)
    refused_before: int = field(default=0)

    @property
    def provider_url(self) -> str:
        return f"http://127.0.0.1:{self.appliance.provider_port}"

    def begin(self) -> None:
        """Forget what happened before this test."""
        CLIENT.delete(f"{self.provider_url}/_sandbox/requests").raise_for_status()
        self.refused_before += self.refusals()
        self.seen = max((row["id"] for row in self.appliance.transactions(self.funded, limit="1")), default=0)

    def script(self, line: str, times: int = 1) -> None:
        """Let the next requests meet this, whatever they ask."""
        CLIENT.post(f"{self.provider_url}/_sandbox/script", json={"script": line, "times": times}).raise_for_status()

    def visits(self) -> list[Visit]:
        """Return what was sent to the providers, in order; nothing of a client's may have come with it."""
        rows = CLIENT.get(f"{self.provider_url}/_sandbox/requests").raise_for_status().json()["requests"]
        assert {row["credential"] for row in rows} <= {"operator"}
        return [Visit(path=row["path"], status=row["status"], ended=row["ended"], model=row["model"], billed=row["billed"]) for row in rows]

    def charges(self) -> list[dict[str, Any]]:
        """Return this test's charges, oldest first, as soon as nothing is held any more."""
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while self.appliance.balance(self.funded)["held"]:
            assert time.monotonic() < deadline, "a hold was never settled"
            time.sleep(0.05)
        rows = self.appliance.transactions(self.funded, limit="200")
        return [row for row in reversed(rows) if row["id"] > self.seen]

    def refusals(self) -> int:
        """Return how many requests of this test were refused for want of money."""
        lines = [json.loads(line) for log in self.logs() for line in log.read_text().splitlines() if '"request_refused"' in line]
        return sum(1 for line in lines if line["status"] == 402) - self.refused_before

    def require_refusals(self, count: int) -> None:
        """Fail unless so many requests of this test were refused for want of money; their lines are written a moment later."""
        deadline = time.monotonic() + LOG_SECONDS_MAX
        while self.refusals() < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert self.refusals() == count

    def logs(self) -> list[Path]:
        return sorted((self.appliance.home / "sandbox" / "logs").glob("gateway*"))

    def require_told_what_is_missing(self, shown: str) -> None:
        """Fail unless a user reads what was needed, what is there and where to top up, and nothing secret."""
        text = " ".join(shown.split())  # terminals break lines anywhere
        assert re.search(r"needs \d+\.\d+ USDC and 0\.000000 is available", text), shown
        assert f"{self.appliance.url}/dashboard" in text, shown
        assert self.empty.api_token not in text

    def price(self, visit: Visit) -> int:
        """Return what a visit costs by the published prices, rounded up once."""
        [prices] = [row for row in self.pricing.values() if row["provider"] == visit.provider and row["provider_model"] == visit.model]
        assert not any(count for kind, count in visit.billed.items() if kind not in {*KINDS, "reasoning"})
        return -(-sum(visit.billed[kind] * prices[name] for kind, name in KINDS.items()) // 1_000_000)

    def require_exact_charges(self, *, upstream_calls: int) -> None:
        """Fail unless the charges are what the answers of this test bill, to the microunit."""
        visits, charges = self.visits(), self.charges()
        assert len(visits) == upstream_calls, visits
        assert [row["usdc_amount"] for row in charges] == [-self.price(visit) for visit in visits if visit.status == 200]
        assert not any(row["estimated"] for row in charges)

    def connection(self, client: str, door: Door, *, model: str | None = None, empty: bool = False) -> Connection:
        """Return what `level5 connect` knows of this appliance."""
        provider, default = default_model(client)
        wanted = model or default
        named: Provider = provider if model is None else "anthropic" if wanted.startswith("claude") else "openai"
        return Connection(
            origin=self.appliance.url,
            forward=f"127.0.0.1:{self.appliance.environment['LEVEL5_FORWARD__PORT']}",
            ca_file=str(self.certificate),
            token=(self.empty if empty else self.funded).api_token,
            door=door,
            model=wanted,
            provider=named,
        )


@pytest.fixture(scope="session")
def running_house(running: Appliance, store_home: Path) -> Iterator[House]:
    certificate = store_home / "ca.pem"
    answer = CLIENT.get(f"{running.url}/ca.pem")
    if answer.status_code == 200:
        certificate.write_text(answer.text)
    pricing = CLIENT.get(f"{running.url}/v1/pricing").raise_for_status().json()["pricing"]
    house = House(appliance=running, certificate=certificate, pricing=pricing, empty=running.register(), funded=running.register("50"))
    yield house
    running.verify()
    written = "".join(log.read_text() for log in house.logs())
    assert '"request_settled"' in written or not house.seen
    assert house.funded.api_token not in written
    assert house.empty.api_token not in written


@pytest.fixture
def house(running_house: House) -> House:
    running_house.begin()
    return running_house


@pytest.fixture
def forward(running_house: House) -> Door:
    if not running_house.certificate.exists():
        pytest.skip("this gateway has no forward door")
    return Door.FORWARD


@pytest.fixture(params=list(Door), ids=lambda door: door.value)
def door(request: pytest.FixtureRequest) -> Door:
    chosen: Door = request.getfixturevalue("forward") if request.param is Door.FORWARD else request.param
    return chosen


@dataclass
class Turn:
    """What a user saw of one turn."""

    shown: str
    error: str | None


@dataclass
class Driver:
    """A client's process that takes turns as it is told."""

    process: subprocess.Popen[str]

    def ask(self, recipe: Recipe, *, model: str, stream: bool = False, program: str | None = None) -> Turn:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        command = {"environment": dict(recipe.environment), "model": model, "stream": stream, "program": program}
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the client ended with {self.process.wait(10)}"
        return Turn(**json.loads(answer))


def client_environment(home: Path) -> dict[str, str]:
    """Return the variables of a user who has set nothing: no keys, addresses or proxies of this machine."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb"}


@pytest.fixture(scope="module")
def start_driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Driver]]:
    """Return a function that starts a driver once for all tests of a module."""
    started: dict[tuple[str, ...], Driver] = {}
    home = tmp_path_factory.mktemp("home")

    def start(*command: str, **environment: str) -> Driver:
        if command not in started:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=client_environment(home) | environment, cwd=home)
            started[command] = Driver(process)
        return started[command]

    yield start
    for driver in started.values():
        assert driver.process.stdin is not None
        driver.process.stdin.close()
        try:
            driver.process.wait(10)
        except subprocess.TimeoutExpired:
            driver.process.kill()
            driver.process.wait()


def npm_folder() -> Path:
    """Return where the npm clients are, or skip the test where they are not."""
    if not (INSTALLED / "npm" / ".made").exists():
        pytest.skip("the clients are not installed: make npm-clients")
    return INSTALLED / "npm"


def python_of(environment: str) -> str:
    """Return the interpreter of a client's environment, or skip the test where there is none."""
    folder = INSTALLED / environment
    if (folder / "missing").exists():
        pytest.skip((folder / "missing").read_text().strip())
    python = folder / "bin" / "python"
    if not python.exists():
        pytest.skip("the clients are not installed: make python-clients")
    return str(python)
