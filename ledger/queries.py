"""The SQL of the files beside this one, by name."""

import re
from importlib.resources import files
from typing import Final

_HEADING = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)


def read_queries(text: str) -> dict[str, str]:
    """Split a file of statements, each below a line `-- name: …`, into a mapping by name.

    Raises:
        ValueError: a name occurs twice.
    """
    parts = _HEADING.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError("a query name occurs twice")
    return {name: body.strip().rstrip(";") for name, body in zip(names, bodies, strict=True)}


def _read_files() -> str:
    texts = {file.name: file.read_text(encoding="utf-8") for file in files("ledger").iterdir() if file.name.endswith(".sql")}
    return "\n".join(texts[name] for name in sorted(texts))


SQL: Final = read_queries(_read_files())
