"""The first page of an account, with much, with little and with nothing on it, and while it changes."""

import pytest
from playwright.sync_api import expect

from tests.fakes.appliance import CLIENT, Account, Appliance
from tests.fakes.browser import Visits
from tests.fakes.calls import call
from tests.fakes.history import write_history

ATTACKS = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "x" * 200, "\u202eright to left", "emoji 🧾💸", "javascript:alert(1)")


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
    return account


def report(service: Appliance, account: Account, events: list[dict[str, str]]) -> None:
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
    expect(page.locator("#spending tbody th").first).to_contain_text("claude-sonnet-4-6")
    visits.look(page, "overview")
