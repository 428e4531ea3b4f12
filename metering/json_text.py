"""Strict reading of JSON objects that keeps where each value stands in the text.

Stricter than `json`: what two parsers could read differently is refused, because the provider
must read exactly what was priced. Values are found by the parser itself, not by a second scanner,
so that a position can never disagree with a value.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from json.scanner import make_scanner

_SPACES = re.compile(r"[ \t\n\r]*")
# What stands between two values, up to the name of the next: nearly always just this.
_NEXT_MEMBER = re.compile(r'[ \t\n\r]*,[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
_PLAIN_NAME = re.compile(r'"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')  # without escapes, as nearly all are


class InvalidJson(ValueError):
    """The text is not one strict JSON object; the message says where and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonObject:
    """One object: its `values`, and the `spans` of its values in characters of `text`.

    `closing` is the position of its closing brace.
    """

    text: str
    values: dict[str, object]
    spans: dict[str, tuple[int, int]]
    closing: int


def _object_without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        repeated = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]  # `add` is called for its effect
        raise InvalidJson(f"the key {repeated[:80]!r} occurs twice in one object")
    return found


def _refuse_constant(name: str) -> object:
    raise InvalidJson(f"{name} is not a JSON value")


# The scanner of such a decoder, to which `raw_decode` is only a step more.
_strict = json.JSONDecoder(object_pairs_hook=_object_without_repeats, parse_constant=_refuse_constant)
_scan_value = make_scanner(_strict)  # type: ignore[arg-type]  # the stubs expect a scanner where it takes a decoder's settings


def read_object(text: str) -> JsonObject:
    """Read one JSON object that is the whole text.

    Raises:
        InvalidJson: not JSON, not an object, a repeated key at any depth, NaN or Infinity, text
            after the end, or nested too deeply.
    """
    try:
        return _read_members(text, _skip_spaces(text, 0))
    except InvalidJson:
        raise
    except RecursionError:
        raise InvalidJson("it is nested too deeply") from None
    except StopIteration as error:
        raise InvalidJson(f"Expecting value at character {error.value}") from None
    except json.JSONDecodeError as error:
        raise InvalidJson(f"{error.msg} at character {error.pos}") from None
    except ValueError:  # a whole number of more digits than Python converts
        raise InvalidJson("a number in it is absurdly long") from None


def _read_members(text: str, start: int) -> JsonObject:
    if text[start : start + 1] != "{":
        raise InvalidJson("it must be an object, {...}")
    values: dict[str, object] = {}
    spans: dict[str, tuple[int, int]] = {}
    position = _skip_spaces(text, start + 1)
    if text[position : position + 1] == "}":
        return _whole(text, values, spans, position)
    name, begin = _read_name(text, position)
    while True:
        value, end = _scan_value(text, begin)
        if name in values:
            raise InvalidJson(f"the key {name[:80]!r} occurs twice in one object")
        values[name], spans[name] = value, (begin, end)
        if following := _NEXT_MEMBER.match(text, end):
            name, begin = following[1], following.end()
            continue
        position = _skip_spaces(text, end)
        separator = text[position : position + 1]
        if separator == "}":
            return _whole(text, values, spans, position)
        if separator != ",":
            raise InvalidJson(f"Expecting ',' or '}}' at character {position}")
        name, begin = _read_name(text, _skip_spaces(text, position + 1))


def _read_name(text: str, position: int) -> tuple[str, int]:
    """Return a member's unescaped name and where its value begins."""
    if plain := _PLAIN_NAME.match(text, position):
        return plain[1], plain.end()
    if text[position : position + 1] != '"':
        raise InvalidJson(f"Expecting a name in double quotes at character {position}")
    name, end = _scan_value(text, position)
    colon = _skip_spaces(text, end)
    if text[colon : colon + 1] != ":":
        raise InvalidJson(f"Expecting ':' at character {colon}")
    return name, _skip_spaces(text, colon + 1)


def _whole(text: str, values: dict[str, object], spans: dict[str, tuple[int, int]], closing: int) -> JsonObject:
    if _skip_spaces(text, closing + 1) != len(text):
        raise InvalidJson("something follows the object")
    return JsonObject(text=text, values=values, spans=spans, closing=closing)


def _skip_spaces(text: str, position: int) -> int:
    found = _SPACES.match(text, position)
    return found.end() if found is not None else position


def byte_offsets(text: str, positions: Iterable[int]) -> dict[int, int]:
    """Return where characters stand in the text's UTF-8 form, reading the text once."""
    wanted = sorted(set(positions))
    if text.isascii():
        return {position: position for position in wanted}
    offsets, done, offset = {}, 0, 0
    for position in wanted:
        offset += len(text[done:position].encode())
        offsets[position], done = offset, position
    return offsets
