"""`level5 install-claude-hook` is the SDK's own command, offered where an operator looks for it."""

import importlib.util
import json
from pathlib import Path

import pytest
from plutus_agent.claude_settings import hook_command
from typer.testing import CliRunner

from cli.main import app
from cli.options import CommandFailed


def test_it_writes_the_hook_of_the_sdk_into_the_projects_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    done = CliRunner().invoke(app, ["install-claude-hook", "--project"])

    assert done.exit_code == 0
    settings = json.loads((tmp_path / ".claude" / "settings.json").read_text())
    assert settings["hooks"]["Stop"][0]["hooks"][0]["command"] == hook_command()


def test_it_tells_of_a_settings_file_that_it_leaves_alone(tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{")

    assert CliRunner().invoke(app, ["install-claude-hook", "--path", str(tmp_path / "settings.json")]).exit_code == 1
    assert (tmp_path / "settings.json").read_text() == "{"


def test_it_says_so_where_the_sdk_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("cli.hook_commands.find_spec", lambda name: None)

    assert isinstance(CliRunner().invoke(app, ["install-claude-hook"]).exception, CommandFailed)
