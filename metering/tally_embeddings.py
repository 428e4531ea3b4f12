"""The tally of embeddings: input only.

The answer is large and nearly all numbers. Past PARSED_BYTES_MAX only its end is kept and its
usage read from there; no text of a client stands in such an answer, so nothing can imitate it.
"""

import json
import re
from typing import Any

from ledger.entries import UsageLine
from metering.tally_chat import openai_line
from metering.tally_core import BodyTally
from metering.tally_meter import Meter, Terms
from metering.usage import Ending, Reading, UnreadableUsage, cost_text

PARSED_BYTES_MAX = 1024 * 1024
TAIL_BYTES_MAX = 64 * 1024
_NAMES = re.compile(r'"(usage|model|id)"\s*:\s*')


class EmbeddingsMeter(Meter):
    """Reads /v1/embeddings."""

    output = re.compile(rb"(?!)")

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._lines: tuple[UsageLine, ...] = ()

    def matters(self, block: bytes) -> bool:  # noqa: ARG002
        """Tell that every event has to be read: such answers are not streamed."""
        return True

    def read_event(self, name: bytes, event: Any) -> None:  # noqa: ARG002
        """Take in an event as if it were the whole answer."""
        if isinstance(event, dict):
            self.read_body(event)

    def read_body(self, body: dict[str, Any]) -> bool:
        """Take in the whole answer."""
        self.note_answer(body)
        usage = body.get("usage")
        if usage is None:
            return True
        if not isinstance(usage, dict):
            raise UnreadableUsage("usage is not an object")
        line, self.doubts = openai_line(
            self.terms, usage, names=("prompt", "completion"), model=self.model or self.terms.rate.model, tier=self.terms.line_tier(self.service_tier)
        )
        self._lines, self.cost, self.final = (line,), cost_text(usage), True
        return True

    def lines(self) -> tuple[UsageLine, ...]:
        """Return the one line of the answer."""
        return self._lines


class EmbeddingsTally(BodyTally):
    """An embeddings answer, of any size in little memory."""

    def feed(self, chunk: bytes) -> None:
        """Keep the bytes; of a large answer only the last."""
        self._bytes += len(chunk)
        self._began = self._began or bool(chunk)
        self._body += chunk
        if self._bytes > PARSED_BYTES_MAX and len(self._body) > 2 * TAIL_BYTES_MAX:
            del self._body[:-TAIL_BYTES_MAX]

    def close(self) -> Reading:
        """Parse a small answer; of a large one read the fields after its data."""
        if self._bytes > PARSED_BYTES_MAX:
            fields = _fields_of_tail(bytes(self._body).decode("utf-8", "replace"))
            return self._close_object(fields) if fields.get("usage") is not None else self.reading(Ending.UNREADABLE)
        return super().close()

    def _measure_body(self) -> None:
        self.meter.output_bytes = 0


def _fields_of_tail(text: str) -> dict[str, Any]:
    decoder, fields = json.JSONDecoder(parse_float=str), dict[str, Any]()
    for found in _NAMES.finditer(text):
        try:
            fields[found[1]], _ = decoder.raw_decode(text, found.end())
        except (ValueError, RecursionError):
            return {}
    return fields
