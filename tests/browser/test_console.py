"""The operator's console as operators use it: signing in, looking around, suspending, crediting, assigning, signing out."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.fakes.appliance import CLIENT, Account, Appliance
from tests.fakes.browser import Visits
from tests.fakes.browser_wallet import BrowserWallet, key_of
from tests.fakes.calls import call
from tests.fakes.oidc_provider import OPERATOR, PASSWORD, STRANGER

USDC = 1_000_000
MILLISECONDS_MAX = 60_000
ATTACK = '"><img src=x onerror=alert(1)><script>alert(2)</script>' + "x" * 140
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def session(service: Appliance) -> dict[str, str]:
    """The cookie of an operator who came by a link."""
    link = service.ask("admin", "login", "--name", "grace")["url"]
    answer = CLIENT.post(link, headers={"sec-fetch-site": "same-origin"}, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    return {"name": name, "value": value}


@pytest.fixture
def console(session: dict[str, str], visits: Visits) -> Open:
    """Open a page of the console, signed in."""

    def at(path: str, **options: Any) -> Page:
        cookie: dict[str, Any] = {"name": session["name"], "value": session["value"], "url": visits.url, "httpOnly": True, "sameSite": "Strict"}
        return visits.open(path, cookie=cookie, **options)

    return at


@pytest.fixture(scope="module")
def busy(service: Appliance) -> Account:
    """An account that has been used, well and badly."""
    account = service.register("25.5")
    for script in ("", "", "error 500", "error 429"):
        call(service, account, script)
    return account


def organisation(service: Appliance, account: Account) -> str:
    return str(service.ask("accounts", "show", account.deposit_code)["public_id"])


def act(page: Page, label: str, button: str, **fields: str) -> None:
    """Open an act, fill its form and send it."""
    page.locator("summary", has_text=label).filter(visible=True).first.click()
    form = page.locator("details[open] form").filter(visible=True)
    for name, value in fields.items():
        form.locator(f"[name={name}]").fill(value)
    form.get_by_role("button", name=button, exact=True).click()


def sign_in_at_the_issuer(page: Page, address: str) -> None:
    page.get_by_role("link", name="Sign in with").click()
    page.locator("[name=username]").fill(address)
    page.locator("[name=password]").fill(PASSWORD)
    page.locator("#sign-in").click()
    consent = page.locator("[name=allow]")
    page.locator("[name=allow], main").first.wait_for(timeout=MILLISECONDS_MAX)  # who consented before is not asked again
    if consent.count():
        consent.click()


def test_an_operator_signs_in_by_the_issuer_while_reports_by_key_go_on(service: Appliance, browser: Browser) -> None:
    if "LEVEL5_ADMIN__OIDC__ISSUER" not in service.environment:
        pytest.skip("the OpenID Connect provider is not installed: make python-clients")
    bearer = {"Authorization": f"Bearer {service.register().api_token}"}
    key = CLIENT.post(f"{service.url}/v1/keys", headers=bearer, json={"name": "beside the console"}).raise_for_status().json()["secret"]

    def report() -> int:
        usage = {"provider": "anthropic", "model": "claude-sonnet-4-6", "input_tokens": 12, "output_tokens": 3}
        return CLIENT.post(f"{service.url}/v1/usage", headers={"Authorization": f"Bearer {key}"}, json=usage).status_code

    context = browser.new_context()
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.location["url"].startswith(service.url) and "401" not in message.text:  # what the issuer's own pages say is its affair
            said.append(message.text)

    context.on("console", hear)
    try:
        page = context.new_page()
        page.goto(f"{service.url}/admin/accounts")
        expect(page.get_by_role("heading", name="Operator's console")).to_be_visible()
        assert report() == 200
        sign_in_at_the_issuer(page, OPERATOR)

        page.wait_for_url("**/admin/accounts")
        expect(page.get_by_role("heading", name="Accounts")).to_be_visible()
        expect(page.get_by_text(OPERATOR)).to_be_visible()
        assert report() == 200
        cookie = next(one for one in context.cookies(service.url) if one["name"].startswith("level5_console"))
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="You are signed out.")).to_be_visible()
        page.goto(f"{service.url}/admin")
        expect(page.get_by_role("heading", name="Operator's console")).to_be_visible()
        assert not said, said
    finally:
        context.close()


def test_who_is_not_on_the_list_is_told_so(service: Appliance, browser: Browser) -> None:
    if "LEVEL5_ADMIN__OIDC__ISSUER" not in service.environment:
        pytest.skip("the OpenID Connect provider is not installed: make python-clients")
    context = browser.new_context()
    try:
        page = context.new_page()
        page.goto(f"{service.url}/admin")
        sign_in_at_the_issuer(page, STRANGER)

        expect(page.get_by_text(f"{STRANGER} is not on the list")).to_be_visible()
        assert not [one for one in context.cookies() if one["name"].startswith("level5_console")]
    finally:
        context.close()


def test_a_link_asks_before_it_signs_in(service: Appliance, visits: Visits) -> None:
    link = service.ask("admin", "login", "--name", "ada " + "x" * 60)["url"]
    page = visits.open(link)

    expect(page.get_by_role("heading", name="Sign in as ada")).to_be_visible()
    assert link.rpartition("/")[2] not in page.title()
    visits.look(page, "console-link")
    page.get_by_role("button", name="Sign in").click()

    page.wait_for_url("**/admin")
    expect(page.get_by_role("heading", name="Console", exact=True)).to_be_visible()


def test_strangers_are_asked_to_sign_in(visits: Visits) -> None:
    page = visits.open("/admin", allowed=("401",))

    expect(page.get_by_role("heading", name="Operator's console")).to_be_visible()
    visits.look(page, "console-sign-in")


@pytest.mark.parametrize(
    ("path", "heading", "name"),
    [
        ("/admin", "Console", "overview"), ("/admin/accounts", "Accounts", "accounts"), ("/admin/money", "Money", "money"),
        ("/admin/traffic?range=24h", "Traffic", "traffic"), ("/admin/errors?range=24h", "Errors", "errors"), ("/admin/prices", "Prices", "prices"),
        ("/admin/rate-cards", "Rate cards", "rate-cards"), ("/admin/audit", "Audit", "audit"), ("/admin/sessions", "Sessions", "sessions"),
    ],
)  # fmt: skip
def test_a_page_can_be_read_by_everybody(console: Open, visits: Visits, busy: Account, path: str, heading: str, name: str) -> None:
    page = console(path)

    expect(page.get_by_role("heading", name=heading, level=1, exact=True)).to_be_visible()
    expect(page.locator("nav[aria-label=Console] [aria-current=page]")).to_have_count(1)
    visits.look(page, f"console-{name}")


def test_an_account_is_found_suspended_and_made_active_again(service: Appliance, console: Open, visits: Visits, busy: Account) -> None:
    page = console("/admin/accounts")
    page.get_by_label("Name, id, organisation").fill(busy.deposit_code)
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_text(busy.deposit_code)).to_be_visible()
    assert busy.api_token not in page.content()
    visits.look(page, "console-account")

    act(page, "Suspend", "Suspend", reason="an unpaid bill")

    expect(page.get_by_role("status")).to_contain_text("suspended")
    assert call(service, busy).status_code == 401
    act(page, "Make active", "Make active", reason="it was paid")
    expect(page.get_by_role("status")).to_contain_text("active")
    assert call(service, busy).status_code == 200
    expect(page.get_by_text("an unpaid bill")).to_be_visible()
    assert [line["status"] for line in [service.ask("accounts", "show", busy.deposit_code)]] == ["active"]


def test_a_credit_that_is_sent_twice_is_given_once(service: Appliance, console: Open, visits: Visits) -> None:
    account = service.register()
    page = console(f"/admin/accounts/{organisation(service, account)}")
    form = page.locator("form[action$='/credit']")
    hidden = {name: form.locator(f"[name={name}]").input_value() for name in ("csrf", "once")}
    address = visits.url + str(form.get_attribute("action"))

    act(page, "Credit", "Credit", usdc="12.5", reason="goodwill")
    expect(page.get_by_role("status")).to_contain_text("was credited")
    again = {**hidden, "usdc": "12.5", "reason": "goodwill"}
    page.context.request.post(address, form=again, headers={"sec-fetch-site": "same-origin"})

    assert service.balance(account)["usdc_balance"] == 12_500_000
    page.locator("summary", has_text="Credit").first.click()
    visits.look(page, "console-credit")


def test_a_wrong_amount_is_said_in_words(service: Appliance, console: Open, visits: Visits) -> None:
    page = console(f"/admin/accounts/{organisation(service, service.register())}", allowed=("400",))

    act(page, "Credit", "Credit", usdc="1.23456789", reason="x")

    expect(page.get_by_text("finer than a microunit")).to_be_visible()
    visits.look(page, "console-problem")


def test_a_deposit_that_named_nobody_is_assigned(service: Appliance, console: Open, visits: Visits) -> None:
    owner = service.register()
    instructions = CLIENT.get(f"{service.url}/proxy/{owner.api_token}/balance").json()["instructions"]
    wallet = BrowserWallet(service, keys=(key_of("a payer without a memo"),), labels=("Payer",))
    wallet.fund(20 * USDC)
    signature = wallet.pay_without_memo(instructions, 3 * USDC)
    page = console("/admin/money")
    for _ in range(MILLISECONDS_MAX // 1000):
        if page.get_by_text(signature).count():
            break
        page.wait_for_timeout(1000)
        page.reload()
    row = page.locator("tr", has_text=signature)
    row.locator("summary", has_text="Assign").click()
    visits.look(page, "console-assign")
    row.locator("[name=account]").fill(owner.deposit_code)
    row.locator("[name=reason]").fill("they wrote to us")
    row.get_by_role("button", name="Credit this deposit").click()

    expect(page.get_by_role("status")).to_contain_text("The deposit was credited.")
    assert service.balance(owner)["usdc_balance"] == 3 * USDC


def test_what_others_wrote_is_text(service: Appliance, console: Open, visits: Visits) -> None:
    made = service.ask("accounts", "create", "--name", ATTACK)
    service.run("credit", str(made["id"]), "9007199254.740991", "--reason", ATTACK)
    page = console(f"/admin/accounts/{made['public_id']}")

    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>alert(2)</script>")
    visits.look(page, "console-attack")
    for path in ("/admin/accounts", "/admin", "/admin/audit"):
        page = console(path)
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        visits.check(page)


def test_without_script_everything_can_be_read_and_done(service: Appliance, console: Open) -> None:
    account = service.register()
    page = console(f"/admin/accounts/{organisation(service, account)}", script=False)

    act(page, "Credit", "Credit", usdc="0.000001", reason="a microunit")

    expect(page.get_by_role("status")).to_contain_text("was credited")
    page.goto(f"{service.url}/admin/traffic")
    expect(page.get_by_role("heading", name="Models")).to_be_visible()


def test_the_audit_can_be_taken_along(console: Open) -> None:
    page = console("/admin/audit")
    with page.expect_download() as download:
        page.get_by_role("link", name="As CSV").click()

    path = download.value.path()
    assert path.read_text().startswith("id,at,actor,action,detail\n")


def test_a_rate_card_shows_what_it_changed(console: Open, visits: Visits) -> None:
    page = console("/admin/rate-cards")
    page.locator("tbody a").first.click()

    expect(page.get_by_role("heading", name="What it changed")).to_be_visible()
    visits.look(page, "console-rate-card")


def test_all_sessions_of_an_operator_end_together(service: Appliance, visits: Visits) -> None:
    link = service.ask("admin", "login", "--name", "leaving")["url"]
    page = visits.open(link, allowed=("401",))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("link", name="Sessions").click()

    act(page, "Sign out everywhere", "Sign out everywhere")

    expect(page.get_by_role("heading", name="You are signed out everywhere.")).to_be_visible()
    visits.look(page, "console-signed-out")
    page.goto(f"{visits.url}/admin")
    expect(page.get_by_role("heading", name="Operator's console")).to_be_visible()


def test_by_another_name_nobody_gets_an_answer_at_either_door(service: Appliance, session: dict[str, str]) -> None:
    """A page elsewhere whose name was made to lead to this machine must find nothing, not even with an operator's cookie."""
    cookie = {"cookie": f"{session['name']}={session['value']}", "accept": "text/html"}
    for origin in (service.url, f"http://127.0.0.1:{service.control_port}"):
        assert CLIENT.get(f"{origin}/admin", headers=cookie).status_code == 200
        for told in ({"host": "evil.example"}, {"host": "evil.example:8402"}, {"host": "127.0.0.1.evil.example"}):
            assert CLIENT.get(f"{origin}/admin", headers={**cookie, **told}).status_code == 421
        for told in ({"x-forwarded-host": "evil.example"}, {"forwarded": "host=evil.example"}):
            answer = CLIENT.get(f"{origin}/admin/sign-in", headers=told, follow_redirects=False)
            assert "evil" not in answer.text + str(answer.headers)
