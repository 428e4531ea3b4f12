"""An account's transactions in a real browser: looked through, narrowed down, taken away as CSV, each with a receipt that can be checked."""

import csv
import io
import re
from decimal import ROUND_CEILING, Decimal

import pytest
from playwright.sync_api import Page, expect

from tests.fakes.appliance import CLIENT, Account, Appliance
from tests.fakes.browser import Visits
from tests.fakes.calls import call

ATTACKS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "x" * 200, "{{ 7 * 7 }}", "=HYPERLINK(1)", "emoji \N{ROBOT FACE}",
    "\N{HEBREW LETTER ALEF}\N{HEBREW LETTER BET}", "javascript:alert(1)",
)  # fmt: skip


def report(service: Appliance, account: Account, *events: dict[str, object]) -> None:
    """Report events in one request, with a key of the account's own."""
    bearer = {"Authorization": f"Bearer {account.api_token}"}
    key = CLIENT.post(f"{service.url}/v1/keys", headers=bearer, json={"name": "reports"}).raise_for_status().json()["secret"]
    usage = [{"provider": "anthropic", "model": "claude-sonnet-4-6", "input_tokens": 1200, "output_tokens": 340, **event} for event in events]
    CLIENT.post(f"{service.url}/v1/usage", headers={"Authorization": f"Bearer {key}"}, json=usage).raise_for_status()


@pytest.fixture(scope="module")
def busy(service: Appliance) -> Account:
    """An account with a credit, charges of the gateway, and reports with texts that nobody should write."""
    account = service.register("250.5")
    for _ in range(2):
        call(service, account).raise_for_status()
    report(
        service, account, {"task_type": "code_review", "workspace": "prod", "cost_usd": 0.5}, {"task_type": "general", "model": "gpt-5", "cost_usd": 0.000001}
    )
    for attack in ATTACKS:
        report(service, account, {"model": attack, "task_type": attack, "workspace": attack, "provider": attack, "external_ref": attack})
    return account


def path_of(account: Account, rest: str = "") -> str:
    return f"/dashboard/{account.api_token}/transactions{rest}"


def rows(page: Page) -> list[str]:
    return page.locator("table.transactions tbody tr").all_inner_texts()


def test_an_account_without_transactions_says_so(service: Appliance, visits: Visits) -> None:
    page = visits.open(path_of(service.register()))

    expect(page.get_by_text("No transactions yet")).to_be_visible()
    visits.look(page, "transactions-none")


def test_every_line_stands_on_the_page_whatever_others_wrote(busy: Account, visits: Visits) -> None:
    page = visits.open(path_of(busy))

    assert len(rows(page)) == 4 + len(ATTACKS)
    expect(page.locator("table.transactions").get_by_text("<script>alert(1)</script>").first).to_be_visible()
    expect(page.locator("table.transactions tbody tr").last).to_contain_text("Credit")
    visits.look(page, "transactions")


def test_lines_are_found_by_text_kind_workspace_and_day(busy: Account, visits: Visits, service: Appliance) -> None:
    page = visits.open(path_of(busy))
    page.get_by_label("Find").fill("claude-sonnet")
    page.get_by_role("button", name="Find").click()
    assert all("claude-sonnet" in row for row in rows(page))
    page.get_by_text("Narrow it down").click()
    page.get_by_label("Kind").select_option("Credits")
    page.get_by_label("Find").fill("")
    page.get_by_role("button", name="Find").click()
    assert ["Credit" in row for row in rows(page)] == [True]
    page.goto(visits.url + path_of(busy, "?workspace=*"))
    assert ["several" in row for row in rows(page)] == [True]
    page.goto(visits.url + path_of(busy, "?q=no-such-thing"))
    assert rows(page) == []
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    visits.look(page, "transactions-nothing-matches")
    request_id = service.transactions(busy, type="DEBIT", order="asc")[0]["request_id"]
    page.goto(visits.url + path_of(busy, f"?q={request_id}"))
    assert len(rows(page)) == 1
    page.goto(visits.url + path_of(busy, "?from=2020-01-01&to=2020-12-31"))
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    page.goto(visits.url + path_of(busy, f"?from=nonsense&q={'x' * 300}&before=-1&after=%00&type=%3Cscript%3E"))
    expect(page.get_by_text("A day is written like")).to_be_visible()
    assert len(rows(page)) == 4 + len(ATTACKS)


def test_a_charge_has_a_receipt_that_adds_up_to_the_microunit(busy: Account, visits: Visits, service: Appliance) -> None:
    line = service.transactions(busy, type="DEBIT", order="asc")[0]
    page = visits.open(path_of(busy))

    page.get_by_role("row").filter(has_text="claude").last.get_by_role("link").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Charge no. {line['id']}")
    expect(page.get_by_text("Held meanwhile")).to_be_visible()
    parts = [Decimal(text.replace(",", "")) for text in page.locator(".steps-table tbody td[data-label='Comes to']").all_inner_texts()]
    [exact] = page.locator(".steps-table .subtotal td").all_inner_texts()
    [charged] = page.locator(".steps-table .sum td").all_inner_texts()
    assert len(parts) >= 2
    assert sum(parts) == Decimal(exact)
    assert Decimal(charged) * 1_000_000 == -line["usdc_amount"] == (Decimal(exact) * 1_000_000).to_integral_value(ROUND_CEILING)
    expect(page.get_by_text("whole", exact=True)).to_be_visible()
    assert re.search(r"\b[0-9a-f]{64}\b", page.locator(".journal-place").inner_text())
    expect(page.locator(".journal-place")).to_contain_text(f"charge:{line['request_id']}")
    assert busy.api_token not in page.title()
    visits.look(page, "receipt-charge")


def test_reports_and_credits_have_receipts_too(busy: Account, visits: Visits, service: Appliance) -> None:
    lines = service.transactions(busy, limit="50")
    several = next(line for line in lines if line["model"] is None and line["type"] == "DEBIT")
    credit = next(line for line in lines if line["type"] == "CREDIT")
    attack = next(line for line in lines if line["model"] == "x" * 200)

    page = visits.open(path_of(busy, f"/{several['id']}"))
    expect(page.locator(".usage-lines tbody tr")).to_have_count(2)
    expect(page.locator(".usage-lines")).to_contain_text("code_review")
    visits.look(page, "receipt-report")
    page.goto(visits.url + path_of(busy, f"/{attack['id']}"))
    expect(page.locator(".usage-lines .estimate")).to_contain_text("1,200 input at")
    visits.look(page, "receipt-attack")
    page.goto(visits.url + path_of(busy, f"/{credit['id']}"))
    expect(page.get_by_text("test money", exact=True)).to_be_visible()
    visits.look(page, "receipt-credit")


def test_a_line_that_is_not_there_is_a_page_in_words(busy: Account, visits: Visits) -> None:
    refused = ("status of 404",)
    for n in ("999999", "0", "-1", "x", "9" * 40, "1e3"):
        page = visits.open(path_of(busy, f"/{n}"), allowed=refused)
        expect(page.get_by_text("no transaction with this number")).to_be_visible()


def test_nobody_reads_anothers_lines(busy: Account, service: Appliance, visits: Visits) -> None:
    stranger = service.register()
    number = service.transactions(busy)[0]["id"]

    assert CLIENT.get(visits.url + path_of(stranger, f"/{number}"), headers={"accept": "text/html"}).status_code == 404
    request_id = service.transactions(busy, type="DEBIT")[0]["request_id"]
    page = visits.open(path_of(stranger, f"?q={request_id}"))
    assert rows(page) == []
    for rest in ("", ".csv", f"/{number}"):
        answer = CLIENT.get(f"{visits.url}/dashboard/{busy.api_token[:-1]}0/transactions{rest}", headers={"accept": "text/html"})
        assert answer.status_code == 401 or busy.api_token.endswith("0")


def test_pages_and_files_hold_all_lines_once(service: Appliance, visits: Visits) -> None:
    account = service.register("5")
    for number in range(61):
        report(service, account, {"cost_usd": 0.01, "task_type": f"=t{number}"}) if number % 30 == 0 else None
    bearer = {"Authorization": f"Bearer {account.api_token}"}
    key = CLIENT.post(f"{service.url}/v1/keys", headers=bearer, json={"name": "more"}).raise_for_status().json()["secret"]
    for _ in range(60):
        event = {"provider": "p", "model": "m", "input_tokens": 1, "cost_usd": 0.001}
        CLIENT.post(f"{service.url}/v1/usage", headers={"Authorization": f"Bearer {key}"}, json=event).raise_for_status()

    page = visits.open(path_of(account))
    first = rows(page)
    page.get_by_role("link", name="Older →").click()
    second = rows(page)
    visits.look(page, "transactions-second-page")
    page.get_by_role("link", name="← Newer").click()
    again = rows(page)
    told = CLIENT.get(visits.url + path_of(account, ".csv"))
    found = list(csv.DictReader(io.StringIO(told.text)))

    assert (len(first), len(second), again) == (50, 14, first)
    assert [int(row["id"]) for row in found] == list(range(1, 65))
    assert sum(Decimal(row["usdc_amount"]) for row in found) == Decimal(found[-1]["balance_after"])
    assert {row["task_type"] for row in found} >= {"'=t0", "'=t30", "'=t60"}  # no spreadsheet runs them
    assert told.headers["cache-control"] == "no-store"
    filtered = CLIENT.get(visits.url + path_of(account, ".csv?type=CREDIT")).text
    assert len(filtered.splitlines()) == 2


def test_the_pages_can_be_read_without_scripts(busy: Account, visits: Visits) -> None:
    page = visits.open(path_of(busy), script=False)
    assert len(rows(page)) == 4 + len(ATTACKS)
    page.get_by_role("row").filter(has_text="claude").last.get_by_role("link").click()
    expect(page.locator(".steps-table")).to_be_visible()
