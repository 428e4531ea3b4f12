"""One sandbox appliance and one Chromium for all tests of pages.

The tests here are not asynchronous: Playwright keeps an event loop of its own running. Each opens accounts of its own.

    def test_…(service: Appliance, visits: Visits) -> None:
        account = service.register("10")
        page = visits.open(f"/dashboard/{account.api_token}")
        page.get_by_role("link", name="Add funds").click()
        visits.look(page, "funds")

`visits.look` takes pictures into build/screenshots, runs axe, and fails on any word on the console, any request to elsewhere and on sideways
scrolling. All pages that a test opened are checked once more at its end.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from tests.fakes.appliance import Appliance, appliance
from tests.fakes.browser import Tab, Visits, running_browser
from tests.fakes.oidc_provider import trusted_issuer

Look = Callable[[str | Page, str], Page]


@pytest.fixture(scope="session")
def service(store_home: Path) -> Iterator[Appliance]:
    """The appliance whose pages are looked at."""
    with appliance(store_home, workers=1, start=False) as made, trusted_issuer(made):
        made.start()
        yield made


def as_long_as_possible(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """A process of several runs no other tests after these; where there is one alone, the asynchronous ones of other folders follow."""
    return "session" if config.option.processes > 1 else "module"


@pytest.fixture(scope=as_long_as_possible)
def browser() -> Iterator[Browser]:
    """A Chromium, as long as no test of the process may be asynchronous."""
    with running_browser() as running:
        yield running


@pytest.fixture(scope=as_long_as_possible)
def spare(browser: Browser) -> list[Tab]:  # whose tabs they are
    """Tabs that are as good as new."""
    return []


@pytest.fixture
def visits(browser: Browser, service: Appliance, spare: list[Tab]) -> Iterator[Visits]:
    """Opens pages and looks at them."""
    made = Visits(browser, service.url, spare)
    yield made
    made.close()


@pytest.fixture
def look(visits: Visits) -> Look:
    """Look at a page that is open, or at the one at a path; return it."""

    def at(what: str | Page, name: str) -> Page:
        page = visits.open(what) if isinstance(what, str) else what
        visits.look(page, name)
        return page

    return at
