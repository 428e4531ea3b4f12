# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Header fields as llhttp has checked them: mitmproxy's headers, with an index where those search all fields at every look."""

from collections.abc import Iterable
from typing import Any, override

from mitmproxy import http

type Fields = tuple[tuple[bytes, bytes], ...]


class LaneHeaders(http.Headers):
    """What `http.Headers` is and does. The fields must be pairs of bytes: that each of them is, is not checked once more."""

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.fields = tuple(fields)

    @property  # mitmproxy has a plain attribute
    def fields(self) -> Fields:
        return self._fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._fields = fields
        self._index: dict[str, list[bytes]] | None = None

    def _find(self, name: str | bytes) -> list[bytes]:
        index = self._index
        if index is None:
            index = self._index = {}
            for key, value in self._fields:
                index.setdefault(_text(key).lower(), []).append(value)
        return index.get((_text(name) if isinstance(name, bytes) else name).lower(), [])

    @override
    def get_all(self, name: str | bytes) -> list[str]:
        return [_text(value) for value in self._find(name)]

    @override
    def get(self, name: str | bytes, default: Any = None) -> Any:
        values = self._find(name)
        return ", ".join([_text(value) for value in values]) if values else default

    @override
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | bytes) and bool(self._find(name))


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
