"""The tally of OpenAI's responses, also as OpenRouter speaks them.

Figures stand only in the terminal event (`completed`, `incomplete`, `failed`, `cancelled`), which
holds the whole answer; a failed one may have none. Searches that the provider ran are items of the
answer, not figures.
"""

import re
from collections import Counter
from dataclasses import replace
from typing import Any

from ledger.entries import UsageLine
from metering.tally_chat import TOKENS_AROUND_FUNCTION_CALL, openai_line
from metering.tally_meter import STRING, Meter, Terms
from metering.usage import UnreadableUsage, as_object, as_text, cost_text, error_text

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})
_UNFINISHED = frozenset({"queued", "in_progress"})
_WORDS = re.compile(rb'"(?:response\.(?:completed|incomplete|failed|cancelled)|error)"')
_FEES = {"file_search_call": "file_search", "code_interpreter_call": "code_interpreter", "image_generation_call": "image_generation"}


class ResponsesMeter(Meter):
    """Reads /v1/responses and /v1/responses/compact."""

    # The full texts come again in the `done` events; only the deltas count.
    output = re.compile(rb'"(?:delta|partial_image_b64)"' + STRING)

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._lines: tuple[UsageLine, ...] = ()
        self._stored = terms.request.stores
        self._items: list[str] = []
        self._containers: list[str] = []

    def matters(self, block: bytes) -> bool:
        """Tell whether a terminal event or an error may be in it."""
        return _WORDS.search(block) is not None

    def read_event(self, name: bytes, event: Any) -> None:
        """Take in the terminal event, an error, and the names that any event bears."""
        event = as_object(event)
        kind = as_text(event.get("type")) or name.decode("latin-1")
        response = as_object(event.get("response"))
        if kind == "error":
            self.error = error_text(event.get("error") or event) or "error"
        elif kind in _TERMINAL:
            self.terminal = True
            self.error = error_text(response.get("error")) or self.error
            if kind == "response.failed":
                self.error = self.error or "error: the response failed"
            self._take(response)
        elif response:
            self.note_answer(response)

    def read_body(self, body: dict[str, Any]) -> bool:
        """Take in a whole response; a queued or running one has nothing to bill yet."""
        self._take(body)
        return self.final or body.get("status") not in _UNFINISHED

    def measure(self, block: bytes) -> None:
        """Count texts, and the beginnings of items."""
        super().measure(block)
        if b'"response.output_item.added"' in block:
            self.hidden_tokens += TOKENS_AROUND_FUNCTION_CALL * block.count(b'"response.output_item.added"')

    def lines(self) -> tuple[UsageLine, ...]:
        """Return the one line of the answer."""
        return self._lines

    def made(self) -> tuple[str, ...]:
        """Return the ids of the response and its items, unless it is not kept, and of the containers that code ran in."""
        kept = [self.response_id, *self._items] if self._stored and self.response_id else []
        return tuple(dict.fromkeys([*kept, *self._containers]))

    def note_answer(self, answer: dict[str, Any]) -> None:
        """Keep what an answer says of itself, also that it will not be stored."""
        super().note_answer(answer)
        self._stored = self._stored and answer.get("store") is not False

    def _take(self, response: dict[str, Any]) -> None:
        self.note_answer(response)
        items = [as_object(item) for item in output] if isinstance(output := response.get("output"), list) else []
        self._items = [name for item in items if (name := as_text(item.get("id")))]
        self._containers = [name for item in items if (name := as_text(item.get("container_id")))]
        usage = response.get("usage")
        if usage is None:
            return
        if not isinstance(usage, dict):
            raise UnreadableUsage("usage is not an object")
        tier = self.terms.line_tier(self.service_tier)
        line, self.doubts = openai_line(self.terms, usage, names=("input", "output"), model=self.model or self.terms.rate.model, tier=tier)
        fees = Counter(dict(line.fees))
        fees |= _tool_fees(response.get("output"))
        self._lines = (_with_fees(line, fees),)
        self.cost, self.final = cost_text(usage), True


def _with_fees(line: UsageLine, fees: "Counter[str]") -> UsageLine:
    return replace(line, fees=tuple(sorted((name, times) for name, times in fees.items() if times)))


def _tool_fees(output: Any) -> "Counter[str]":
    """Count what the provider's own tools did. Opening a page found by a search is not a search."""
    fees: Counter[str] = Counter()
    for item in output if isinstance(output, list) else []:
        kind = as_text(as_object(item).get("type"))
        if kind == "web_search_call":
            fees["web_search"] += as_object(as_object(item).get("action")).get("type", "search") == "search"
        elif kind in _FEES:
            fees[_FEES[kind]] += 1
    return fees
