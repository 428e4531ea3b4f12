"""Signing in to the operator's console by a real OpenID Connect provider, and what an attacker could try on the way."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx
import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from control.app import make_app
from ledger import console_sessions
from tests.fakes.console import ORIGIN, Browser, text_of
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control
from tests.fakes.oidc_provider import OPERATOR, STRANGER, UNVERIFIED, Issuer, running_issuer

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLBACK = "/admin/oidc/callback"
SESSION, SIGN_IN = "level5_console_8402", "level5_sign_in_8402"


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with running_issuer(ORIGIN + CALLBACK) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_stores(postgres_server, store_home) as urls:
        await prepare_stores(control_settings(*urls))
        yield urls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(stores: tuple[str, str], issuer: Issuer) -> AsyncIterator[Control]:
    async with running_control(control_settings(*stores, admin={"oidc": issuer.settings(allowed=f"{OPERATOR},@unverified.example")})) as running:
        yield running


@pytest.fixture
def browser(control: Control) -> Browser:
    return Browser(httpx.ASGITransport(make_app(control.context), client=("127.0.0.1", 50000)))


async def begin(browser: Browser, to: str = "/admin") -> str:
    """Begin a sign-in and return where the browser is sent."""
    answer = await browser.get(f"/admin/oidc/start?{urlencode({'to': to})}")
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def come_back(browser: Browser, issuer: Issuer, address: str, authorize: str) -> httpx.Response:
    """Sign in at the issuer, and follow its redirect."""
    back = urlsplit(issuer.sign_in(address, authorize).headers["location"])
    return await browser.get(f"{back.path}?{back.query}", site="cross-site")


async def audited(control: Control, action: str) -> list[dict[str, Any]]:
    rows = await control.context.pool.fetch("SELECT actor, detail FROM audit WHERE action = $1 ORDER BY id", action)
    return [{"actor": row["actor"], **json.loads(row["detail"])} for row in rows]


async def test_an_allowed_operator_signs_in(control: Control, browser: Browser, issuer: Issuer) -> None:
    assert "Sign in with 127.0.0.1" in text_of(await browser.get("/admin"))

    entered = await come_back(browser, issuer, OPERATOR, await begin(browser, "/admin/accounts"))

    assert entered.status_code == 200
    assert 'content="0; url=/admin/accounts"' in entered.text
    assert SIGN_IN not in browser.cookies
    assert OPERATOR in (await browser.get("/admin")).text
    line = (await audited(control, "console_sign_in"))[-1]
    assert (line["actor"], line["by"]) == (OPERATOR, issuer.issuer)


async def test_the_issuer_is_asked_with_everything_that_binds_the_answer(browser: Browser, issuer: Issuer) -> None:
    asked = parse_qs(urlsplit(await begin(browser)).query)

    assert asked["response_type"] == ["code"]
    assert asked["redirect_uri"] == [ORIGIN + CALLBACK]
    assert asked["scope"] == ["openid email"]
    assert asked["code_challenge_method"] == ["S256"]
    assert min(len(asked[name][0]) for name in ("state", "nonce", "code_challenge")) >= 43
    again = parse_qs(urlsplit(await begin(browser)).query)
    assert all(asked[name] != again[name] for name in ("state", "nonce", "code_challenge"))


async def test_who_is_not_on_the_list_stays_outside(browser: Browser, issuer: Issuer) -> None:
    refused = await come_back(browser, issuer, STRANGER, await begin(browser))

    assert refused.status_code == 403
    assert STRANGER in text_of(refused)
    assert SESSION not in browser.cookies
    assert "another account" in text_of(refused)
    again = str((await browser.get("/admin/oidc/start?other=1")).headers["location"])
    assert parse_qs(urlsplit(again).query)["prompt"] == ["select_account"]


async def test_an_address_that_nobody_verified_is_nobodys(stores: tuple[str, str], issuer: Issuer) -> None:
    async with running_control(control_settings(*stores, admin={"oidc": issuer.settings(allowed="@example.com")})) as running:
        browser = Browser(httpx.ASGITransport(make_app(running.context)))

        assert (await come_back(browser, issuer, UNVERIFIED, await begin(browser))).status_code == 403
        assert SESSION not in browser.cookies
        assert (await come_back(browser, issuer, OPERATOR, await begin(browser))).status_code == 200  # the same domain, verified


async def test_an_answer_belongs_to_the_browser_that_began(browser: Browser, issuer: Issuer) -> None:
    """Else an attacker could sign somebody in as himself, and read what they do."""
    victim, attacker = browser, Browser(browser.transport)
    theirs = urlsplit(issuer.sign_in(OPERATOR, await begin(attacker)).headers["location"])

    assert (await victim.get(f"{theirs.path}?{theirs.query}", site="cross-site")).status_code == 403
    await begin(victim)
    assert (await victim.get(f"{theirs.path}?{theirs.query}", site="cross-site")).status_code == 403
    assert SESSION not in victim.cookies


async def test_an_answer_is_good_once(browser: Browser, issuer: Issuer) -> None:
    authorize = await begin(browser)
    cookie = dict(browser.cookies)
    back = urlsplit(issuer.sign_in(OPERATOR, authorize).headers["location"])
    assert (await browser.get(f"{back.path}?{back.query}")).status_code == 200

    again = Browser(browser.transport, cookies=cookie)
    assert (await again.get(f"{back.path}?{back.query}")).status_code == 403
    assert SESSION not in again.cookies


async def test_a_code_of_another_sign_in_is_refused(browser: Browser, issuer: Issuer) -> None:
    """A code that was stolen belongs to another verifier: the issuer does not take it."""
    stolen = parse_qs(urlsplit(issuer.sign_in(OPERATOR, await begin(Browser(browser.transport))).headers["location"]).query)["code"][0]
    state = parse_qs(urlsplit(await begin(browser)).query)["state"][0]

    refused = await browser.get(f"{CALLBACK}?{urlencode({'code': stolen, 'state': state})}")

    assert refused.status_code == 403
    assert SESSION not in browser.cookies


async def test_a_token_with_another_nonce_is_refused(browser: Browser, issuer: Issuer) -> None:
    authorize = await begin(browser)
    nonce = parse_qs(urlsplit(authorize).query)["nonce"][0]

    refused = await come_back(browser, issuer, OPERATOR, authorize.replace(nonce, "another-nonce"))

    assert refused.status_code == 403
    assert SESSION not in browser.cookies


async def test_answers_that_make_no_sense_are_refused(browser: Browser, issuer: Issuer) -> None:
    async def fresh(**other: str) -> str:
        state = parse_qs(urlsplit(await begin(browser)).query)["state"][0]
        return f"{CALLBACK}?{urlencode({'state': state, 'code': 'made-up', **other})}"

    queries = [
        CALLBACK,
        f"{CALLBACK}?code=made-up",
        f"{CALLBACK}?code=made-up&state=made-up",
        await fresh(),
        await fresh() + "&state=twice",
        await fresh(iss="https://other.example"),
        (await fresh()).replace("code=made-up", "error=access_denied&error_description=%3Cscript%3Ealert(1)%3C%2Fscript%3E"),
    ]
    for query in queries:
        refused = await browser.get(query, site="cross-site")
        assert refused.status_code == 403, query
        assert "<script>alert" not in refused.text
        assert SESSION not in browser.cookies


async def test_nobody_is_led_elsewhere_after_a_sign_in(browser: Browser, issuer: Issuer) -> None:
    entered = await come_back(browser, issuer, OPERATOR, await begin(browser, "//evil.example"))

    assert entered.status_code == 200
    assert 'content="0; url=/admin"' in entered.text
    assert "evil" not in entered.text


async def test_no_other_site_begins_a_sign_in(browser: Browser) -> None:
    for site in ("cross-site", "same-site"):
        answer = await browser.get("/admin/oidc/start", site=site)
        assert answer.status_code == 200
        assert not browser.cookies


async def test_who_is_taken_off_the_list_is_out_at_once(stores: tuple[str, str], control: Control, browser: Browser, issuer: Issuer) -> None:
    await come_back(browser, issuer, OPERATOR, await begin(browser))
    assert (await browser.get("/admin")).status_code == 200

    for oidc in (issuer.settings(allowed="someone.else@example.com"), {**issuer.settings(), "issuer": issuer.origin}):
        async with running_control(control_settings(*stores, admin={"oidc": oidc})) as changed:
            later = Browser(httpx.ASGITransport(make_app(changed.context)), cookies=dict(browser.cookies))
            assert (await later.get("/admin")).status_code == 401
    async with running_control(control_settings(*stores)) as without:
        assert (await Browser(httpx.ASGITransport(make_app(without.context)), cookies=dict(browser.cookies)).get("/admin")).status_code == 401


async def test_an_issuer_that_bears_another_name_is_not_used(stores: tuple[str, str], issuer: Issuer) -> None:
    """One issuer's document must not name the doors of another."""
    async with running_control(control_settings(*stores, admin={"oidc": {**issuer.settings(), "issuer": issuer.issuer + "/"}})) as running:
        browser = Browser(httpx.ASGITransport(make_app(running.context)))
        answer = await browser.get("/admin/oidc/start")

        assert answer.status_code == 503
        assert "does not answer as it should" in text_of(answer)
        assert SIGN_IN not in browser.cookies


async def test_an_issuer_that_is_away_is_said_to_be(stores: tuple[str, str], issuer: Issuer) -> None:
    async with running_control(control_settings(*stores, admin={"oidc": {**issuer.settings(), "issuer": "http://127.0.0.1:9/o"}})) as running:
        answer = await Browser(httpx.ASGITransport(make_app(running.context))).get("/admin/oidc/start")

        assert answer.status_code == 503


async def test_a_client_with_another_secret_gets_nobody_in(stores: tuple[str, str], issuer: Issuer) -> None:
    async with running_control(control_settings(*stores, admin={"oidc": {**issuer.settings(), "client_secret": "another"}})) as running:
        browser = Browser(httpx.ASGITransport(make_app(running.context)))
        refused = await come_back(browser, issuer, OPERATOR, await begin(browser))

        assert refused.status_code == 403
        assert SESSION not in browser.cookies


async def test_sign_ins_cannot_be_begun_without_end(control: Control, browser: Browser) -> None:
    answers = [(await browser.get("/admin/oidc/start")).status_code for _ in range(25)]

    assert answers[:20] == [303] * 20
    assert answers[-1] == 429
    await control.context.pool.execute("DELETE FROM console_sign_ins")


async def test_a_door_that_is_flooded_does_not_fill_the_database(control: Control, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_sessions, "SIGN_INS_MAX", 3)
    answers = [(await browser.get("/admin/oidc/start")).status_code for _ in range(5)]

    assert answers == [303, 303, 303, 503, 503]
    await control.context.pool.execute("UPDATE console_sign_ins SET expires_at = now() - interval '1 second'")
    assert (await browser.get("/admin/oidc/start")).status_code == 303  # those that were given up are forgotten
    assert await control.context.pool.fetchval("SELECT count(*) FROM console_sign_ins") == 1


async def test_links_work_beside_the_issuer(control: Control, browser: Browser) -> None:
    from ledger.console_sessions import ConsoleSessions

    link, _ = await ConsoleSessions(control.context.pool).make_link("ada", seconds=60, detail={})

    assert (await browser.post(f"/admin/link/{link}")).status_code == 303
    assert (await browser.get("/admin")).status_code == 200
