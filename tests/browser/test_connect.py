"""Connecting clients, in a real browser: what to copy for each, a test request with its charge, and which clients were seen."""

import time

import httpx
from playwright.sync_api import expect

from config.clients.catalogue import RECIPES
from tests.fakes.appliance import Appliance
from tests.fakes.browser import Visits


def wait_for(url: str, text: str, *, seconds_max: float = 30) -> None:
    """Wait until a page says something: figures are as far as the journal is."""
    deadline = time.monotonic() + seconds_max
    while text not in httpx.get(url, timeout=30).text:
        assert time.monotonic() < deadline, f"the page does not say {text!r}"
        time.sleep(0.2)


def test_a_test_request_shows_its_answer_its_charge_and_the_balance_after(service: Appliance, visits: Visits) -> None:
    account = service.register("1")
    page = visits.open(f"/dashboard/{account.api_token}/connect")

    page.get_by_role("button", name="Send a test request").click()

    expect(page.locator(".trial")).to_contain_text("Charged")
    expect(page.locator(".trial .answer")).not_to_be_empty()
    line = service.transactions(account)[0]
    assert line["type"] == "DEBIT"
    expect(page.locator(".trial")).to_contain_text(f"0.{-line['usdc_amount']:06d}".rstrip("0"))
    expect(page.locator(".trial")).to_contain_text(f"0.{line['balance_after']:06d}".rstrip("0"))
    expect(page.locator(".trial")).to_contain_text(line["request_id"])
    visits.look(page, "connect")
    said = "".join(path.read_text(errors="replace") for path in (service.home / "sandbox" / "logs").iterdir())
    assert '"test_request_sent"' in said
    assert account.api_token not in said


def test_every_provider_can_be_tried_without_a_script_too(service: Appliance, visits: Visits) -> None:
    account = service.register("1")
    page = visits.open(f"/dashboard/{account.api_token}/connect", script=False)
    values = page.locator("#provider option").evaluate_all("options => options.map((option) => option.value)")
    assert values == ["anthropic", "openai", "openrouter"]

    for value in values:
        page.locator("#provider").select_option(value)
        page.get_by_role("button", name="Send a test request").click()
        expect(page.locator(".trial")).to_contain_text("Charged")
        expect(page.locator("#provider")).to_have_value(value)
    assert len([line for line in service.transactions(account) if line["type"] == "DEBIT"]) == 3


def test_without_money_a_test_request_says_so_and_leads_to_adding_funds(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = visits.open(f"/dashboard/{account.api_token}/connect")

    page.get_by_role("button", name="Send a test request").click()

    expect(page.locator(".trial-failed")).to_contain_text("Insufficient balance")
    expect(page.locator(".trial-failed").get_by_role("link", name="Add funds")).to_be_visible()
    visits.look(page, "connect-no-money")


def test_each_client_has_its_configuration_by_both_doors_with_the_token_hidden_and_copied_whole(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = visits.open(f"/dashboard/{account.api_token}/connect")
    for name in RECIPES:
        for door in ("base-url", "forward"):
            page.goto(f"{service.url}/dashboard/{account.api_token}/connect?client={name}&door={door}")
            assert account.api_token not in page.locator("main").inner_text(), (name, door)
            assert (name, door) == ("cursor", "forward") or "••••" in page.locator("#setup").inner_text(), (name, door)

    page.goto(f"{service.url}/dashboard/{account.api_token}/connect?client=claude-code")
    page.get_by_role("button", name="Copy: In ~/.claude/settings.json").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    printed = service.run("connect", "claude-code", account.api_token).stdout
    assert copied.strip() in printed
    assert account.api_token in copied
    page.get_by_role("button", name="Show the secret").first.click()
    expect(page.locator("#setup")).to_contain_text(account.api_token)
    page.get_by_role("button", name="Show the secret").first.click()

    page.get_by_role("link", name="Through the forward proxy").click()
    expect(page.get_by_text("Put your own home folder")).to_be_visible()
    visits.look(page, "connect-forward")
    page.get_by_role("link", name="Cursor").click()
    visits.look(page, "connect-cursor")


def test_a_model_of_ones_own_is_put_into_the_configuration_or_refused_in_words(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = visits.open(f"/dashboard/{account.api_token}/connect?client=opencode")

    page.get_by_label("Model", exact=True).fill("gpt-4o")
    page.get_by_role("button", name="Use this model").click()
    expect(page.locator("#setup pre").first).to_contain_text("gpt-4o")

    page.get_by_role("link", name="Claude Code").click()
    for wanted, words in (("gpt-4o", "Claude Code speaks Anthropic's format only"), ('"><img src=x onerror=alert(1)>', "has no price here")):
        page.get_by_label("Model", exact=True).fill(wanted)
        page.get_by_role("button", name="Use this model").click()
        expect(page.locator("#setup")).to_contain_text(words)
        expect(page.get_by_label("Model", exact=True)).to_have_value(wanted)
    visits.look(page, "connect-no-such-model")


def test_clients_that_sent_something_are_seen(service: Appliance, visits: Visits) -> None:
    account = service.register("1")
    body = {"model": "claude-sonnet-4-6", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"user-agent": "claude-cli/2.0.1 (external, cli)", "authorization": f"Bearer {account.api_token}"}
    httpx.post(f"{service.url}/v1/messages", json=body, headers=headers, timeout=30).raise_for_status()
    page = visits.open(f"/dashboard/{account.api_token}/connect")

    wait_for(page.url, "Requests in 90 days")
    page.reload()

    expect(page.locator("#seen").locator("xpath=..").get_by_role("row", name="Claude Code")).to_contain_text("1")
    visits.look(page, "connect-seen")


def test_a_read_only_token_gets_instructions_without_a_token_and_cannot_test(service: Appliance, visits: Visits) -> None:
    account = service.register("1")
    token = service.ask("tokens", "create", account.deposit_code, "--read-only")["api_token"]
    page = visits.open(f"/dashboard/{token}/connect")

    expect(page.locator("#setup")).to_contain_text("YOUR_API_TOKEN")
    expect(page.get_by_role("button", name="Send a test request")).to_have_count(0)
    assert token not in page.locator("main").inner_html().replace(f"/dashboard/{token}", "")
    answer = httpx.post(f"{service.url}/dashboard/{token}/connect/test", data={"provider": "openai"}, headers={"sec-fetch-site": "same-origin"}, timeout=30)
    assert answer.status_code == 403
    assert [line["type"] for line in service.transactions(account)] == ["CREDIT"]
    visits.look(page, "connect-read-only")


def test_a_test_request_needs_a_page_of_ours_and_a_provider_that_is_served(service: Appliance) -> None:
    account = service.register("1")
    there = f"{service.url}/dashboard/{account.api_token}/connect"
    own = {"sec-fetch-site": "same-origin"}

    assert httpx.post(f"{there}/test", data={"provider": "openai"}, headers={"sec-fetch-site": "cross-site"}, timeout=30).status_code == 403
    assert httpx.post(f"{there}/test", data={"provider": "openai"}, timeout=30).status_code == 403
    assert httpx.post(f"{there}/test", data={"provider": "elsewhere.test"}, headers=own, timeout=30).status_code == 404
    assert httpx.get(there, params={"client": "<script>"}, timeout=30).status_code == 404
    assert httpx.get(there, params={"door": "back"}, timeout=30).status_code == 400
    assert [line["type"] for line in service.transactions(account)] == ["CREDIT"]
