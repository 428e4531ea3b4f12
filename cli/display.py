"""What the operator sees while the appliance starts and runs: lines in a terminal, plain text elsewhere."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console


class Display:
    """Writes to standard output, each line at once, for people or as JSON lines. No thread of its own: the supervisor forks."""

    def __init__(self, *, as_json: bool = False) -> None:
        self._as_json = as_json
        self._console = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
        self._lively = not as_json and self._console.is_terminal and not self._console.is_dumb_terminal

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something goes on, and how long it took when it is done."""
        begun = time.monotonic()
        if self._lively:
            sys.stdout.write(f"  {text} …\r")
            sys.stdout.flush()
        else:
            self.say(f"{text} …")
        try:
            yield
        except BaseException:
            if self._lively:
                self._console.print(f"✗ {text}", style="red")
            raise
        if self._lively:
            self._console.print(f"✓ {text}  {time.monotonic() - begun:.1f} s")

    def say(self, text: str, *, style: str = "") -> None:
        """Write one line."""
        if self._as_json:
            if text.strip():
                self.event("message", text=text.strip())
            return
        self._console.print(text, style=style or None)
        sys.stdout.flush()

    def event(self, name: str, **fields: object) -> bool:
        """Write one JSON line where those are wanted; tell whether it was."""
        if self._as_json:
            sys.stdout.write(json.dumps({"event": name, **fields}, ensure_ascii=False) + "\n")
            sys.stdout.flush()
        return self._as_json

    def warn(self, text: str) -> None:
        """Write one line that asks for attention."""
        if self.event("warning", text=text):
            return
        self.say(f"! {text}", style="yellow")

    def table(self, rows: Sequence[tuple[str, ...]]) -> None:
        """Write rows in columns."""
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
        for row in rows:
            self.say("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
