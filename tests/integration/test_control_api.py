"""The control API against real stores, as an agent or a person sees it."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from addons.authority import ensure_authority
from cli.embedded import EmbeddedPostgres
from config.rate_card import load_rate_card
from ledger.money import Microunits
from ledger.tokens import mint_token
from tests.fakes.control import INTERNAL_KEY, Control, control_settings, own_stores, prepare_stores, running_control

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(postgres_server: EmbeddedPostgres, store_home: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Control]:
    """One API for the tests that mind nobody else's accounts; stores of their own for each would take a second a test."""
    async with own_stores(postgres_server, store_home) as (database_url, redis_url):
        settings = control_settings(
            database_url,
            redis_url,
            home=tmp_path_factory.mktemp("home"),
            register={"rate_per_minute": 0},
            providers={"anthropic": {"api_key": "operator-key"}},
        )
        await prepare_stores(settings)
        async with running_control(settings, card=load_rate_card()) as running:
            yield running


async def credit(control: Control, code: str, amount: int) -> None:
    account = await control.context.accounts.find(code)
    await control.context.accounts.credit(account, Microunits(amount), reason="test money", actor="test")


# --- registering


async def test_registering_needs_no_body_and_says_how_to_fund(control: Control) -> None:
    answer = await control.client.post("/v1/register")

    body = answer.json()
    token, code = body["api_token"], body["deposit_code"]
    assert answer.status_code == 200
    assert re.fullmatch(r"l5_[0-9a-z]+_[0-9a-f]{64}", token)
    assert re.fullmatch(r"[0-9A-F]{16}", code)
    assert body["status"] == "pending_deposit"
    instructions = body["instructions"]
    assert instructions.pop("how_to_fund").count(code) == 2
    assert instructions == {
        "contract_address": None,
        "dashboard_url": f"http://127.0.0.1:8402/dashboard/{token}",
        "deposit_address": None,
        "usdc_mint": None,
        "memo": code,
        "solana_pay_url": None,
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("body", ["", "  \n", "{}", '{"name": "my agent"}', '{"name": null}'])
async def test_a_body_is_optional(control: Control, body: str) -> None:
    assert (await control.client.post("/v1/register", content=body)).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "invalid_json"),
        ("\xff", "invalid_json"),
        ("[" * 9000, "invalid_json"),
        ("[]", "invalid_request"),
        ('"x"', "invalid_request"),
        ('{"name": 5}', "invalid_request"),
        ('{"name": ""}', "invalid_request"),
        ('{"name": "a\\u0000b"}', "invalid_request"),
        ('{"name": "\\ud800"}', "invalid_request"),
        (json.dumps({"name": "x" * 101}), "invalid_request"),
        ('{"balance": 1000000}', "invalid_request"),
    ],
)
async def test_a_body_that_is_given_is_validated(control: Control, body: str, code: str) -> None:
    answer = await control.client.post("/v1/register", content=body.encode("latin-1"))

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


async def test_a_body_that_is_too_long_is_refused(control: Control) -> None:
    answer = await control.client.post("/v1/register", content=b" " * 20_000)

    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "body_too_large"


async def test_the_eleventh_registration_within_a_minute_is_refused(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url)
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        first = [(await control.client.post("/v1/register")).status_code for _ in range(10)]
        refused = await control.client.post("/v1/register")
        forged = await control.client.post("/v1/register", headers={"X-Level5-Peer": "198.51.100.7", "X-Forwarded-For": "198.51.100.8"})
        other = await control.client.post("/v1/register", headers={"X-Level5-Peer": "198.51.100.7", "X-Level5-Peer-Key": INTERNAL_KEY})

    assert first == [200] * 10
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.json()["error"]["code"] == "too_many_registrations"
    assert forged.status_code == 429
    assert other.status_code == 200


async def test_one_ipv6_customer_is_one_address(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, register={"rate_per_minute": 1})
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        statuses = [
            (await control.client.post("/v1/register", headers={"X-Level5-Peer": peer, "X-Level5-Peer-Key": INTERNAL_KEY})).status_code
            for peer in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:3::1")
        ]

    assert statuses == [200, 429, 200]


async def test_behind_a_trusted_proxy_the_forwarded_address_is_counted(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, register={"rate_per_minute": 1}, trusted_proxies="10.0.0.0/8")
    await prepare_stores(settings)
    async with running_control(settings, poster=False, peer="10.0.0.1") as control:
        statuses = [
            (await control.client.post("/v1/register", headers={"X-Forwarded-For": forwarded})).status_code
            for forwarded in ("198.51.100.7", "198.51.100.8", "203.0.113.1, 198.51.100.7")
        ]

    assert statuses == [200, 200, 429]


# --- balance


async def test_a_new_account_is_active_with_nothing(control: Control) -> None:
    token = (await control.register())["api_token"]

    answer = await control.client.get(f"/proxy/{token}/balance")

    assert answer.json() == {"api_token": token, "usdc_balance": 0, "is_active": True, "held": 0, "available": 0, "pending_deposits": 0}


async def test_a_credit_shows_at_once(control: Control) -> None:
    account = await control.register()

    await credit(control, account["deposit_code"], 5_000_000)

    body = (await control.client.get(f"/proxy/{account['api_token']}/balance")).json()
    assert (body["usdc_balance"], body["available"]) == (5_000_000, 5_000_000)


@pytest.mark.parametrize("token", ["nonsense", "l5_1_00", "abc-123-def-456", "%2e%2e", "l5_zzzz_" + "0" * 64, "x" * 5000])
@pytest.mark.parametrize("page", ["balance", "transactions"])
async def test_an_unknown_or_malformed_token_is_401(control: Control, token: str, page: str) -> None:
    answer = await control.client.get(f"/proxy/{token}/{page}")

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_token"


async def test_a_token_with_a_guessed_secret_is_401(control: Control) -> None:
    account = await control.context.accounts.find((await control.register())["deposit_code"])
    guessed, _ = mint_token(account.id, account.shard)

    assert (await control.client.get(f"/proxy/{guessed}/balance")).status_code == 401


async def test_a_suspended_account_sees_what_it_has_and_that_it_is_inactive(control: Control) -> None:
    registered = await control.register()
    await credit(control, registered["deposit_code"], 7)
    account = await control.context.accounts.find(registered["deposit_code"])

    await control.context.accounts.set_status(account, "suspended", reason="test")

    body = (await control.client.get(f"/proxy/{registered['api_token']}/balance")).json()
    assert (body["usdc_balance"], body["is_active"]) == (7, False)
    limits = await control.client.get("/v1/limits", headers={"Authorization": f"Bearer {registered['api_token']}"})
    assert limits.status_code == 401
    assert limits.json()["error"]["details"] == {"reason": "suspended"}


# --- transactions


async def test_the_statement_shows_a_credit_as_soon_as_it_is_asked_for(control: Control) -> None:
    account = await control.register()
    await credit(control, account["deposit_code"], 5_000_000)

    body = (await control.client.get(f"/proxy/{account['api_token']}/transactions")).json()

    assert {"api_token": body["api_token"], "page": body["page"], "limit": body["limit"]} == {"api_token": account["api_token"], "page": 1, "limit": 50}
    (line,) = body["transactions"]
    assert line["id"] == 1
    assert line["type"] == "CREDIT"
    assert (line["usdc_amount"], line["balance_after"]) == (5_000_000, 5_000_000)
    assert line["provider"] is line["model"] is line["input_tokens"] is line["cache_read_tokens"] is None
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00", line["created_at"])


async def test_pages_order_and_before_select_lines(control: Control) -> None:
    account = await control.register()
    for amount in (1, 2, 3, 4, 5):
        await credit(control, account["deposit_code"], amount)

    async def ids(query: str) -> list[int]:
        answer = await control.client.get(f"/proxy/{account['api_token']}/transactions?{query}")
        assert answer.status_code == 200, answer.text
        return [line["id"] for line in answer.json()["transactions"]]

    assert await ids("") == [5, 4, 3, 2, 1]
    assert await ids("order=asc") == [1, 2, 3, 4, 5]
    assert await ids("limit=2") == [5, 4]
    assert await ids("limit=2&page=3") == [1]
    assert await ids("limit=2&page=4") == []
    assert await ids("before=3") == [2, 1]
    assert await ids("type=CREDIT&limit=1") == [5]
    assert await ids("type=DEBIT") == []
    assert await ids("model=gpt-4o") == []
    assert await ids("since=2020-01-01T00:00:00Z") == [5, 4, 3, 2, 1]
    assert await ids("until=2020-01-01T00:00:00+00:00") == []  # the plus sign arrives as a blank


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("limit=1&limit=2", "limit"),
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=99999999999999999999", "page"),
        ("order=up", "order"),
        ("before=0", "before"),
        ("before=9223372036854775808", "before"),
        ("type=PAYMENT", "type"),
        ("model=%00", "model"),
        ("since=yesterday", "since"),
        ("until=2026-01-01T00:00:00", "until"),
        ("pagesize=10", "pagesize"),
    ],
)
async def test_a_query_that_cannot_be_meant_is_400_and_names_the_parameter(control: Control, query: str, name: str) -> None:
    token = (await control.register())["api_token"]

    answer = await control.client.get(f"/proxy/{token}/transactions?{query}")

    assert answer.status_code == 400, answer.text
    assert name in answer.json()["error"]["message"]
    assert token not in answer.text


# --- prices and limits


async def test_the_twelve_models_of_the_specification_have_its_prices(control: Control) -> None:
    body = (await control.client.get("/v1/pricing")).json()

    prices = {name: (model["input_per_1m"], model["output_per_1m"], model["cache_read_per_1m"]) for name, model in body["pricing"].items()}
    expected = {
        "anthropic/claude-sonnet-4-6": (3_300_000, 16_500_000, 330_000),
        "anthropic/claude-opus-4-6": (5_500_000, 27_500_000, 550_000),
        "anthropic/claude-haiku-4-5-20251001": (1_100_000, 5_500_000, 110_000),
        "openai/gpt-5.2": (1_925_000, 15_400_000, 192_500),
        "openai/gpt-5.3-codex": (1_925_000, 15_400_000, 192_500),
        "openai/gpt-4o": (2_750_000, 11_000_000, 1_375_000),
        "openai/o3": (2_200_000, 8_800_000, 550_000),
        "openrouter/qwen3-max": (1_320_000, 6_600_000, 264_000),
        "openrouter/qwen3-coder-plus": (1_100_000, 5_500_000, 220_000),
        "openrouter/glm-5": (1_100_000, 3_520_000, 220_000),
        "openrouter/grok-4-1-fast": (220_000, 550_000, 55_000),
        "openrouter/gemini-3.1-pro-preview": (2_200_000, 13_200_000, 550_000),
    }
    assert {name: prices.get(name) for name in expected} == expected
    sonnet = body["pricing"]["anthropic/claude-sonnet-4-6"]
    assert list(sonnet)[:4] == ["input_per_1m", "output_per_1m", "cache_write_per_1m", "cache_read_per_1m"]
    assert sonnet["cache_write_per_1m"] == 4_125_000
    assert body["currency"] == "USDC"
    assert body["denomination"] == "microunits (6 decimals, 1 USDC = 1_000_000)"


async def test_limits_tell_the_most_there_is_and_with_a_token_your_own(control: Control) -> None:
    registered = await control.register()
    general = (await control.client.get("/v1/limits")).json()
    own = (await control.client.get("/v1/limits", headers={"Authorization": f"Bearer {registered['api_token']}"})).json()
    by_key = (await control.client.get("/v1/limits", headers={"x-api-key": registered["api_token"]})).json()

    assert set(general) == {"mode", "line", "concurrent_requests", "step", "overdraft_bound"}
    assert (general["mode"], general["line"], general["concurrent_requests"]) == ("finish", 1_000_000, 64)
    assert general["overdraft_bound"] == general["line"] + 64 * general["step"]
    assert own["line"] == 0  # nothing was charged yet
    assert own["overdraft_bound"] == 64 * own["step"]
    both = (await control.client.get("/v1/limits", headers={"Authorization": "Bearer unused", "x-api-key": registered["api_token"]})).json()
    assert by_key == both == own


async def test_an_operators_own_line_for_an_account_shows_in_its_limits(control: Control) -> None:
    registered = await control.register()
    account = await control.context.accounts.find(registered["deposit_code"])
    await control.context.accounts.set_line(account, Microunits(2_500_000))

    own = (await control.client.get("/v1/limits", headers={"x-api-key": registered["api_token"]})).json()

    assert own["line"] == 2_500_000


@pytest.mark.parametrize("authorization", ["Basic eDp5", "Bearer", "Bearer nonsense", "nonsense"])
async def test_limits_with_a_wrong_credential_are_401(control: Control, authorization: str) -> None:
    answer = await control.client.get("/v1/limits", headers={"Authorization": authorization})

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_token"


# --- health


async def test_health_is_ok_when_all_components_are(control: Control) -> None:
    answer = await control.client.get("/health")

    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["status"], body["mode"]) == ("ok", "real")
    assert body["components"] == {"redis": "ok", "postgres": "ok", "poster": "ok", "shards": "ok"}
    assert body["details"]["shards_open"] == 64
    assert (await control.client.get("/healthz")).json() == {"status": "ok", "ok": True}
    assert (await control.client.get("/readyz")).json() == {"status": "ready"}


# --- descriptions


async def test_the_descriptions_speak_of_this_instance(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, public_url="https://pay.example.com", providers={"anthropic": {"api_key": "operator-key-anthropic"}})
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        texts = {path: (await control.client.get(path)) for path in ("/SKILL.md", "/llms.txt", "/.well-known/agent-service.json", "/openapi.json", "/pricing")}

    for answer in texts.values():
        assert answer.status_code == 200
        assert "https://pay.example.com" in answer.text
        assert "operator-key" not in answer.text
        assert not re.search(r"\$(?!ref|defs)[a-z]", answer.text)  # nothing was left to fill in
        assert answer.headers["strict-transport-security"]
    assert texts["/SKILL.md"].headers["content-type"].startswith("text/markdown")
    front = texts["/SKILL.md"].text.split("---")[1]
    assert re.search(r"^name: level5$", front, re.MULTILINE)
    assert re.search(r"^description: \S", front, re.MULTILINE)
    assert re.search(r"^version: \d+\.\d+\.\d+$", front, re.MULTILINE)
    descriptor = texts["/.well-known/agent-service.json"].json()
    assert descriptor["endpoints"]["register"] == "https://pay.example.com/v1/register"
    assert "anthropic/claude-sonnet-4-6" in descriptor["models"]
    assert not [model for model in descriptor["models"] if not model.startswith("anthropic/")]  # the others have no key
    assert "anthropic/claude-sonnet-4-6" in texts["/SKILL.md"].text


async def test_the_openapi_description_names_every_path_and_its_schemas(control: Control) -> None:
    document = (await control.client.get("/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    assert {"/health", "/v1/register", "/v1/pricing", "/proxy/{api_token}/balance", "/proxy/{api_token}/v1/messages"} <= set(document["paths"])
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])
    parameters = document["paths"]["/proxy/{api_token}/transactions"]["get"]["parameters"]
    assert {"api_token", "page", "limit", "order", "before", "type", "model", "since", "until"} == {parameter["name"] for parameter in parameters}
    operations = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(operations) == len(set(operations))


# --- pages


async def test_the_dashboard_shows_the_account_and_brings_nothing_from_elsewhere(control: Control) -> None:
    registered = await control.register()
    token = registered["api_token"]
    await credit(control, registered["deposit_code"], 12_345_678)

    page = await control.client.get(f"/dashboard/{token}")

    assert page.status_code == 200
    assert 'data-live="balance">12.345678<' in page.text
    assert registered["deposit_code"] in page.text
    assert "Credit" in page.text
    assert token not in page.text.partition("<title>")[2].partition("</title>")[0]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"<(img|iframe)\b|url\(|\bstyle=|\bon[a-z]+=|<script>|(?:src|href|action)=\"(?![/#?])", page.text)
    assert "Sandbox" not in page.text


async def test_the_address_that_a_refusal_for_money_names_says_where_the_accounts_pages_are(control: Control) -> None:
    page = await control.client.get("/dashboard")

    assert page.status_code == 200
    assert "http://127.0.0.1:8402/dashboard/&lt;api_token&gt;" in page.text
    assert "/pay/&lt;deposit_code&gt;" in page.text


async def test_an_unknown_dashboard_is_a_page_that_says_so(control: Control) -> None:
    page = await control.client.get("/dashboard/l5_1_" + "0" * 64)

    assert page.status_code == 401
    assert page.headers["content-type"].startswith("text/html")
    assert "not known" in page.text


async def test_the_sandbox_is_marked_on_pages_and_in_health(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, mode="sandbox")
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        page = await control.client.get("/pricing")
        health = (await control.client.get("/health")).json()
        skill = await control.client.get("/SKILL.md")

    assert "Sandbox" in page.text
    assert health["mode"] == "sandbox"
    assert "sandbox" in skill.text


async def test_the_bare_address_says_what_this_is_and_leads_on(control: Control) -> None:
    page = await control.client.get("/")

    assert page.status_code == 200
    assert 'href="/pricing"' in page.text
    assert f"curl -X POST {control.context.public_url}/v1/register" in page.text


async def test_a_person_opens_an_account_from_a_page_of_ours_and_from_no_other(control: Control) -> None:
    ours = {"sec-fetch-site": "same-origin"}
    refused = [await control.client.post("/open", headers=headers) for headers in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "https://elsewhere.test"})]
    opened = await control.client.post("/open", headers=ours)
    page = opened.headers["location"]
    found = await control.client.post("/dashboard", headers=ours, data={"api_token": f"http://x/proxy/{page.rpartition('/')[2]}/v1"})
    unknown = await control.client.post("/dashboard", headers=ours, data={"api_token": "nonsense"})

    assert [answer.status_code for answer in refused] == [403, 403, 403]
    assert (opened.status_code, found.status_code, found.headers["location"]) == (303, 303, page)
    assert (await control.client.get(page)).status_code == 200
    assert unknown.status_code == 401


# --- what every answer has


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/v1/register", 405), ("POST", "/v1/pricing", 405), ("GET", "/health/nowhere/", 404)]
)
async def test_an_unknown_path_or_method_is_answered_in_the_shape_of_the_api(control: Control, method: str, path: str, status: int) -> None:
    answer = await control.client.request(method, path)

    error = answer.json()["error"]
    assert answer.status_code == status
    assert set(error) == {"code", "message", "details"}
    assert error["code"] == {404: "not_found", 405: "method_not_allowed"}[status]
    assert (status == 405) == ("allow" in answer.headers)
    assert UUID.fullmatch(answer.headers["x-request-id"])


@pytest.mark.parametrize("path", ["/health", "/v1/pricing", "/nowhere", "/pricing", "/SKILL.md"])
async def test_every_answer_has_a_request_id_and_security_headers_and_no_cors(control: Control, path: str) -> None:
    answer = await control.client.get(path, headers={"Origin": "https://elsewhere.example"})

    assert UUID.fullmatch(answer.headers["x-request-id"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "content-security-policy" in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/health", "/v1/pricing", "/pricing", "/SKILL.md", "/nowhere"])
async def test_head_answers_as_get_does_without_a_body(control: Control, path: str) -> None:
    get, head = await control.client.get(path), await control.client.head(path)

    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]


async def test_a_fault_of_ours_is_a_plain_500(control: Control, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    async def broken() -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr(type(control.context.monitor), "look", lambda _self: broken())

    answer = await control.client.get("/health")

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret detail" not in answer.text
    assert "Traceback" not in answer.text


async def test_many_at_once_are_all_answered(control: Control) -> None:
    tokens = [(await control.register())["api_token"] for _ in range(3)]

    answers = await asyncio.gather(*(control.client.get(f"/proxy/{tokens[index % 3]}/balance") for index in range(150)))

    assert {answer.status_code for answer in answers} == {200}


# --- the forward proxy's certificate


async def test_the_certificate_of_the_forward_proxy_is_public_and_its_key_is_not(control: Control) -> None:
    before = await control.client.get("/ca.pem")
    authority = ensure_authority(control.context.settings)

    answer = await control.client.get("/ca.pem")
    service = (await control.client.get("/.well-known/agent-service.json")).json()

    assert (before.status_code, before.json()["error"]["code"]) == (404, "no_certificate")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-pem-file"
    assert answer.content == control.context.settings.certificate_file.read_bytes()
    assert b"PRIVATE" not in answer.content
    assert authority.folder.stat().st_mode & 0o777 == 0o700
    assert service["forward_proxy"] == {"https_proxy": "http://level5:{api_token}@127.0.0.1:8403", "certificate": "http://127.0.0.1:8402/ca.pem"}
