"""The meter in remote mode, on a server in good health."""

import json
import threading
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from plutus_agent import Meter, PlutusAuthError, PlutusError

from tests.fakes.usage_server import KEY, Asked, UsageServer, closes_after, says


def test_a_tracked_call_comes_back_with_what_became_of_it(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)

    result = meter.track(provider="anthropic", model="claude-opus-4-8", input_tokens=1200, output_tokens=800, task_type="code_review")

    assert result.recorded
    assert result.event_id.startswith("evt_")
    assert result.org_id == "org_0123456789abcdef"
    assert (result.cost_usd, result.cost_microunits) == (0.0156, 15_600)
    assert (result.balance_after, result.balance_after_microunits) == (49.98, 49_980_000)
    assert (result.estimated, result.over_free_limit, result.over_balance, result.unpriced, result.workspace_folded) == (True, False, False, False, False)
    assert (result.tier, result.tracked_tokens_mtd, result.tracked_limit, result.queued) == ("pro", 20, None, False)


def test_the_request_is_what_the_interface_documents(server: UsageServer) -> None:
    Meter(remote=server.url + "/", api_key=KEY).track("openai", model="gpt-5", input_tokens=10, output_tokens=15, reasoning_tokens=5, workspace="prod")

    asked = server.asked[0]
    event = asked.events[0]
    key = event.pop("idempotency_key")
    assert event == {
        "provider": "openai",
        "model": "gpt-5",
        "task_type": "general",
        "source": "sdk",
        "workspace": "prod",
        "input_tokens": 10,
        "output_tokens": 15,
        "reasoning_tokens": 5,
    }
    assert len(key) >= 32
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("level5-meter/")


def test_the_environment_is_detected(server: UsageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLUTUS_REMOTE_URL", server.url + "/")
    monkeypatch.setenv("PLUTUS_API_KEY", KEY + "\n")

    meter = Meter()

    assert meter.is_remote
    assert meter.org_id is None
    assert meter.track("conformance", cost_usd=0).recorded


def test_arguments_win_over_the_environment(server: UsageServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLUTUS_REMOTE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PLUTUS_API_KEY", "plutus_sk_other")

    assert Meter(remote=server.url, api_key=KEY).track("conformance").recorded
    assert not Meter(remote="", db_path=tmp_path / "own.db").is_remote


def test_a_server_without_a_key_is_a_mistake_that_shows_at_once() -> None:
    with pytest.raises(ValueError, match="PLUTUS_API_KEY"):
        Meter(remote="http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["ftp://example.org", "example.org", "https://", "http://h?x=1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="remote must be an address"):
        Meter(remote=url, api_key=KEY)


def test_a_key_with_a_line_break_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="api_key must be") as refusal:
        Meter(remote="http://127.0.0.1:1", api_key="plutus_sk_secret\r\nX-Evil: 1")

    assert "secret" not in str(refusal.value)


def test_a_revoked_key_raises_an_error_that_does_not_show_it(server: UsageServer) -> None:
    with pytest.raises(PlutusAuthError) as refusal:
        Meter(remote=server.url, api_key="plutus_sk_wrong").track("conformance")

    assert refusal.value.status == 401
    assert isinstance(refusal.value, PlutusError)
    assert "plutus_sk_wrong" not in repr(refusal.value) + str(refusal.value.__context__)


def test_a_meter_does_not_show_its_key(server: UsageServer) -> None:
    assert KEY not in repr(Meter(remote=server.url, api_key=KEY))


def test_balance_summary_and_topup_say_that_they_are_local(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)

    for call in (meter.balance, meter.summary, lambda: meter.topup(1)):
        with pytest.raises(PlutusError, match="not available in remote mode"):
            call()


@pytest.mark.parametrize(
    ("cost", "written"),
    [
        (0, "0"),
        (3, "3"),
        ("0.000001", "0.000001"),
        ("12.340", "12.340"),
        (Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (Decimal("1E-7"), "1E-7"),
        (0.1, "0.1"),
        (1.3e-05, "1.3e-05"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_a_cost_goes_out_digit_for_digit(server: UsageServer, cost: Any, written: str) -> None:
    Meter(remote=server.url, api_key=KEY).track("openai", cost_usd=cost)

    assert server.asked[0].text.endswith(f'"cost_usd":{written}}}')
    assert json.loads(server.asked[0].text)


@pytest.mark.parametrize("cost", [-1, "-0.01", float("nan"), float("inf"), Decimal("Infinity"), "one", "1_000", "0x10", "", "1e999", 10**11])
def test_a_cost_that_is_no_amount_is_refused_before_anything_is_sent(server: UsageServer, cost: Any) -> None:
    with pytest.raises(ValueError, match="cost_usd"):
        Meter(remote=server.url, api_key=KEY).track("openai", cost_usd=cost)

    assert server.asked == []


@pytest.mark.parametrize("cost", [True, [1], {}])
def test_a_cost_of_the_wrong_type_is_refused(server: UsageServer, cost: Any) -> None:
    with pytest.raises(TypeError, match="cost_usd"):
        Meter(remote=server.url, api_key=KEY).track("openai", cost_usd=cost)


@pytest.mark.parametrize(
    ("field", "value"), [("input_tokens", -1), ("output_tokens", "many"), ("cache_read_tokens", float("inf")), ("reasoning_tokens", 2**60), ("provider", " ")]
)
def test_an_event_that_cannot_be_is_refused_by_the_name_of_its_field(server: UsageServer, field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Meter(remote=server.url, api_key=KEY).track(**{"provider": "openai", field: value})

    assert server.asked == []


def test_counts_are_taken_as_the_interface_always_took_them(server: UsageServer) -> None:
    Meter(remote=server.url, api_key=KEY).track("openai", input_tokens="12", output_tokens=None, cache_read_tokens=3.0)  # type: ignore[arg-type]  # old callers do

    event = server.asked[0].events[0]
    assert (event["input_tokens"], event["output_tokens"], event["cache_read_tokens"]) == (12, 0, 3)


def test_a_hard_stop_is_a_result_and_no_error(server: UsageServer) -> None:
    server.faults += [
        says(402, {"error": "free-tier token quota reached", "upgrade_url": "https://x/pricing", "recorded": False, "event_id": None, "over_free_limit": True}),
        says(402, {"error": "prepaid credit exhausted", "recorded": False, "over_balance": True, "cost_usd": 0.5, "balance_after": 0.25}),
        says(402, {"error": "no"}),
    ]
    meter = Meter(remote=server.url, api_key=KEY)

    quota, balance, bare = (meter.track("openai", input_tokens=1) for _ in range(3))

    assert (quota.recorded, quota.over_free_limit, quota.over_balance, quota.event_id) == (False, True, False, "")
    assert quota.upgrade_url == "https://x/pricing"
    assert (balance.recorded, balance.over_free_limit, balance.over_balance, balance.cost_microunits) == (False, False, True, 500_000)
    assert (bare.recorded, bare.over_free_limit) == (False, True)


def test_the_flags_of_the_answer_are_kept(server: UsageServer) -> None:
    server.faults.append(says(200, {"recorded": True, "event_id": "evt_1", "cost_usd": 1, "balance_after": -0.078, "unpriced": True, "workspace_folded": True}))

    result = Meter(remote=server.url, api_key=KEY).track("openai")

    assert (result.unpriced, result.workspace_folded, result.balance_after_microunits, result.cost_microunits) == (True, True, -78_000, 1_000_000)


def test_the_connection_is_kept_for_the_next_call(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)

    for _ in range(20):
        meter.track("openai")

    assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(server: UsageServer) -> None:
    server.faults += [closes_after, closes_after]
    meter = Meter(remote=server.url, api_key=KEY)

    results = [meter.track("openai") for _ in range(3)]

    assert all(result.recorded for result in results)
    assert len(server.recorded) == 3


def test_threads_share_a_meter(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)
    results = []

    def work() -> None:
        results.extend(meter.track("openai", input_tokens=1) for _ in range(25))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(results) == len(server.recorded) == 200
    assert server.connections <= 16


def test_many_events_go_out_a_thousand_to_a_request_in_their_order(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY, workspace="mine")

    results = meter.track_many({"provider": "openai", "input_tokens": number} for number in range(1500))

    assert [len(asked.events) for asked in server.asked] == [1000, 500]
    assert [event["input_tokens"] for asked in server.asked for event in asked.events] == list(range(1500))
    assert {event["workspace"] for asked in server.asked for event in asked.events} == {"mine"}
    assert len(results) == 1500
    assert len({event["idempotency_key"] for asked in server.asked for event in asked.events}) == 1500


def test_one_event_may_be_answered_as_a_batch_and_a_batch_of_one_as_one(server: UsageServer) -> None:
    server.faults.append(says(200, {"org_id": "org_1", "results": [{"recorded": True, "event_id": "evt_9"}]}))

    assert Meter(remote=server.url, api_key=KEY).track("openai").event_id == "evt_9"


def test_when_and_for_whom_it_happened_goes_along(server: UsageServer) -> None:
    moment = datetime(2026, 1, 31, 13, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    meter = Meter(remote=server.url, api_key=KEY)

    meter.track("openai", occurred_at=moment, user_id="u1", external_ref="job-7", idempotency_key="mine-1", cache_write_tokens=9, cache_write_1h_tokens=4)

    event = server.asked[0].events[0]
    assert event["occurred_at"] == "2026-01-31T12:00:00.123Z"
    assert (event["user_id"], event["external_ref"], event["idempotency_key"]) == ("u1", "job-7", "mine-1")
    assert (event["cache_write_tokens"], event["cache_write_1h_tokens"]) == (9, 4)
    with pytest.raises(ValueError, match="time zone"):
        meter.track("openai", occurred_at=datetime(2026, 1, 1))  # noqa: DTZ001 - that is what is tried


def test_a_prefix_of_the_address_is_kept(server: UsageServer) -> None:
    Meter(remote=server.url + "/billing/", api_key=KEY).track("openai")

    assert len(server.recorded) == 1


def test_a_proxy_of_the_environment_is_asked_unless_it_is_told_not_to(server: UsageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Asked] = server.asked
    monkeypatch.setenv("http_proxy", server.url.replace("//", "//user:word@"))

    Meter(remote="http://meter.invalid/base", api_key=KEY).track("openai")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Meter(remote=server.url, api_key=KEY).track("openai")

    assert seen[0].headers["host"] == "meter.invalid"
    assert seen[0].headers["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
    assert "proxy-authorization" not in seen[1].headers


def test_programs_of_the_original_find_the_names_they_know() -> None:
    from plutus_agent.client import Meter as KnownMeter
    from plutus_agent.client import PlutusAuthError as KnownAuthError
    from plutus_agent.client import PlutusError as KnownError
    from plutus_agent.integrations import track_anthropic, track_openai
    from plutus_agent.metering import MeterResult

    known = ("event_id org_id workspace_id provider model task_type cost_usd estimated balance_after alerts baseline_usd savings_usd optimal_usd leaked_usd "
             "external_ref recorded over_free_limit over_balance unpriced")  # fmt: skip
    assert set(known.split()) <= set(MeterResult.__dataclass_fields__)
    assert (KnownMeter, KnownError, KnownAuthError) == (Meter, PlutusError, PlutusAuthError)
    assert callable(track_anthropic)
    assert callable(track_openai)
