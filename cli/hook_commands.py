"""`level5 install-claude-hook`: what the SDK offers for Claude Code, from the operator's own command."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.options import CommandFailed


def install_claude_hook(
    project: Annotated[bool, typer.Option("--project", help="This project's .claude/settings.json instead of your own.")] = False,
    path: Annotated[Path | None, typer.Option("--path", metavar="FILE", help="Another settings file.", show_default=False)] = None,
) -> None:
    """Count every Claude Code session: write the SDK's hook into its settings, with a backup."""
    # The gateway does not need the SDK, and an installation of the gateway alone has none.
    if find_spec("plutus_agent") is None:
        raise CommandFailed("the SDK is not installed beside this command; install the folder sdk/ with pip")
    from plutus_agent.__main__ import main

    if project and path is not None:
        raise CommandFailed("--project and --path name two files")
    place = ["--project"] if project else [] if path is None else ["--path", str(path)]
    raise typer.Exit(main(["install-claude-hook", *place]))
