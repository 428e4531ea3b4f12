"""`python -m plutus_agent`: what the SDK does from a command line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from plutus_agent.claude_settings import SettingsRefused, hook_command, install, with_hook
from plutus_agent.remote import VERSION


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m plutus_agent", description="Meter what AI agents use.")
    commands = parser.add_subparsers(dest="command", required=True)
    hook = commands.add_parser("install-claude-hook", help="count every Claude Code session: write the hook into its settings")
    place = hook.add_mutually_exclusive_group()
    place.add_argument("--project", action="store_true", help="this project's .claude/settings.json instead of your own")
    place.add_argument("--path", type=Path, help="another settings file")
    place.add_argument("--print", action="store_true", dest="only_print", help="print what would be written, and write nothing")
    commands.add_parser("version", help="print the version")
    chosen = parser.parse_args(arguments)
    if chosen.command == "version":
        sys.stdout.write(f"level5-meter {VERSION}\n")
        return 0
    if chosen.only_print:
        sys.stdout.write(json.dumps(with_hook({}, hook_command()), indent=2) + "\n")
        return 0
    folder = Path.cwd() if chosen.project else Path.home()
    return _install(chosen.path or folder / ".claude" / "settings.json")


def _install(path: Path) -> int:
    try:
        backup = install(path, hook_command())
    except (SettingsRefused, OSError) as error:
        sys.stderr.write(f"nothing was changed: {error}\n")
        return 1
    sys.stdout.write(f"the hook stands in {path}\n" + (f"the earlier settings are saved as {backup}\n" if backup else ""))
    sys.stdout.write("set PLUTUS_REMOTE_URL and PLUTUS_API_KEY to report to a server; without them it counts locally\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
