"""Postgres or Redis away, emptied, rolled back, full or restored: refused or served, never wrong."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import redis

from tests.fakes.appliance import Account, Appliance
from tests.fakes.calls import call, charge_by_hand, streamed


def eventually(holds: Callable[[], bool], *, seconds_max: float = 40.0) -> None:
    """Wait until `holds`; the fault tests wait for the appliance to heal, never for a fixed time."""
    deadline = time.monotonic() + seconds_max
    while True:
        with contextlib.suppress(httpx.HTTPError):  # nobody there yet to answer
            if holds():
                return
        assert time.monotonic() < deadline, "it did not heal in time"
        time.sleep(0.1)


def hot_store(appliance: Appliance) -> redis.Redis:
    found = list(appliance.home.rglob("valkey.sock"))
    assert found, "the embedded Valkey has no socket"
    return redis.Redis(unix_socket_path=str(found[0]))


def spent(appliance: Appliance, account: Account, usdc: int) -> int:
    return usdc - int(appliance.balance(account)["usdc_balance"])


def serves(appliance: Appliance, account: Account) -> bool:
    try:
        return call(appliance, account, "input=10 output=10").status_code == 200
    except httpx.HTTPError:
        return False


def test_requests_go_on_while_postgres_is_away_and_nothing_is_lost(victim: Appliance) -> None:
    account = victim.register("1")
    [postmaster] = victim.pids("bin/postgres")
    # A stopped process answers nobody; its children are stopped with it, as on a machine that hangs.
    group = [postmaster, *(pid for pid, command in victim.processes().items() if command.startswith("postgres:"))]
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert call(victim, account, "input=10 output=10").status_code == 200
        assert httpx.get(f"{victim.url}/readyz", timeout=10).status_code == 200
        # What was found a moment before still stands for a second.
        eventually(lambda: httpx.get(f"{victim.url}/health", timeout=20).status_code == 503)
        assert httpx.get(f"{victim.url}/health", timeout=20).json()["components"]["postgres"] == "error"
    finally:
        for pid in group:
            os.kill(pid, signal.SIGCONT)

    eventually(lambda: httpx.get(f"{victim.url}/health", timeout=10).status_code == 200)
    assert spent(victim, account, 1_000_000) == 20 * charge_by_hand(10, 10)
    eventually(lambda: len(victim.transactions(account)) == 21)
    victim.verify()


def test_a_killed_postgres_is_started_again_and_nothing_is_lost(victim: Appliance) -> None:
    account = victim.register("1")
    [postmaster] = victim.pids("bin/postgres")

    os.kill(postmaster, signal.SIGKILL)
    served = sum(call(victim, account, "input=10 output=10").status_code == 200 for _ in range(20))

    assert served == 20
    eventually(lambda: httpx.get(f"{victim.url}/health", timeout=10).status_code == 200)
    eventually(lambda: len(victim.transactions(account)) == 21)
    victim.verify()


def test_nothing_is_served_unbilled_while_redis_is_away(victim: Appliance) -> None:
    account = victim.register("1")
    assert serves(victim, account)
    [server] = victim.pids("valkey-server")
    os.kill(server, signal.SIGSTOP)
    try:
        refused = call(victim, account, "input=10 output=10")
        eventually(lambda: httpx.get(f"{victim.url}/health", timeout=20).status_code == 503)
        health = httpx.get(f"{victim.url}/health", timeout=20)
    finally:
        os.kill(server, signal.SIGCONT)

    assert refused.status_code == 503
    assert refused.json()["type"] == "error"
    assert health.status_code == 503
    assert health.json()["components"]["redis"] == "error"
    eventually(lambda: serves(victim, account))
    paid = len([entry for entry in victim.transactions(account, limit="200") if entry["type"] == "DEBIT"])
    assert spent(victim, account, 1_000_000) == paid * charge_by_hand(10, 10)
    victim.verify()


def test_a_charge_that_redis_did_not_take_is_spooled_and_posted_later(victim: Appliance) -> None:
    account = victim.register("1")
    [server] = victim.pids("valkey-server")
    with streamed(victim, account, "input=10 output=50 events=10 delay_ms=100") as pieces:
        seen = next(pieces)
        os.kill(server, signal.SIGSTOP)
        try:
            seen += "".join(pieces)
        finally:
            os.kill(server, signal.SIGCONT)

    assert "message_stop" in seen
    eventually(lambda: spent(victim, account, 1_000_000) == charge_by_hand(10, 50))
    eventually(lambda: victim.balance(account)["held"] == 0)
    victim.verify()


def test_an_emptied_redis_answers_503_until_the_right_balances_are_back(victim: Appliance) -> None:
    account = victim.register("1")
    for _ in range(5):
        assert serves(victim, account)
    before = victim.balance(account)["usdc_balance"]
    eventually(lambda: len(victim.transactions(account)) == 6)

    hot_store(victim).flushall()
    seen = set()
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        status = call(victim, account, "input=10 output=10").status_code
        seen.add(status)
        if status == 200:
            break

    assert seen <= {200, 503}
    assert victim.balance(account)["usdc_balance"] == before - charge_by_hand(10, 10)
    victim.verify()


def test_a_redis_rolled_back_to_an_older_state_is_rebuilt(victim: Appliance, store_home: Path) -> None:
    account = victim.register("1")
    for _ in range(3):
        assert serves(victim, account)
    [server] = victim.pids("valkey-server")
    [data] = [path for path in victim.home.rglob("valkey") if path.is_dir()]
    backup = store_home / f"backup-{victim.gateway_port}"
    os.kill(server, signal.SIGSTOP)
    shutil.copytree(data, backup)
    os.kill(server, signal.SIGCONT)
    for _ in range(4):
        assert serves(victim, account)
    eventually(lambda: len(victim.transactions(account)) == 8)

    os.kill(server, signal.SIGSTOP)
    for path in sorted(data.rglob("*")):
        if path.is_file():
            path.unlink()
    for path in backup.rglob("*"):
        if path.is_file():
            target = data / path.relative_to(backup)
            shutil.copy2(path, target)
            os.chown(target, data.stat().st_uid, data.stat().st_gid)
    os.kill(server, signal.SIGKILL)
    eventually(lambda: serves(victim, account))
    eventually(lambda: spent(victim, account, 1_000_000) % charge_by_hand(10, 10) == 0)

    served = len([entry for entry in victim.transactions(account, limit="200") if entry["type"] == "DEBIT"])
    assert served >= 8
    assert spent(victim, account, 1_000_000) == served * charge_by_hand(10, 10)
    victim.verify()
    shutil.rmtree(backup)


def test_a_full_redis_refuses_new_work_and_finishes_the_old(victim: Appliance) -> None:
    account = victim.register("1")
    store = hot_store(victim)
    used = int(store.info("memory")["used_memory"])
    with streamed(victim, account, "input=10 output=50 events=10 delay_ms=100") as pieces:
        seen = next(pieces)
        store.config_set("maxmemory", used // 2)
        try:
            refused = call(victim, account, "input=10 output=10")
            seen += "".join(pieces)
        finally:
            store.config_set("maxmemory", 0)

    assert refused.status_code == 503
    assert "message_stop" in seen
    eventually(lambda: spent(victim, account, 1_000_000) == charge_by_hand(10, 50))
    eventually(lambda: serves(victim, account))
    victim.verify()


def test_a_postgres_restored_from_a_backup_replays_itself(victim: Appliance) -> None:
    early = victim.register("1")
    assert serves(victim, early)
    eventually(lambda: len(victim.transactions(early)) == 2)
    [postmaster] = victim.pids("bin/postgres")
    [data] = [path for path in victim.home.rglob("postgres") if (path / "PG_VERSION").exists()]
    backup = data.with_name("postgres-backup")
    checkpoint = ["cp", "-a", str(data), str(backup)]
    group = [postmaster, *(pid for pid, command in victim.processes().items() if command.startswith("postgres:"))]
    for pid in group:
        os.kill(pid, signal.SIGSTOP)
    subprocess.run(checkpoint, check=True)
    for pid in group:
        os.kill(pid, signal.SIGCONT)

    late = victim.register("2")
    for _ in range(3):
        assert serves(victim, early)
        assert serves(victim, late)
    eventually(lambda: len(victim.transactions(late)) == 4)
    before = victim.balance(early)["usdc_balance"], victim.balance(late)["usdc_balance"]

    victim.stop()
    shutil.rmtree(data)
    backup.rename(data)
    (data / "postmaster.pid").unlink(missing_ok=True)
    victim.start()

    eventually(lambda: serves(victim, late))
    cost = charge_by_hand(10, 10)
    assert victim.balance(early)["usdc_balance"] == before[0]
    served = len([entry for entry in victim.transactions(late, limit="200") if entry["type"] == "DEBIT"])
    assert victim.balance(late)["usdc_balance"] == 2_000_000 - served * cost
    assert len(victim.transactions(early)) == 5
    victim.verify()
