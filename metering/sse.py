"""Server-sent events, read from bytes as they come.

Events end with a blank line; lines end with LF, CRLF or CR, also mixed. Bytes may be cut anywhere,
inside a character or between CR and LF, so everything is split as bytes and decoded whole.
"""

import re
from dataclasses import dataclass

EVENT_BYTES_MAX = 16 * 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

EVENT_END_BYTES_MAX = 4
_LINE_END = re.compile(rb"\r\n|\n|\r")
# A lone CR counts only when no LF follows: CRLF is one line end, not two.
EVENT_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name (empty when the stream gave none) and its data lines joined by LF."""

    name: bytes
    data: bytes


class EventBuffer:
    """Collects bytes and hands out whole events, unparsed.

    Fast where it can be: a chunk of whole events comes back as it is. An event above
    `event_bytes_max` is dropped and remembered in `overflowed`, so that an upstream that never
    ends its event cannot exhaust the memory.
    """

    __slots__ = ("_carriage_return", "_event_bytes_max", "_skipping", "_started", "_tail", "overflowed")

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self.overflowed = False
        self._event_bytes_max = event_bytes_max
        self._tail = bytearray()
        self._carriage_return = False
        self._skipping = False
        self._started = False

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes of all events completed by `chunk`, each with its blank line; or nothing."""
        if not self._tail and self._started and not self._carriage_return and chunk.endswith(b"\n\n") and b"\r" not in chunk:
            return chunk
        if not self._carriage_return and b"\r" in chunk:
            self._carriage_return = True
        before = len(self._tail)
        self._tail += chunk
        end = self._last_event_end(max(0, before + 1 - EVENT_END_BYTES_MAX))
        if end:
            return self._take(end)
        if len(self._tail) > self._event_bytes_max + EVENT_END_BYTES_MAX - 1:
            self.overflowed = self._skipping = True
            del self._tail[: 1 - EVENT_END_BYTES_MAX]
        return b""

    def close(self) -> bytes:
        """Return what stands after the last blank line: a last event that was not closed, or nothing."""
        return b"" if self._skipping else self._take(len(self._tail))

    def _take(self, end: int) -> bytes:
        with memoryview(self._tail) as view:
            block = bytes(view[:end])
        del self._tail[:end]
        if self._skipping:
            # The first end seen belongs to the event that was too large; what follows it is whole again.
            found = EVENT_END.search(block)
            block = block[found.end() :] if found else b""
            self._skipping = False
        if not self._started and block:
            self._started = True
            block = block.removeprefix(BYTE_ORDER_MARK)
        return self._without_giants(block) if len(block) > self._event_bytes_max else block

    def _without_giants(self, block: bytes) -> bytes:
        events = split_events(block)
        kept = [event for event in events if len(event) <= self._event_bytes_max]
        self.overflowed = self.overflowed or len(kept) < len(events)
        return b"".join(event + b"\n\n" for event in kept)

    def _last_event_end(self, start: int) -> int:
        if not self._carriage_return:
            last = self._tail.rfind(b"\n\n", start)
            return last + 2 if last >= 0 else 0
        end = 0
        for found in EVENT_END.finditer(self._tail, start):
            end = found.end()
        return end


def split_events(block: bytes) -> list[bytes]:
    """Split whole events, as `EventBuffer` hands them out, into single ones without their blank lines."""
    parts = EVENT_END.split(block) if b"\r" in block else block.split(b"\n\n")
    return [part for part in parts if part.strip(b"\r\n")]


def parse_event(raw: bytes) -> Event | None:
    """Read one event's lines; None when it has no data (comments, a lone name)."""
    name, data = b"", []
    for line in _LINE_END.split(raw):
        if line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip()
        elif line == b"data":
            data.append(b"")
    return Event(name, b"\n".join(data)) if data else None


class EventDecoder:
    """Bytes in, events out; the same events however the bytes are cut."""

    def __init__(self, *, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._buffer = EventBuffer(event_bytes_max=event_bytes_max)

    @property
    def overflowed(self) -> bool:
        """Tell whether an event was too large and has been left out."""
        return self._buffer.overflowed

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completed."""
        return self._parse(self._buffer.feed(chunk))

    def close(self) -> list[Event]:
        """Return the last event if the stream ended without its blank line; metering still reads it."""
        return self._parse(self._buffer.close())

    @staticmethod
    def _parse(block: bytes) -> list[Event]:
        return [event for raw in split_events(block) if (event := parse_event(raw)) is not None]
