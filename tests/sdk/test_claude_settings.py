"""Installing the hook changes a settings file once, and loses nothing that stands in it."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plutus_agent.__main__ import main
from plutus_agent.claude_settings import SettingsRefused, hook_command, install, with_hook


def commands(settings: dict[str, Any], event: str) -> list[str]:
    return [entry["command"] for group in settings["hooks"][event] for entry in group["hooks"]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".claude" / "settings.json"


def test_a_new_file_is_made_with_the_hook_in_it(path: Path) -> None:
    assert install(path, "python -m plutus_agent.hook") is None

    settings = json.loads(path.read_text())
    assert settings["hooks"]["Stop"] == [{"hooks": [{"type": "command", "command": "python -m plutus_agent.hook", "timeout": 15}]}]
    assert settings["hooks"]["SubagentStop"] == settings["hooks"]["Stop"]


def test_what_stands_there_is_kept_and_saved(path: Path) -> None:
    path.parent.mkdir()
    before = {"model": "opus", "hooks": {"Stop": [{"matcher": "", "hooks": [{"type": "command", "command": "say done"}]}], "PreToolUse": []}, "ü": "ö"}
    path.write_text(json.dumps(before))
    path.chmod(0o600)

    backup = install(path, hook_command())

    after = json.loads(path.read_text(encoding="utf-8"))
    assert backup is not None
    assert json.loads(backup.read_text()) == before
    assert (after["model"], after["ü"], after["hooks"]["PreToolUse"]) == ("opus", "ö", [])
    assert commands(after, "Stop") == ["say done", hook_command()]
    assert path.stat().st_mode & 0o777 == 0o600


def test_installing_again_changes_nothing(path: Path) -> None:
    install(path, hook_command())
    text = path.read_text()

    assert install(path, hook_command()) is None

    assert path.read_text() == text
    assert [found.name for found in path.parent.iterdir()] == ["settings.json"]


def test_an_earlier_hook_of_ours_is_replaced_not_doubled() -> None:
    old = {"type": "command", "command": "python -m plutus_agent.integrations.claude_code_hook"}
    other = {"type": "command", "command": "echo plutus_agent.hook"}

    after = with_hook({"hooks": {"Stop": [{"hooks": [old, other]}, {"hooks": [old]}]}}, "new -m plutus_agent.hook")

    assert commands(after, "Stop") == ["echo plutus_agent.hook", "new -m plutus_agent.hook"]


@pytest.mark.parametrize("text", ["{broken", "[]", '"text"', '{"hooks": []}', '{"hooks": {"Stop": {}}}', '{"hooks": null}'])
def test_a_file_of_another_form_is_refused_and_left_alone(path: Path, text: str) -> None:
    path.parent.mkdir()
    path.write_text(text)

    with pytest.raises(SettingsRefused):
        install(path, hook_command())

    assert path.read_text() == text
    assert [found.name for found in path.parent.iterdir()] == ["settings.json"]


def test_a_link_to_settings_kept_elsewhere_stays_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("{}")
    path.parent.mkdir()
    path.symlink_to(tmp_path / "kept.json")

    install(path, hook_command())

    assert path.is_symlink()
    assert "plutus_agent.hook" in (tmp_path / "kept.json").read_text()


def test_the_command_installs_for_a_project_or_for_oneself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)

    assert main(["install-claude-hook", "--project"]) == 0
    assert main(["install-claude-hook"]) == 0
    assert main(["install-claude-hook", "--path", str(tmp_path / "other.json")]) == 0

    for path in (project / ".claude" / "settings.json", tmp_path / ".claude" / "settings.json", tmp_path / "other.json"):
        assert commands(json.loads(path.read_text()), "Stop") == [hook_command()]
    assert "the hook stands in" in capsys.readouterr().out


def test_the_command_prints_without_writing_and_says_why_it_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install-claude-hook", "--print"]) == 0
    assert commands(json.loads(capsys.readouterr().out), "SubagentStop") == [hook_command()]
    (tmp_path / "bad.json").write_text("{")

    assert main(["install-claude-hook", "--path", str(tmp_path / "bad.json")]) == 1

    assert "nothing was changed" in capsys.readouterr().err
    assert main(["version"]) == 0


def test_the_installed_command_is_one_that_runs(tmp_path: Path) -> None:
    done = subprocess.run(shlex.split(hook_command()), input=b"{}", capture_output=True, cwd=tmp_path, env=dict(os.environ), timeout=60, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert shlex.split(hook_command())[0] == sys.executable
