"""The door of the operator's console: who gets in, by what, and what an attacker gets instead."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from control.app import make_app
from ledger.console_sessions import ConsoleSessions
from tests.fakes.console import ORIGIN, Browser, text_of
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

COOKIE = "level5_console_8402"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    async with own_stores(postgres_server, store_home) as urls:
        await prepare_stores(control_settings(*urls))
        yield urls


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(stores: tuple[str, str]) -> AsyncIterator[Control]:
    async with running_control(control_settings(*stores, register={"rate_per_minute": 0})) as running:
        yield running


@pytest.fixture
def browser(control: Control) -> Browser:
    """A browser that nobody has signed in with, at a process that nobody has knocked at."""
    return Browser(httpx.ASGITransport(make_app(control.context), client=("127.0.0.1", 50000)))


async def make_link(control: Control, name: str = "ada", *, seconds: int = 600) -> str:
    link, _ = await ConsoleSessions(control.context.pool).make_link(name, seconds=seconds, detail={})
    return f"/admin/link/{link}"


async def sign_in(control: Control, browser: Browser, name: str = "ada") -> None:
    answer = await browser.post(await make_link(control, name))
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin")


async def audited(control: Control, action: str) -> list[dict[str, Any]]:
    rows = await control.context.pool.fetch("SELECT actor, detail FROM audit WHERE action = $1 ORDER BY id", action)
    return [{"actor": row["actor"], **json.loads(row["detail"])} for row in rows]


async def test_there_is_no_console_for_strangers(browser: Browser) -> None:
    for path in ("/admin", "/admin/accounts", "/admin/oidc/start", "/admin/oidc/callback", "/admin/sign-in", "/admin/nothing"):
        assert (await browser.get(path)).status_code == 404, path
    assert (await browser.post("/admin/accounts/org_00/credit")).status_code == 404


async def test_a_link_signs_in_once(control: Control, browser: Browser) -> None:
    link = await make_link(control)

    asked = await browser.get(link)
    assert "Sign in as ada?" in text_of(asked)
    assert COOKIE not in browser.cookies  # looking at it spends nothing
    entered = await browser.post(link)

    assert entered.status_code == 303
    assert (await browser.get("/admin")).status_code == 200
    again = Browser(browser.transport)
    assert (await again.post(link)).status_code == 404
    assert (await again.get(link)).status_code == 404
    assert not again.cookies


async def test_a_link_ends(control: Control, browser: Browser) -> None:
    link = await make_link(control, seconds=0)

    assert (await browser.get(link)).status_code == 404
    assert (await browser.post(link)).status_code == 404


async def test_of_two_who_use_a_link_at_once_one_gets_in(control: Control, browser: Browser) -> None:
    import asyncio

    link = await make_link(control)
    answers = await asyncio.gather(*(Browser(browser.transport).post(link) for _ in range(6)))

    assert sorted(answer.status_code for answer in answers) == [303] + [404] * 5


async def test_no_other_page_signs_a_browser_in(control: Control, browser: Browser) -> None:
    link = await make_link(control)

    for site in ("cross-site", "same-site", "none"):
        assert (await browser.post(link, site=site)).status_code == 403
    assert (await browser.post(link, site=None)).status_code == 403
    assert (await browser.post(link, site=None, origin="http://evil.example")).status_code == 403
    assert not browser.cookies
    assert (await browser.post(link, site=None, origin=ORIGIN)).status_code == 303


async def test_the_cookie_is_of_this_site_alone_and_unreadable_for_scripts(control: Control, browser: Browser) -> None:
    answer = await browser.post(await make_link(control))

    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert "Domain" not in cookie


async def test_over_https_the_browser_guards_the_cookie(stores: tuple[str, str]) -> None:
    async with running_control(control_settings(*stores, public_url="https://llm.example.com")) as running:
        browser = Browser(httpx.ASGITransport(make_app(running.context)), origin="https://llm.example.com")
        answer = await browser.post(await make_link(running))

        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-level5_console=")
        assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert answer.headers["strict-transport-security"]


async def test_a_secret_that_the_browser_brings_never_becomes_a_session(control: Control, browser: Browser) -> None:
    browser.cookies[COOKIE] = "x" * 43

    assert (await browser.get("/admin")).status_code == 401
    await sign_in(control, browser)

    assert browser.cookies[COOKIE] != "x" * 43
    fixed = Browser(browser.transport, cookies={COOKIE: "x" * 43})
    assert (await fixed.get("/admin")).status_code == 401


async def test_the_database_holds_nothing_that_opens_a_session(control: Control, browser: Browser) -> None:
    link = await make_link(control)
    await sign_in(control, browser)
    rows = [str(dict(row)) for table in ("console_sessions", "console_links", "audit") for row in await control.context.pool.fetch(f"SELECT * FROM {table}")]

    assert rows
    for secret in (browser.cookies[COOKIE], link.rpartition("/")[2], browser.csrf or "none"):
        assert not any(secret in row for row in rows)


async def test_a_session_ends_when_it_is_not_used_or_its_time_is_over(control: Control, browser: Browser) -> None:
    pool = control.context.pool
    for change in ("seen_at = now() - interval '61 minutes'", "expires_at = now() - interval '1 second'"):
        await sign_in(control, browser, "grace")
        assert (await browser.get("/admin")).status_code == 200
        await pool.execute(f"UPDATE console_sessions SET {change} WHERE actor = 'link:grace'")
        ended = await browser.get("/admin")

        assert ended.status_code == 401
        assert "level5 admin login" in ended.text


async def test_signing_out_ends_the_session_and_not_only_the_cookie(control: Control, browser: Browser) -> None:
    await sign_in(control, browser)
    kept = dict(browser.cookies)
    await browser.get("/admin")

    out = await browser.post("/admin/sign-out")

    assert out.status_code == 200
    assert COOKIE not in browser.cookies
    assert (await Browser(browser.transport, cookies=kept).get("/admin")).status_code == 401
    assert (await audited(control, "console_sign_out"))[-1]["actor"] == "link:ada"


async def test_signing_out_everywhere_ends_all_sessions_of_this_operator_and_no_others(control: Control, browser: Browser) -> None:
    others, mine = Browser(browser.transport), Browser(browser.transport)
    await sign_in(control, others, "bob")
    await sign_in(control, mine, "eve")
    await sign_in(control, browser, "eve")
    await browser.get("/admin")

    assert (await browser.post("/admin/sign-out-everywhere")).status_code == 200

    assert (await mine.get("/admin")).status_code == 401
    assert (await others.get("/admin")).status_code == 200


async def test_a_form_needs_the_token_of_its_own_session(control: Control, browser: Browser) -> None:
    other = Browser(browser.transport)
    await sign_in(control, browser)
    await sign_in(control, other, "mallory")
    await browser.get("/admin")
    await other.get("/admin")
    assert browser.csrf
    assert browser.csrf != other.csrf

    for token in ("", "0" * 64, other.csrf, browser.csrf + "0", "ü"):
        refused = await browser.post("/admin/sign-out", {"csrf": token})
        assert refused.status_code in {400, 403}, token
    assert (await browser.post("/admin/sign-out", site="cross-site")).status_code == 403
    assert (await browser.get("/admin")).status_code == 200


async def test_only_our_own_names_open_the_console(control: Control, browser: Browser) -> None:
    await sign_in(control, browser)

    for host in ("evil.example", "evil.example:8402", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "[::2]", "", "localhost.evil.example"):
        refused = await browser.get("/admin", host=host)
        assert refused.status_code == 421, host
        assert "set-cookie" not in refused.headers
        assert (await browser.post(await make_link(control), host=host)).status_code == 421, host
    for host in ("127.0.0.1:8402", "localhost:8404", "[::1]:8402"):
        assert (await browser.get("/admin", host=host)).status_code == 200, host


async def test_an_address_that_is_not_encrypted_opens_no_console(stores: tuple[str, str]) -> None:
    async with running_control(control_settings(*stores, public_url="http://10.1.2.3:8402")) as running:
        browser = Browser(httpx.ASGITransport(make_app(running.context)), origin="http://10.1.2.3:8402")
        local = Browser(browser.transport, origin="http://127.0.0.1:8404")

        assert (await browser.get(await make_link(running))).status_code == 421
        assert (await local.post(await make_link(running))).status_code == 303
        assert (await local.get("/admin")).status_code == 200


async def test_from_other_networks_there_is_no_console(stores: tuple[str, str]) -> None:
    async with running_control(control_settings(*stores, admin={"networks": "10.0.0.0/8"})) as running:
        outside = Browser(httpx.ASGITransport(make_app(running.context), client=("192.0.2.1", 1)))
        inside = Browser(httpx.ASGITransport(make_app(running.context), client=("10.9.9.9", 1)))

        assert (await outside.post(await make_link(running))).status_code == 404
        assert (await outside.post(await make_link(running), x_forwarded_for="10.9.9.9")).status_code == 404
        assert (await outside.post(await make_link(running), x_level5_peer="10.9.9.9", x_level5_peer_key="guess")).status_code == 404
        assert (await inside.post(await make_link(running))).status_code == 303


async def test_links_cannot_be_tried_without_end(browser: Browser) -> None:
    answers = [(await browser.get("/admin/link/" + "x" * 43)).status_code for _ in range(25)]

    assert answers[:20] == [404] * 20
    assert answers[-1] == 429


async def test_nothing_of_the_console_is_kept_framed_or_told_to_others(control: Control, browser: Browser) -> None:
    link = await make_link(control)
    await sign_in(control, browser)

    for answer in (await browser.get("/admin"), await browser.get(link), await browser.get("/admin/accounts")):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "form-action 'self'" in answer.headers["content-security-policy"]
        assert link.rpartition("/")[2] not in answer.text.partition("<title>")[2].partition("</title>")[0]


async def test_each_sign_in_is_noted_with_where_it_came_from(control: Control, browser: Browser) -> None:
    answer = await browser.post(await make_link(control, "zoe"), user_agent="a browser")

    line = (await audited(control, "console_sign_in"))[-1]
    assert (line["actor"], line["by"], line["from"], line["agent"]) == ("link:zoe", "link", "127.0.0.1", "a browser")
    assert line["request_id"] == answer.headers["x-request-id"]
    assert (await audited(control, "console_link_made"))[-1]["actor"] == "link:zoe"
