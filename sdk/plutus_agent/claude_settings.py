"""Writing the hook into Claude Code's settings, without losing anything that stands there."""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EVENTS = ("Stop", "SubagentStop")
MODULES = ("plutus_agent.hook", "plutus_agent.integrations.claude_code_hook")
HOOK_TIMEOUT_SECONDS = 15


class SettingsRefused(Exception):
    """The settings file is not what it should be, and was left as it is."""


def hook_command() -> str:
    """Return the command that runs the hook with this very Python."""
    parts = [sys.executable, "-m", MODULES[0]]
    return subprocess.list2cmdline(parts) if os.name == "nt" else shlex.join(parts)


def with_hook(settings: dict[str, Any], command: str) -> dict[str, Any]:
    """Return the settings with the hook in them once, in the place of any earlier one of ours.

    Raises:
        SettingsRefused: the hooks in it do not have the form that Claude Code reads.
    """
    hooks = settings.get("hooks", {})
    if not isinstance(hooks, dict):
        raise SettingsRefused("`hooks` is not an object")
    changed = dict(hooks)
    for event in EVENTS:
        groups = changed.get(event, [])
        if not isinstance(groups, list):
            raise SettingsRefused(f"`hooks.{event}` is not a list")
        kept = [group for group in (_without_ours(group) for group in groups) if group is not None]
        changed[event] = [*kept, {"hooks": [{"type": "command", "command": command, "timeout": HOOK_TIMEOUT_SECONDS}]}]
    return {**settings, "hooks": changed}


def _without_ours(group: Any) -> Any:
    entries = group.get("hooks") if isinstance(group, dict) else None
    if not isinstance(entries, list):
        return group
    others = [entry for entry in entries if not _is_ours(entry)]
    if len(others) == len(entries):
        return group
    return {**group, "hooks": others} if others else None


def _is_ours(entry: Any) -> bool:
    command = entry.get("command") if isinstance(entry, dict) else None
    return isinstance(command, str) and any(command.rstrip().endswith(f"-m {module}") for module in MODULES)


def install(path: Path, command: str) -> Path | None:
    """Write the hook into a settings file and return where the earlier one was saved; None where there was none or nothing changed.

    Raises:
        SettingsRefused: the file is not a JSON object; it was left as it is.
        OSError: it cannot be read or written.
    """
    path = path.resolve()  # a link to a file kept elsewhere stays a link
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    try:
        settings = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise SettingsRefused(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise SettingsRefused(f"{path} is not a JSON object")
    wanted = with_hook(settings, command)
    if wanted == settings:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = None
    if text:
        backup = path.with_name(f"{path.name}.backup-{time.strftime('%Y%m%d-%H%M%S')}")
        _write(backup, text, like=path)
    _write(path, json.dumps(wanted, indent=2, ensure_ascii=False) + "\n", like=path)
    return backup


def _write(path: Path, text: str, *, like: Path) -> None:
    """Write a file in one step: whoever reads it finds the old one or the new one, whole."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    if like.exists():
        unfinished.chmod(like.stat().st_mode & 0o777)
    unfinished.replace(path)
