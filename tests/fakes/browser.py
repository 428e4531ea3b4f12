"""A real Chromium that looks at pages, and what it notices while it does: words on its console, requests to elsewhere, faults for those who cannot see."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
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
IS_CI: Final = os.environ.get("CI") == "true"
WIDTHS: Final = (375, 1440)
HEIGHT: Final = 900
SPARE_MAX: Final = 2
PAGE_MILLISECONDS_MAX: Final = 20_000
AXE: Final = Axe().axe_script
GRAVE: Final = frozenset({"serious", "critical"})
Theme = Literal["light", "dark"]
THEMES: Final[tuple[Theme, ...]] = ("light", "dark")


def find_chromium() -> str:
    """Return where Chromium is. Without one the test is skipped, or fails where continuous integration has to have one."""
    named = os.environ.get(VARIABLE)
    found = named or next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
    if found is None or not Path(found).exists():
        reason = f"no Chromium: install the package `chromium`, or name one with {VARIABLE}"
        if IS_CI:
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
    allowed: tuple[str, ...] = ()
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

    def take(self) -> tuple[list[str], list[str]]:
        """Return what was said and what was requested from elsewhere since the last time."""
        self.said, self.elsewhere, taken = [], [], (self.said, self.elsewhere)
        return taken


@dataclass
class Tab:
    """A page in a context of its own, and what it noticed."""

    page: Page
    watched: Watched
    alike: bool  # to any other: it may be given to another test, for a new one costs nearly a second of a core


class Visits:
    """Opens pages of one service, each in a context of its own, and looks at them as a careful reader would.

    `spare` are tabs that earlier visits have left as they were at first; ours that can be are put there. Without such a place each is our own.
    """

    def __init__(self, browser: Browser, url: str, spare: list[Tab] | None = None) -> None:
        self._browser, self.url = browser, url
        self._spare = spare
        self._tabs: dict[BrowserContext, Tab] = {}

    def open(
        self,
        path: str,
        *,
        width: int = WIDTHS[1],
        theme: Theme = "light",
        script: bool = True,
        allowed: tuple[str, ...] = (),
        prepare: str | None = None,
        cookie: dict[str, Any] | None = None,
        own: bool = False,
    ) -> Page:
        """Open a page.

        `allowed` are parts of console messages that are no fault here; `prepare` is a script that runs before the page's own; `cookie` the
        browser has already. `own` is for who changes the page's context in a way that no other test must meet.
        """
        alike = self._spare is not None and script and prepare is None and not own
        tab = self._spare.pop() if alike and self._spare else self._open_tab(script=script, prepare=prepare, alike=alike)
        tab.watched.allowed = allowed
        context, page = tab.page.context, tab.page
        self._tabs[context] = tab
        page.set_viewport_size({"width": width, "height": HEIGHT})
        page.emulate_media(color_scheme=theme)
        if cookie is not None:
            context.add_cookies([cookie])  # type: ignore[list-item]  # a dictionary of Playwright's own
        page.goto(self.url + path if path.startswith("/") else path)
        return page

    def _open_tab(self, *, script: bool, prepare: str | None, alike: bool) -> Tab:
        context = self._browser.new_context(java_script_enabled=script, reduced_motion="reduce", timezone_id="Asia/Tokyo")
        context.set_default_timeout(PAGE_MILLISECONDS_MAX)
        if FROM_AFAR not in self.url:  # a page that is not secure has no clipboard
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=self.url)
        if prepare is not None:
            context.add_init_script(prepare)
        watched = Watched(self.url)
        context.on("console", watched.hear)
        context.on("weberror", lambda error: watched.said.append(f"uncaught: {error.error}"))
        context.on("request", watched.follow)
        return Tab(context.new_page(), watched, alike)

    def look(self, page: Page, name: str) -> None:
        """Look at a page at each width and theme, take pictures of it, and see to it that everybody can read it.

        Both widths and both themes are seen by two of the four; the other two are pictured where somebody looks at them.
        """
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        before = page.viewport_size
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            for theme in THEMES:
                page.emulate_media(color_scheme=theme)
                assert_no_sideways_scrolling(page, name)
                suffices = (width, theme) in ((WIDTHS[0], THEMES[0]), (WIDTHS[1], THEMES[1]))
                if suffices or IS_CI:
                    page.screenshot(path=SCREENSHOTS / f"{name}-{width}-{theme}.png", full_page=True, animations="disabled", caret="hide")
                if suffices:
                    assert_accessible(page, f"{name} at {width} in {theme}")
        if before is not None:
            page.set_viewport_size(before)
        page.emulate_media(color_scheme="light")
        self.check(page)

    def check(self, page: Page) -> None:
        """Fail where the console has a word or something was requested from elsewhere."""
        said, elsewhere = self._tabs[page.context].watched.take()
        assert not said, f"the console says: {said}"
        assert not elsewhere, f"requested from elsewhere: {elsewhere}"

    def close(self) -> None:
        """Close all that is open, and check each once more."""
        pages = [page for context in self._tabs for page in context.pages]
        try:
            for page in pages:
                self.check(page)
        finally:
            for context, tab in self._tabs.items():
                if self._spare is None or not tab.alike or tab.page.is_closed() or len(self._spare) >= SPARE_MAX:
                    context.close()
                else:
                    self._clean(tab)
                    self._spare.append(tab)

    def _clean(self, tab: Tab) -> None:
        """Leave nothing of these visits to the next."""
        context = tab.page.context
        for page in context.pages:
            if page is not tab.page:
                page.close()
        tools = context.new_cdp_session(tab.page)
        tools.send("Storage.clearDataForOrigin", {"origin": self.url, "storageTypes": "all"})
        tools.detach()
        context.clear_cookies()
        tab.page.goto("about:blank")
        tab.watched.take()


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
    """Fail where axe finds something that is serious. It is loaded once for a page, and tells its faults alone: all else of its results takes as long again."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(AXE)
    told = page.evaluate(
        """async (grave) => {
            const found = await axe.run({ resultTypes: ["violations"] });
            const places = (nodes) => nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(", ");
            return found.violations.filter((one) => grave.includes(one.impact)).map((one) => `${one.id}: ${one.help}: ${places(one.nodes)}`);
        }""",
        sorted(GRAVE),
    )
    assert not told, f"{name}: " + "\n".join(told)
