"""The look of every page: one style sheet, no scripts, nothing from elsewhere, and a mark on all that is the sandbox's."""

from typing import Final

from starlette.responses import HTMLResponse, Response

from control.context import ControlContext
from control.markup import Markup, page, page_policy, tag

STYLE: Final = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1.5rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; padding: .35rem .6rem; border-bottom: 1px solid var(--line); }
td.figure, th.figure { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; border-radius: .4rem; font-size: .85rem; }
.scroll { overflow-x: auto; }
.balance { font-size: 2rem; font-variant-numeric: tabular-nums; margin: .2rem 0; }
.notice { border: 1px solid var(--line); border-left: .4rem solid #c80; padding: .5rem .8rem; border-radius: .3rem; }
.qr { max-width: 18rem; } .qr svg { width: 100%; height: auto; }
.copy { display: block; background: var(--soft); padding: .4rem .6rem; border-radius: .3rem; overflow-wrap: anywhere; user-select: all; }
footer { margin-top: 3rem; font-size: .85rem; opacity: .8; }
"""
POLICY: Final = page_policy(STYLE)


def html_page(context: ControlContext, title: str, *body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return a page in the style of the house."""
    sandbox = (notice("Sandbox: simulated providers, no real money."),) if context.settings.mode == "sandbox" else ()
    footer = tag("footer", f"Level5 {context.version} · ", link("/pricing"), " · ", link("/health"))
    return HTMLResponse(page(title, *sandbox, *body, footer, style=STYLE), status, headers={"Content-Security-Policy": POLICY, **(headers or {})})


def table(heads: tuple[str, ...], rows: list[list[str]], *, figures_from: int | None = None) -> Markup:
    """Return a table whose columns from `figures_from` on are figures."""

    def cells(kind: str, texts: tuple[str, ...] | list[str]) -> list[Markup]:
        return [tag(kind, text, **({"class_": "figure"} if figures_from is not None and index >= figures_from else {})) for index, text in enumerate(texts)]

    body = [tag("tr", cells("td", row)) for row in rows]
    return tag("div", tag("table", tag("thead", tag("tr", cells("th", heads))), tag("tbody", body)), class_="scroll")


def notice(text: str) -> Markup:
    """Return a sentence that asks for attention."""
    return tag("p", text, class_="notice")


def copyable(text: str) -> Markup:
    """Return a text that one click selects whole."""
    return tag("code", text, class_="copy")


def link(path: str) -> Markup:
    """Return a link to a path of ours that shows the path."""
    return tag("a", path, href=path)
