"""The SQL of the files beside this one, by name."""

import re
from importlib.resources import files
from typing import Final

_HEADING = re.compile(r"^-- (name|part): (\w+)[^\n]*\n", re.MULTILINE)
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def read_queries(text: str) -> dict[str, str]:
    """Split a file of statements, each below a line `-- name: …`, into a mapping by name.

    What several have in common stands once, below `-- part: …`, and takes the place of `{{its name}}`; parts hold no parts.

    Raises:
        ValueError: a name occurs twice, or there is no part of a name.
    """
    headings = _HEADING.split(text)[1:]
    kinds, names, bodies = headings[::3], headings[1::3], headings[2::3]
    if len(set(names)) != len(names):
        raise ValueError("a query name occurs twice")
    texts = [body.strip().rstrip(";") for body in bodies]
    parts = {name: body for kind, name, body in zip(kinds, names, texts, strict=True) if kind == "part"}
    return {name: _filled(body, parts) for kind, name, body in zip(kinds, names, texts, strict=True) if kind == "name"}


def _filled(body: str, parts: dict[str, str]) -> str:
    unknown = set(_PLACE.findall(body)) - parts.keys()
    if unknown:
        raise ValueError(f"there is no part {min(unknown)}")
    return _PLACE.sub(lambda place: parts[place[1]], body)


def _read_files() -> str:
    texts = {file.name: file.read_text(encoding="utf-8") for file in files("ledger").iterdir() if file.name.endswith(".sql")}
    return "\n".join(texts[name] for name in sorted(texts))


SQL: Final = read_queries(_read_files())
