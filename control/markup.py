"""HTML from values: everything that is not markup already is escaped, so that no page can be made to run a script."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already. Only `tag` and `page` make it."""

    __slots__ = ()


Child = str | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: str) -> Markup:
    """Return an element; a trailing underscore lets an attribute bear a Python keyword's name (`class_`)."""
    written = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value, quote=True)}"' for key, value in attributes.items())
    return Markup(f"<{name}{written}>{_joined(children)}</{name}>")


def void_tag(name: str, /, **attributes: str) -> Markup:
    """Return an element that has no content, such as meta."""
    return Markup(tag(name, **attributes).removesuffix(f"</{name}>"))


def page(title: str, *body: Child, style: str) -> Markup:
    """Return a whole document with an inline style sheet and nothing from elsewhere."""
    head = tag(
        "head",
        void_tag("meta", charset="utf-8"),
        void_tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        void_tag("meta", name="referrer", content="no-referrer"),
        void_tag("meta", name="robots", content="noindex"),
        tag("title", title),
        tag("style", Markup(style)),
    )
    return Markup(f'<!doctype html>\n<html lang="en">{head}{tag("body", *body)}</html>\n')


def page_policy(style: str) -> str:
    """Return a Content-Security-Policy that allows this style sheet and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _joined(children: Iterable[Child]) -> str:
    return "".join(child if isinstance(child, Markup) else escape(child) if isinstance(child, str) else _joined(child) for child in children)
