"""Ingest keys: an account's own by its api_token, the operator's by the admin token, and each use of it noted."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from ledger.errors import UnknownAccount
from ledger.organisations import default_organisation, find_organisation
from ledger.tokens import TokenScope
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

ADMIN_TOKEN = "admin-" + "t" * 20
ADMIN = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
EVENT = {"provider": "p", "cost_usd": 0}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_stores(postgres_server, store_home) as urls:
        await prepare_stores(control_settings(*urls))
        yield urls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(stores: tuple[str, str]) -> AsyncIterator[Control]:
    settings = control_settings(*stores, register={"rate_per_minute": 0}, ingest={"rate_per_minute": 0}, admin={"token": ADMIN_TOKEN})
    async with running_control(settings) as running:
        yield running


async def report(control: Control, secret: str) -> int:
    return (await control.client.post("/v1/usage", json=EVENT, headers={"Authorization": f"Bearer {secret}"})).status_code


async def owner(control: Control) -> dict[str, str]:
    return {"Authorization": f"Bearer {(await control.register())['api_token']}"}


async def audit(control: Control) -> list[Any]:
    return [
        (row["actor"], row["action"], json.loads(row["detail"]))
        for row in await control.context.pool.fetch("SELECT actor, action, detail FROM audit ORDER BY id")
    ]


async def test_an_account_makes_lists_and_revokes_its_own_keys(control: Control) -> None:
    bearer = await owner(control)

    made = (await control.client.post("/v1/keys", json={"name": "prod agent"}, headers=bearer)).json()
    assert made["secret"].startswith("plutus_sk_")
    assert await report(control, made["secret"]) == 200

    listed = await control.client.get("/v1/keys", headers=bearer)
    assert made["secret"] not in listed.text
    assert [(key["id"], key["name"], key["revoked_at"]) for key in listed.json()["keys"]] == [(made["id"], "prod agent", None)]
    assert made["secret"].startswith(listed.json()["keys"][0]["prefix"])

    assert (await control.client.delete(f"/v1/keys/{made['id']}", headers=bearer)).json() == {"id": made["id"], "status": "revoked"}
    assert await report(control, made["secret"]) == 401
    assert (await control.client.delete("/v1/keys", params={"id": made["id"]}, headers=bearer)).status_code == 200


async def test_a_name_may_be_left_out_and_must_be_printable(control: Control) -> None:
    bearer = await owner(control)

    assert (await control.client.post("/v1/keys", headers=bearer)).json()["name"] is None
    for body in ({"name": "a\x00b"}, {"name": "x" * 201}, {"nme": "x"}, []):
        assert (await control.client.post("/v1/keys", json=body, headers=bearer)).status_code == 400


async def test_nobody_touches_the_keys_of_another_account(control: Control) -> None:
    one, two = await owner(control), await owner(control)
    made = (await control.client.post("/v1/keys", headers=one)).json()

    assert (await control.client.delete(f"/v1/keys/{made['id']}", headers=two)).status_code == 404
    assert (await control.client.get("/v1/keys", headers=two)).json()["keys"] == []
    assert await report(control, made["secret"]) == 200


async def test_an_answer_tells_of_a_budget_that_is_nearly_used(control: Control) -> None:
    registered = await control.register()
    account, bearer = await control.account(registered), {"Authorization": f"Bearer {registered['api_token']}"}
    key = {"Authorization": f"Bearer {(await control.client.post('/v1/keys', headers=bearer)).json()['secret']}"}
    event = {"provider": "p", "workspace": "prod", "cost_usd": 2.0}
    first = (await control.client.post("/v1/usage", json=event, headers=key)).json()
    [workspace] = await control.context.workspaces.list(account.id)
    await control.context.workspaces.set_budget(account, workspace.id, 2_500_000)

    async with asyncio.timeout(20):
        while workspace.id not in control.context.budgets.near:
            await control.context.budgets.refresh()
    warned = (await control.client.post("/v1/usage", json=[event, {"provider": "p", "cost_usd": 0}], headers=key)).json()["results"]
    await control.context.workspaces.set_budget(account, workspace.id, None)
    await control.context.budgets.refresh()
    calm = (await control.client.post("/v1/usage", json=event, headers=key)).json()

    assert (warned[0]["workspace_budget_usd"], warned[0]["workspace_spent_usd"]) == (2.5, 2.0)
    for other in (first, warned[1], calm):
        assert "workspace_budget_usd" not in other


async def test_a_read_only_token_shows_balance_and_lines_and_changes_nothing(control: Control) -> None:
    registered = await control.register()
    account = await control.account(registered)
    text, _ = await control.context.accounts.create_token(account, scope=TokenScope.READ_ONLY)
    bearer = {"Authorization": f"Bearer {text}"}

    seen = [await control.client.get(path) for path in (f"/proxy/{text}/balance", f"/proxy/{text}/transactions", f"/dashboard/{text}")]
    refused = [
        await control.client.get("/v1/keys", headers=bearer),
        await control.client.post("/v1/keys", headers=bearer),
        await control.client.delete("/v1/keys/key_1", headers=bearer),
        await control.client.post(f"/proxy/{text}/claims", json={"signature": "1" * 64}),
    ]

    assert [answer.status_code for answer in seen] == [200] * 3
    assert (await control.client.get("/v1/limits", headers=bearer)).status_code == 200
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in refused] == [(403, "read_only_token")] * 4


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer l5_1_" + "0" * 64}, {"Authorization": "Basic eA=="}, {"Authorization": "Bearer plutus_sk_x"}])
async def test_without_an_api_token_there_are_no_keys(control: Control, header: dict[str, str]) -> None:
    for method in ("GET", "POST", "DELETE"):
        answer = await control.client.request(method, "/v1/keys", headers=header)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_token")


async def test_a_suspended_account_makes_no_keys(control: Control) -> None:
    registered = await control.register()
    await control.context.accounts.set_status(await control.account(registered), "suspended", "a test")

    answer = await control.client.post("/v1/keys", headers={"Authorization": f"Bearer {registered['api_token']}"})

    assert answer.status_code == 401


async def test_the_operator_opens_organisations_and_makes_and_revokes_their_keys(control: Control) -> None:
    opened = await control.client.post("/v1/admin/orgs", json={"name": "Acme", "tier": "pro"}, headers=ADMIN)
    org = opened.json()
    made = await control.client.post("/v1/admin/keys", json={"org_id": org["id"], "name": "n"}, headers=ADMIN)
    key = made.json()

    assert (opened.status_code, made.status_code, key["org_id"]) == (201, 201, org["id"])
    assert await report(control, key["secret"]) == 200
    listed = (await control.client.get("/v1/admin/keys", params={"org": "Acme"}, headers=ADMIN)).json()
    assert (listed["org_id"], [row["id"] for row in listed["keys"]]) == (org["id"], [key["id"]])
    assert (await control.client.delete(f"/v1/admin/keys/{key['id']}", headers=ADMIN)).status_code == 200
    assert await report(control, key["secret"]) == 401
    noted = (await audit(control))[-3:]
    assert [(actor, action) for actor, action, _ in noted] == [
        ("admin_api", "organisation_create"), ("admin_api", "ingest_key_create"), ("admin_api", "ingest_key_revoke"),
    ]  # fmt: skip
    assert (noted[1][2]["org_id"], noted[2][2]["key_id"], noted[2][2]["from"]) == (org["id"], key["id"], "127.0.0.1")
    assert key["secret"] not in json.dumps(noted)


async def test_organisations_are_listed_page_by_page(control: Control) -> None:
    for _ in range(3):
        await control.register()

    seen, after = list[str](), 0
    while after is not None:
        page = (await control.client.get("/v1/admin/orgs", params={"limit": 2, "after": after}, headers=ADMIN)).json()
        seen += [org["id"] for org in page["orgs"]]
        after = page["next_after"]

    assert len(seen) == len(set(seen)) >= 3


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/admin/orgs", {"name": "x", "tier": "gold"}, 400),
        ("POST", "/v1/admin/orgs", {"tier": "pro"}, 400),
        ("POST", "/v1/admin/keys", {"org_id": "org_none"}, 404),
        ("POST", "/v1/admin/keys", {}, 400),
        ("DELETE", "/v1/admin/keys/key_none", None, 404),
        ("GET", "/v1/admin/keys", None, 400),
    ],
)
async def test_what_the_operator_asks_wrongly_is_said(control: Control, method: str, path: str, body: object, status: int) -> None:
    assert (await control.client.request(method, path, json=body, headers=ADMIN)).status_code == status


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ADMIN_TOKEN}"}])
async def test_without_the_admin_token_it_is_401_and_nothing_is_done(control: Control, header: dict[str, str]) -> None:
    before = len(await audit(control))

    assert (await control.client.get("/v1/admin/orgs", headers=header)).status_code == 401
    assert (await control.client.post("/v1/admin/orgs", json={"name": "x"}, headers=header)).status_code == 401
    assert len(await audit(control)) == before


async def test_where_no_admin_token_is_set_there_is_no_admin_api(stores: tuple[str, str]) -> None:
    async with running_control(control_settings(*stores), poster=False) as control:
        for header in ({}, ADMIN):
            assert (await control.client.get("/v1/admin/orgs", headers=header)).status_code == 404


async def test_an_organisation_is_found_by_its_name_unless_two_have_it(control: Control) -> None:
    pool, accounts = control.context.pool, control.context.accounts
    made = (await accounts.create(name="Only One")).account
    for _ in range(2):
        await accounts.create(name="Twins")

    assert (await find_organisation(pool, accounts, "Only One")).id == made.id
    assert (await find_organisation(pool, accounts, made.public_id)).id == made.id
    with pytest.raises(UnknownAccount, match="several"):
        await find_organisation(pool, accounts, "Twins")
    with pytest.raises(UnknownAccount, match="no organisation"):
        await find_organisation(pool, accounts, "Nobody")


async def test_the_default_organisation_is_opened_once(control: Control) -> None:
    pool, accounts = control.context.pool, control.context.accounts

    first, second = await default_organisation(pool, accounts), await default_organisation(pool, accounts)

    assert (first.id, first.name) == (second.id, "default")


async def test_the_description_names_every_path_of_ingest(control: Control) -> None:
    paths = (await control.client.get("/openapi.json")).json()["paths"]

    assert set(paths["/v1/keys"]) == {"get", "post", "delete"}
    assert {"/v1/usage", "/v1/usage/export.csv", "/v1/usage/export.json", "/v1/usage/export.focus.csv", "/v1/admin/orgs", "/v1/admin/keys"} <= set(paths)
    refused = paths["/v1/usage"]["post"]["responses"]["400"]["content"]["application/json"]["schema"]
    assert refused == {"$ref": "#/components/schemas/PlainErrorAnswer"}
