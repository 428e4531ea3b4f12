"""What is changed in a stream on its way to the client: one chunk hidden, the last event held back.

All other bytes pass as they came and at once. An event that comes in pieces is kept back only while
its beginning does not yet tell what it is.
"""

import re
from abc import ABC, abstractmethod
from typing import Any

from metering.classify import Operation
from metering.sse import BYTE_ORDER_MARK, EVENT_END, EVENT_END_BYTES_MAX, parse_event
from metering.usage import as_object, parse_json

# An event that has not told by now what it is, is none of those looked for: they are small or begin with their name.
UNDECIDED_BYTES_MAX = 64 * 1024


class EventRelay(ABC):
    """Relays a stream event by event, deciding for each as early as its bytes allow."""

    def __init__(self) -> None:
        self._event = bytearray()
        self._passed = 0
        self._carriage_return = False

    @abstractmethod
    def is_wanted(self, event: bytes) -> bool:
        """Tell whether a whole event is one to act upon."""

    @abstractmethod
    def may_be_wanted(self, beginning: bytes) -> bool:
        """Tell whether an event that begins so can still turn out to be wanted."""

    def whole(self, chunk: bytes) -> bool:
        """Tell whether this chunk consists of whole events, and nothing was kept back before it."""
        return chunk.endswith(b"\n\n") and not self._event and not self._carriage_return and b"\r" not in chunk

    def take_in(self, chunk: bytes) -> None:
        """Take in a chunk that is to be looked at event by event."""
        self._event += chunk
        self._carriage_return = self._carriage_return or b"\r" in chunk

    def next_event(self) -> tuple[bytes, bool] | None:
        """Return what of the next event may be relayed now, and whether it is wanted; None when more bytes are needed.

        A wanted event comes whole. The rest of an event that was let through in part comes as it is.
        """
        found = EVENT_END.search(self._event, max(0, self._passed - EVENT_END_BYTES_MAX + 1))
        if found is not None:
            event = bytes(self._event[: found.end()])
            del self._event[: found.end()]
            started, self._passed = self._passed, 0
            return (event[started:], False) if started else (event, self.is_wanted(event))
        if self._passed == len(self._event):
            return None
        if not self._passed and len(self._event) <= UNDECIDED_BYTES_MAX and self.may_be_wanted(bytes(self._event)):
            return None
        piece = bytes(self._event[self._passed :])
        # Only the last bytes are kept, to see the event's end when it comes in pieces.
        del self._event[: 1 - EVENT_END_BYTES_MAX]
        self._passed = len(self._event)
        return piece, False

    def take_rest(self) -> bytes:
        """Return what is still kept back, at the end of the stream."""
        rest = bytes(self._event[self._passed :])
        self._event.clear()
        self._passed = 0
        return rest


_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_CHOICE = re.compile(rb'"choices"\s*:\s*\[\s*[^\]\s]')


class UsageChunkFilter(EventRelay):
    """Hides the chunk that brings nothing but the usage, from a client that did not ask for it.

    A usage in a chunk that also has choices stays, and so does one beside an error.
    """

    def passes(self, chunk: bytes) -> bool:
        """Tell whether this chunk is whole events of which none can be wanted: `feed` would return it as it is."""
        return self.whole(chunk) and _USAGE.search(chunk) is None

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes to relay now."""
        if self.passes(chunk):
            return chunk
        self.take_in(chunk)
        relayed = bytearray()
        while (step := self.next_event()) is not None:
            piece, hidden = step
            if not hidden:
                relayed += piece
        return bytes(relayed)

    def flush(self) -> bytes:
        """Return what was kept back when the stream has ended."""
        rest = self.take_rest()
        return b"" if self.is_wanted(rest) else rest

    def is_wanted(self, event: bytes) -> bool:
        """Tell whether this chunk brings a usage and nothing else."""
        if _USAGE.search(event) is None:
            return False
        parsed = parse_event(event.removeprefix(BYTE_ORDER_MARK))
        chunk = as_object(parse_json(parsed.data)) if parsed else {}
        return isinstance(chunk.get("usage"), dict) and chunk.get("choices") == [] and chunk.get("error") is None

    def may_be_wanted(self, beginning: bytes) -> bool:
        """Tell whether no choice has been seen yet."""
        return _CHOICE.search(beginning) is None


_TERMINALS = {
    Operation.MESSAGES: frozenset({"message_stop", "error"}),
    Operation.RESPONSES: frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"}),
}
_NAME_LINE = re.compile(rb"^event:[ ]?([^\r\n]*)[\r\n]")
_TYPE = re.compile(rb'"type"\s*:\s*"([^"\\]*)"')
_DONE = b"data:[DONE]"


class TerminalHold(EventRelay):
    """Holds a stream's terminal event back, with all that follows it, until the settlement has answered."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self._kinds = _TERMINALS.get(operation, frozenset())
        self._words = tuple(kind.encode() for kind in sorted(self._kinds)) or (b"[DONE]",)
        self._holding = False

    @property
    def holding(self) -> bool:
        """Tell whether the terminal event has come."""
        return self._holding

    def passes(self, chunk: bytes) -> bool:
        """Tell whether this chunk is whole events of which none can be wanted: `feed` would return it as it is, all of it to relay now."""
        for word in self._words:  # for most events the whole of the question
            if word in chunk:
                return False
        return not self._holding and self.whole(chunk)

    def feed(self, chunk: bytes) -> tuple[bytes, bytes]:
        """Return the bytes to relay now, and those to relay after the settlement."""
        if self._holding:
            return b"", chunk
        if self.passes(chunk):
            return chunk, b""
        self.take_in(chunk)
        relayed = bytearray()
        while (step := self.next_event()) is not None:
            piece, terminal = step
            if terminal:
                self._holding = True
                return bytes(relayed), piece + self.take_rest()
            relayed += piece
        return bytes(relayed), b""

    def flush(self) -> bytes:
        """Return what was kept back when the stream has ended; it is to be relayed last."""
        return self.take_rest()

    def is_wanted(self, event: bytes) -> bool:
        """Tell whether this is the dialect's terminal event."""
        if not any(word in event for word in self._words):
            return False
        parsed = parse_event(event.removeprefix(BYTE_ORDER_MARK))
        if parsed is None:
            return False
        if not self._kinds:
            return parsed.data.strip() == b"[DONE]"
        content: dict[str, Any] = as_object(parse_json(parsed.data))
        return (content.get("type") or parsed.name.decode("latin-1")) in self._kinds

    def may_be_wanted(self, beginning: bytes) -> bool:
        """Tell whether name and type, as far as they have come, can still be a terminal event's."""
        # The LF of a CRLF whose CR already ended the event before it may stand first.
        beginning = beginning.removeprefix(BYTE_ORDER_MARK).lstrip(b"\r\n")
        if not self._kinds:
            bare = beginning.replace(b" ", b"", 1)[: len(_DONE)]
            return beginning.startswith(b":") or _DONE.startswith(bare.rstrip(b"\r\n"))
        found = _NAME_LINE.match(beginning) or _TYPE.search(beginning)
        return found is None or found[1].decode("latin-1").strip() in self._kinds
