"""Reading Claude Code's transcripts: JSON lines, of which the assistant's messages carry their usage."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plutus_agent.errors import PlutusUsageError
from plutus_agent.usage_figures import Figures, read_anthropic

LINE_BYTES_MAX = 32 * 1024 * 1024
READ_BYTES_MAX = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMessage:
    """What one message of the assistant used, as far as the transcript tells; `at` is its time as it was written there."""

    message_id: str
    figures: tuple[Figures, ...]
    at: str | None


def read_lines(path: Path, offset: int, *, deadline: float) -> Iterator[tuple[bytes, int]]:
    """Yield the whole lines after `offset`, each with the offset behind it, until the end, the deadline or a fair amount.

    A line that has no end yet is left for the next time.
    """
    with path.open("rb") as transcript:
        transcript.seek(offset)
        start = offset
        while time.monotonic() < deadline and offset - start < READ_BYTES_MAX:
            line = transcript.readline(LINE_BYTES_MAX)
            if not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                return
            offset += len(line)
            yield line, offset


def read_message(line: bytes) -> SeenMessage | None:
    """Return the message of a line; None where it is none of the assistant's, or tells no usage."""
    if b'"usage"' not in line:
        return None
    try:
        entry: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    message = entry.get("message") if isinstance(entry, dict) else None
    if not isinstance(message, dict) or entry.get("type", "assistant") != "assistant" or not isinstance(message.get("usage"), dict):
        return None
    try:
        figures = read_anthropic({"model": message.get("model"), "usage": message["usage"]})
    except PlutusUsageError:
        return None
    named, at = message.get("id") or entry.get("uuid"), entry.get("timestamp")
    if not isinstance(named, str) or not figures:
        return None
    return SeenMessage(message_id=named, figures=figures, at=at if isinstance(at, str) else None)
