"""The SDK and the gateway, as an operator and an agent have them: keys, meters, buffers, hooks and the books behind them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from plutus_agent import Meter, PlutusAuthError, PlutusError, track_anthropic, track_openai

from tests.fakes.appliance import Appliance


@pytest.fixture(scope="module")
def key(running: Appliance) -> str:
    made = running.ask("keys", "create", "--name", "sdk")
    return str(made["secret"])


@pytest.fixture(params=["gateway", "control"])
def meter(request: pytest.FixtureRequest, running: Appliance, key: str) -> Iterator[Meter]:
    port = running.gateway_port if request.param == "gateway" else running.control_port
    with Meter(remote=f"http://127.0.0.1:{port}", api_key=key, timeout=30) as opened:
        yield opened


def test_a_tracked_call_is_charged_to_the_organisation(meter: Meter) -> None:
    before = meter.track("conformance", cost_usd=0)

    result = meter.track(provider="anthropic", model="claude-sonnet-4-6", input_tokens=1200, output_tokens=800, task_type="code_review")

    assert (result.recorded, result.estimated, result.unpriced) == (True, True, False)
    assert result.cost_microunits == 15_600
    assert result.balance_after_microunits == before.balance_after_microunits - 15_600
    assert result.tracked_tokens_mtd == (before.tracked_tokens_mtd or 0) + 2000
    assert result.event_id.startswith("evt_")
    assert result.org_id.startswith("org_")


def test_local_mode_estimates_as_the_gateway_does(meter: Meter, tmp_path: Path) -> None:
    local = Meter("Acme", tier="pro", db_path=tmp_path / "local.db")
    calls: list[dict[str, Any]] = [
        {"provider": "openai", "model": "gpt-5", "input_tokens": 1001, "output_tokens": 7, "reasoning_tokens": 3, "cache_read_tokens": 77},
        {"provider": "Anthropic", "model": "claude-opus-4-8", "input_tokens": 13, "cache_write_tokens": 11},
        {"provider": "anthropic", "model": "claude-opus-4-8", "cache_write_tokens": 1100, "cache_write_1h_tokens": 700},
        {"provider": "gemini", "model": "no-such-model", "input_tokens": 999, "output_tokens": 1},
        {"provider": "nobody", "model": "x", "input_tokens": 5, "output_tokens": 5, "cache_read_tokens": 5},
        {"provider": "deepseek", "input_tokens": 12_345},
        {"provider": "openai", "cost_usd": 0.1 + 0.2},
        {"provider": "openai", "cost_usd": "0.0000001"},
    ]

    there, here = meter.track_many(calls), [local.track(**call) for call in calls]

    assert [(result.cost_microunits, result.unpriced) for result in there] == [(result.cost_microunits, result.unpriced) for result in here]


def test_adapters_count_every_token_once(meter: Meter) -> None:
    before = meter.track("conformance", cost_usd=0).tracked_tokens_mtd or 0

    track_openai(meter, {"model": "gpt-5", "usage": {"prompt_tokens": 100, "completion_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}}})
    usage = {"input_tokens": 11, "output_tokens": 22, "cache_read_input_tokens": 33, "cache_creation": {"ephemeral_1h_input_tokens": 4}}
    result = track_anthropic(meter, {"model": "claude-sonnet-4-6", "usage": usage})

    assert result.tracked_tokens_mtd == before + 150 + 70


def test_the_same_event_is_recorded_once(meter: Meter) -> None:
    key = os.urandom(8).hex()

    first, again = (meter.track("openai", cost_usd="0.25", idempotency_key=key) for _ in range(2))

    assert (first.idempotent_replay, again.idempotent_replay) == (False, True)
    assert first.event_id == again.event_id
    with pytest.raises(PlutusError) as conflict:
        meter.track("openai", cost_usd="0.5", idempotency_key=key)
    assert conflict.value.status == 409


def test_a_thousand_buffered_events_are_in_the_books(running: Appliance, key: str, tmp_path: Path) -> None:
    with Meter(remote=running.url, api_key=key) as direct:
        before = direct.track("conformance", cost_usd=0).balance_after_microunits
        with Meter(remote=running.url, api_key=key, buffered=True, spool=tmp_path / "spool", timeout=30) as buffered:
            for _ in range(1500):
                buffered.track("openai", model="gpt-5", input_tokens=1, cost_usd="0.000001", workspace="prod")
            assert buffered.flush(60)
            assert (buffered.delivery().recorded, buffered.delivery().refused, buffered.delivery().last_error) == (1500, 0, None)
        assert direct.track("conformance", cost_usd=0).balance_after_microunits == before - 1500

    running.verify()


def test_an_event_that_is_wrong_is_refused_by_name(meter: Meter) -> None:
    with pytest.raises(PlutusError, match="task_type") as refusal:
        meter.track("openai", task_type="x" * 500)

    assert (refusal.value.status, refusal.value.retryable) == (400, False)


def test_a_revoked_key_is_refused_at_once(running: Appliance) -> None:
    made = running.ask("keys", "create", "--name", "short")
    with Meter(remote=running.url, api_key=made["secret"]) as opened:
        assert opened.track("openai", cost_usd=0).recorded

        running.run("keys", "revoke", made["id"])

        with pytest.raises(PlutusAuthError):
            opened.track("openai", cost_usd=0)


def test_the_hook_reports_a_session(running: Appliance, key: str, tmp_path: Path) -> None:
    usage = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 25, "cache_creation_input_tokens": 5}
    entry = {
        "type": "assistant",
        "timestamp": "2026-01-02T03:04:05Z",
        "message": {"id": f"msg_{os.urandom(8).hex()}", "model": "claude-sonnet-4-6", "usage": usage},
    }
    (tmp_path / "t.jsonl").write_text(json.dumps(entry) + "\n")
    payload = json.dumps({"hook_event_name": "Stop", "cwd": "/home/me/my-project", "transcript_path": str(tmp_path / "t.jsonl")})
    environment = {**os.environ, "PLUTUS_REMOTE_URL": running.url, "PLUTUS_API_KEY": key, "PLUTUS_HOME": str(tmp_path / "p"), "PLUTUS_HOOK_SECONDS": "30"}
    with Meter(remote=running.url, api_key=key) as meter:
        before = meter.track("conformance", cost_usd=0).tracked_tokens_mtd or 0

        for _ in range(2):
            done = subprocess.run([sys.executable, "-m", "plutus_agent.hook"], input=payload, capture_output=True, text=True, env=environment, timeout=60)
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

        assert meter.track("conformance", cost_usd=0).tracked_tokens_mtd == before + 180
