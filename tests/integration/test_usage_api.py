"""`POST /v1/usage` and its exports against real stores, as an agent sees them."""

import asyncio
import csv
import gzip
import io
import json
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from config.rate_card import load_rate_card
from ledger.accounts import Account
from ledger.ingest_values import COST_MAX, TOKENS_MAX
from ledger.money import Microunits
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

EVENT = {"provider": "anthropic", "model": "claude-opus-4-8", "input_tokens": 1200, "output_tokens": 800, "task_type": "code_review"}
FREE = {"provider": "p", "cost_usd": 0}


@dataclass
class Org:
    """One organisation's view of the API."""

    control: Control
    account: Account
    key: str
    key_id: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def post(self, payload: object, **headers: str) -> httpx.Response:
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.control.client.post("/v1/usage", content=content, headers={**self.bearer, **named})

    async def ok(self, payload: object, **headers: str) -> Any:
        answer = await self.post(payload, **headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def credit(self, usdc: int) -> None:
        await self.control.context.accounts.credit(self.account, Microunits(usdc * 10**6), reason="test money", actor="test")

    async def export(self, path: str = "json", **query: str) -> httpx.Response:
        answer = await self.control.client.get(f"/v1/usage/export.{path}", params=query, headers=self.bearer)
        assert answer.status_code == 200, answer.text
        return answer


async def open_org(control: Control, *, tier: str = "pro") -> Org:
    made = await control.context.accounts.create(name="an organisation", tier=tier)
    key = await control.context.keys.create(made.account, "test")
    return Org(control, made.account, key.text, key.key_id)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_stores(postgres_server, store_home) as urls:
        await prepare_stores(control_settings(*urls))
        yield urls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(stores: tuple[str, str]) -> AsyncIterator[Control]:
    settings = control_settings(*stores, register={"rate_per_minute": 0}, ingest={"rate_per_minute": 0})
    async with running_control(settings, card=load_rate_card()) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def org(control: Control) -> Org:
    return await open_org(control)


# --- one event


async def test_one_event_is_recorded_and_answered_with_everything_the_specification_lists(org: Org) -> None:
    body = await org.ok(EVENT)

    event_id = body.pop("event_id")
    assert body == {
        "org_id": org.account.public_id, "tracked_tokens_mtd": 2000, "tracked_limit": None, "tier": "pro", "recorded": True, "cost_usd": 0.026,
        "estimated": True, "balance_after": -0.026, "over_free_limit": False, "over_balance": False, "unpriced": False,
    }  # fmt: skip
    assert event_id.startswith("evt_")
    assert event_id[4:].isalnum()


async def test_an_exact_cost_passes_through_and_less_than_a_microunit_is_one(org: Org) -> None:
    answer = await org.post(b'{"provider":"p","cost_usd":0.0000001}')
    assert '"cost_usd":0.000001,"estimated":false,"balance_after":-0.000001' in answer.text

    answer = await org.post(b'{"provider":"p","cost_usd":12345.678901}')
    assert '"cost_usd":12345.678901,"estimated":false,"balance_after":-12345.678902' in answer.text


async def test_reasoning_costs_what_output_costs_and_an_unknown_model_says_so(org: Org) -> None:
    plain = await org.ok({"provider": "openai", "model": "gpt-5", "output_tokens": 1000})
    reasoned = await org.ok({"provider": "OpenAI", "model": "gpt-5", "output_tokens": 400, "reasoning_tokens": 600})
    unknown = await org.ok({"provider": "anthropic", "model": "no-such-model", "input_tokens": 1000})

    assert plain["cost_usd"] == reasoned["cost_usd"] == 0.01
    assert (unknown["unpriced"], unknown["cost_usd"], unknown["recorded"]) == (True, 0.003, True)


async def test_cache_writes_for_an_hour_are_charged_as_such_and_the_books_agree(org: Org, control: Control) -> None:
    tokens = {"cache_write_tokens": 3_000_000, "cache_write_1h_tokens": 1_000_000}
    answer = await org.ok([{**EVENT, **tokens, "external_ref": 'r", ['}, {**EVENT, **tokens, "output_tokens": 0, "input_tokens": 0}])

    assert [result["cost_usd"] for result in answer["results"]] == [22.526, 22.5]  # 2 x 6.25 and 10 USD
    assert answer["tracked_tokens_mtd"] == 6_002_000
    rows = (await org.export()).json()["events"]
    assert [(row["cache_write_tokens"], row["external_ref"]) for row in rows] == [(3_000_000, 'r", ['), (3_000_000, None)]
    stored = await control.context.pool.fetch("SELECT cache_write_5m_tokens, cache_write_1h_tokens FROM usage_events WHERE cache_write_1h_tokens > 0")
    assert [tuple(row) for row in stored] == [(2_000_000, 1_000_000)] * 2


async def test_what_is_only_reported_is_not_on_sale(control: Control) -> None:
    listed = (await control.client.get("/v1/pricing")).json()["pricing"]

    assert not [name for name in listed if name.startswith(("google/", "deepseek/"))]


async def test_the_fields_of_an_event_come_back_in_the_export(org: Org) -> None:
    sent = {
        **EVENT,
        "workspace": "prod",
        "source": "sdk",
        "external_ref": "r-1",
        "user_id": "u-1",
        "cost_usd": 0.25,
        "cache_read_tokens": 3,
        "reasoning_tokens": 4,
    }
    event_id = (await org.ok(sent))["event_id"]

    found = (await org.export()).json()

    assert (found["org_id"], found["count"], found["next_cursor"]) == (org.account.public_id, 1, None)
    row = found["events"][0]
    assert {name: row[name] for name in sent} == sent
    assert (row["id"], row["kind"], row["estimated"], row["cache_write_tokens"]) == (event_id, "reported", False, 0)


# --- batches


async def test_an_array_of_one_is_a_batch_and_results_keep_their_order(org: Org) -> None:
    one = await org.ok([FREE])
    many = await org.ok([{"provider": "p", "cost_usd": cost} for cost in (0.01, 0.5, 0.000001)])

    assert (one["recorded"], one["blocked"], len(one["results"])) == (1, 0, 1)
    assert [result["cost_usd"] for result in many["results"]] == [0.01, 0.5, 0.000001]
    assert [result["balance_after"] for result in many["results"]] == [-0.01, -0.51, -0.510001]


async def test_a_bad_event_refuses_the_batch_and_nothing_is_recorded(org: Org) -> None:
    answer = await org.post([{**FREE, "input_tokens": 1}, {**FREE, "input_tokens": -1}])

    assert answer.status_code == 400
    assert answer.json() == {"error": "event 1: input_tokens must be a non-negative integer", "event": 1, "field": "input_tokens"}
    assert (await org.ok(FREE))["tracked_tokens_mtd"] == 0


async def test_with_prefer_partial_the_good_events_are_recorded(org: Org) -> None:
    answer = await org.post([{**FREE, "input_tokens": 1}, {"model": "x"}, {**FREE, "input_tokens": 2}], Prefer="partial")

    body = answer.json()
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "partial")
    assert (body["recorded"], body["blocked"], body["invalid"], body["tracked_tokens_mtd"]) == (2, 0, 1, 3)
    assert [result["recorded"] for result in body["results"]] == [True, False, True]
    assert (body["results"][1]["error"], body["results"][1]["event_id"]) == ("event 1: each event needs a 'provider'", None)


async def test_with_prefer_partial_and_nothing_good_it_is_a_400(org: Org) -> None:
    assert (await org.post([{}], Prefer="partial")).status_code == 400


async def test_a_thousand_events_are_one_line_of_the_statement(org: Org) -> None:
    body = await org.ok([{"provider": "p", "cost_usd": 0.000003, "input_tokens": 1}] * 1000)

    assert (body["recorded"], body["tracked_tokens_mtd"], body["results"][-1]["balance_after"]) == (1000, 1000, -0.003)
    assert len({result["event_id"] for result in body["results"]}) == 1000
    assert (await org.export(limit="1000")).json()["count"] == 1000
    account = await org.control.context.accounts.find(org.account.public_id)
    assert (account.n, account.balance) == (1, -3000)


# --- who may


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer plutus_sk_", "Bearer plutus_sk_" + "a" * 40, "Basic cGx1dHVzOnNr", "Bearer null", "plutus_sk_x"],
)
async def test_without_a_good_key_it_is_401_whatever_the_body(control: Control, header: str | None) -> None:
    answer = await control.client.post("/v1/usage", content="{not json", headers={} if header is None else {"Authorization": header})

    assert (answer.status_code, answer.json()) == (401, {"error": "invalid or missing API key"})
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_made_up_key_of_a_known_account_is_401_even_where_the_body_is_bad(org: Org) -> None:
    forged = Org(org.control, org.account, org.key[:-43] + secrets.token_urlsafe(32), "")

    for payload in (b"{not json", b"[]", json.dumps(EVENT).encode()):
        assert (await forged.post(payload)).status_code == 401
    assert (await forged.post({**EVENT, "workspace": "mine now"})).status_code == 401
    assert (await forged.post(EVENT, Idempotency_Key="k")).status_code == 401
    assert await org.control.context.workspaces.list(org.account.id) == []
    assert "idempotent_replay" not in await org.ok({**EVENT, "input_tokens": 1}, Idempotency_Key="k")


@pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION"])
async def test_header_and_scheme_are_read_in_any_case(org: Org, name: str) -> None:
    answer = await org.control.client.post("/v1/usage", json=FREE, headers={name: f"  bEARER   {org.key} "})

    assert answer.status_code == 200


async def test_a_revoked_key_is_refused_at_once(org: Org) -> None:
    assert (await org.post(FREE)).status_code == 200

    await org.control.context.keys.revoke(org.key_id)

    assert (await org.post(FREE)).status_code == 401


async def test_a_suspended_account_reports_nothing(org: Org) -> None:
    await org.control.context.accounts.set_status(org.account, "suspended", "a test")

    answer = await org.post(FREE)

    assert (answer.status_code, answer.json()["error"]) == (401, "invalid or missing API key: its account is suspended")


# --- bodies


async def test_packed_bodies_are_unpacked_within_the_bound(org: Org) -> None:
    assert (await org.post(gzip.compress(json.dumps(EVENT).encode()), Content_Encoding="gzip")).status_code == 200

    bomb = await org.post(gzip.compress(b" " * 5_000_000), Content_Encoding="gzip")
    assert (bomb.status_code, bomb.json()) == (413, {"error": "request body too large"})
    assert (await org.post(b"no gzip", Content_Encoding="gzip")).status_code == 400
    assert (await org.post(b"{}", Content_Encoding="rot13")).status_code == 415


async def test_a_body_in_pieces_is_read_and_one_that_never_ends_is_refused(org: Org) -> None:
    async def pieces(count: int) -> AsyncIterator[bytes]:
        yield b'{"provider":"p","cost_usd":0,"pad":"'
        for _ in range(count):
            yield b"a" * 65_536
        yield b'"}'

    assert (await org.control.client.post("/v1/usage", content=pieces(2), headers=org.bearer)).status_code == 200
    refused = await org.control.client.post("/v1/usage", content=pieces(40), headers=org.bearer)
    assert (refused.status_code, refused.json()) == (413, {"error": "request body too large"})


async def test_half_a_megabyte_is_fine_and_more_than_one_is_not(org: Org) -> None:
    assert (await org.post({**FREE, "pad": "a" * 500_000})).status_code == 200
    assert (await org.post({**FREE, "pad": "a" * 1_100_000})).status_code == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_are_405_in_the_plain_shape(org: Org, method: str) -> None:
    answer = await org.control.client.request(method, "/v1/usage", headers=org.bearer)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert method == "HEAD" or isinstance(answer.json()["error"], str)


@pytest.mark.parametrize("path", ["/v1/usage/export.xml", "/v1/usage/x"])
async def test_unknown_paths_below_are_404_in_the_plain_shape(org: Org, path: str) -> None:
    answer = await org.control.client.get(path, headers=org.bearer)

    assert (answer.status_code, type(answer.json()["error"])) == (404, str)


# --- the account stays sound


async def test_no_request_can_make_an_accounts_figures_unusable(org: Org) -> None:
    huge = {"provider": "p", "cost_usd": 0, **dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens"), TOKENS_MAX)}

    for _ in range(2):
        await org.ok([huge] * 1000)
    assert (await org.post({**FREE, "input_tokens": 2**63 - 1})).status_code == 400
    dear = await org.post({"provider": "anthropic", "model": "claude-opus-4-8", "output_tokens": TOKENS_MAX})

    assert dear.status_code == 400
    assert f"{COST_MAX // 10**6} USD" in dear.json()["error"]
    after = await org.ok({**EVENT, "cost_usd": 0.5})
    assert after["balance_after"] == -0.5
    assert 0 < after["tracked_tokens_mtd"] < 2**53


# --- quota, balance


async def test_past_the_free_cap_events_are_recorded_and_flagged(control: Control) -> None:
    org = await open_org(control, tier="free")

    below = await org.ok({**FREE, "input_tokens": 9_999})
    batch = await org.ok([{**FREE, "input_tokens": 0}, {**FREE, "input_tokens": 1}, {**FREE, "input_tokens": 1}])

    assert (below["tracked_limit"], below["over_free_limit"], below["tier"]) == (10_000, False, "free")
    assert [result["over_free_limit"] for result in batch["results"]] == [False, True, True]
    assert (batch["recorded"], batch["blocked"], batch["tracked_tokens_mtd"]) == (3, 0, 10_001)


async def test_with_blocking_on_the_crossing_event_lands_and_the_next_is_402(stores: tuple[str, str]) -> None:
    settings = control_settings(*stores, ingest={"rate_per_minute": 0}, pricing={"block_over_free_limit": True})
    async with running_control(settings, poster=False) as control:
        org = await open_org(control, tier="free")
        await org.ok({**FREE, "input_tokens": 9_999})

        batch = await org.ok([{**FREE, "input_tokens": 1}] * 3)
        refused = await org.post({"provider": "p", "cost_usd": 1})
        refused_batch = await org.post([FREE, FREE])

    assert [result["recorded"] for result in batch["results"]] == [True, False, False]
    assert (batch["recorded"], batch["blocked"], batch["free_limit_blocked"], batch["tracked_tokens_mtd"]) == (1, 2, 2, 10_000)
    assert refused.status_code == refused_batch.status_code == 402
    body = refused.json()
    assert (body["recorded"], body["event_id"], body["cost_usd"], body["over_free_limit"]) == (False, None, 0, True)
    assert body["error"] == "free-tier token quota reached — upgrade to Pro"
    assert body["upgrade_url"] == "http://127.0.0.1:8402/pricing"
    assert (refused_batch.json()["recorded"], refused_batch.json()["blocked"], len(refused_batch.json()["results"])) == (0, 2, 2)


async def test_prepaid_money_stops_at_nothing_first_come_first_served(org: Org) -> None:
    await org.credit(1)
    await org.ok({"provider": "p", "cost_usd": 0.8})

    batch = await org.ok([{"provider": "p", "cost_usd": cost} for cost in (0.15, 0.15, 0.05)])
    refused = await org.post({"provider": "p", "cost_usd": 0.01})

    assert [result["recorded"] for result in batch["results"]] == [True, False, True]
    assert (batch["blocked"], batch["over_balance_blocked"], batch["results"][2]["balance_after"]) == (1, 1, 0)
    body = refused.json()
    assert (refused.status_code, body["error"], body["over_balance"], body["cost_usd"]) == (402, "prepaid credit exhausted", True, 0.01)
    assert (await org.ok(FREE))["recorded"] is True


# --- once


async def test_a_repeat_under_the_same_key_is_answered_and_not_recorded(org: Org) -> None:
    first = await org.ok(EVENT, Idempotency_Key="k-1")
    again = await org.post({**dict(reversed(EVENT.items())), "unknown": 1}, Idempotency_Key="k-1")

    assert again.json() == {**first, "idempotent_replay": True}
    assert again.headers["idempotent-replayed"] == "true"
    assert (await org.ok(FREE))["tracked_tokens_mtd"] == 2000


async def test_the_same_key_for_something_else_is_409(org: Org) -> None:
    await org.ok(EVENT, Idempotency_Key="k-2")

    answer = await org.post({**EVENT, "input_tokens": 1}, Idempotency_Key="k-2")

    assert (answer.status_code, "retry-after" in answer.headers) == (409, False)
    assert "different" in answer.json()["error"]


async def test_keys_of_two_organisations_have_nothing_to_do_with_each_other(control: Control) -> None:
    one, two = await open_org(control), await open_org(control)

    assert (await one.ok(EVENT, Idempotency_Key="same"))["event_id"] != (await two.ok(EVENT, Idempotency_Key="same"))["event_id"]


async def test_a_refused_request_does_not_burn_its_key(org: Org) -> None:
    assert (await org.post({**EVENT, "input_tokens": -1}, Idempotency_Key="k-3")).status_code == 400
    await org.credit(1)
    assert (await org.post({"provider": "p", "cost_usd": 2}, Idempotency_Key="k-4")).status_code == 402
    await org.credit(5)

    assert "idempotent_replay" not in await org.ok(EVENT, Idempotency_Key="k-3")
    assert (await org.ok({"provider": "p", "cost_usd": 2}, Idempotency_Key="k-4"))["recorded"] is True


async def test_events_with_keys_of_their_own_are_recorded_once_in_whatever_batch(org: Org) -> None:
    one, two = {**EVENT, "idempotency_key": "e-1"}, {**EVENT, "input_tokens": 1, "idempotency_key": "e-2"}
    first = await org.ok(one)

    batch = await org.ok([FREE, two, one])
    repeat = await org.ok([one, two])

    assert batch["results"][2] == {**{name: first[name] for name in batch["results"][1]}, "idempotent_replay": True}
    assert [result.get("idempotent_replay") for result in batch["results"]] == [None, None, True]
    assert [result["event_id"] for result in repeat["results"]] == [first["event_id"], batch["results"][1]["event_id"]]
    assert (repeat["recorded"], repeat["tracked_tokens_mtd"]) == (2, 2801)


async def test_an_events_key_for_another_event_refuses_the_batch_or_is_left_out(org: Org) -> None:
    await org.ok({**EVENT, "idempotency_key": "e-3"})
    other = {**EVENT, "input_tokens": 5, "idempotency_key": "e-3"}

    whole = await org.post([{**FREE, "idempotency_key": "e-4"}, other])
    partial = await org.ok([FREE, other], Prefer="partial")

    assert (whole.status_code, whole.json()["event"], whole.json()["field"]) == (409, 1, "idempotency_key")
    assert (partial["recorded"], partial["invalid"]) == (1, 1)
    assert "idempotent_replay" not in await org.ok({**FREE, "idempotency_key": "e-4"})
    assert (await org.post([{**FREE, "idempotency_key": "e-5"}] * 2)).status_code == 400


async def test_many_repeats_at_once_record_one(org: Org) -> None:
    answers = await asyncio.gather(*(org.post(EVENT, Idempotency_Key="race") for _ in range(12)))

    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.json()["event_id"] for answer in answers if answer.status_code == 200}) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 409)
    assert (await org.ok(FREE))["tracked_tokens_mtd"] == 2000


# --- workspaces, time


async def test_a_workspace_is_found_by_name_slug_and_id(org: Org) -> None:
    for name in ("Prod Agents", "prod-agents"):
        await org.ok({**FREE, "workspace": name})
    (only,) = await org.control.context.workspaces.list(org.account.id)
    await org.ok({**FREE, "workspace": only.id})

    assert {row["workspace_id"] for row in (await org.export()).json()["events"]} == {only.id}
    assert (only.name, only.slug) == ("Prod Agents", "prod-agents")


async def test_beyond_the_cap_a_workspace_is_folded_and_the_answer_says_so(control: Control) -> None:
    org = await open_org(control, tier="free")

    first, second = await org.ok({**FREE, "workspace": "one"}), await org.ok({**FREE, "workspace": "two"})

    assert ("workspace_folded" in first, second["workspace_folded"]) == (False, True)
    assert [row["workspace"] for row in (await org.export()).json()["events"]] == ["one", "one"]


async def test_where_folding_is_off_the_event_is_refused(stores: tuple[str, str]) -> None:
    settings = control_settings(*stores, ingest={"rate_per_minute": 0, "workspace_overflow": "refuse"})
    async with running_control(settings, poster=False) as control:
        org = await open_org(control, tier="free")
        await org.ok({**FREE, "workspace": "one"})

        refused = await org.post([FREE, {**FREE, "workspace": "two"}])
        partial = await org.ok([FREE, {**FREE, "workspace": "two"}], Prefer="partial")

    assert (refused.status_code, refused.json()["event"], refused.json()["field"]) == (400, 1, "workspace")
    assert (partial["recorded"], partial["invalid"]) == (1, 1)


async def test_a_late_event_keeps_its_time_and_counts_in_the_month_it_arrives(org: Org) -> None:
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(days=34)

    body = await org.ok({**EVENT, "occurred_at": at.isoformat()})
    refused = await org.post({**EVENT, "occurred_at": (at - timedelta(days=3)).isoformat()})

    assert body["tracked_tokens_mtd"] == 2000
    assert (await org.export()).json()["events"][0]["occurred_at"] == at.isoformat().replace("+00:00", "Z")
    assert (refused.status_code, refused.json()["field"]) == (400, "occurred_at")


# --- rate


async def test_beyond_its_rate_a_key_is_429_and_told_when(stores: tuple[str, str]) -> None:
    settings = control_settings(*stores, ingest={"rate_per_minute": 5})
    async with running_control(settings, poster=False) as control:
        org, other = await open_org(control), await open_org(control)

        answers = [await org.post([FREE] * 3) for _ in range(7)]
        forged = Org(control, org.account, org.key[:-43] + secrets.token_urlsafe(32), "")

        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 2
        assert answers[5].json() == {"error": "rate limit exceeded — slow down"}
        assert 1 <= int(answers[5].headers["retry-after"]) <= 12
        assert (await other.post(FREE)).status_code == 200
        assert {(await forged.post(FREE)).status_code for _ in range(7)} == {401}


# --- exports


async def test_an_export_goes_on_where_the_last_one_ended(org: Org) -> None:
    await org.ok([{**FREE, "external_ref": str(number)} for number in range(5)])
    await org.ok({**FREE, "external_ref": "5"})

    seen, cursor = list[str](), ""
    while True:
        page = await org.export(limit="2", **({"cursor": cursor} if cursor else {}))
        seen += [row["external_ref"] for row in page.json()["events"]]
        cursor = page.headers.get("x-next-cursor", "")
        assert page.json()["next_cursor"] == (cursor or None)
        if not cursor:
            break

    assert seen == ["0", "1", "2", "3", "4", "5"]


async def test_an_export_is_of_its_own_organisation_and_time(control: Control) -> None:
    one, two = await open_org(control), await open_org(control)
    await one.ok(FREE)
    await two.ok(FREE)
    now = datetime.now(UTC)

    assert (await one.export()).json()["count"] == 1
    assert (await one.export(until=(now - timedelta(hours=1)).isoformat())).json() == {
        "org_id": one.account.public_id,
        "events": [],
        "count": 0,
        "next_cursor": None,
    }
    assert (await one.export(since=str(int(time.time()) - 3600))).json()["count"] == 1


async def test_no_cell_of_a_spreadsheet_is_a_formula(org: Org) -> None:
    await org.ok(
        [
            {"provider": text, "model": text, "task_type": text, "source": text, "external_ref": text, "user_id": text, "cost_usd": 0.5}
            for text in ("=1+1", "+1", "-1", "@x")
        ]
    )

    for path in ("csv", "focus.csv"):
        rows = list(csv.DictReader(io.StringIO((await org.export(path)).text)))
        assert len(rows) == 4
        assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "@", "-"))]


async def test_focus_has_the_cost_the_period_and_the_tags(org: Org) -> None:
    await org.ok({**EVENT, "cost_usd": 0.25, "workspace": "prod"})

    (row,) = csv.DictReader(io.StringIO((await org.export("focus.csv")).text))

    assert (row["BilledCost"], row["EffectiveCost"], row["BillingCurrency"], row["BillingAccountId"]) == ("0.25", "0.25", "USD", org.account.public_id)
    assert (row["ConsumedQuantity"], row["ProviderName"], row["ResourceName"], row["SubAccountName"]) == ("2000", "anthropic", "claude-opus-4-8", "prod")
    assert row["BillingPeriodStart"][8:] == row["BillingPeriodEnd"][8:] == "01T00:00:00Z"
    assert json.loads(row["Tags"])["task_type"] == "code_review"


async def test_a_large_export_is_streamed_whole(org: Org) -> None:
    for _ in range(3):
        await org.ok([FREE] * 1000)

    assert (await org.export()).json()["count"] == 3000
    assert len((await org.export("csv")).text.splitlines()) == 3001


async def test_an_api_token_may_export_too_and_nobody_else(control: Control) -> None:
    token = (await control.register())["api_token"]

    assert (await control.client.get("/v1/usage/export.json", headers={"Authorization": f"Bearer {token}"})).json()["count"] == 0
    for header in ({}, {"Authorization": "Bearer l5_1_" + "0" * 64}, {"Authorization": "Bearer plutus_sk_x"}):
        answer = await control.client.get("/v1/usage/export.csv", headers=header)
        assert (answer.status_code, type(answer.json()["error"])) == (401, str)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "cursor=zz", "since=yesterday", "until=1e99", "before=3"])
async def test_a_bad_question_is_400(org: Org, query: str) -> None:
    answer = await org.control.client.get(f"/v1/usage/export.json?{query}", headers=org.bearer)

    assert (answer.status_code, type(answer.json()["error"])) == (400, str)
