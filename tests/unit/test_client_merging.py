"""Our values in files that people have written: everything else stays, or nothing is changed."""

import json
import tomllib
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.client_merging import CannotMerge, merge_text
from config.clients.recipes import ClientFile, FileFormat, Value
from config.clients.writing import toml_key, toml_value

PROVIDER: Mapping[str, Value] = {"name": "Level5", "base_url": "http://localhost:8402/v1", "http_headers": {"Authorization": "Bearer x"}}
CODEX: Value = {"model": "gpt-5.3-codex", "model_provider": "level5", "model_providers": {"level5": PROVIDER}}
AIDER: Value = {"model": "openai/gpt-5.2", "set-env": ["ANTHROPIC_API_BASE=http://localhost:8402"]}
LLM: Value = [{"model_id": "level5/gpt-5.2", "api_base": "http://localhost:8402/v1"}]


def merge(form: FileFormat, text: str, values: Value) -> str:
    return merge_text(text, ClientFile(folder="~", path="x", format=form, values=values))


def test_json_keeps_other_members_their_order_and_its_indentation() -> None:
    text = '{\n    "theme": "dark",\n    "env": {"EDITOR": "vi", "ANTHROPIC_BASE_URL": "http://old"},\n    "hooks": [1]\n}\n'

    merged = merge(FileFormat.JSON, text, {"env": {"ANTHROPIC_BASE_URL": "http://new"}})

    assert json.loads(merged) == {"theme": "dark", "env": {"EDITOR": "vi", "ANTHROPIC_BASE_URL": "http://new"}, "hooks": [1]}
    assert merged.startswith('{\n    "theme"')
    assert merge(FileFormat.JSON, merged, {"env": {"ANTHROPIC_BASE_URL": "http://new"}}) == merged


@pytest.mark.parametrize("text", ['{"a": 1, // note\n"b": 2}', "{", "[]", '"text"', '{"env": "text"}'])
def test_json_that_is_no_plain_object_is_refused(text: str) -> None:
    with pytest.raises(CannotMerge):
        merge(FileFormat.JSON, text, {"env": {"A": "b"}})


def test_toml_keeps_comments_and_every_other_line() -> None:
    text = """\
# my settings
model = "o3"  # best
approval_policy = "never"

[model_providers.mine]
name = "Mine"

[model_providers.level5]
base_url = "http://old"
query_params = { a = "b" }

[mcp_servers.files]
command = "npx"
args = ["-y", "files"]
"""

    merged = merge(FileFormat.TOML, text, CODEX)

    said = tomllib.loads(merged)
    assert said["model"] == "gpt-5.3-codex"
    assert said["approval_policy"] == "never"
    assert said["model_providers"]["mine"] == {"name": "Mine"}
    assert said["model_providers"]["level5"] == {**PROVIDER, "query_params": {"a": "b"}}
    assert said["mcp_servers"] == {"files": {"command": "npx", "args": ["-y", "files"]}}
    assert merged.startswith("# my settings\n")
    assert merge(FileFormat.TOML, merged, CODEX) == merged


def test_toml_without_our_tables_gets_them_at_its_end() -> None:
    merged = merge(FileFormat.TOML, "# only this\n[tui]\nnotifications = true\n", CODEX)

    assert merged.startswith('# only this\nmodel = "gpt-5.3-codex"\nmodel_provider = "level5"\n[tui]\nnotifications = true\n\n[model_providers.level5]\nname')
    assert tomllib.loads(merged)["model_providers"]["level5"] == PROVIDER


@pytest.mark.parametrize(
    "text",
    [
        'model_providers = { level5 = { name = "x" } }\n',
        'model_providers.level5.name = "x"\n',
        'model = """\nseveral\nlines"""\n',
        "[[model_providers]]\nname = 1\n",
        "model = \n",
        'model = "a"\nmodel = "b"\n',
    ],
)
def test_toml_laid_out_in_another_way_is_refused_rather_than_broken(text: str) -> None:
    with pytest.raises(CannotMerge):
        merge(FileFormat.TOML, text, CODEX)


def test_toml_with_brackets_in_texts_and_lists_is_not_mistaken() -> None:
    text = 'notify = [\n  "a",\n  [ "b" ],\n]\nnote = """\n[model_providers.level5]\nname = "no"\n"""\n'

    try:
        merged = merge(FileFormat.TOML, text, CODEX)
    except CannotMerge:
        return
    assert tomllib.loads(merged) == {**tomllib.loads(text), **CODEX}  # type: ignore[dict-item]


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=8),
        st.integers() | st.text(max_size=9) | st.booleans(),
        max_size=6,
    )
)
def test_any_plain_toml_says_what_it_said_and_ours(others: dict[str, Value]) -> None:
    text = "".join(f"{toml_key(key)} = {toml_value(value)}\n" for key, value in others.items()) + "\n[other]\nmodel = 1\n"
    text = text.replace("\x7f", "")

    try:
        merged = merge(FileFormat.TOML, text, CODEX)
    except CannotMerge:
        assert "model_providers" in others or "other" in others
        return

    assert tomllib.loads(merged) == {**tomllib.loads(text), **CODEX}  # type: ignore[dict-item]
    assert merge(FileFormat.TOML, merged, CODEX) == merged


def test_yaml_keeps_comments_and_joins_lists_by_what_their_items_name() -> None:
    text = "# mine\nmodel: sonnet  # for now\ndark-mode: true\nset-env:\n  - EDITOR=vi\n  - ANTHROPIC_API_BASE=http://old\n"

    merged = merge(FileFormat.YAML, text, AIDER)

    assert "# mine\n" in merged
    assert "# for now" in merged
    assert "dark-mode: true" in merged
    assert "EDITOR=vi" in merged
    assert "http://old" not in merged
    assert merge(FileFormat.YAML, merged, AIDER) == merged


def test_yaml_lists_of_models_keep_the_other_models() -> None:
    text = "- model_id: mine\n  api_base: http://mine\n- model_id: level5/gpt-5.2\n  api_base: http://old\n  can_stream: false\n"

    merged = merge(FileFormat.YAML, text, LLM)

    assert "http://mine" in merged
    assert "http://localhost:8402/v1" in merged
    assert "http://old" not in merged
    assert merge(FileFormat.YAML, merged, LLM) == merged


@pytest.mark.parametrize("text", ["model: [", "set-env: text\n", "- a list\n", "text"])
def test_yaml_of_another_kind_is_refused(text: str) -> None:
    with pytest.raises(CannotMerge):
        merge(FileFormat.YAML, text, AIDER)


def test_a_yaml_file_of_comments_keeps_them() -> None:
    merged = merge(FileFormat.YAML, "# dark-mode: true\n", AIDER)

    assert merged.startswith("# dark-mode: true\nmodel: ")
