"""Every role by itself, as a service manager runs it, on stores of somebody else's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from config.chain import SANDBOX_MINT, SANDBOX_TREASURY
from tests.fakes.appliance import Appliance, appliance, descendants
from tests.fakes.interpreter import level5_command

INTERNAL = {"LEVEL5_INTERNAL_KEY": "a key of the operator's choice"}


def eventually(holds: Callable[[], bool], *, seconds_max: float = 60.0) -> None:
    deadline = time.monotonic() + seconds_max
    while True:
        try:
            if holds():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.1)


class Services:
    """Roles started one by one; all of them end with the test."""

    def __init__(self, made: Appliance) -> None:
        self.made, self.running = made, dict[str, subprocess.Popen[str]]()

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        command = level5_command(*arguments)
        log = (self.made.home / f"{arguments[0]}.out").open("a")
        process = subprocess.Popen(
            command, env=self.made.environment | INTERNAL | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True, start_new_session=True
        )
        self.running[arguments[0]] = process
        return process

    def output(self, role: str) -> str:
        return (self.made.home / f"{role}.out").read_text()

    def stop_all(self) -> None:
        for process in self.running.values():
            process.terminate()
        for process in self.running.values():
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def services(store_home: Path, bare_database_url: str, redis_url: str) -> Iterator[Services]:
    with appliance(store_home, start=False, LEVEL5_DATABASE_URL=bare_database_url, LEVEL5_REDIS_URL=redis_url, LEVEL5_MODE="sandbox") as made:
        found = Services(made)
        try:
            yield found
        finally:
            found.stop_all()


def test_the_roles_together_are_an_appliance(services: Services) -> None:
    made = services.made
    applied = made.ask("migrate")["applied"]
    assert applied
    simulated = [
        subprocess.Popen([sys.executable, "-m", module], env=made.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for module in ("sandbox", "sandbox.chain")
    ]
    try:
        roles = (("poster",), ("control",), ("chainwatch",), ("gateway", "--workers", "1"))
        poster, control, chainwatch, gateway = (services.start(*words) for words in roles)
        eventually(lambda: httpx.get(f"{made.url}/readyz", timeout=5).status_code == 200)
        eventually(lambda: httpx.get(f"{made.url}/health", timeout=5).status_code == 200)
        account = made.register("1")
        body = {"model": "claude-sonnet-4-6", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}
        answer = httpx.post(f"{made.url}/proxy/{account.api_token}/v1/messages", json=body, timeout=30)
        assert answer.status_code == 200
        assert made.balance(account)["usdc_balance"] == 1_000_000 - int(answer.headers["x-level5-charge"])
        paid = httpx.post(f"{made.rpc_url}/_sandbox/faucet", json={"usdc": 2_500_000, "deposit_code": account.deposit_code}, timeout=30)
        assert paid.status_code == 200
        before = made.balance(account)["usdc_balance"]
        eventually(lambda: made.balance(account)["usdc_balance"] == before + 2_500_000)
        assert "level5_posted_total" in httpx.get(f"http://127.0.0.1:{made.metrics_port}/metrics", timeout=10).text
        made.verify()

        [worker] = [pid for pid, command in descendants(gateway.pid).items() if "addons.worker" in command]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in descendants(gateway.pid) and httpx.get(f"{made.url}/readyz", timeout=5).status_code == 200)

        for process in (gateway, control, chainwatch, poster):
            process.terminate()
            assert process.wait(60) in {0, -signal.SIGTERM}
        assert "was killed by SIGKILL; starting it again" in services.output("gateway")
        assert "poster_stopped" in services.output("poster")
    finally:
        for process in simulated:
            process.terminate()
            process.wait(30)


@pytest.mark.parametrize("role", ["gateway", "poster"])
def test_a_role_does_not_work_on_the_stores_of_another_mode(services: Services, role: str) -> None:
    services.made.run("migrate")
    services.made.run("accounts", "list")  # claims the stores for the sandbox

    process = services.start(role, LEVEL5_MODE="real")

    assert process.wait(60) == 1
    assert "the database holds sandbox books" in services.output(role)


@pytest.mark.parametrize("role", ["gateway", "control", "poster", "chainwatch"])
def test_a_role_without_stores_says_what_is_missing(services: Services, role: str) -> None:
    process = services.start(role, LEVEL5_DATABASE_URL="", LEVEL5_REDIS_URL="")

    assert process.wait(60) != 0
    assert "LEVEL5_DATABASE_URL" in services.output(role)
    assert "Traceback" not in services.output(role)


def test_a_watcher_does_not_credit_into_books_of_another_mode(services: Services) -> None:
    services.made.run("migrate")
    services.made.run("accounts", "list")  # claims the stores for the sandbox
    chain = {"LEVEL5_CHAIN__TREASURY": SANDBOX_TREASURY, "LEVEL5_CHAIN__USDC_MINT": SANDBOX_MINT, "LEVEL5_CHAIN__RPC_URLS": services.made.rpc_url}

    process = services.start("chainwatch", LEVEL5_MODE="real", **chain)

    assert process.wait(60) != 0
    assert "the database holds sandbox books" in services.output("chainwatch")


def test_a_watcher_without_a_treasury_says_what_is_missing(services: Services) -> None:
    process = services.start("chainwatch", LEVEL5_MODE="real")

    assert process.wait(60) != 0
    assert "set LEVEL5_CHAIN__TREASURY and LEVEL5_CHAIN__RPC_URLS" in services.output("chainwatch")
