"""Writing what a client's file has to say, each in its own format: as a new file, and as people read it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from config.clients.recipes import ClientFile, FileFormat, Recipe, Value

_BARE_TOML_KEY = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN_YAML_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def write_file(file: ClientFile) -> str:
    """Return the text of a file that says this and nothing else."""
    if file.format is FileFormat.JSON:
        return json.dumps(file.values, indent=2, ensure_ascii=False) + "\n"
    if file.format is FileFormat.YAML:
        return "".join(f"{line}\n" for line in _yaml_lines(file.values))
    if isinstance(file.values, str) or not isinstance(file.values, Mapping):
        raise TypeError(f"{file.path} holds names and values")
    if file.format is FileFormat.SHELL:
        return write_exports([(name, str(value)) for name, value in file.values.items()])
    return "\n".join(_toml_lines(file.values, ()))


def write_exports(environment: Sequence[tuple[str, str]]) -> str:
    """Return the lines that export variables in a POSIX shell."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment)


def toml_key(key: str) -> str:
    """Return a key as TOML writes it."""
    return key if _BARE_TOML_KEY.fullmatch(key) else toml_value(key)


def toml_value(value: Value) -> str:
    """Return a scalar, or a list of scalars, as TOML writes it; its strings escape as JSON's do."""
    return json.dumps(value, ensure_ascii=False)


def _toml_lines(values: Mapping[str, Value], path: tuple[str, ...]) -> Iterator[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    if path and plain:
        yield f"[{'.'.join(toml_key(part) for part in path)}]"
    for key, value in plain.items():
        yield f"{toml_key(key)} = {toml_value(value)}"
    if plain:
        yield ""
    for key, table in values.items():
        if isinstance(table, Mapping):
            yield from _toml_lines(table, (*path, key))


def _yaml_lines(value: Value, indent: str = "") -> Iterator[str]:
    """Write block style with every string in double quotes: YAML then reads none of them as something else."""
    if isinstance(value, Mapping):
        for key, member in value.items():
            name = key if _PLAIN_YAML_KEY.fullmatch(key) else json.dumps(key)
            if isinstance(member, str | int | bool):
                yield f"{indent}{name}: {json.dumps(member, ensure_ascii=False)}"
            else:
                yield f"{indent}{name}:"
                yield from _yaml_lines(member, indent + "  ")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            first, *rest = _yaml_lines(item, indent + "  ")
            yield f"{indent}- {first.strip()}"
            yield from rest
    else:
        yield f"{indent}{json.dumps(value, ensure_ascii=False)}"


def shell_file(recipe: Recipe) -> ClientFile | None:
    """Return the file that keeps a recipe's variables, to be read by the shell before the client is started."""
    if not recipe.environment:
        return None
    return ClientFile(folder="~/.config/level5", path=f"{recipe.client}.sh", format=FileFormat.SHELL, values=dict(recipe.environment))


def written_files(recipe: Recipe) -> tuple[ClientFile, ...]:
    """Return all files that writing a recipe changes, the certificate aside."""
    kept = shell_file(recipe)
    return recipe.files if kept is None else (*recipe.files, kept)
