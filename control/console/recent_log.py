"""The last warnings and errors of the roles of this machine, read from the ends of their log files. They hold no secret: who writes them sees to that."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TAIL_BYTES_MAX: Final = 256 * 1024  # of each file
FILES_MAX: Final = 32
LINES_MAX: Final = 100
VALUE_LENGTH_MAX: Final = 300
GRAVE: Final = frozenset({"warning", "error", "critical"})
_MARKS: Final = tuple(f'"level": "{level}"'.encode() for level in GRAVE)
_OWN: Final = frozenset({"timestamp", "level", "event", "role", "pid", "exception", "request_id"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line. `fields` are its values, cut where they are long."""

    at: str
    level: str
    role: str
    event: str
    request_id: str
    fields: tuple[tuple[str, str], ...]
    exception: str


def recent_faults(folder: Path) -> list[LogLine] | None:
    """Return what went wrong lately, the latest first; None where the roles of this machine write no files here."""
    try:
        files = sorted(folder.glob("*.log"))[:FILES_MAX]
    except OSError:
        return None
    if not files:
        return None
    found = [line for file in files for line in _faults_of(file)]
    return sorted(found, key=lambda line: line.at, reverse=True)[:LINES_MAX]


def _faults_of(file: Path) -> list[LogLine]:
    try:
        with file.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - TAIL_BYTES_MAX))
            lines = log.read(TAIL_BYTES_MAX).splitlines()
    except OSError:
        return []
    grave = [line for line in lines if any(mark in line for mark in _MARKS)]
    return [read for line in grave[-LINES_MAX:] if (read := _read(line)) is not None]


def _read(line: bytes) -> LogLine | None:
    try:
        told = json.loads(line)
    except (ValueError, RecursionError):
        return None  # the first line may be cut
    if not isinstance(told, dict) or told.get("level") not in GRAVE:
        return None
    fields = tuple((str(name)[:100], _text(value)) for name, value in told.items() if name not in _OWN)
    return LogLine(
        at=_text(told.get("timestamp", ""))[:19].replace("T", " "),
        level=_text(told["level"]),
        role=_text(told.get("role", "")),
        event=_text(told.get("event", "")),
        request_id=_text(told.get("request_id") or ""),
        fields=fields,
        exception=_text(told.get("exception", "")).strip().rpartition("\n")[2],
    )


def _text(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= VALUE_LENGTH_MAX else text[:VALUE_LENGTH_MAX] + "…"
