"""Where settings come from: the environment and a TOML file, both turned into one nested mapping.

Names are checked here, because an unknown name in the environment never reaches the model.
"""

import difflib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

ENVIRONMENT_PREFIX = "LEVEL5_"
CONFIG_NAME = "LEVEL5_CONFIG"
# Names that are ours but belong to no setting: the path of the file itself, what the supervisor
# hands to its children, and what tests and benchmarks read.
OTHER_NAMES = frozenset({CONFIG_NAME, "LEVEL5_INTERNAL_KEY", "LEVEL5_TRANSCRIPTS"})
OTHER_PREFIXES = ("LEVEL5_TEST_", "LEVEL5_BENCH_")
# What other programs call the same thing. Ours win.
ALIASES = {
    "DATABASE_URL": ("database_url",),
    "REDIS_URL": ("redis_url",),
    "ANTHROPIC_API_KEY": ("providers", "anthropic", "api_key"),
    "OPENAI_API_KEY": ("providers", "openai", "api_key"),
    "OPENROUTER_API_KEY": ("providers", "openrouter", "api_key"),
    "SOLANA_RPC_URL": ("chain", "rpc_urls"),
}
# What a sandbox does not read: agents and wallets of its user have these set for real work.
OUTSIDE_ALIASES = tuple(name for name, path in ALIASES.items() if path[0] in {"providers", "chain"})

type SettingPath = tuple[str, ...]
type Nested = dict[str, Any]


class SettingsError(Exception):
    """A setting is wrong or unknown; the text names it and says what is allowed."""


def walk_fields(model: type[BaseModel], above: SettingPath = ()) -> Iterator[tuple[SettingPath, FieldInfo]]:
    """Yield every single setting of `model` with its path, groups resolved, in the order of their definition."""
    for name, field in model.model_fields.items():
        path = (*above, field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from walk_fields(field.annotation, path)
        else:
            yield path, field


def is_secret(field: FieldInfo) -> bool:
    """Tell whether a setting is a secret, which may also be given as `<name>_file`."""
    return SecretStr in getattr(field.annotation, "__args__", (field.annotation,))


def environment_name(path: SettingPath) -> str:
    """Return the environment's name of a setting: ("gateway", "port") is LEVEL5_GATEWAY__PORT."""
    return ENVIRONMENT_PREFIX + "__".join(path).upper()


def near_matches(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the names most like `name`, or nothing."""
    found = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(found)}?" if found else ""


def put(target: Nested, path: SettingPath, value: object) -> None:
    """Set one value in a nested mapping, making the groups above it."""
    for name in path[:-1]:
        target = target.setdefault(name, {})
    target[path[-1]] = value


def merge(below: Nested, above: Nested) -> Nested:
    """Return both mappings as one; where both have a value, `above` wins."""
    merged = dict(below)
    for name, value in above.items():
        present = merged.get(name)
        merged[name] = merge(present, value) if isinstance(present, dict) and isinstance(value, dict) else value
    return merged


def read_environment(model: type[BaseModel], environment: Mapping[str, str]) -> Nested:
    """Return the settings that the environment gives. An empty value counts as not given.

    Raises:
        SettingsError: an unknown LEVEL5_ name, or a secret given both directly and as a file.
    """
    fields = dict(walk_fields(model))
    known = {environment_name(path): path for path in fields}
    files = {f"{environment_name(path)}_FILE": path for path, field in fields.items() if is_secret(field)}
    _refuse_unknown_names(environment, known.keys() | files.keys())
    aliases = {name: path for name, path in ALIASES.items() if path in fields}
    alias_files = {f"{name}_FILE": path for name, path in aliases.items()}
    found: Nested = {}
    for values, file_paths in ((aliases, alias_files), (known, files)):
        for name, path in values.items():
            if environment.get(name):
                put(found, path, environment[name])
        for name, path in file_paths.items():
            if environment.get(name):
                if environment.get(name.removesuffix("_FILE")):
                    raise SettingsError(f"{name} and {name.removesuffix('_FILE')} are both set; set one of them")
                put(found, path, read_secret(Path(environment[name]), name=name))
    return found


def _refuse_unknown_names(environment: Mapping[str, str], known: set[str]) -> None:
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in OTHER_NAMES or name.startswith(OTHER_PREFIXES):
            continue
        if name not in known:
            raise SettingsError(f"{name} in the environment is not a setting{near_matches(name, known)}")


def read_secret(path: Path, *, name: str) -> str:
    """Return the secret that the file holds, without the line break that editors add.

    Raises:
        SettingsError: the file cannot be read or is empty.
    """
    try:
        secret = path.expanduser().read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{name}: cannot read {path}: {error}") from error
    if not secret:
        raise SettingsError(f"{name}: {path} is empty")
    return secret


def read_toml(model: type[BaseModel], path: Path) -> Nested:
    """Return the settings of a TOML file, secrets given as `<name>_file` included.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or has a key that is no setting.
    """
    try:
        content = tomllib.loads(path.expanduser().read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the configuration {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from error
    _take_secret_files(model, content, path)
    _refuse_unknown_keys(model, content, path)
    return content


def _take_secret_files(model: type[BaseModel], content: Nested, path: Path) -> None:
    """Replace every `<secret>_file` of the content by the secret; relative names are beside the file."""
    for setting, field in walk_fields(model):
        group: Any = content
        for name in setting[:-1]:
            group = group.get(name) if isinstance(group, dict) else None
        key = f"{setting[-1]}_file"
        if not is_secret(field) or not isinstance(group, dict) or key not in group:
            continue
        dotted = ".".join((*setting[:-1], key))
        if setting[-1] in group:
            raise SettingsError(f"{path}: {dotted} and {'.'.join(setting)} are both set; set one of them")
        group[setting[-1]] = read_secret(path.parent / Path(str(group.pop(key))).expanduser(), name=f"{path}: {dotted}")


def _refuse_unknown_keys(model: type[BaseModel], content: Nested, path: Path) -> None:
    fields = dict(walk_fields(model))
    groups = {setting[:depth] for setting in fields for depth in range(1, len(setting))}
    names = {".".join(setting) for setting in fields} | {".".join(group) for group in groups}
    for key in _keys(content, groups):
        if key not in fields and key not in groups:
            dotted = ".".join(key)
            raise SettingsError(f"{path}: {dotted} is not a setting{near_matches(dotted, names)}")


def _keys(content: Nested, groups: set[SettingPath], above: SettingPath = ()) -> Iterator[SettingPath]:
    for name, value in content.items():
        path = (*above, name)
        if path in groups and isinstance(value, dict):
            yield from _keys(value, groups, path)
        else:
            yield path
