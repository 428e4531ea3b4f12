"""The SQL of `queries.sql` and `ingest_queries.sql`, by name."""

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


SQL: Final = read_queries("\n".join((files("ledger") / name).read_text(encoding="utf-8") for name in ("queries.sql", "ingest_queries.sql")))
