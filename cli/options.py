"""What every command shares: its options, how it prints, how it reaches the books, how a failure reads."""

import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from rich.console import Console
from rich.table import Table

from cli.books import Books, open_books
from cli.stores import command_settings
from config.settings import Settings
from telemetry.logs import redact

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Settings file (LEVEL5_CONFIG).", show_default=False)]
Home = Annotated[Path | None, typer.Option("--home", metavar="DIR", help="Folder of the appliance (LEVEL5_HOME).", show_default=False)]
Sandbox = Annotated[bool | None, typer.Option("--sandbox/--real", help="Which appliance, where both run on one home.", show_default=False)]
FOLDED_WIDTH = 40

AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="Its id, deposit code or api_token.", show_default=False)]


def log_to_standard_error() -> None:
    """Let what the books warn of be read beside a command's output, never in it."""
    structlog.configure(
        processors=[redact, structlog.processors.LogfmtRenderer(key_order=["event"])],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


class CommandFailed(Exception):
    """A command cannot do what was asked; the text is what the operator reads."""


def flags_of(*, home: Path | None, sandbox: bool | None, **others: object) -> dict[str, object]:
    """Return the given options under the dotted names of their settings."""
    mode = None if sandbox is None else "sandbox" if sandbox else "real"
    return {"home": home, "mode": mode, **{name.replace("__", "."): value for name, value in others.items()}}


def settings_of(home: Path | None, config: Path | None, *, sandbox: bool | None) -> Settings:
    """Return the settings of a command that works on the books of a running appliance."""
    return command_settings(flags_of(home=home, sandbox=sandbox), config)


def on_books[Result](settings: Settings, work: Callable[[Books], Awaitable[Result]]) -> Result:
    """Open the books, do `work` on them and close them."""

    async def run() -> Result:
        async with open_books(settings) as books:
            return await work(books)

    return asyncio.run(run())


def as_plain(value: object) -> Any:
    """Return a value in the types that JSON has; money stays whole microunits."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: as_plain(item) for name, item in asdict(value).items()}
    if isinstance(value, dict):
        return {str(name): as_plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def print_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(as_plain(value), indent=2, ensure_ascii=False) + "\n")


def print_fields(rows: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        sys.stdout.write(f"{name.ljust(width)}  {value}\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, folded: Sequence[str] = ()) -> None:
    """Print rows under their columns; figures stand to the right. Columns that are `folded` hold sentences, which may take several lines."""
    table, width = Table(box=None, pad_edge=False, header_style="bold"), 0
    for index, column in enumerate(columns):
        figures = bool(rows) and all(isinstance(row[index], int) or _is_amount(row[index]) for row in rows)
        table.add_column(column, justify="right" if figures else "left", no_wrap=column not in folded)
        widest = max(len(column), *(len(str(row[index])) for row in rows), 0)
        width += (min(widest, FOLDED_WIDTH) if column in folded else widest) + 2  # blanks between
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # Piped into a program or shown in a narrow window, a table must not lose its last columns: signatures are there to be copied.
    console = Console(highlight=False, markup=False, emoji=False, width=max(Console().width, width))
    console.print(table, crop=False, overflow="ignore")


def _is_amount(cell: object) -> bool:
    return isinstance(cell, str) and cell.removeprefix("-").replace(".", "", 1).isdigit()
