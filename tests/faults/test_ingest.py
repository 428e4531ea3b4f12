"""Processes and stores killed while usage is reported: what was acknowledged is in the books, once."""

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from tests.fakes.appliance import Account, Appliance
from tests.faults.test_stores_lost import eventually

COST = 7  # microunits


@dataclass
class Crowd:
    """Clients that report until they are told to stop: with keys, repeated until they are answered, or without, sent once."""

    appliance: Appliance
    account: Account
    key: str
    stop: threading.Event = field(default_factory=threading.Event)
    keyed: set[str] = field(default_factory=set)
    unkeyed: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def run(self, *, with_keys: bool) -> None:
        with httpx.Client(base_url=self.appliance.url, timeout=15) as client:
            while not self.stop.is_set():
                name = f"event-{next(self.numbers)}"
                if with_keys:
                    deadline = time.monotonic() + 60
                    while not self.send(client, name, {"Idempotency-Key": name}):
                        assert time.monotonic() < deadline, "a key is not answered"
                        time.sleep(0.2)
                    self.keyed.add(name)
                elif self.send(client, name, {}):
                    self.unkeyed.add(name)

    def send(self, client: httpx.Client, name: str, headers: dict[str, str]) -> bool:
        event = {"provider": "anthropic", "input_tokens": 3, "cost_usd": COST / 10**6, "external_ref": name}
        try:
            answer = client.post("/v1/usage", json=event, headers={"Authorization": f"Bearer {self.key}", **headers})
        except httpx.HTTPError:
            return False
        assert answer.status_code in (200, 409, 503, 502), answer.text
        return answer.status_code == 200


@contextlib.contextmanager
def crowd_reporting(target: Appliance) -> Iterator[Crowd]:
    """Let eight clients report while the block does harm, then compare what they were told with the books."""
    account = target.register()
    made = httpx.post(f"{target.url}/v1/keys", json={"name": "agent"}, headers={"Authorization": f"Bearer {account.api_token}"}, timeout=15)
    crowd = Crowd(target, account, made.raise_for_status().json()["secret"])
    threads = [threading.Thread(target=crowd.run, kwargs={"with_keys": number % 2 == 0}, daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(crowd.keyed) > 20 and len(crowd.unkeyed) > 20)
    yield crowd
    eventually(lambda: httpx.get(f"{target.url}/health", timeout=10).status_code == 200)
    time.sleep(1.0)
    crowd.stop.set()
    for thread in threads:
        thread.join(90)
    compare(crowd)


def compare(crowd: Crowd) -> None:
    def events() -> list[dict[str, object]]:
        answer = httpx.get(f"{crowd.appliance.url}/v1/usage/export.json", headers={"Authorization": f"Bearer {crowd.key}"}, timeout=60)
        found: list[dict[str, object]] = answer.raise_for_status().json()["events"] if answer.status_code == 200 else []
        return found

    eventually(lambda: len(events()) > 0)
    recorded = [str(event["external_ref"]) for event in events()]
    assert len(recorded) == len(set(recorded)), "an event was recorded twice"
    assert crowd.keyed <= set(recorded), "an acknowledged event is lost"
    assert crowd.unkeyed <= set(recorded), "an acknowledged event is lost"
    assert len(crowd.keyed) > 20
    assert len(crowd.unkeyed) > 20
    assert crowd.appliance.balance(crowd.account)["usdc_balance"] == -COST * len(recorded)
    crowd.appliance.verify()


@pytest.mark.parametrize("part", ["-m control", "poster", "bin/postgres", "valkey-server"])
def test_what_was_acknowledged_is_recorded_once_when_a_process_is_killed(victim: Appliance, part: str) -> None:
    with crowd_reporting(victim):
        for _ in range(2):
            pids = victim.pids(part)
            assert pids, f"nothing runs as {part}: {victim.processes()}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(3.0)
