"""Bytes in, usage out: what the tallies of all dialects share.

A stream is not parsed event by event. Each block of whole events is searched for the few words
that can matter; only events that bear one are read as JSON, and they alone decide. Everything
else is only measured, for the case that the stream is cut and its output must be estimated.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ledger.entries import UsageLine
from metering.rates import BPS, Rate
from metering.requests import MeteredRequest
from metering.sse import EventBuffer, parse_event, split_events
from metering.usage import Ending, Reading, UnreadableUsage, Usage, as_text, error_text, parse_json

# English has about four bytes to a token, other scripts and code about three: three is the estimate upwards.
BYTES_PER_TOKEN = 3
# A model writes a few tokens to end its turn, and some dozens around each call of a tool.
TOKENS_AROUND_ANSWER = 8
TOKENS_AROUND_TOOL_CALL = 50
BODY_BYTES_MAX = 32 * 1024 * 1024
NEUTRAL_TIERS = frozenset({"", "standard", "default", "auto"})

STRING = rb'\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a tally must know of the request: who answers, what was asked, and the rate it was priced at."""

    provider: str
    request: MeteredRequest
    rate: Rate

    def line_tier(self, answered: str | None) -> str | None:
        """Return the tier to bill: the answer's; where it is silent the request's, if that is dearer."""
        if answered is not None:
            return None if answered in NEUTRAL_TIERS else answered
        asked = self.request.service_tier
        return asked if asked and self.rate.service_tiers.get(asked, 0) > BPS else None

    def input_estimate(self) -> int:
        """Return the input tokens of an answer that did not tell them, estimated upwards."""
        bound = self.request.input
        if bound.remote:
            return self.rate.context * self.request.passes
        tokens = -(-bound.text_bytes // BYTES_PER_TOKEN) + bound.media_tokens + bound.audio_tokens
        # A list of texts to embed is not bounded by the context of one of them.
        return tokens if self.rate.kind == "embedding" else min(tokens, self.rate.context) * self.request.passes

    def output_cap(self) -> int:
        """Return the most output tokens that this request can have brought."""
        return (self.request.output_limit or self.rate.output_max) * max(1, self.request.choices)


class Meter(ABC):
    """Reads the events of one dialect. `final` tells that the closing figures are in.

    `output` finds the texts in which a model's output shows; `output_bytes` and `deltas` count
    them, `hidden_tokens` what a model writes around them (tool calls, ends of turns).
    """

    output: re.Pattern[bytes]

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.output_bytes = self.deltas = self.hidden_tokens = 0
        self.model: str | None = None
        self.response_id: str | None = None
        self.service_tier: str | None = None
        self.cost: str | None = None
        self.error: str | None = None
        self.final = False
        self.terminal = False
        self.doubts: tuple[str, ...] = ()

    @abstractmethod
    def matters(self, block: bytes) -> bool:
        """Tell cheaply whether an event in these bytes may have to be read. Wrong only on the side of yes."""

    @abstractmethod
    def read_event(self, name: bytes, event: Any) -> None:
        """Take in one event of a stream.

        Raises:
            UnreadableUsage: its usage cannot be billed as it stands.
        """

    @abstractmethod
    def read_body(self, body: dict[str, Any]) -> bool:
        """Take in an answer that was not streamed; False when there is nothing to bill and nothing missing.

        Raises:
            UnreadableUsage: its usage cannot be billed as it stands.
        """

    @abstractmethod
    def lines(self) -> tuple[UsageLine, ...]:
        """Return the billing lines of the figures read so far; only asked for when `final`."""

    def known_line(self, output_tokens: int) -> UsageLine:
        """Return the line of an answer without final figures: known input, else its estimate."""
        terms = self.terms
        return UsageLine(
            provider=terms.provider,
            model=self.model or terms.rate.model,
            input_tokens=terms.input_estimate(),
            output_tokens=output_tokens,
            service_tier=terms.line_tier(self.service_tier),
        )

    def output_floor(self) -> int:
        """Return the output tokens that the provider has told of so far."""
        return 0

    def measure(self, block: bytes) -> None:
        """Count the output that a client can see in these whole events."""
        for text in self.output.findall(block):
            if text:
                self.output_bytes += len(text)
                self.deltas += 1

    def output_estimate(self) -> int:
        """Return the output tokens of what was measured, estimated upwards, 0 only when nothing was."""
        seen = max(-(-self.output_bytes // BYTES_PER_TOKEN), self.deltas)
        return seen + self.hidden_tokens + TOKENS_AROUND_ANSWER if seen or self.hidden_tokens else 0

    def end_marker(self, data: bytes) -> bool:  # noqa: ARG002 - only OpenAI's chat has one
        """Take in the data of an event that is the dialect's end mark rather than JSON; False for any other."""
        return False

    def note_answer(self, answer: dict[str, Any]) -> None:
        """Keep what an answer, whole or in part, says of itself."""
        self.model = as_text(answer.get("model")) or self.model
        self.response_id = as_text(answer.get("id")) or self.response_id
        self.service_tier = as_text(answer.get("service_tier")) or self.service_tier


class Tally(ABC):
    """One answer being read. `feed` never raises, and is cheap for what does not matter."""

    terminal_seen = False
    terminal_complete = False

    @property
    def output_bytes(self) -> int:
        """Bytes of visible output that have come."""
        return 0

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
        )

    def reading(self, ended: Ending) -> Reading:
        """Return the outcome with this ending."""
        usage = self.exact()
        return Reading(
            usage=usage,
            estimated=None if usage else self.estimate(),
            output_seen=self.output_bytes > 0,
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
        if self._stream is not None and self._body.lstrip(b"\xef\xbb\xbf \r\n")[:6].startswith((b"data:", b"event:", b":")):
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
