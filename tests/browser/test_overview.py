"""The first page of an account, with much, with little and with nothing on it, and while it changes."""

import time
from contextlib import ExitStack

import pytest
from playwright.sync_api import Page, expect

from control.dashboard.live import ACCOUNT_MAX
from tests.fakes.appliance import CLIENT, Account, Appliance
from tests.fakes.browser import Visits
from tests.fakes.calls import call, streamed
from tests.fakes.history import write_history

# What waits for a quarter of a minute waits for a quarter of a second.
HURRY = "const wait = setInterval; window.setInterval = (work, milliseconds) => wait(work, milliseconds === 15_000 ? 250 : milliseconds);"
POSTED_SECONDS_MAX = 60.0
ATTACKS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "x" * 200, "שלום עולם", "emoji 🧾💸", "javascript:alert(1)")


def page_of(account: Account) -> str:
    return f"/dashboard/{account.api_token}"


@pytest.fixture(scope="module")
def busy(service: Appliance) -> Account:
    """An account with a past of three months, some requests of today and reported work."""
    account = service.register("250.5")
    write_history(service, account)
    for _ in range(3):
        call(service, account).raise_for_status()
    report(service, account, [{"task_type": kind, "workspace": place} for kind in ("code_review", "summaries") for place in ("prod", "research")])
    deadline = time.monotonic() + POSTED_SECONDS_MAX
    while "Cost of work" not in CLIENT.get(service.url + page_of(account)).text:
        assert time.monotonic() < deadline, "reported work was never posted"
        time.sleep(0.1)
    return account


def report(service: Appliance, account: Account, events: list[dict[str, object]]) -> None:
    """Report usage with a key of the account's own."""
    bearer = {"Authorization": f"Bearer {account.api_token}"}
    key = CLIENT.post(f"{service.url}/v1/keys", headers=bearer, json={"name": "reports"}).raise_for_status().json()["secret"]
    for event in events:
        usage = {"provider": "anthropic", "model": "claude-sonnet-4-6", "input_tokens": 1200, "output_tokens": 340, **event}
        CLIENT.post(f"{service.url}/v1/usage", headers={"Authorization": f"Bearer {key}"}, json=usage).raise_for_status()


def test_a_new_account_is_told_how_to_begin(service: Appliance, visits: Visits) -> None:
    page = visits.open(page_of(service.register()))

    expect(page.get_by_role("heading", name="Begin")).to_be_visible()
    expect(page.locator("[data-live=balance]")).to_have_text("0.00")
    expect(page.get_by_text("nobody can recover it").first).to_be_visible()
    visits.look(page, "overview-new")


def test_an_account_at_work_shows_what_it_spent_on_what(busy: Account, visits: Visits) -> None:
    page = visits.open(page_of(busy))

    expect(page.get_by_role("heading", name="Cost of work")).to_be_visible()
    expect(page.locator("#spending .stacked tbody th").first).to_contain_text("claude-sonnet-4-6")
    visits.look(page, "overview")


def test_another_period_and_split_come_without_a_new_page(busy: Account, visits: Visits) -> None:
    page = visits.open(page_of(busy))
    page.evaluate("window.sameDocument = true")
    page.get_by_role("link", name="30 days").click()
    expect(page.locator("#spending").get_by_text("Spent, last 30 days")).to_be_visible()
    page.get_by_role("link", name="provider").click()
    expect(page.locator("#spending .stacked tbody th").first).to_have_text("anthropic")

    assert page.evaluate("window.sameDocument")
    assert "range=30d&by=provider" in page.url
    page.locator("#spending .hit").nth(20).hover()
    expect(page.locator("#spending .chart-tip")).to_contain_text("anthropic")


def test_local_times_ask_for_days_of_the_readers_own_zone(busy: Account, visits: Visits) -> None:
    page = visits.open(page_of(busy))
    page.get_by_role("button", name="Times: UTC").click()

    page.wait_for_url("**zone=Asia%2FTokyo**")
    expect(page.locator("#spending .chart-table th").first).to_have_text("Time (Asia/Tokyo)")


def test_days_that_cannot_be_shown_are_answered_in_words(busy: Account, visits: Visits) -> None:
    for query, words in (
        ("from=2026-02-30&to=2026-03-01", "write the first day like"),
        ("from=2026-03-02&to=2026-03-01", "lies before the first"),
        ("from=2001-01-01&to=2026-06-01", "3650 at once"),
    ):
        page = visits.open(f"{page_of(busy)}?range=custom&{query}")

        expect(page.locator("#spending .notice")).to_contain_text(words)


def test_a_charge_appears_while_the_page_is_open_and_so_does_what_is_held(service: Appliance, visits: Visits) -> None:
    account = service.register("5")
    page = visits.open(page_of(account))
    page.evaluate("window.sameDocument = true")
    expect(page.locator("[data-live-state]")).to_have_text("· live")

    with streamed(service, account, "words=40 delay_ms=100") as pieces:
        next(pieces)
        expect(page.locator("[data-live=held]")).not_to_have_text("0.000000")
        for _ in pieces:
            pass

    expect(page.locator("tr[data-line] .line-what").first).to_contain_text("claude-sonnet-4-6")
    expect(page.locator("[data-live=held]")).to_have_text("0.000000")
    expect(page.locator("[data-live=balance]")).not_to_have_text("5.00")
    assert page.locator("tr[data-line]").count() == 2


def test_a_page_that_finds_no_place_to_follow_asks_now_and_then(service: Appliance, visits: Visits) -> None:
    account = service.register("5")
    call(service, account).raise_for_status()
    with ExitStack() as places:
        followed = [places.enter_context(CLIENT.stream("GET", f"{service.url}{page_of(account)}/events")).iter_lines() for _ in range(ACCOUNT_MAX)]
        assert all(next(lines).startswith("retry") for lines in followed)
        page = visits.open(page_of(account), allowed=("429",), prepare=HURRY)
        page.evaluate("window.sameDocument = true")
        before = page.locator("[data-live=balance]").inner_text()
        expect(page.locator("[data-live-state]")).to_have_text("")

        call(service, account).raise_for_status()

        expect(page.locator("tr[data-line] .line-what", has_text="claude-sonnet-4-6")).to_have_count(2)
        expect(page.locator("[data-live=balance]")).not_to_have_text(before)
        assert page.evaluate("window.sameDocument")


def test_a_page_whose_token_is_revoked_shows_nothing_more(service: Appliance, visits: Visits) -> None:
    account = service.register("5")
    page = visits.open(page_of(account), allowed=("401",))
    expect(page.locator("[data-live-state]")).to_have_text("· live")

    service.run("tokens", "create", account.deposit_code)  # the last one that can spend is not revoked
    first = service.ask("tokens", "list", account.deposit_code)[0]
    service.run("tokens", "revoke", first["token_id"])

    expect(page.get_by_role("heading", level=1)).to_have_text("No account opens with this address")


def test_what_others_wrote_stays_text(service: Appliance, visits: Visits) -> None:
    made = service.ask("accounts", "create", "--tier", "team", "--name", ATTACKS[1])
    account = Account(made["api_token"], made["deposit_code"])
    service.run("credit", account.deposit_code, "5", "--reason", ATTACKS[0])
    report(service, account, [{"model": text, "task_type": text, "workspace": text, "cost_usd": 0.01} for text in ATTACKS])
    page = visits.open(page_of(account), own=True)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    expect(page.locator("#spending .stacked tbody tr").first).to_be_visible()
    for by in ("model", "workspace", "task_type"):
        page.goto(f"{service.url}{page_of(account)}?by={by}")

    visits.look(page, "overview-attacks")
    assert not dialogs
    assert page.locator("img").count() == 0


def test_huge_and_tiny_amounts_keep_their_place(service: Appliance, visits: Visits) -> None:
    account = service.register("8999999999.999999")
    write_history(service, account, days=3, scale=1_000_000)
    visits.look(visits.open(page_of(account)), "overview-huge")


def test_all_can_be_read_without_a_script(busy: Account, visits: Visits) -> None:
    page = visits.open(page_of(busy), script=False)

    assert "claude-sonnet-4-6" in page.locator("#spending .stacked tbody th").first.inner_text()
    assert page.locator("#spending svg.chart-drawing rect.series-1").count() > 0
    page.locator("#spending details summary", has_text="as a table").click()
    assert page.locator("#spending .chart-table").is_visible()


def test_the_address_can_be_kept_as_a_file(busy: Account, visits: Visits) -> None:
    page = visits.open(page_of(busy))
    with page.expect_download() as kept:
        page.get_by_role("link", name="Save it as a file").click()

    text = kept.value.path().read_text()
    assert kept.value.suggested_filename == "level5-account.txt"
    assert busy.api_token in text
    assert busy.deposit_code in text


def test_the_theme_that_was_chosen_is_kept(busy: Account, visits: Visits) -> None:
    page = visits.open(page_of(busy))
    button = page.get_by_role("button", name="Theme:")
    button.click()
    button.click()
    page.reload()

    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert background(page) == "rgb(16, 22, 21)"


def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
