"""The pages that anybody may see."""

from playwright.sync_api import expect

from tests.fakes.appliance import Appliance
from tests.fakes.browser import Visits


def test_an_address_that_opens_nothing_says_so_to_people(visits: Visits) -> None:
    page = visits.open("/dashboard/l5_1_" + "0" * 64, allowed=("401",))

    assert page.get_by_role("heading", level=1).inner_text() == "No account opens with this address"
    visits.look(page, "unknown-account")


def test_a_path_without_a_page_says_so_to_people(visits: Visits) -> None:
    page = visits.open("/nowhere", allowed=("404",))

    assert page.get_by_role("heading", level=1).inner_text() == "There is nothing here"
    visits.look(page, "nowhere")


def test_the_prices_are_found_while_typing(visits: Visits) -> None:
    page = visits.open("/pricing")
    visits.look(page, "pricing")
    page.get_by_label("Find a model").fill("haiku-4-5")

    expect(page.locator("[data-search-count]")).to_contain_text("model")
    expect(page.get_by_role("heading", name="Plans")).to_be_visible()
    assert "haiku" in page.locator("tr[data-model]:visible th").first.inner_text()
    assert not page.locator("tr[data-model]:visible", has_text="opus").count()


def test_the_prices_are_found_without_a_script(visits: Visits) -> None:
    page = visits.open("/pricing?q=<b>nothing</b>", script=False)

    assert "No model's name contains “<b>nothing</b>”." in page.locator("main").inner_text()


def test_a_person_opens_an_account_and_finds_it_again(visits: Visits) -> None:
    page = visits.open("/")
    visits.look(page, "landing")
    page.get_by_role("button", name="Open an account", exact=True).click()
    expect(page.get_by_role("heading", name="Begin")).to_be_visible()
    address = page.url
    assert address.rpartition("/")[2] not in page.title()

    page.get_by_role("link", name="Level5").click()
    page.get_by_role("link", name="I have one").click()
    visits.look(page, "door")
    page.get_by_label("api_token").fill(address.replace("/dashboard/", "/proxy/") + "/v1")
    page.get_by_role("button", name="Open the page").click()
    expect(page.get_by_role("heading", name="Begin")).to_be_visible()
    assert page.url == address


def test_anybody_can_pay_with_the_deposit_code(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = visits.open(f"/pay/{account.deposit_code}?amount=5")

    expect(page.get_by_role("heading", level=1)).to_have_text("Pay 5 USDC to Level5 sandbox")
    assert account.api_token not in page.content()
    page.get_by_role("button", name="Copy: Memo").click()
    assert page.evaluate("navigator.clipboard.readText()") == account.deposit_code
    visits.look(page, "pay")


def test_a_code_that_nobody_has_says_so_to_people(visits: Visits) -> None:
    page = visits.open("/pay/0123456789ABCDEF", allowed=("404",))

    expect(page.locator("main")).to_contain_text("There is nothing to pay at this address")
