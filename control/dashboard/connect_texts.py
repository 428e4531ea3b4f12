"""The texts that connect a client, taken apart for a page: what to read, and what to copy with the line that says where it goes."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from config.clients.showing import Block

_CODE: Final = re.compile(r"`([^`]+)`")
_SECRET: Final = re.compile(r"(\S*l5_[0-9a-z]{1,13}_[0-9a-f]{64}\S*)")
_ITEM: Final = re.compile(r"(?:-|\d+\.) ")


@dataclass(frozen=True, slots=True)
class Span:
    """A run of words, or something that stands for itself; `is_secret` where it has an api_token in it, to be hidden until asked for."""

    text: str
    is_code: bool = False
    is_secret: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One thing on the page. A `code` has the text to copy and where it goes as `label`; the others have lines to read."""

    kind: Literal["code", "text", "points", "steps"]
    lines: tuple[tuple[Span, ...], ...] = ()
    text: str = ""
    label: str = ""

    @property
    def is_secret(self) -> bool:
        """Whether there is an api_token in what is copied."""
        return _SECRET.search(self.text) is not None


def pieces(blocks: Iterable[Block]) -> tuple[Piece, ...]:
    """Return what to read and what to copy, in order."""
    return tuple(_pieces(blocks))


def _pieces(blocks: Iterable[Block]) -> Iterator[Piece]:
    said: Block | None = None  # may be the label of what follows
    for block in blocks:
        if block.language is not None:
            yield Piece(kind="code", text=block.text, label=said.text.removesuffix(":") if said is not None else "")
            said = None
            continue
        if said is not None:
            yield _prose(said.text)
        said = block
    if said is not None:
        yield _prose(said.text)


def _prose(text: str) -> Piece:
    lines = text.split("\n")
    if all(_ITEM.match(line) for line in lines):
        kind: Literal["points", "steps"] = "points" if lines[0].startswith("- ") else "steps"
        return Piece(kind=kind, lines=tuple(spans(_ITEM.sub("", line, count=1)) for line in lines))
    return Piece(kind="text", lines=tuple(spans(line) for line in lines))


def spans(text: str) -> tuple[Span, ...]:
    """Split a line at its backquotes, and around what has an api_token in it."""
    return tuple(
        Span(piece, is_code=index % 2 == 1, is_secret=place % 2 == 1)
        for index, part in enumerate(_CODE.split(text))
        for place, piece in enumerate(_SECRET.split(part))
        if piece
    )
