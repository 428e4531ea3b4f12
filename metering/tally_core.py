"""Bytes in, usage out: what the tallies of all dialects share.

A stream is not parsed event by event. Each block of whole events is searched for the few words
that can matter; only events that bear one are read as JSON, and they alone decide. Everything
else is only measured, for the case that the stream is cut and its output must be estimated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ledger.entries import UsageLine
from metering.sse import EventBuffer, parse_event, split_events
from metering.tally_meter import Meter
from metering.usage import Ending, Reading, UnreadableUsage, Usage, error_text, parse_json

BODY_BYTES_MAX = 32 * 1024 * 1024


class Tally(ABC):
    """One answer being read. `feed` never raises, and is cheap for what does not matter."""

    terminal_seen = False
    terminal_complete = False

    @property
    def output_bytes(self) -> int:
        """Bytes of visible output that have come."""
        return 0

    @property
    def written_bytes(self) -> int:
        """Bytes that tell of output, shown or not: while they do not grow, nothing has been written."""
        return self.output_bytes

    @property
    def reasons_unseen(self) -> bool:
        """True while the model may be writing what the answer does not show."""
        return False

    @abstractmethod
    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the answer, cut anywhere."""

    @abstractmethod
    def checkpoint(self) -> Usage | None:
        """Return the usage so far, estimated upwards where it is open; None while nothing has come."""

    @abstractmethod
    def close(self) -> Reading:
        """Return the outcome; nothing may be fed any more."""


class MeteredTally(Tally):
    """A tally that drives one dialect's meter."""

    def __init__(self, meter: Meter) -> None:
        self.meter = meter
        self._began = False
        self._unreadable = False

    @property
    def output_bytes(self) -> int:
        """Bytes of visible output that have come."""
        return self.meter.output_bytes

    @property
    def written_bytes(self) -> int:
        """Bytes that tell of output, shown or not."""
        return self.meter.output_bytes + self.meter.signature_bytes

    @property
    def reasons_unseen(self) -> bool:
        """True while the model may be writing what the answer does not show."""
        return self.meter.reasons_unseen

    def exact(self) -> Usage | None:
        """Return the provider's closing figures, if they are in and can be read."""
        return self._usage(self.meter.lines(), final=True) if self.meter.final and not self._unreadable else None

    def estimate(self) -> Usage | None:
        """Return known figures with the output estimated upwards; None while nothing has come."""
        meter = self.meter
        if not self._began and not meter.output_bytes:
            return None
        output = max(min(meter.output_estimate(), meter.terms.output_cap()), meter.output_floor())
        return self._usage((meter.known_line(output),), final=False)

    def checkpoint(self) -> Usage | None:
        """Return the exact usage if it is in, else the estimate."""
        return self.exact() or self.estimate()

    def guard(self, read: Callable[[], None]) -> None:
        """Run `read`; a usage that cannot be billed as it stands makes the whole answer unreadable."""
        try:
            read()
        except UnreadableUsage as fault:
            self._unreadable = True
            self.meter.doubts = (*self.meter.doubts, str(fault))

    def _usage(self, lines: tuple[UsageLine, ...], *, final: bool) -> Usage:
        meter = self.meter
        return Usage(
            lines=lines,
            final=final,
            model=meter.model or meter.terms.rate.model,
            service_tier=meter.service_tier,
            response_id=meter.response_id,
            provider_cost_usd=meter.cost,
            terminal=self.terminal_seen,
            error=meter.error,
            doubts=meter.doubts,
            made=meter.made(),
        )

    def reading(self, ended: Ending) -> Reading:
        """Return the outcome with this ending."""
        usage, output_seen = self.exact(), self.meter.output_seen()
        # An error before any output costs nothing, whatever the answer had announced by then.
        free = usage is not None or (ended is Ending.ERROR and not output_seen)
        return Reading(
            usage=usage,
            estimated=None if free else self.estimate(),
            output_seen=output_seen,
            ended=ended,
            error=self.meter.error,
        )


class StreamTally(MeteredTally):
    """A streamed answer."""

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter)
        self._events = EventBuffer()

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the stream."""
        block = self._events.feed(chunk)
        if block:
            self._scan(block)
            self.terminal_complete = self.terminal_seen

    def close(self) -> Reading:
        """Read also a last event that was not closed by a blank line, then say how the stream ended."""
        tail = self._events.close()
        if tail:
            # A cut inside a text leaves it without its closing quote: what came of it was served all the same.
            self._scan(tail + b'"' if parse_json(_data_of(tail)) is None else tail)
        if self.meter.error is not None:
            return self.reading(Ending.ERROR)
        if self._unreadable or self._events.overflowed or (self.terminal_seen and not self.meter.final):
            return self.reading(Ending.UNREADABLE)
        return self.reading(Ending.COMPLETE if self.terminal_seen else Ending.CUT)

    def _scan(self, block: bytes) -> None:
        if not self._began or self.meter.matters(block):
            for raw in split_events(block):
                if not self._began or self.meter.matters(raw):
                    self._read(raw)
        self.meter.measure(block)

    def _read(self, raw: bytes) -> None:
        event = parse_event(raw)
        if event is None:
            return
        if not self.meter.end_marker(event.data):
            content = parse_json(event.data)
            if content is None:
                return
            self.guard(lambda: self.meter.read_event(event.name, content))
            self._began = self._began or self.meter.error is None
        self.terminal_seen = self.meter.terminal


def _data_of(tail: bytes) -> bytes:
    events = split_events(tail)
    event = parse_event(events[-1]) if events else None
    return event.data if event else b""


class BodyTally(MeteredTally):
    """An answer that was not streamed: read as a whole at its end."""

    def __init__(self, meter: Meter, *, stream: Callable[[], StreamTally] | None = None) -> None:
        super().__init__(meter)
        self._body = bytearray()
        self._bytes = 0
        self._stream = stream

    def feed(self, chunk: bytes) -> None:
        """Keep the bytes, up to BODY_BYTES_MAX of them."""
        self._bytes += len(chunk)
        self._began = self._began or bool(chunk)
        if self._bytes <= BODY_BYTES_MAX:
            self._body += chunk

    def checkpoint(self) -> Usage | None:
        """Return an estimate from the bytes that have come; None before the first."""
        self.meter.output_bytes = self._bytes
        return self.estimate()

    def close(self) -> Reading:
        """Parse the answer; one that cannot be read is estimated from its bytes."""
        if not self._bytes:
            return self.reading(Ending.CUT)
        body = parse_json(self._body) if self._bytes <= BODY_BYTES_MAX else None
        if isinstance(body, dict):
            return self._close_object(body)
        if self._stream is not None and self._body.lstrip(b"\xef\xbb\xbf \r\n")[:6].startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
            return self._reread_as_stream(self._stream())
        self._measure_body()
        return self.reading(Ending.UNREADABLE if self._body.rstrip().endswith(b"}") or not self._body.startswith(b"{") else Ending.CUT)

    def _close_object(self, body: dict[str, Any]) -> Reading:
        self.terminal_seen = self.terminal_complete = True
        meter = self.meter
        meter.error = error_text(body.get("error"))
        missing = False

        def read() -> None:
            nonlocal missing
            missing = meter.read_body(body)

        self.guard(read)
        if not self._unreadable and meter.final:
            meter.output_bytes = self._bytes
            return self.reading(Ending.ERROR if meter.error else Ending.COMPLETE)
        if meter.error or (not missing and not self._unreadable):
            self._began, meter.output_bytes = False, 0
            return self.reading(Ending.ERROR if meter.error else Ending.COMPLETE)
        self._measure_body()
        return self.reading(Ending.UNREADABLE)

    def _measure_body(self) -> None:
        self.meter.output_bytes = 0
        self.meter.measure(bytes(self._body) + b'"')
        if not self.meter.output_bytes:
            self.meter.output_bytes = self._bytes

    def _reread_as_stream(self, stream: StreamTally) -> Reading:
        stream.feed(bytes(self._body))
        reading = stream.close()
        self.terminal_seen = self.terminal_complete = stream.terminal_seen
        self.meter = stream.meter
        return reading


class FreeTally(Tally):
    """An answer that costs nothing: counting, listing, and every answer with an error status."""

    def __init__(self, *, status: int) -> None:
        self._status = status
        self._body = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Keep the start of an error, to tell its kind."""
        if self._status >= 400 and len(self._body) < 65_536:
            self._body += chunk

    def checkpoint(self) -> Usage | None:
        """Return None: there is never anything to charge."""
        return None

    def close(self) -> Reading:
        """Return an outcome without usage."""
        self.terminal_seen = self.terminal_complete = True
        if self._status < 400:
            return Reading(usage=None, estimated=None, output_seen=False, ended=Ending.COMPLETE)
        body = parse_json(self._body)
        error = error_text(body.get("error")) if isinstance(body, dict) else None
        return Reading(usage=None, estimated=None, output_seen=False, ended=Ending.ERROR, error=error or f"status {self._status}")
