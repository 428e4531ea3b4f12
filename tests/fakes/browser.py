"""A real Chromium that looks at pages, and what it notices while it does: words on its console, requests to elsewhere, faults for those who cannot see."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, expect, sync_playwright

VARIABLE: Final = "LEVEL5_CHROMIUM"
FLAGS: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
)  # fmt: skip
FROM_AFAR: Final = "elsewhere.test"  # leads to this machine as a host in another room does: without TLS its pages are not secure
SCREENSHOTS: Final = Path(__file__).parents[2] / "build" / "screenshots"
WIDTHS: Final = (375, 1440)
HEIGHT: Final = 900
PAGE_MILLISECONDS_MAX: Final = 20_000
GRAVE: Final = frozenset({"serious", "critical"})
Theme = Literal["light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("light", "dark")


def find_chromium() -> str:
    """Return where Chromium is. Without one the test is skipped, or fails where continuous integration has to have one."""
    named = os.environ.get(VARIABLE)
    found = named or next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None or not Path(found).exists():
        reason = f"no Chromium: install the package `chromium`, or name one with {VARIABLE}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Yield a Chromium. As long as it runs no test of the same process may be asynchronous."""
    executable = find_chromium()
    expect.set_options(timeout=PAGE_MILLISECONDS_MAX)  # a busy machine may take its time
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS), headless=True)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """What one browser context noticed."""

    origin: str
    allowed: tuple[str, ...]
    said: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    def hear(self, message: ConsoleMessage) -> None:
        text = f"{message.type}: {message.text}"
        if not any(part in text for part in self.allowed):
            self.said.append(text)

    def follow(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in {"http", "https", "ws", "wss"} and f"{parts.scheme}://{parts.netloc}" != self.origin:
            self.elsewhere.append(request.url)


class Visits:
    """Opens pages of one service, each in a context of its own, and looks at them as a careful reader would."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self.url = browser, url
        self._watched: dict[BrowserContext, Watched] = {}

    def open(
        self, path: str, *, width: int = WIDTHS[1], theme: Theme = "light", script: bool = True, allowed: tuple[str, ...] = (), prepare: str | None = None
    ) -> Page:
        """Open a page. `allowed` are parts of console messages that are no fault here; `prepare` is a script that runs before the page's own."""
        context = self._browser.new_context(
            viewport={"width": width, "height": HEIGHT}, color_scheme=theme, java_script_enabled=script, reduced_motion="reduce", timezone_id="Asia/Tokyo"
        )
        context.set_default_timeout(PAGE_MILLISECONDS_MAX)
        if FROM_AFAR not in self.url:  # a page that is not secure has no clipboard
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.url)
        if prepare is not None:
            context.add_init_script(prepare)
        watched = self._watched[context] = Watched(self.url, allowed)
        context.on("console", watched.hear)
        context.on("weberror", lambda error: watched.said.append(f"uncaught: {error.error}"))
        context.on("request", watched.follow)
        page = context.new_page()
        page.goto(self.url + path if path.startswith("/") else path)
        return page

    def look(self, page: Page, name: str) -> None:
        """Take a picture at each width and theme, and see to it that everybody can read the page."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        before = page.viewport_size
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)
                assert_no_sideways_scrolling(page, name)
                page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{theme}.png", full_page=True, animations="disabled", caret="hide")
                if (width, theme) in ((WIDTHS[0], THEMES[0]), (WIDTHS[1], THEMES[1])):  # both widths and both themes, for half the time
                    assert_accessible(page, f"{name} at {width} in {theme}")
        if before is not None:
            page.set_viewport_size(before)
        page.emulate_media(color_scheme="light")
        self.check(page)

    def check(self, page: Page) -> None:
        """Fail where the console has a word or something was requested from elsewhere."""
        self._watched[page.context].elsewhere, elsewhere = [], self._watched[page.context].elsewhere
        self._watched[page.context].said, said = [], self._watched[page.context].said
        assert not said, f"the console says: {said}"
        assert not elsewhere, f"requested from elsewhere: {elsewhere}"

    def close(self) -> None:
        """Close all that is open, and check each once more."""
        pages = [page for context in self._watched for page in context.pages]
        try:
            for page in pages:
                self.check(page)
        finally:
            for context in self._watched:
                context.close()


def assert_no_sideways_scrolling(page: Page, name: str) -> None:
    """Fail where a page is wider than its window, naming what sticks out."""
    wide = page.evaluate(
        """() => {
            const limit = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= limit) return null;
            const out = (one) => one.getBoundingClientRect().right > limit + 1 || (one.clientWidth && one.scrollWidth > one.clientWidth + 1);
            const wide = [...document.querySelectorAll("body *")].filter((one) => out(one) && !one.closest(".scroll, .clip"));
            return wide.slice(-3).map((one) => one.outerHTML.slice(0, 160)).join("\\n") || "something";
        }"""
    )
    assert wide is None, f"{name} scrolls sideways at {page.viewport_size}: {wide}"


def assert_accessible(page: Page, name: str) -> None:
    """Fail where axe finds something that is serious."""
    results = Axe().run(page, options={"resultTypes": ["violations"]})
    grave = [violation for violation in results.response["violations"] if violation["impact"] in GRAVE]
    told = [f"{violation['id']}: {violation['help']}: {[node['html'][:160] for node in violation['nodes'][:3]]}" for violation in grave]
    assert not told, f"{name}: " + "\n".join(told)
