"""The bodies that `POST /v1/usage` answers: exact amounts, and one shape for one event, another for many."""

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as some

from control.ingest_answers import Result, error_answer, usage_answer, usd
from control.ingest_reading import BadEvents
from ledger.ingest_values import IngestOutcome, ItemOutcome


def became(*, recorded: bool = True, over_free: bool = False, over_balance: bool = False, balance: int = 0) -> ItemOutcome:
    return ItemOutcome(
        recorded=recorded, event_id="evt_1" if recorded else None, over_free_limit=over_free, over_balance=over_balance, balance_after=balance
    )  # fmt: skip


def outcome(*items: ItemOutcome, limit: int | None = 10_000) -> IngestOutcome:
    return IngestOutcome(items=items, tokens_mtd=7, tracked_limit=limit, balance=-5, available=-5, tier="free", org_id="org_1")


@given(some.integers(min_value=-(2**53), max_value=2**53))
def test_an_amount_is_written_exactly_and_as_a_json_number(amount: int) -> None:
    text = usd(amount)

    assert Decimal(text) * 10**6 == amount
    assert json.loads(text, parse_float=Decimal) * 10**6 == amount


def test_one_event_is_answered_flat_and_several_in_a_list() -> None:
    single = json.loads(usage_answer([Result(became(), 15_600, True)], outcome(became()), is_batch=False, upgrade_url="u").body)
    batch = json.loads(usage_answer([Result(became(), 1)], outcome(became()), is_batch=True, upgrade_url="u").body)

    assert (single["cost_usd"], single["recorded"], single["tracked_limit"], "results" in single) == (0.0156, True, 10_000, False)
    assert (len(batch["results"]), batch["recorded"], batch["blocked"]) == (1, 1, 0)


def test_what_the_quota_refused_costs_nothing_and_what_the_balance_refused_says_what_it_would_have() -> None:
    free, balance = became(recorded=False, over_free=True), became(recorded=False, over_balance=True)

    body = json.loads(usage_answer([Result(free, 9), Result(balance, 9)], outcome(free, balance), is_batch=True, upgrade_url="u").body)

    assert [result["cost_usd"] for result in body["results"]] == [0, 0.000009]
    assert (body["blocked"], body["free_limit_blocked"], body["over_balance_blocked"]) == (2, 1, 1)
    assert (body["error"], body["upgrade_url"]) == ("usage rejected: free-tier quota and prepaid credit both exhausted", "u")


def test_a_bad_event_stands_at_its_place_with_its_fault() -> None:
    results = [Result(fault=BadEvents("event 0: wrong", event=0, field="model")), Result(became(), 1, folded=True)]

    answer = usage_answer(results, outcome(became()), is_batch=True, upgrade_url="u")

    body = json.loads(answer.body)
    assert (answer.status, body["recorded"], body["invalid"]) == (200, 1, 1)
    assert (body["results"][0]["error"], body["results"][0]["field"], body["results"][1]["workspace_folded"]) == ("event 0: wrong", "model", True)


def test_an_earlier_result_counts_as_recorded_and_says_that_it_is_one() -> None:
    body = json.loads(usage_answer([Result(earlier='"recorded":true')], outcome(), is_batch=True, upgrade_url="u").body)

    assert (body["recorded"], body["results"]) == (1, [{"recorded": True, "idempotent_replay": True}])


def test_an_error_is_one_object_whatever_the_text() -> None:
    assert json.loads(error_answer(400, 'a "quote" and é', details={"event": 3}).body) == {"error": 'a "quote" and é', "event": 3}
