"""Putting our values into a client's own file: everything else in it stays, which is proved before anything is written.

JSON is written anew from what it says. TOML and YAML keep their comments: the text is edited, then read again, and has to say
exactly what it said before plus ours; a file laid out so that this fails is refused and left as it is.
"""

import io
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from config.clients.recipes import ClientFile, FileFormat, Value
from config.clients.writing import toml_key, toml_value, write_file

_INDENT = re.compile(r"^([ \t]+)\S", re.MULTILINE)
_TOML_HEADER = re.compile(r"\s*\[.*\]\s*(#.*)?$")
_NOTHING_SAID = re.compile(r"\s*(#.*)?$")


class CannotMerge(Exception):
    """A file cannot be changed without a risk to what else stands in it; the text says why."""


def merge_text(text: str, file: ClientFile) -> str:
    """Return the text of a file with our values in it; the same text when they stand there already.

    Raises:
        CannotMerge: the text is not in its format, or is laid out in a way that we do not change.
    """
    if file.format is FileFormat.SHELL or not text.strip():
        return write_file(file)  # a shell file of this name is ours alone
    merge = {FileFormat.JSON: _merge_json, FileFormat.TOML: _merge_toml, FileFormat.YAML: _merge_yaml}[file.format]
    return merge(text, file.values)


def merged(old: Value | None, new: Value, *, name: str = "the file") -> Value:
    """Return `old` with `new` in it: mappings by member, lists by item, anything else in place of what was there.

    Raises:
        CannotMerge: what is there is of another kind.
    """
    if isinstance(new, Mapping):
        if old is not None and not isinstance(old, Mapping):
            raise CannotMerge(f"`{name}` is not a table of names and values")
        before: Mapping[str, Value] = old or {}
        return {**before, **{key: merged(before.get(key), value, name=key) for key, value in new.items()}}
    if isinstance(new, Sequence) and not isinstance(new, str):
        if old is not None and (isinstance(old, str) or not isinstance(old, Sequence)):
            raise CannotMerge(f"`{name}` is not a list")
        ours = {_identity(item): item for item in new}
        kept = [ours.pop(_identity(item), item) for item in old or ()]
        return [*kept, *ours.values()]
    return new


def _identity(item: Value) -> str:
    """Return by what an item of a list is known: the model it describes, or the variable it sets."""
    if isinstance(item, Mapping):
        return str(item.get("model_id", json.dumps(item, sort_keys=True, default=str)))
    return str(item).partition("=")[0]


def _merge_json(text: str, values: Value) -> str:
    try:
        old = json.loads(text)
    except ValueError as error:
        raise CannotMerge(f"it is not plain JSON ({error}); comments would be lost") from error
    wanted = merged(old, values)
    if wanted == old:
        return text
    indent = _INDENT.search(text)
    return json.dumps(wanted, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"


def _merge_toml(text: str, values: Value) -> str:
    old = _read_toml(text, "it is not TOML")
    wanted = merged(old, values)
    if wanted == old:
        return text
    lines = text.removesuffix("\n").split("\n")  # and at nothing else: texts may hold characters that splitlines() ends a line at
    for path, plain in _tables(cast("Mapping[str, Value]", values), ()):
        for key, value in reversed(plain.items()):  # each new line goes to the head of its table
            _set_toml_line(lines, path, key=key, value=value)
    result = "\n".join(lines) + "\n"
    if _read_toml(result, "it is laid out in a way that is not changed here") != wanted:
        raise CannotMerge("it is laid out in a way that is not changed here")
    return result


def _read_toml(text: str, complaint: str) -> Mapping[str, Value]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CannotMerge(f"{complaint} ({error})") from error


def _tables(values: Mapping[str, Value], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict[str, Value]]]:
    """Return what each table says by itself, outer ones first."""
    yield path, {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _tables(value, (*path, key))


def _set_toml_line(lines: list[str], path: tuple[str, ...], *, key: str, value: Value) -> None:
    """Change the line of one key, or add it at the head of its table, which is made at the end where it is missing."""
    start, end = _table_bounds(lines, path)
    if start is None:
        lines += ["", f"[{'.'.join(toml_key(part) for part in path)}]"]
        start = end = len(lines)
    assignment = re.compile(rf"\s*(?:{re.escape(key)}|\"{re.escape(key)}\"|'{re.escape(key)}')\s*=")
    line = f"{toml_key(key)} = {toml_value(value)}"
    for index in range(start, end):
        if assignment.match(lines[index]):
            lines[index] = line
            return
    lines.insert(start if path else _first_assignment(lines, end), line)


def _first_assignment(lines: list[str], end: int) -> int:
    """Return the place of the first line that says something: comments at the head of a file stay there."""
    return next((index for index in range(end) if not _NOTHING_SAID.match(lines[index])), end)


def _table_bounds(lines: list[str], path: tuple[str, ...]) -> tuple[int | None, int]:
    """Return where the lines of a table begin and end, below its header; None where there is no such table."""
    headers = [index for index, line in enumerate(lines) if _TOML_HEADER.match(line)]
    if not path:
        return 0, headers[0] if headers else len(lines)
    for position, index in enumerate(headers):
        if _header_path(lines[index]) == path:
            return index + 1, headers[position + 1] if position + 1 < len(headers) else len(lines)
    return None, len(lines)


def _header_path(line: str) -> tuple[str, ...] | None:
    try:
        table: object = tomllib.loads(line + "\n")
    except tomllib.TOMLDecodeError:
        return None  # the end of a list over several lines
    path: list[str] = []
    while isinstance(table, dict) and table:
        [(key, table)] = table.items()
        path.append(key)
    return tuple(path) if isinstance(table, dict) else None


def _merge_yaml(text: str, values: Value) -> str:
    # Imported here: it is needed by one command, and start-up of all others counts.
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    reader, writer = YAML(typ="safe", pure=True), YAML()
    writer.preserve_quotes, writer.width = True, 10_000
    try:
        old, document = reader.load(text), writer.load(text)
    except YAMLError as error:
        raise CannotMerge("it is not YAML that can be read") from error
    wanted = merged(old, values)
    if wanted == old:
        return text
    if old is None:
        return text.rstrip("\n") + "\n" + _as_yaml(values)
    _put_into(document, wanted)
    output = io.StringIO()
    writer.dump(document, output)
    if reader.load(output.getvalue()) != wanted:
        raise CannotMerge("it is laid out in a way that is not changed here")
    return output.getvalue()


def _as_yaml(values: Value) -> str:
    return write_file(ClientFile(folder="", path="", format=FileFormat.YAML, values=values))


def _put_into(document: object, wanted: Value) -> None:
    """Change a loaded document where it differs, so that the comments beside the rest stay."""
    if isinstance(document, dict) and isinstance(wanted, Mapping):
        for key, value in wanted.items():
            if document.get(key) != value:
                if isinstance(document.get(key), dict | list) and isinstance(value, Mapping | list):
                    _put_into(document[key], value)
                else:
                    document[key] = value
    elif isinstance(document, list) and isinstance(wanted, list):
        for index, value in enumerate(wanted):
            if index >= len(document):
                document.append(value)
            elif document[index] != value:
                document[index] = value
