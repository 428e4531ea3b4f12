"""The parts of the data plane that need no network: the table of endings, error texts, budgets, refusals."""

import json
from dataclasses import replace

import pytest
from mitmproxy.http import Headers

from addons.budget import BodyBudget
from addons.endings import Facts, judge
from addons.exchange import Exchange
from addons.head_facts import facts_of
from addons.local_answers import FreeQuota
from addons.provider_errors import error_is_operators, operators_affair
from addons.records import count_doubts
from addons.refusals import error_events, make_answer, operator_affair, payment_required, too_many_requests, unavailable
from config.settings import GatewaySettings
from ledger.entries import ChargeRecord, RequestId, UsageLine
from ledger.money import Microunits
from metering.classify import Dialect, Operation
from metering.usage import Ending, Reading, Usage
from telemetry import metrics

USAGE = Usage(lines=(), final=True)
GUESS = Usage(lines=(), final=False)


def reading(ended: Ending, *, usage: Usage | None = None, estimated: Usage | None = None) -> Reading:
    return Reading(usage=usage, estimated=estimated, output_seen=estimated is not None, ended=ended)


def facts(
    outcome: Reading | None = None, *, sent: bool = True, status: int | None = 200, broken: bool = False, left: bool = False, over: bool = False
) -> Facts:
    return Facts(sent=sent, status=status, reading=outcome, broken=broken, client_left=left, read_on_over=over)


@pytest.mark.parametrize(
    ("what", "charged", "estimated", "whole_hold"),
    [
        (facts(reading(Ending.COMPLETE, usage=USAGE)), True, False, False),
        (facts(reading(Ending.ERROR, usage=USAGE)), True, False, False),
        (facts(reading(Ending.COMPLETE, usage=USAGE), broken=True), True, False, False),
        (facts(sent=False, status=None, left=True), False, False, False),
        (facts(status=None), False, False, False),
        (facts(status=None, left=True), False, False, False),
        (facts(status=None, left=True, over=True), True, True, True),
        (facts(reading(Ending.ERROR), status=529), False, False, False),
        (facts(reading(Ending.ERROR)), False, False, False),
        (facts(reading(Ending.CUT)), False, False, False),
        (facts(reading(Ending.CUT, estimated=GUESS)), True, True, False),
        (facts(reading(Ending.CUT, estimated=GUESS), left=True), True, True, False),
        (facts(reading(Ending.ERROR, estimated=GUESS)), True, True, False),
        (facts(reading(Ending.UNREADABLE, estimated=GUESS)), True, True, False),
        (facts(reading(Ending.UNREADABLE)), True, True, True),
        (facts(broken=True), True, True, True),
        (facts(reading(Ending.COMPLETE, usage=USAGE), sent=False), True, False, False),
    ],
)
def test_each_ending_costs_what_the_table_says(what: Facts, charged: bool, estimated: bool, whole_hold: bool) -> None:
    verdict = judge(what)

    assert (verdict.charged, verdict.estimated, verdict.whole_hold) == (charged, estimated, whole_hold)


def test_the_operators_affairs_are_told_from_the_callers() -> None:
    quota = json.dumps({"error": {"code": "insufficient_quota", "message": "m"}}).encode()
    rate = json.dumps({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}).encode()
    quoting = json.dumps({"error": {"type": "invalid_request_error", "message": "messages.0: expected a role"}}).encode()

    assert [operators_affair(status, b"") for status in (401, 402, 403)] == ["key_refused", "out_of_credit", "key_refused"]
    assert operators_affair(429, quota) == "out_of_credit"
    assert operators_affair(429, rate) is None
    assert operators_affair(400, quoting) is None
    assert operators_affair(400, b"not json") is None
    assert error_is_operators("insufficient_quota: You exceeded your current quota")
    assert not error_is_operators("overloaded_error: Overloaded")
    assert not error_is_operators(None)


def test_a_body_budget_is_kept_for_the_worker_and_for_each_account() -> None:
    budget = BodyBudget(100)

    assert budget.take(1, 25)
    assert not budget.take(1, 1)
    assert budget.take(2, 25)
    assert budget.take(3, 25)
    assert budget.take(4, 25)
    assert not budget.take(5, 1)
    budget.give_back(1, 25)
    assert budget.take(5, 25)


def test_free_requests_have_a_bucket_for_each_account() -> None:
    quota = FreeQuota(per_minute=2)

    assert [quota.take(1) for _ in range(3)] == [True, True, False]
    assert quota.take(2)


@pytest.mark.parametrize("dialect", [*Dialect, None])
def test_refusals_say_whether_a_repeat_makes_sense(dialect: Dialect | None) -> None:
    broke = make_answer(dialect, payment_required(required=5, available=1, affordable_tokens=None, top_up_url="http://x/dashboard"), request_id="r", balance=1)
    busy = make_answer(dialect, too_many_requests(3), request_id="r")
    away = make_answer(dialect, unavailable(), request_id="r")

    assert (broke.headers["x-should-retry"], "retry-after" in broke.headers, broke.headers["x-balance-remaining"]) == ("false", False, "1")
    assert ("x-should-retry" in busy.headers, busy.headers["retry-after"]) == (False, "1")
    assert away.headers["retry-after"] == "2"
    assert "error" in json.loads(broke.content or b"")


@pytest.mark.parametrize("operation", [Operation.MESSAGES, Operation.CHAT_COMPLETIONS, Operation.RESPONSES])
def test_last_words_are_whole_events(operation: Operation) -> None:
    dialect = Dialect.ANTHROPIC if operation is Operation.MESSAGES else Dialect.OPENAI

    words = error_events(dialect, operation, operator_affair(), request_id="r").decode()

    assert words.endswith("\n\n")
    for block in words.strip().split("\n\n"):
        assert "error" in json.loads(block.split("data: ", 1)[1]) or '"response.failed"' in block or '"type":"error"' in block


def test_a_provider_that_states_another_cost_than_the_card_raises_the_alarm_and_not_the_charge() -> None:
    line = UsageLine(provider="openrouter", model="qwen3-max", input_tokens=1_000_000)
    usage = Usage(lines=(line,), final=True, provider_cost_usd="1.3")
    record = ChargeRecord(
        request_id=RequestId("r"), provider="openrouter", model="qwen3-max", operation="chat_completions", lines=(line,), amount=Microunits(1_320_000),
        provider_leg=Microunits(1_200_000), numerator=1_320_000_000_000, list_numerator=1_200_000_000_000, rate_card="card", started_at=0,
    )  # fmt: skip
    alarm = metrics.provider_cost_differences_total.labels(provider="openrouter", model="qwen3-max")
    before = alarm._value.get()
    exchange = Exchange(request_id=RequestId("r"), client_id="c", head=facts_of(Headers()), budget=BodyBudget(1), settings=GatewaySettings())

    count_doubts(exchange, record, usage)
    count_doubts(exchange, record, replace(usage, provider_cost_usd="1.2"))

    assert alarm._value.get() == before + 1
