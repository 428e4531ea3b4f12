# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Header fields that were checked already: mitmproxy's headers, without its search through all of them at every look."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, override

from mitmproxy import http

type Fields = tuple[tuple[bytes, bytes], ...]


class CheckedHeaders(http.Headers):
    """What `http.Headers` is and does. The fields must be pairs of bytes: that each of them is, is not checked once more.

    `names` are the fields' names in small letters, where somebody has them already.
    """

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = (), names: list[bytes] | None = None) -> None:
        self._fields, self._names = tuple(fields), names

    @property
    def fields(self) -> Fields:
        return self._fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._fields, self._names = fields, None

    def _find(self, name: str | bytes) -> list[bytes]:
        names = self._names
        if names is None:
            names = self._names = [key.lower() for key, _ in self._fields]
        wanted = _wanted(name)
        if wanted not in names:  # most of what is asked for is not there
            return []
        return [field[1] for key, field in zip(names, self._fields, strict=True) if key == wanted]

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


@lru_cache(maxsize=256)  # the names that a program asks for are few
def _wanted(name: str | bytes) -> bytes:
    return (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name).lower()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")
