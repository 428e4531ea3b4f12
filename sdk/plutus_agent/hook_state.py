"""What the hook remembers between its runs: how far it has read, what it has counted, and what is still to be sent.

All of it changes in one transaction with what was read, so that no end of the process counts a message twice or not at all.
"""

import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from plutus_agent.local import now_ms
from plutus_agent.local_database import Database
from plutus_agent.transcripts import SeenMessage, read_lines, read_message
from plutus_agent.usage_figures import Figures

KEPT_MS = 180 * 86_400_000
COUNTS = tuple(field.name for field in fields(Figures) if field.name.endswith("_tokens"))
_INVISIBLE = re.compile(r"[^\x21-\x7e]")
Event = dict[str, Any]


class HookState:
    """The hook's own file."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            PlutusError: it cannot be used.
        """
        self._database = Database(path, schema=Path(__file__).parent / "hook_schema.sql", wait_seconds=2.0)

    def read_transcript(self, path: Path, *, deadline: float, event_of: Callable[[Mapping[str, Any]], Event]) -> None:
        """Count what is new in a transcript and lay its events by for sending; `event_of` completes their fields."""
        name = str(path)
        with self._database.transaction() as rows:
            known = rows.execute("SELECT offset FROM transcripts WHERE path=?", (name,)).fetchone()
            offset = known["offset"] if known is not None and known["offset"] <= path.stat().st_size else 0
            latest: dict[str, SeenMessage] = {}
            for line, behind in read_lines(path, offset, deadline=deadline):
                offset = behind
                message = read_message(line)
                if message is not None:
                    # The same message stands in several lines, the later ones with more output.
                    latest[message.message_id] = message
            self._count(rows, latest.values(), event_of)
            rows.execute("INSERT OR REPLACE INTO transcripts VALUES (?,?,?)", (name, offset, now_ms()))
            rows.execute("DELETE FROM messages WHERE read_at < ?", (now_ms() - KEPT_MS,))

    def count_message(self, message: SeenMessage, *, event_of: Callable[[Mapping[str, Any]], Event]) -> None:
        """Count one message that came with the payload."""
        with self._database.transaction() as rows:
            self._count(rows, [message], event_of)

    def waiting(self, limit: int) -> list[tuple[int, Event]]:
        """Return the oldest events that are still to be sent."""
        with self._database.transaction() as rows:
            return [(row["number"], json.loads(row["event"])) for row in rows.execute("SELECT * FROM waiting ORDER BY number LIMIT ?", (limit,))]

    def sent(self, numbers: Iterable[int]) -> None:
        """Forget events that were taken."""
        with self._database.transaction() as rows:
            rows.executemany("DELETE FROM waiting WHERE number=?", [(number,) for number in numbers])

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _count(self, rows: sqlite3.Connection, messages: Iterable[SeenMessage], event_of: Callable[[Mapping[str, Any]], Event]) -> None:
        for message in messages:
            for figures in message.figures:
                counts = {name: getattr(figures, name) for name in COUNTS}
                row = rows.execute("SELECT counts FROM messages WHERE id=? AND model=?", (message.message_id, figures.model or "")).fetchone()
                before = json.loads(row["counts"]) if row is not None else {}
                # What was counted when the message was not yet whole is not counted again.
                more = {name: max(0, count - before.get(name, 0)) for name, count in counts.items()}
                if not any(more.values()):
                    continue
                total = {name: max(count, before.get(name, 0)) for name, count in counts.items()}
                key = f"claude-code:{message.message_id}:{figures.model or ''}:{sum(total.values())}"
                key = _INVISIBLE.sub("_", key)[:200]
                event = event_of({**more, "model": figures.model, "idempotency_key": key, **({"occurred_at": message.at} if message.at else {})})
                rows.execute("INSERT INTO waiting (event) VALUES (?)", (json.dumps(event),))
                rows.execute("INSERT OR REPLACE INTO messages VALUES (?,?,?,?)", (message.message_id, figures.model or "", json.dumps(total), now_ms()))
