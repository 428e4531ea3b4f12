"""The files generated from the settings: the annotated example and the JSON Schema that editors read.

`python -m config.schema` writes both; a test fails when they are older than the settings.
"""

import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from config.settings import Settings
from config.sources import environment_name, is_secret, walk_fields

FOLDER = Path(__file__).parent
SCHEMA_FILE = "level5.schema.json"
EXAMPLE_FILE = "level5.toml"
HEAD = f"""\
#:schema {SCHEMA_FILE}
# Every setting of Level5 with its default. Copy this file, take the "#" from the lines you change,
# and start with `level5 up --config FILE` or LEVEL5_CONFIG=FILE.
#
# A flag wins over the environment, the environment over this file. The name in the environment
# stands behind each setting. A secret can be kept in a file of its own: `api_key_file = "PATH"`
# here, or the environment's name with _FILE at its end. Unknown names are errors.
"""


def example_toml() -> str:
    """Return the example: every setting commented out, with its default and its meaning."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for path, field in walk_fields(Settings):
        groups.setdefault(path[:-1], []).append(_setting(path, field))
    parts = [HEAD]
    for group, lines in groups.items():
        title = [f"# {_group_meaning(group)}", f"[{'.'.join(group)}]"] if group else []
        parts.append("\n".join([*title, *lines]) + "\n")
    return "\n".join(parts)


def _setting(path: tuple[str, ...], field: FieldInfo) -> str:
    note = f"{field.description} ({environment_name(path)}{' or …_FILE' if is_secret(field) else ''})"
    wrapped = "\n".join(textwrap.wrap(note, width=110, initial_indent="# ", subsequent_indent="# ", break_long_words=False))
    return f"{wrapped}\n# {path[-1]} = {_default(path, field)}"


def _default(path: tuple[str, ...], field: FieldInfo) -> str:
    if path == ("home",):
        return '"~/.level5"   # as root "/var/lib/level5"'
    value = field.default
    if value is None:
        return '""   # not set'
    if isinstance(value, tuple):
        return "[]"
    return json.dumps(value)


def _group_meaning(group: tuple[str, ...]) -> str:
    model: type[BaseModel] = Settings
    for name in group:
        field = next(field for attribute, field in model.model_fields.items() if (field.alias or attribute) == name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    return (model.__doc__ or "").strip()


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the file, with the `<secret>_file` keys that only the file has."""
    schema = Settings.model_json_schema(by_alias=True)
    for definition in (schema, *schema["$defs"].values()):
        properties = definition.get("properties", {})
        for name in [name for name, one in properties.items() if any(option.get("format") == "password" for option in one.get("anyOf", ()))]:
            properties[f"{name}_file"] = {"type": "string", "description": f"File that holds {name}."}
    schema["properties"]["trusted_proxies"]["anyOf"] = [{"type": "array", "items": {"type": "string"}}, {"type": "string"}]
    del schema["properties"]["trusted_proxies"]["type"], schema["properties"]["trusted_proxies"]["items"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "level5.toml"}


def write_files(folder: Path) -> None:
    """Write both files into `folder`."""
    (folder / EXAMPLE_FILE).write_text(example_toml())
    (folder / SCHEMA_FILE).write_text(json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    write_files(FOLDER)
