"""Local mode keeps exact books in a file of its own."""

import json
import os
import sqlite3
import subprocess
import sys
import threading
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plutus_agent import Meter, PlutusError
from plutus_agent.prices import estimate

TOKENS = {"input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0, "reasoning_tokens": 0}


@pytest.fixture
def path(own_home: Path) -> Path:
    return own_home / "plutus" / "plutus.db"


def test_a_local_meter_is_the_default_and_keeps_its_file_to_itself(path: Path) -> None:
    with Meter(org="Acme Agents") as meter:
        assert not meter.is_remote
        assert (meter.org_id or "").startswith("org_")
        assert meter.balance() == 0.0

    assert path.stat().st_mode & 0o077 == 0


def test_the_environment_names_another_file(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUTUS_DB", str(own_home / "elsewhere" / "books.db"))

    Meter().track("openai")

    assert (own_home / "elsewhere" / "books.db").exists()


def test_an_event_is_estimated_and_taken_off_the_balance() -> None:
    meter = Meter("Acme")
    meter.topup("10", "first")

    result = meter.track(provider="anthropic", model="claude-sonnet-4-6", input_tokens=1200, output_tokens=800, task_type="code_review")

    assert (result.recorded, result.estimated, result.unpriced) == (True, True, False)
    assert (result.cost_microunits, result.cost_usd) == (15_600, 0.0156)
    assert (result.balance_after_microunits, meter.balance_microunits(), meter.balance()) == (9_984_400, 9_984_400, 9.9844)
    assert result.event_id.startswith("evt_")
    assert result.org_id == meter.org_id


@pytest.mark.parametrize(
    ("cost", "microunits"),
    [
        ("0.000001", 1),
        ("0.0000001", 1),
        (1e-30, 1),
        (0, 0),
        ("-0.0", 0),
        (0.1, 100_000),
        (0.1 + 0.2, 300_000),
        (Decimal("1.0000011"), 1_000_002),
        ("123456.654321", 123_456_654_321),
        (2, 2_000_000),
    ],
)
def test_an_exact_cost_is_taken_to_the_microunit_and_never_given_away(cost: Any, microunits: int) -> None:
    result = Meter("Acme").track("openai", model="gpt-5", input_tokens=5, cost_usd=cost)

    assert (result.cost_microunits, result.estimated) == (microunits, False)


def test_the_books_survive_the_program() -> None:
    with Meter("Acme") as first:
        first.topup(5)
        first.track("openai", cost_usd="0.000001")

    with Meter("acme") as second:
        assert second.balance_microunits() == 4_999_999
    with pytest.raises(ValueError, match="unknown org"):
        Meter("Other", create=False)
    with pytest.raises(ValueError, match="unknown tier"):
        Meter("Other", tier="gold")


def test_a_prepaid_balance_stops_what_it_does_not_cover() -> None:
    meter = Meter("Acme")
    meter.topup("0.20")

    results = [meter.track("openai", cost_usd=cost) for cost in ("0.15", "0.15", "0.05")]

    assert [result.recorded for result in results] == [True, False, True]
    assert (results[1].over_balance, results[1].cost_microunits, results[1].event_id) == (True, 150_000, "")
    assert meter.balance_microunits() == 0
    assert meter.track("openai", cost_usd=0).recorded


def test_who_never_had_money_is_only_tracked() -> None:
    meter = Meter("Acme")

    assert meter.track("openai", cost_usd="0.5").balance_after_microunits == -500_000
    assert Meter("Other", config={"pricing": {"block_over_balance": False}}).track("openai", cost_usd=1).recorded


def test_the_free_tier_flags_and_blocks_as_configured() -> None:
    flagging, blocking = Meter("A"), Meter("B", config={"pricing": {"block_over_free_limit": True}})

    flags = [flagging.track("openai", input_tokens=count).over_free_limit for count in (9_998, 1, 1)]
    blocks = [blocking.track("openai", input_tokens=count).recorded for count in (9_999, 5, 1, 0)]

    assert flags == [False, False, True]
    assert blocks == [True, True, False, False]


def test_workspaces_above_the_cap_are_folded_and_said_to_be() -> None:
    free, pro = Meter("A"), Meter("B", tier="pro", workspace="mine")

    first, second = free.track("openai", workspace="prod"), free.track("openai", workspace="test")

    assert (first.workspace_folded, second.workspace_folded) == (False, True)
    assert first.workspace_id == second.workspace_id
    assert free.track("openai", workspace="prod").workspace_folded is False
    assert len({pro.track("openai", workspace=f"ws {number}").workspace_id for number in range(12)}) == 10
    assert pro.track("openai").workspace_id is not None


def test_the_same_key_counts_once() -> None:
    meter = Meter("Acme")

    first, again = (meter.track("openai", cost_usd="0.5", idempotency_key="once") for _ in range(2))

    assert (again.idempotent_replay, again.event_id, again.cost_microunits) == (True, first.event_id, 500_000)
    assert meter.balance_microunits() == -500_000


def test_the_summary_adds_up() -> None:
    meter = Meter("Acme", tier="pro")
    meter.topup(1)
    meter.track("openai", model="gpt-5", cost_usd="0.25", input_tokens=10, task_type="coding", workspace="prod")
    meter.track("openai", model="gpt-5", cost_usd="0.25", output_tokens=5, reasoning_tokens=5)
    meter.track("anthropic", cost_usd="0.000001")

    summary = meter.summary()

    assert (summary["balance"], summary["balance_microunits"]) == (0.499999, 499_999)
    assert (summary["tracked_tokens_mtd"], summary["tracked_limit"], summary["tier"]["key"]) == (20, None, "pro")
    assert [(row["key"], row["cost_microunits"], row["tokens"], row["events"]) for row in summary["by_provider"]] == [
        ("openai", 500_000, 20, 2),
        ("anthropic", 1, 0, 1),
    ]
    assert {row["key"] for row in summary["by_workspace"]} == {"prod", "(none)"}
    assert {row["key"] for row in summary["by_task_type"]} == {"coding", "general"}
    assert summary["windows"]["mtd"] == summary["windows"]["all"] == {"cost": 0.500001, "cost_microunits": 500_001, "tokens": 20, "events": 3}
    assert [event["provider"] for event in summary["recent_events"]] == ["anthropic", "openai", "openai"]
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize("amount", [0, "0.0", -1, "x"])
def test_a_topup_is_above_zero(amount: Any) -> None:
    with pytest.raises(ValueError, match="usd"):
        Meter("Acme").topup(amount)


def test_a_topup_says_what_it_did() -> None:
    entry = Meter("Acme").topup(0.1, reason="gift")

    assert (entry["kind"], entry["reason"], entry["delta_usd"], entry["delta_microunits"], entry["balance_after"]) == ("topup", "gift", 0.1, 100_000, 0.1)


def test_a_file_that_is_no_database_is_told(own_home: Path) -> None:
    (own_home / "text").write_text("no database at all, and long enough to be sure of it" * 100)

    with pytest.raises(PlutusError, match="local database"):
        Meter(db_path=own_home / "text")


def test_other_programs_tables_in_the_file_are_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE usage_events (id TEXT)")
        other.execute("INSERT INTO usage_events VALUES ('theirs')")

    Meter("Acme").track("openai", cost_usd=1)

    with sqlite3.connect(path) as other:
        assert other.execute("SELECT id FROM usage_events").fetchall() == [("theirs",)]


def test_threads_and_processes_share_a_file(path: Path) -> None:
    meter = Meter("Acme")
    program = "from plutus_agent import Meter\nm = Meter('Acme')\nfor n in range(40): m.track('openai', cost_usd='0.000001')"
    others = [subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ)) for _ in range(2)]
    threads = [threading.Thread(target=lambda: [meter.track("openai", cost_usd="0.000001") for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert [other.wait(60) for other in others] == [0, 0]
    assert meter.balance_microunits() == -160
    assert meter.summary()["windows"]["all"]["events"] == 160


def test_a_forked_child_opens_the_file_anew() -> None:
    program = """
import os
from plutus_agent import Meter
m = Meter('Acme'); m.track('openai', cost_usd='0.000001')
child = os.fork()
m.track('openai', cost_usd='0.000001')
if child:
    assert os.waitpid(child, 0)[1] == 0
    assert m.balance_microunits() == -3
"""
    assert subprocess.run([sys.executable, "-c", program], env=dict(os.environ), timeout=60, check=False).returncode == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 5_000_000)), max_size=20))
def test_the_entries_always_sum_up_to_the_balance(steps: list[tuple[bool, int]], tmp_path: Path) -> None:
    file = tmp_path / f"{os.urandom(6).hex()}.db"
    expected, funded = 0, False
    with Meter("Acme", db_path=file) as meter:
        for is_topup, amount in steps:
            usd = Decimal(amount).scaleb(-6)
            if is_topup and amount:
                meter.topup(usd)
                expected, funded = expected + amount, True
            elif meter.track("openai", cost_usd=usd).recorded:
                expected -= amount
            else:
                assert funded
                assert expected < amount
        assert meter.balance_microunits() == expected
    with sqlite3.connect(file) as books:
        assert books.execute("SELECT COALESCE(SUM(amount), 0) FROM meter_entries").fetchone() == (expected,)
        assert books.execute("SELECT COALESCE(SUM(cost), 0) FROM meter_events").fetchone() == (
            -books.execute("SELECT COALESCE(SUM(amount), 0) FROM meter_entries WHERE kind='debit'").fetchone()[0],
        )


@pytest.mark.parametrize(
    ("provider", "model", "microunits", "unpriced"),
    [
        ("anthropic", "claude-sonnet-4-6", 3, False),
        ("Anthropic", "claude-sonnet-4.6", 3, False),
        ("anthropic", "anthropic/claude-sonnet-4-6-20260101", 3, False),
        ("anthropic", "claude-of-tomorrow", 3, True),
        ("nobody", "x", 1, True),
        ("nobody", None, 1, True),
    ],
)
def test_a_model_is_found_by_its_names_or_its_providers_usual_one_is_taken(provider: str, model: str | None, microunits: int, unpriced: bool) -> None:
    assert estimate(provider, model, {**TOKENS, "input_tokens": 1}, overrides={}) == (microunits, unpriced)


def test_each_kind_of_token_has_its_price_and_the_sum_is_rounded_once() -> None:
    tokens = {
        **TOKENS,
        "input_tokens": 1,
        "output_tokens": 1,
        "reasoning_tokens": 1,
        "cache_read_tokens": 1,
        "cache_write_tokens": 3,
        "cache_write_1h_tokens": 1,
    }

    cost, _ = estimate("anthropic", "claude-sonnet-4-6", tokens, overrides={})

    assert cost == ceil(3 + 15 + 15 + Fraction("0.3") + 2 * Fraction("3.75") + 6)


def test_prices_of_ones_own_win() -> None:
    config = {"pricing": {"overrides": {"openai": {"mine": {"input": "1.5", "output": 2.0, "cache_read": 0}}}}}

    result = Meter("Acme", config=config).track("openai", model="mine", input_tokens=10, output_tokens=10, cache_read_tokens=1000)

    assert (result.cost_microunits, result.unpriced) == (35, False)
