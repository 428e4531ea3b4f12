"""The shipped example and schema say what the settings are."""

import json
import re
import tomllib
from pathlib import Path

from config import schema
from config.settings import Settings, load_settings
from config.sources import walk_fields


def test_the_shipped_files_are_those_that_the_settings_give(tmp_path: Path) -> None:
    schema.write_files(tmp_path)

    for name in (schema.EXAMPLE_FILE, schema.SCHEMA_FILE):
        assert (schema.FOLDER / name).read_text() == (tmp_path / name).read_text(), "run `make settings`"


def test_the_shipped_example_changes_nothing() -> None:
    assert load_settings(None, schema.FOLDER / schema.EXAMPLE_FILE, environment={}) == Settings()


def test_the_example_with_every_setting_taken_in_is_what_the_defaults_are(tmp_path: Path) -> None:
    uncommented = tmp_path / "all.toml"
    lines = schema.example_toml().splitlines()
    uncommented.write_text("\n".join(re.sub(r"^# (?=[a-z_]+ = )", "", line) for line in lines if "# not set" not in line and "~/.level5" not in line))

    assert load_settings(None, uncommented, environment={}) == Settings()
    assert tomllib.loads(uncommented.read_text())["gateway"]["port"] == 8402


def test_every_setting_says_what_it_does() -> None:
    for path, field in walk_fields(Settings):
        assert field.description, path


def test_the_schema_knows_every_setting_and_forbids_others() -> None:
    made = schema.json_schema()

    assert made["additionalProperties"] is False
    assert "register" in made["properties"]
    assert "database_url_file" in made["properties"]
    assert "api_key_file" in made["$defs"]["OpenAISettings"]["properties"]
    json.dumps(made)
