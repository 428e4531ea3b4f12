"""The pages of the operator's console: what they show, what an operator does there, and that nothing of it happens twice or unnoted."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from cli.embedded import EmbeddedPostgres
from config.rate_card import shipped_rate_card
from control.app import make_app
from ledger.account_values import Account
from ledger.console_sessions import ConsoleSessions
from ledger.journal import record_rate_card
from ledger.organisations import note_action
from tests.fakes.console import Browser, text_of
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control
from tests.fakes.vaults import SENDER, VAULT

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAGES = ("", "/accounts", "/money", "/traffic", "/errors", "/prices", "/rate-cards", "/audit", "/sessions")
ATTACKS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'><svg/onload=alert(1)>", "{{ 7*7 }}{% raw %}", "x" * 200, "שלום עולם", "👩 née",
    "=cmd|' /C calc'!A0", "%_\\",
)  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    async with own_stores(postgres_server, store_home) as urls:
        settings = control_settings(*urls, register={"rate_per_minute": 0}, home=store_home / "console-home")
        await prepare_stores(settings)
        async with running_control(settings) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module")
async def browser(control: Control) -> Browser:
    made = Browser(httpx.ASGITransport(make_app(control.context), client=("127.0.0.1", 50000)))
    link, _ = await ConsoleSessions(control.context.pool).make_link("ada", seconds=60, detail={})
    assert (await made.post(f"/admin/link/{link}")).status_code == 303
    return made


async def new_account(control: Control, name: str | None = None) -> Account:
    return (await control.context.accounts.create(name=name)).account


async def audited(control: Control, action: str, account: Account | None = None) -> list[dict[str, Any]]:
    rows = await control.context.pool.fetch("SELECT actor, detail FROM audit WHERE action = $1 ORDER BY id", action)
    lines = [{"actor": row["actor"], **json.loads(row["detail"])} for row in rows]
    return [line for line in lines if account is None or line.get("account") == account.public_id]


async def fresh(control: Control, account: Account) -> Account:
    return await control.context.accounts.find(account.public_id)


async def test_every_page_shows_itself_with_nothing_in_the_books(browser: Browser) -> None:
    for path in PAGES:
        answer = await browser.get(f"/admin{path}")
        assert answer.status_code == 200, (path, answer.text)
        assert "link:ada" in answer.text


async def test_an_account_is_found_by_whatever_names_it(control: Control, browser: Browser) -> None:
    made = await control.context.accounts.create(name="Findable Ltd")
    account = made.account
    await browser.get("/admin/accounts")

    for name in (account.public_id, str(account.id), account.deposit_code, account.deposit_code.lower(), made.api_token):
        found = await browser.post("/admin/accounts/find", {"q": name})
        assert (found.status_code, found.headers["location"]) == (303, f"/admin/accounts/{account.public_id}")
    by_name = await browser.post("/admin/accounts/find", {"q": "indable"})
    assert by_name.headers["location"] == "/admin/accounts?q=indable"
    assert account.public_id in (await browser.get("/admin/accounts?q=indable")).text
    assert account.public_id not in (await browser.get("/admin/accounts?q=nobody")).text
    unknown = await browser.post("/admin/accounts/find", {"q": made.api_token[:-1] + "0"})
    assert made.api_token[:20] not in unknown.text + unknown.headers.get("location", "")


async def test_no_token_of_an_account_is_shown(control: Control, browser: Browser) -> None:
    made = await control.context.accounts.create(name="secretive")
    key = await control.context.keys.create(made.account, "reports")

    page = (await browser.get(f"/admin/accounts/{made.account.public_id}")).text

    assert made.token_id in page
    assert key.key_id in page
    for secret in (made.api_token, made.api_token.rpartition("_")[2], key.text):
        assert secret not in page


async def test_a_credit_is_given_once_for_each_form(control: Control, browser: Browser) -> None:
    account = await new_account(control)
    address = f"/admin/accounts/{account.public_id}"
    await browser.get(address)
    form = {"usdc": "12.345678", "reason": "goodwill", "once": browser.once}

    first = await browser.post(f"{address}/credit", form)
    second = await browser.post(f"{address}/credit", form)
    other = await browser.post(f"{address}/credit", {**form, "usdc": "99"})

    assert (first.headers["location"], second.headers["location"]) == (f"{address}?done=credited", f"{address}?done=again")
    assert other.status_code == 409
    assert (await fresh(control, account)).balance == 12_345_678
    assert "12.345678" in (await browser.get(address)).text
    lines = await audited(control, "account_credit", account)
    assert {(line["actor"], line["amount"], line["reason"]) for line in lines[:2]} == {("link:ada", 12_345_678, "goodwill")}
    page = await browser.get(f"{address}?done=credited")
    assert "The account was credited." in text_of(page)


@pytest.mark.parametrize("usdc", ["", "0", "-1", "1.2345678", "abc", "NaN", "Infinity", "1e400", "99999999999999999999", "0x10", "1,5"])
async def test_what_is_no_amount_credits_nothing(control: Control, browser: Browser, usdc: str) -> None:
    account = await new_account(control)
    await browser.get(f"/admin/accounts/{account.public_id}")

    refused = await browser.post(f"/admin/accounts/{account.public_id}/credit", {"usdc": usdc, "reason": "x", "once": browser.once})

    assert refused.status_code == 400
    assert f'href="/admin/accounts/{account.public_id}"' in refused.text
    assert (await fresh(control, account)).balance == 0


async def test_an_account_is_suspended_activated_and_closed_with_a_reason(control: Control, browser: Browser) -> None:
    made = await control.context.accounts.create()
    account, address = made.account, f"/admin/accounts/{made.account.public_id}"
    await browser.get(address)

    assert (await browser.post(f"{address}/status", {"status": "suspended"})).status_code == 400  # no reason
    for status in ("suspended", "active", "closed"):
        assert (await browser.post(f"{address}/status", {"status": status, "reason": "because"})).headers["location"] == f"{address}?done={status}"
        assert (await fresh(control, account)).status == status
        assert (await control.client.get(f"/proxy/{made.api_token}/balance")).json()["is_active"] == (status == "active")
    assert (await browser.post(f"{address}/status", {"status": "odd", "reason": "because"})).status_code == 400
    lines = await audited(control, "account_status", account)
    assert [(line["before"], line["status"]) for line in lines] == [("active", "suspended"), ("suspended", "active"), ("active", "closed")]


async def test_line_and_tier_are_set(control: Control, browser: Browser) -> None:
    account = await new_account(control)
    address = f"/admin/accounts/{account.public_id}"
    await browser.get(address)

    await browser.post(f"{address}/line", {"usdc": "2.5", "reason": "trusted"})
    await browser.post(f"{address}/tier", {"tier": "pro", "reason": "pays"})

    changed = await fresh(control, account)
    assert (changed.line, changed.tier) == (2_500_000, "pro")
    await browser.post(f"{address}/line", {"usdc": "", "reason": "not any more"})
    assert (await fresh(control, account)).line is None
    assert (await browser.post(f"{address}/tier", {"tier": "gold", "reason": "x"})).status_code == 400
    assert (await browser.post(f"{address}/line", {"usdc": "-1", "reason": "x"})).status_code == 400


async def test_tokens_and_keys_are_revoked_only_for_their_own_account(control: Control, browser: Browser) -> None:
    one, two = await control.context.accounts.create(), await control.context.accounts.create()
    key = await control.context.keys.create(one.account, None)
    mine, other = f"/admin/accounts/{one.account.public_id}", f"/admin/accounts/{two.account.public_id}"
    await browser.get(mine)

    assert (await browser.post(f"{other}/tokens/{one.token_id}/revoke", {"reason": "x"})).status_code == 404
    assert (await browser.post(f"{other}/keys/{key.key_id}/revoke", {"reason": "x"})).status_code == 404
    assert (await control.client.get(f"/proxy/{one.api_token}/balance")).status_code == 200
    assert (await browser.post(f"{mine}/tokens/{one.token_id}/revoke", {"reason": "leaked"})).status_code == 303
    assert (await browser.post(f"{mine}/keys/{key.key_id}/revoke", {"reason": "leaked"})).status_code == 303

    assert (await control.client.get(f"/proxy/{one.api_token}/transactions")).status_code == 401
    assert (await control.client.post("/v1/usage", json={}, headers={"Authorization": f"Bearer {key.text}"})).status_code == 401
    assert (await audited(control, "token_revoke", one.account))[-1]["token"] == one.token_id


async def test_nothing_is_done_that_cannot_be_noted(control: Control, browser: Browser) -> None:
    account = await new_account(control)
    await browser.get(f"/admin/accounts/{account.public_id}")
    pool = control.context.pool
    await pool.execute("ALTER TABLE audit RENAME TO audit_away")
    try:
        answer = await browser.post(f"/admin/accounts/{account.public_id}/credit", {"usdc": "1", "reason": "x", "once": browser.once})
    finally:
        await pool.execute("ALTER TABLE audit_away RENAME TO audit")

    assert answer.status_code >= 500
    assert (await fresh(control, account)).balance == 0


async def test_every_act_needs_a_session_its_token_and_our_own_origin(control: Control, browser: Browser) -> None:
    account = await new_account(control)
    base = f"/admin/accounts/{account.public_id}"
    await browser.get(base)
    acts = {
        f"{base}/credit": {"usdc": "1", "reason": "x", "once": browser.once},
        f"{base}/status": {"status": "closed", "reason": "x"},
        f"{base}/line": {"usdc": "1", "reason": "x"},
        f"{base}/tier": {"tier": "pro", "reason": "x"},
        "/admin/accounts/find": {"q": "1"},
        "/admin/money/resume": {},
        "/admin/sign-out-everywhere": {},
        f"/admin/deposits/{'1' * 64}/assign": {"account": account.public_id, "reason": "x"},
    }
    stranger = Browser(browser.transport)
    for path, form in acts.items():
        assert (await stranger.post(path, form)).status_code == 404, path
        assert (await browser.post(path, {**form, "csrf": "0" * 64})).status_code == 403, path
        assert (await browser.post(path, form, site="cross-site")).status_code == 403, path
        assert (await browser.post(path, form, site=None)).status_code == 403, path
        assert (await browser.post(path, form, host="evil.example")).status_code == 421, path
        assert (await browser.get(path)).status_code in {404, 405}, path
    unchanged = await fresh(control, account)
    assert (unchanged.balance, unchanged.status, unchanged.line, unchanged.tier) == (0, "active", None, "free")
    assert (await browser.get("/admin")).status_code == 200


async def test_what_others_wrote_is_text_wherever_it_stands(control: Control, browser: Browser) -> None:
    for attack in ATTACKS:
        account = await new_account(control, attack)
        await control.context.accounts.create_token(account, attack)
        await control.context.keys.create(account, attack)
        await note_action(control.context.pool, actor=attack, action=attack, detail={"account": account.public_id, "reason": attack, attack: attack})
        for path in (f"/admin/accounts/{account.public_id}", "/admin/accounts", "/admin", "/admin/audit", f"/admin/accounts?q={account.public_id}"):
            page = (await browser.get(path)).text
            assert not re.search(r"<script>alert|<img src=x|<svg/onload|\{\{ 49", page), (attack, path)
    for query in ('"><script>alert(1)</script>', "<img src=x onerror=alert(1)>"):
        for path in ("/admin/accounts", "/admin/audit"):
            page = await browser.get(str(httpx.URL(path, params={"q" if path.endswith("accounts") else "actor": query})))
            assert query not in page.text
    assert "%_" in (await browser.get("/admin/accounts?q=%25_")).text  # the characters themselves, not a pattern
    assert "x" * 50 not in (await browser.get("/admin/accounts?q=%25_")).text


async def test_questions_that_make_no_sense_are_answered_in_words(browser: Browser) -> None:
    for path in (
        "/admin/accounts?before=x", "/admin/accounts?status=odd", "/admin/accounts?q=a&q=b", "/admin/accounts?odd=1", "/admin/accounts/org_zz",
        "/admin/accounts/org_0000000000000000", "/admin/accounts/%00", "/admin/accounts?q=%00", "/admin/audit?actor=%00", "/admin/audit?action=%00",
        "/admin/audit?from=x", "/admin/audit?to=0001-01-01",
        "/admin/rate-cards?before=2026-01-01", "/admin/rate-cards/zz", "/admin/money?state=odd",
        "/admin/money?before=99999999999999999999", "/admin/traffic?range=custom&from=x",
    ):  # fmt: skip
        answer = await browser.get(path)
        assert answer.status_code in {200, 400, 404}, path
        assert answer.headers["content-type"].startswith("text/html")


async def test_posts_that_make_no_sense_change_nothing(control: Control, browser: Browser) -> None:
    account = await new_account(control)
    base = f"/admin/accounts/{account.public_id}"
    await browser.get(base)
    posts: list[tuple[str, dict[str, str]]] = [
        ("/admin/accounts/find", {"q": "a\x00b"}), (f"{base}/status", {"status": "closed", "reason": "a\x00b"}), ("/admin/sessions/%00/end", {}),
        ("/admin/sessions/ses_00/end", {}), (f"{base}/keys/%00/revoke", {"reason": "x"}), (f"{base}/tokens/%00/revoke", {"reason": "x"}),
        ("/admin/deposits/%00/assign", {"account": "x", "reason": "x"}), (f"{base}/status", {"status": "closed", "reason": "x" * 301}),
        (f"{base}/status", {"status": "closed", "reason": "x", "more": "y"}), (f"{base}/credit", {"usdc": "1", "reason": "x", "once": "short"}),
        ("/admin/accounts/org_0000000000000000/status", {"status": "closed", "reason": "x"}),
    ]  # fmt: skip
    for path, form in posts:
        answer = await browser.post(path, form)
        assert answer.status_code in {400, 404}, (path, answer.status_code)
    unchanged = await fresh(control, account)
    assert (unchanged.status, unchanged.balance) == ("active", 0)
    assert (await browser.get("/admin")).status_code == 200


async def test_the_audit_is_filtered_paged_and_taken_along(control: Control, browser: Browser) -> None:
    for number in range(60):
        await note_action(control.context.pool, actor="paged", action="many", detail={"number": number, "formula": "=1+1"})

    first = await browser.get("/admin/audit?actor=paged")
    older = re.search(r'href="(/admin/audit\?[^"]*before=\d+[^"]*)"', first.text)
    assert older is not None
    second = await browser.get(older[1].replace("&amp;", "&"))
    taken = await browser.get("/admin/audit.csv?actor=paged&action=many")

    assert "number</span> 59" in first.text
    assert "number</span> 0<" in second.text
    rows = list(csv.DictReader(io.StringIO(taken.text)))
    assert len(rows) == 60
    assert taken.headers["content-disposition"].startswith("attachment")
    exported = await control.context.pool.fetchrow("SELECT actor, detail FROM audit WHERE action = 'audit_export' ORDER BY id DESC LIMIT 1")
    assert (exported["actor"], json.loads(exported["detail"])["actor"]) == ("link:ada", "paged")
    await note_action(control.context.pool, actor="=HYPERLINK(1)", action="@formula", detail={"a": "-2+3"})
    row = list(csv.DictReader(io.StringIO((await browser.get("/admin/audit.csv?action=%40formula")).text)))[-1]
    assert (row["actor"], row["action"]) == ("'=HYPERLINK(1)", "'@formula")


async def test_a_deposit_that_named_nobody_is_assigned_once(control: Control, browser: Browser) -> None:
    account, other = await new_account(control, "Deposit Owner"), await new_account(control, "Somebody Else")
    await open_vault(control)
    deposit = await control.arrive(VAULT, 7_000_000, senders=(SENDER,))

    page = await browser.get("/admin/money")
    assert deposit.signature in page.text
    assert "Deposits wait for somebody" in text_of(page)
    path = f"/admin/deposits/{deposit.signature}/assign"
    assert (await browser.post(path, {"account": "nobody at all", "reason": "x"})).status_code == 404
    assert (await browser.post(path, {"account": "Deposit Owner"})).status_code == 400
    done = await browser.post(path, {"account": "Deposit Owner", "reason": "they wrote"})
    again = await browser.post(path, {"account": account.public_id, "reason": "they wrote"})
    stolen = await browser.post(path, {"account": other.public_id, "reason": "x"})

    assert done.headers["location"] == "/admin/money?done=assigned#deposits"
    assert again.headers["location"] == "/admin/money?done=again#deposits"
    assert stolen.status_code == 409
    assert ((await fresh(control, account)).balance, (await fresh(control, other)).balance) == (7_000_000, 0)
    assert (await audited(control, "deposit_assigned"))[-1]["account"] == account.public_id
    assert (await audited(control, "deposit_assign", account))[0]["reason"] == "they wrote"
    assert deposit.signature in (await browser.get("/admin/money?state=credited")).text


async def test_crediting_goes_on_when_an_operator_says_so(control: Control, browser: Browser) -> None:
    await open_vault(control)
    await control.context.deposits.stop_crediting("the vault differs")
    page = await browser.get("/admin/money")
    assert "the vault differs" in text_of(page)

    assert (await browser.post("/admin/money/resume")).headers["location"] == "/admin/money?done=resumed"

    assert await control.context.deposits.stopped() is None
    assert (await audited(control, "crediting_resumed"))[-1]["actor"] == "link:ada"


async def open_vault(control: Control) -> None:
    if await control.context.deposits.vault() is None:
        await control.context.deposits.open_vault(VAULT, opening=None)


async def test_the_history_of_rate_cards_shows_what_each_changed(control: Control, browser: Browser) -> None:
    body = shipped_rate_card().read_text()
    before, row, after = body.partition('[anthropic."claude-sonnet-4-6"]')
    changed = before + row + after.replace("output = 15_000_000", "output = 16_000_000", 1)
    await record_rate_card(control.context.pool, "a" * 64, body)
    await record_rate_card(control.context.pool, "b" * 64, changed)

    listed = await browser.get("/admin/rate-cards")
    shown = await browser.get(f"/admin/rate-cards/{'b' * 64}")

    assert listed.text.index("b" * 12) < listed.text.index("a" * 12)
    assert "2 differences" in text_of(shown)  # sound costs as text does where nothing else is said
    assert "15,000,000" in shown.text
    assert "16,000,000" in shown.text


async def test_the_log_of_the_roles_shows_what_went_wrong(control: Control, browser: Browser) -> None:
    folder = control.context.settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {"level": "warning", "event": "provider_key_rests", "role": "gateway", "timestamp": "2026-01-02T03:04:05Z", "reason": "<script>alert(1)</script>"},
        {"level": "info", "event": "not_this_one", "role": "gateway", "timestamp": "2026-01-02T03:04:06Z"},
    ]
    (folder / "gateway.log").write_text("half a line\n" + "\n".join(json.dumps(line) for line in lines) + "\nnot json\n")

    page = (await browser.get("/admin/errors")).text

    assert "provider_key_rests" in page
    assert "2026-01-02 03:04:05" in page
    assert "not_this_one" not in page
    assert "<script>alert" not in page


async def test_what_was_noted_stays_noted(control: Control) -> None:
    await note_action(control.context.pool, actor="ada", action="something", detail={})
    for statement in ("UPDATE audit SET actor = 'bob'", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await control.context.pool.execute(statement)
