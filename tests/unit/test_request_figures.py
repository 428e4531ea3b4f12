"""What requests count: those of a moment together come to what they would have come to one by one."""

from collections.abc import Mapping

import pytest
from prometheus_client import REGISTRY

from addons.request_figures import count_charges, count_closed
from ledger.entries import ChargeRecord, RequestId, UsageLine
from ledger.money import Microunits
from telemetry.tallies import tallies


def value(name: str, labels: Mapping[str, str]) -> float:
    tallies.write()
    return REGISTRY.get_sample_value(name, dict(labels)) or 0.0


def record(*lines: UsageLine, amount: int, owed: int) -> ChargeRecord:
    return ChargeRecord(
        request_id=RequestId("r"), provider="anthropic", model="m-figures", operation="messages", lines=lines, amount=Microunits(amount),
        provider_leg=Microunits(owed), numerator=0, list_numerator=0, rate_card="", started_at=0,
    )  # fmt: skip


def test_charges_add_up_by_provider_and_model_and_their_tokens_by_kind() -> None:
    whole = UsageLine(provider="anthropic", model="m-figures", input_tokens=5, output_tokens=7, cache_write_5m_tokens=1, cache_write_1h_tokens=2)
    other = UsageLine(provider="anthropic", model="m-advisor", input_tokens=10, cache_read_tokens=4)
    labels = {"provider": "anthropic", "model": "m-figures"}

    count_charges([record(whole, amount=330, owed=300), record(whole, other, amount=1, owed=1)])

    assert value("level5_charges_microunits_total", labels) == 331
    assert value("level5_provider_cost_microunits_total", labels) == 301
    tokens = {kind: value("level5_tokens_total", {**labels, "kind": kind}) for kind in ("input", "output", "cache_write", "cache_read")}
    assert tokens == {"input": 20, "output": 14, "cache_write": 6, "cache_read": 4}


def test_a_kind_of_token_that_nobody_used_gets_no_figure() -> None:
    count_charges([record(UsageLine(provider="openai", model="m-figures", input_tokens=3), amount=1, owed=1)])
    tallies.write()

    assert REGISTRY.get_sample_value("level5_tokens_total", {"provider": "openai", "model": "m-figures", "kind": "input"}) == 3
    assert REGISTRY.get_sample_value("level5_tokens_total", {"provider": "openai", "model": "m-figures", "kind": "output"}) is None


def test_requests_are_counted_by_their_outcome_and_timed_by_their_provider() -> None:
    added_before = value("level5_added_latency_seconds_count", {})
    seconds_before = value("level5_request_seconds_sum", {"provider": "anthropic"})
    refused_before = value("level5_requests_total", {"provider": "none", "model": "none", "status": "401"})

    count_closed([
        (("anthropic", "m-figures", 200), 0.5, 0.001),
        (("anthropic", "m-figures", 200), 1.5, None),
        (("anthropic", "m-figures", None), 2.0, 0.002),
        ((None, None, 401), 0.1, None),
    ])  # fmt: skip

    answered = {"provider": "anthropic", "model": "m-figures", "status": "200"}
    assert value("level5_requests_total", answered) == 2
    assert value("level5_requests_total", {**answered, "status": "none"}) == 1
    assert value("level5_requests_total", {"provider": "none", "model": "none", "status": "401"}) == refused_before + 1
    assert value("level5_request_seconds_sum", {"provider": "anthropic"}) == pytest.approx(seconds_before + 4.0)
    assert value("level5_added_latency_seconds_count", {}) == added_before + 2
