# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Header fields that were checked already: mitmproxy's headers, without its search through all of them at every look."""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Concatenate, override

from mitmproxy import http

type Fields = tuple[tuple[bytes, bytes], ...]
_VALID = "valid"


class CheckedHeaders(http.Headers):
    """What `http.Headers` is and does. The fields must be pairs of bytes: that each of them is, is not checked once more.

    `names` are the fields' names in small letters, where somebody has them already; nobody changes this list. `findings` is what
    was found out about such fields before, and is shared with all headers that are the same but for their Content-Length.
    """

    def __init__(self, fields: Iterable[tuple[bytes, bytes]] = (), names: list[bytes] | None = None, *, findings: dict[object, Any] | None = None) -> None:
        self._fields, self._names, self._findings = tuple(fields), names, findings

    @property
    def fields(self) -> Fields:
        return self._fields

    @fields.setter
    def fields(self, fields: Fields) -> None:
        self._fields, self._names, self._findings = fields, None, None

    def reset(self, fields: Fields, names: list[bytes]) -> None:
        """Put other fields in the place of these, with their names in small letters."""
        self._fields, self._names, self._findings = fields, names, None

    @property
    def names(self) -> list[bytes]:
        """The fields' names in small letters, in their order. Not to be changed."""
        if self._names is None:
            self._names = [key.lower() for key, _ in self._fields]
        return self._names

    @property
    def findings(self) -> dict[object, Any] | None:
        """What was found out about such headers before; None where nothing is remembered of these."""
        return self._findings

    @property
    def is_known_valid(self) -> bool:
        """Whether mitmproxy has found such headers valid before."""
        return self._findings is not None and _VALID in self._findings

    def remember_valid(self) -> None:
        """mitmproxy has found these headers valid."""
        if self._findings is not None:
            self._findings[_VALID] = True

    @override
    def get_all(self, name: str | bytes) -> list[str]:
        wanted = _wanted(name)
        return [_text(field[1]) for key, field in zip(self.names, self._fields, strict=True) if key == wanted]

    @override
    def get(self, name: str | bytes, default: Any = None) -> Any:
        wanted, names = _wanted(name), self._names or self.names
        if wanted not in names:
            return default
        if names.count(wanted) == 1:
            return _text(self._fields[names.index(wanted)][1])
        return ", ".join(self.get_all(name))

    @override
    def __contains__(self, name: object) -> bool:
        return isinstance(name, str | bytes) and _wanted(name) in self.names


@lru_cache(maxsize=256)  # the names that a program asks for are few
def _wanted(name: str | bytes) -> bytes:
    return (name.encode("utf-8", "surrogateescape") if isinstance(name, str) else name).lower()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def names_of(headers: http.Headers) -> list[bytes]:
    """Return the names of any headers' fields in small letters, in their order. Not to be changed."""
    return headers.names if isinstance(headers, CheckedHeaders) else [name.lower() for name, _ in headers.fields]


def found_in[Found, **About](headers: http.Headers, find: Callable[Concatenate[http.Headers, About], Found], *about: About.args, **no: About.kwargs) -> Found:
    """Return `find(headers, *about)`, from memory where it was asked of such headers before. It must not depend on their Content-Length."""
    findings = headers.findings if isinstance(headers, CheckedHeaders) else None
    if findings is None:
        return find(headers, *about, **no)
    asked = (find, *about)
    if asked not in findings:
        findings[asked] = find(headers, *about, **no)
    found: Found = findings[asked]
    return found
