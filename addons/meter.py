"""The metering of one answer as it passes: tally, hidden usage chunk, terminal event kept back. Never raises.

A fault in here must not reach mitmproxy, which would lose a piece of the answer in silence and go on
unbilled: it is logged once, the bytes pass unchanged, and the ending finds the meter broken.
"""

from typing import Final

from metering.chunks import TerminalHold, UsageChunkFilter
from metering.tally import Tally
from metering.usage import Ending, Reading, Usage
from telemetry.logs import log

UNREAD_BYTES_MAX: Final = 4096  # of a stream's middle, that have gone out and are counted a moment later


class Meter:
    """Counts one answer and decides what of it may go out at once."""

    def __init__(self, tally: Tally, *, chunk_filter: UsageChunkFilter | None, terminal: TerminalHold | None) -> None:
        self._tally, self._filter, self._terminal = tally, chunk_filter, terminal
        self._held = bytearray()
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._reading: Reading | None = None
        self._over = False
        self.broken = False
        self.bytes_seen = 0

    def relay(self, data: bytes) -> bytes:
        """Count a piece of a stream and return what may go out now."""
        if self.takes(data):
            return data
        self.observe(data)
        try:
            return self._hold_back(self._filter.feed(data) if self._filter else data)
        except Exception:
            self._break("filter")
            return data

    def takes(self, data: bytes) -> bool:
        """Take in a piece in which neither the usage nor the end can stand: it is counted with others, before anybody asks for a figure."""
        terminal, chunk_filter = self._terminal, self._filter
        if terminal is None or not terminal.passes(data) or (chunk_filter is not None and not chunk_filter.passes(data)):
            return False
        size = len(data)
        self.bytes_seen += size
        self._unread.append(data)
        self._unread_bytes += size
        if self._unread_bytes > UNREAD_BYTES_MAX:
            self._count_unread()
        return True

    def observe(self, data: bytes) -> None:
        """Count a piece without passing it on."""
        self._count_unread()
        self.bytes_seen += len(data)
        self._count(data)

    def _count_unread(self) -> None:
        if self._unread:
            unread, self._unread, self._unread_bytes = b"".join(self._unread), [], 0
            self._count(unread)

    def _count(self, data: bytes) -> None:
        if self._reading is not None or self.broken:
            return
        try:
            self._tally.feed(data)
        except Exception:
            self._break("tally")

    def flush(self) -> bytes:
        """The body is over: return what the filter still kept."""
        self._over = True
        try:
            ready = self._hold_back(self._filter.flush()) if self._filter else b""
            if self._terminal is not None:
                self._held += self._terminal.flush()
            return ready
        except Exception:
            self._break("flush")
            return b""

    def release(self) -> bytes:
        """Return what was held back; nothing is from now on."""
        held = bytes(self._held)
        self._held.clear()
        self._terminal = None
        return held

    def replace_held(self, data: bytes) -> None:
        """Put other last words in the place of those held back."""
        self._held[:] = data

    @property
    def terminal_held(self) -> bool:
        """True once the usage is known: the terminal event is in, or a whole body is over."""
        if self.broken:
            return self._over
        return self._tally.terminal_complete or (self._over and self.ended_whole())

    @property
    def shows_output(self) -> bool:
        """True once output has been seen, while the model does not reason unseen."""
        self._count_unread()
        return self._tally.output_bytes > 0 and not self._tally.reasons_unseen

    @property
    def output_bytes(self) -> int:
        """Bytes that have come and tell of output, shown or not."""
        self._count_unread()
        return self._tally.written_bytes

    @property
    def output_bytes_most(self) -> int:
        """As many as they can be: what has not been counted yet may all be output."""
        return self._tally.written_bytes + self._unread_bytes

    def checkpoint(self) -> Usage | None:
        """Return the usage as it stands, None when nothing has come that could be charged."""
        self._count_unread()
        if self.broken:
            return None
        try:
            return self._tally.checkpoint()
        except Exception:
            self._break("checkpoint")
            return None

    def reading(self) -> Reading | None:
        """Close the tally and return its reading; None when the meter is broken."""
        self._count_unread()
        if self._reading is None and not self.broken:
            try:
                self._reading = self._tally.close()
            except Exception:
                self._break("close")
        return self._reading

    def ended_whole(self) -> bool:
        """Tell whether the answer's own end was seen, an error event included."""
        reading = self.reading()
        return reading is None or reading.ended is not Ending.CUT

    def _hold_back(self, data: bytes) -> bytes:
        if self._terminal is None:
            return data
        now, held = self._terminal.feed(data)
        self._held += held
        return now

    def cannot_read(self, why: str) -> None:
        """The answer is not of a kind that can be counted: it passes, and costs what was held for it."""
        self._break(why, exc_info=False)

    def _break(self, where: str, *, exc_info: bool = True) -> None:
        if not self.broken:
            self.broken = True
            log.error("meter_broken", where=where, exc_info=exc_info)
