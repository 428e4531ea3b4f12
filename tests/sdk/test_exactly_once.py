"""Whatever faults come in whatever order, each event that was taken is recorded once and only once."""

import random
from pathlib import Path
from typing import Any

import pytest
from plutus_agent import Meter

from tests.fakes.usage_server import KEY, UsageServer, closes_after, cuts, records_then_resets, resets, says

FAULTS = [resets, records_then_resets, cuts, closes_after, says(503), says(500), says(429, Retry_After="0"), says(502, b"<html>"), says(200, b"{}"), says(409)]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plutus_agent.retrying.FIRST_SECONDS", 0.005)


@pytest.mark.parametrize("seed", range(6))
def test_a_buffered_meter_among_faults(server: UsageServer, seed: int) -> None:
    chance = random.Random(seed)
    server.faults.extend(chance.choices(FAULTS, k=12))
    meter = Meter(remote=server.url, api_key=KEY, buffered=True, interval=0.01, timeout=5)

    for number in range(1200):
        meter.track("openai", input_tokens=number)
        if chance.random() < 0.01:
            meter.flush(0.05)
    assert meter.flush(90)

    assert sorted(event["input_tokens"] for event in server.recorded.values()) == list(range(1200))
    assert meter.delivery().refused == 0
    meter.close()


@pytest.mark.parametrize("seed", range(3))
def test_meters_that_come_and_go_among_faults(server: UsageServer, own_home: Path, seed: int) -> None:
    chance, tracked = random.Random(100 + seed), 0
    options: dict[str, Any] = {"remote": server.url, "api_key": KEY, "buffered": True, "interval": 0.01, "timeout": 2}
    for _ in range(6):
        server.faults.extend(chance.choices(FAULTS, k=chance.randint(0, 4)))
        meter = Meter(**options)
        for _ in range(chance.randint(0, 40)):
            meter.track("openai", input_tokens=tracked)
            tracked += 1
        meter.close(chance.choice([0.0, 0.05, 0.5]))
    server.faults.clear()

    with Meter(**options) as last:
        assert last.flush(60)

    assert sorted(event["input_tokens"] for event in server.recorded.values()) == list(range(tracked))
    assert [path for path in (own_home / "plutus" / "spool").rglob("*") if path.is_file()] == []
