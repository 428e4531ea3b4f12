"""Processes that die in the middle of things: each request ends once, and nothing stays behind."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.fakes.appliance import Appliance, appliance
from tests.fakes.calls import call, charge_by_hand, streamed
from tests.fakes.interpreter import level5_command
from tests.faults.test_stores_lost import eventually, spent


def test_a_worker_killed_in_mid_stream_is_replaced_and_its_holds_end(victim: Appliance) -> None:
    account = victim.register("1")
    workers = victim.pids("addons.worker")
    assert len(workers) == 2
    with streamed(victim, account, "input=1000 output=100 events=60 delay_ms=100") as pieces:
        next(pieces)
        time.sleep(2.5)  # at least one renewal has carried the usage so far
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(httpx.HTTPError):
            list(pieces)

    eventually(lambda: victim.balance(account)["held"] == 0)
    charged = spent(victim, account, 1_000_000)
    assert charge_by_hand(1000, 1) <= charged <= charge_by_hand(1000, 200)
    [entry] = [entry for entry in victim.transactions(account) if entry["type"] == "DEBIT"]
    assert entry["estimated"] is True
    eventually(lambda: len(set(victim.pids("addons.worker")) - set(workers)) == 2)
    assert call(victim, account, "input=10 output=10").status_code == 200
    victim.verify()


def test_a_worker_that_slept_past_its_deadline_settles_exactly_once(victim: Appliance) -> None:
    account = victim.register("1")
    workers = victim.pids("addons.worker")
    with streamed(victim, account, "input=1000 output=100 events=40 delay_ms=100") as pieces:
        next(pieces)
        time.sleep(1.5)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        time.sleep(5)
        for worker in workers:
            os.kill(worker, signal.SIGCONT)
        for _ in pieces:
            pass

    eventually(lambda: spent(victim, account, 1_000_000) == charge_by_hand(1000, 100))
    eventually(lambda: victim.balance(account)["held"] == 0)
    victim.verify()


def test_a_killed_poster_is_replaced_and_goes_on_where_it_was(victim: Appliance) -> None:
    account = victim.register("1")
    [poster] = victim.pids("poster")

    os.kill(poster, signal.SIGKILL)
    for _ in range(10):
        assert call(victim, account, "input=10 output=10").status_code == 200

    eventually(lambda: victim.pids("poster") not in ([], [poster]))
    eventually(lambda: httpx.get(f"{victim.url}/health", timeout=10).status_code == 200)
    eventually(lambda: len(victim.transactions(account)) == 11)
    victim.verify()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_nothing_stays_behind_however_the_supervisor_ends(victim: Appliance, how: signal.Signals) -> None:
    account = victim.register("1")
    assert call(victim, account, "input=10 output=10").status_code == 200
    below = victim.processes()

    victim.stop(how)

    eventually(lambda: not any(is_running(pid) for pid in below))
    for port in (victim.gateway_port, victim.control_port, victim.metrics_port, victim.provider_port):
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    victim.start()
    assert victim.balance(account)["usdc_balance"] == 1_000_000 - charge_by_hand(10, 10)
    victim.verify()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def test_a_second_appliance_on_the_same_home_is_refused(victim: Appliance) -> None:
    second = subprocess.run(level5_command("up", "--sandbox"), env=victim.environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    assert second.returncode != 0
    assert "already" in (second.stdout + second.stderr)
    assert httpx.get(f"{victim.url}/health", timeout=10).status_code == 200


def test_a_sandbox_on_the_stores_of_a_real_appliance_is_refused(store_home: Path, database_url: str, redis_url: str) -> None:
    stores = {"LEVEL5_DATABASE_URL": database_url, "LEVEL5_REDIS_URL": redis_url}
    with appliance(store_home, start=False, **stores) as made:
        real = made.run("migrate", check=False)
        assert real.returncode == 0, real.stderr
        command = level5_command("up")
        real_up = subprocess.Popen(
            command, env=made.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        try:
            made.process = None
            made.wait_ready()
        finally:
            real_up.terminate()
            real_up.wait(60)

        sandbox = subprocess.run([*command, "--sandbox"], env=made.environment, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    assert sandbox.returncode != 0
    assert "real" in (sandbox.stdout + sandbox.stderr)
