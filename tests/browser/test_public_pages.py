"""The pages that anybody may see."""

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


def test_the_prices_are_for_people_too(service: Appliance, visits: Visits) -> None:
    page = visits.open("/pricing")

    visits.look(page, "pricing")
