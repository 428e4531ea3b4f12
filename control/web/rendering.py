"""Pages from templates: everything is escaped, a name that is missing is a fault, and nothing comes from elsewhere."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from control.context import context_of
from control.web.asset_files import asset_path
from control.web.filters import FILTERS

# By their places alone: what all pages share knows none of the packages that use it.
FOLDERS: Final = tuple(Path(__file__).parents[1] / package / "templates" for package in ("web", "dashboard", "console"))
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def render(request: Request, template: str, *, title: str, status: int = 200, headers: Mapping[str, str] | None = None, **values: object) -> Response:
    """Return a page. `title` must hold no secret: browsers keep it.

    Every template has `mode`, `version`, `public_url`, `asset(name)` and `csrf`, which is None unless given.
    """
    context = context_of(request)
    given = {"csrf": None, **values}
    text = environment().get_template(template).render(
        title=title, mode=context.settings.mode, version=context.version, public_url=context.public_url, asset=asset_path, **given
    )  # fmt: skip
    return HTMLResponse(text, status, headers={"Content-Security-Policy": PAGE_POLICY, **(headers or {})})


def render_part(template: str, **values: object) -> str:
    """Return a piece of a page, for pages that are open already."""
    return environment().get_template(template).render(**values)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return what makes pages of templates, each of which is read once."""
    made = Environment(
        loader=FileSystemLoader(FOLDERS), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False, cache_size=-1
    )
    made.filters.update(FILTERS)
    return made
