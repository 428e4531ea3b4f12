"""What opens an account, in a real browser: tokens made, changed for others and revoked; keys; workspaces with budgets; and looking without touching."""

import re
import time

import httpx
from playwright.sync_api import Browser, Page, expect

from tests.fakes.appliance import Account, Appliance
from tests.fakes.browser import FROM_AFAR, Visits

ATTACKS = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\N{ROBOT FACE} " + "long-name-" * 19,
    "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET} שם",
)
TOKEN = re.compile(r"l5_[0-9a-z]+_[0-9a-f]{64}")


def keys_page(visits: Visits, account: Account, *, script: bool = True, allowed: tuple[str, ...] = ()) -> Page:
    return visits.open(f"/dashboard/{account.api_token}/keys", script=script, allowed=allowed)


def is_active(service: Appliance, token: str) -> bool:
    return httpx.get(f"{service.url}/proxy/{token}/balance", timeout=30).json()["is_active"] is True


def shown_token(page: Page) -> str:
    """Take the token that is hidden on the page with its copy button, as a person does."""
    page.get_by_role("button", name="Copy: The token").click()
    expect(page.get_by_role("button", name="Copy: The token")).to_have_text("Copied")
    text: str = page.evaluate("navigator.clipboard.readText()")
    assert TOKEN.fullmatch(text)
    assert text not in page.locator("main").inner_text()
    return text


def report(service: Appliance, key: str, **event: object) -> dict[str, object]:
    answer = httpx.post(f"{service.url}/v1/usage", json={"provider": "p", **event}, headers={"authorization": f"Bearer {key}"}, timeout=30)
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


def test_a_fresh_account_has_one_token_and_is_told_what_that_means(service: Appliance, visits: Visits) -> None:
    page = keys_page(visits, service.register())

    expect(page.get_by_role("row", name="this page")).to_contain_text("spend and change")
    expect(page.get_by_text("One token can spend")).to_be_visible()
    expect(page.get_by_text("No keys yet")).to_be_visible()
    expect(page.get_by_text("No workspaces yet")).to_be_visible()
    expect(page.get_by_text("Revoke", exact=True)).to_have_count(0)
    visits.look(page, "keys-fresh")


def test_a_token_is_changed_for_another_and_the_old_one_revoked_with_the_new(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = keys_page(visits, account)

    page.get_by_text("Rotate", exact=True).click()
    page.get_by_role("button", name="Make the new token").click()
    visits.look(page, "keys-rotated")
    new = shown_token(page)
    assert new not in page.title() + page.url
    assert (is_active(service, account.api_token), is_active(service, new)) == (True, True)
    page.get_by_text("I have kept the new one").click()
    page.get_by_role("button", name="Revoke the old token").click()

    page.wait_for_url(f"**/dashboard/{new}/keys?done=rotated*")
    expect(page.get_by_role("status").filter(has_text="old token is revoked")).to_be_visible()
    assert (is_active(service, account.api_token), is_active(service, new)) == (False, True)
    visits.look(page, "keys-after-rotation")
    said = "".join(path.read_text(errors="replace") for path in (service.home / "sandbox" / "logs").iterdir())
    assert '"token_revoked"' in said
    assert new not in said
    assert account.api_token not in said


def test_a_read_only_token_shows_everything_and_offers_nothing(service: Appliance, visits: Visits) -> None:
    account = service.register("5")
    page = keys_page(visits, account)
    page.get_by_label("Name").first.fill("for the board")
    page.get_by_label("It may").select_option("look, and nothing else")
    page.get_by_role("button", name="Make a token").click()
    expect(page.get_by_role("heading", name="A read-only token for for the board")).to_be_visible()
    visits.look(page, "keys-read-only-made")
    token = shown_token(page)

    seen = visits.open(f"/dashboard/{token}/keys")

    expect(seen.get_by_text("You are looking with a read-only token")).to_be_visible()
    expect(seen.locator("main form")).to_have_count(0)
    expect(seen.get_by_role("row", name="for the board")).to_contain_text("this page")
    visits.look(seen, "keys-read-only")
    for path in ("tokens", "ingest"):
        answer = seen.request.post(f"{service.url}/dashboard/{token}/keys/{path}", form={"wish": "0" * 32}, headers={"sec-fetch-site": "same-origin"})
        assert answer.status == 403
        assert "read-only" in answer.text().lower() or "looking only" in answer.text()
    assert httpx.post(f"{service.url}/proxy/{token}/v1/messages", json={}, timeout=30).status_code == 403

    page.goto(f"{service.url}/dashboard/{account.api_token}/keys")
    row = page.get_by_role("row", name="for the board")
    row.get_by_text("Revoke", exact=True).click()
    row.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_role("status").filter(has_text="The token is revoked")).to_be_visible()
    assert httpx.get(f"{service.url}/dashboard/{token}/keys", timeout=30).status_code == 401


def test_a_key_is_made_used_and_revoked_without_a_script_too(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = keys_page(visits, account, script=False, allowed=("409 (Conflict)",))
    page.locator("#key_name").fill("nightly agents")
    page.get_by_role("button", name="Make a key").click()
    key = page.locator(".copyable-text").first.inner_text()
    assert key.startswith("plutus_sk_")
    report(service, key, cost_usd=0)

    answer = page.reload()  # sends the form again
    assert answer is not None
    assert answer.status == 409
    assert key not in page.content()

    page.goto(f"{service.url}/dashboard/{account.api_token}/keys")
    row = page.get_by_role("row", name="nightly agents")
    expect(row).to_have_count(1)
    row.get_by_text("Revoke", exact=True).click()
    row.get_by_role("button", name="Revoke it").click()
    expect(page.get_by_text("The key is revoked")).to_be_visible()
    assert httpx.post(f"{service.url}/v1/usage", json={"provider": "p"}, headers={"authorization": f"Bearer {key}"}, timeout=30).status_code == 401


def test_over_plain_http_from_afar_what_is_asked_for_is_done_too(service: Appliance, browser: Browser) -> None:
    account, afar = service.register(), Visits(browser, service.url.replace("127.0.0.1", FROM_AFAR))
    try:
        page = keys_page(afar, account)
        assert page.evaluate("isSecureContext") is False  # the browser tells no server which page sent a form
        page.locator("#key_name").fill("from afar")
        page.get_by_role("button", name="Make a key").click()
        expect(page.locator(".copyable-text").first).to_contain_text("plutus_sk_")
        report(service, page.locator(".copyable-text").first.inner_text(), cost_usd=0)

        page.goto(f"{afar.url}/dashboard/{account.api_token}/keys")
        row = page.get_by_role("row", name="from afar")
        row.get_by_text("Revoke", exact=True).click()
        row.get_by_role("button", name="Revoke it").click()
        expect(page.get_by_text("The key is revoked")).to_be_visible()
    finally:
        afar.close()


def test_names_that_attack_and_workspaces_beyond_their_budget_are_shown_as_they_are(service: Appliance, visits: Visits) -> None:
    account = service.register("100")
    service.run("accounts", "tier", account.deposit_code, "team", "--reason", "many workspaces")
    page = keys_page(visits, account)
    for name in ATTACKS:
        page.locator("#token_name").fill(name)
        page.get_by_role("button", name="Make a token").click()
        page.goto(f"{service.url}/dashboard/{account.api_token}/keys")
        page.locator("#key_name").fill(name)
        page.get_by_role("button", name="Make a key").click()
        key = page.locator(".copyable-text").first.inner_text()
        report(service, key, workspace=name, cost_usd=4.25, input_tokens=1_234_567)
        page.goto(f"{service.url}/dashboard/{account.api_token}/keys")
    report(service, key, workspace="tiny", cost_usd=0.000001)
    page.reload()

    for name, budget in (("tiny", "1,000"), (ATTACKS[0], "5"), (ATTACKS[1], "4")):
        row = page.locator("#workspaces").locator("xpath=ancestor::section").get_by_role("row").filter(has_text=name)
        expect(row).to_have_count(1)
        row.get_by_text("Set a budget").click()
        row.get_by_label("USDC a month").fill(budget)
        row.get_by_role("button", name="Set").click()
        expect(page.get_by_role("status").filter(has_text="The budget is set")).to_be_visible()
    deadline = time.monotonic() + 30
    while 'data-label="Spent">0.00<' in httpx.get(page.url, timeout=30).text:  # figures are as far as the journal is
        assert time.monotonic() < deadline
        time.sleep(0.2)
    page.reload()

    expect(page.get_by_role("row").filter(has_text="near budget")).to_contain_text(ATTACKS[0])
    expect(page.get_by_role("row").filter(has_text="over budget")).to_contain_text(ATTACKS[1])
    visits.look(page, "keys-full")


def test_many_workspaces_are_shown_page_by_page(service: Appliance, visits: Visits) -> None:
    account = service.register("1")
    service.run("accounts", "tier", account.deposit_code, "team", "--reason", "many workspaces")
    page = keys_page(visits, account)
    page.locator("#key_name").fill("k")
    page.get_by_role("button", name="Make a key").click()
    bearer = {"authorization": f"Bearer {page.locator('.copyable-text').first.inner_text()}"}
    events = [{"provider": "p", "cost_usd": 0, "workspace": f"workspace {number:02}"} for number in range(60)]
    assert httpx.post(f"{service.url}/v1/usage", json=events, headers=bearer, timeout=60).status_code == 200
    page.goto(f"{service.url}/dashboard/{account.api_token}/keys")

    seen = page.get_by_role("rowheader").filter(has_text="workspace ").all_inner_texts()
    page.get_by_role("link", name="After these").click()
    expect(page.get_by_role("link", name="Before these")).to_be_visible()
    seen += page.get_by_role("rowheader").filter(has_text="workspace ").all_inner_texts()

    assert seen == [f"workspace {number:02}" for number in range(60)]
    page.get_by_text("Set a budget").first.click()
    page.get_by_label("USDC a month").first.fill("1")
    page.get_by_role("button", name="Set", exact=True).first.click()
    expect(page.get_by_role("row", name="workspace 50")).to_contain_text("1.00")


def test_a_budget_that_is_none_is_said_beside_its_field(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = keys_page(visits, account, allowed=("422 (",))
    page.locator("#key_name").fill("k")
    page.get_by_role("button", name="Make a key").click()
    report(service, page.locator(".copyable-text").first.inner_text(), workspace="prod", cost_usd=0)
    page.goto(f"{service.url}/dashboard/{account.api_token}/keys")

    page.get_by_text("Set a budget").click()
    page.get_by_label("USDC a month").fill("a lot")
    page.get_by_role("button", name="Set", exact=True).click()

    expect(page.get_by_text("'a lot' is not an amount of USDC")).to_be_visible()
    visits.look(page, "keys-budget-refused")


def test_forms_of_other_sites_and_tokens_of_other_accounts_do_nothing(service: Appliance) -> None:
    mine, other = service.register(), service.register()
    there = f"{service.url}/dashboard/{mine.api_token}/keys"
    listed = service.ask("tokens", "list", other.deposit_code)

    for headers in ({}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://elsewhere.test"}, {"origin": "null"}):
        answer = httpx.post(f"{there}/tokens", data={"wish": "0" * 32}, headers=headers, timeout=30)
        assert answer.status_code == 403, headers
    own = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
    assert httpx.post(f"{there}/tokens/{listed[0]['token_id']}/revoke", headers=own, timeout=30).status_code == 404
    mine_id = service.ask("tokens", "list", mine.deposit_code)[0]["token_id"]
    in_use = httpx.post(f"{there}/tokens/{mine_id}/revoke", headers=own, timeout=30)
    assert in_use.status_code == 409
    assert "another one" in in_use.text
    assert len(service.ask("tokens", "list", mine.deposit_code)) == 1
