"""The tally of OpenAI's chat completions and of those who speak the same: OpenRouter, xAI and others.

`prompt_tokens` includes what was read from and written to the cache, `completion_tokens` the
reasoning. A stream has its figures in one chunk near the end, which may also carry choices.
"""

import re
from dataclasses import replace
from typing import Any

from ledger.entries import UsageLine
from metering.tally_meter import STRING, Meter, Terms
from metering.usage import UnreadableUsage, as_object, cost_text, count, count_or_none, error_text, sub_object

TOKENS_AROUND_FUNCTION_CALL = 16
_LONG_LIVED = frozenset({"1h"})
_WORDS = re.compile(rb'"(?:error"|usage"\s*:\s*[^\sn])')


def openai_line(terms: Terms, usage: dict[str, Any], *, names: tuple[str, str], model: str, tier: str | None) -> tuple[UsageLine, tuple[str, ...]]:
    """Sort a usage of OpenAI's kind into a line, and name what contradicts itself in it.

    `names` are `prompt` and `completion`, or `input` and `output`.

    Raises:
        UnreadableUsage: a figure is not a count, or the input figure is missing.
    """
    prompt, completion = count_or_none(usage, f"{names[0]}_tokens"), count(usage, f"{names[1]}_tokens")
    if prompt is None:
        raise UnreadableUsage(f"{names[0]}_tokens is missing")
    entering, leaving = sub_object(usage, f"{names[0]}_tokens_details"), sub_object(usage, f"{names[1]}_tokens_details")
    read, written = count_or_none(entering, "cached_tokens"), count_or_none(entering, "cache_write_tokens")
    fresh = prompt - (read or 0) - (written or 0)
    doubts = () if fresh >= 0 else ("cached tokens exceed the input",)
    reasoning, total = count(leaving, "reasoning_tokens"), count_or_none(usage, "total_tokens")
    if reasoning and total == prompt + completion + reasoning:
        # xAI counts the reasoning beside the completion. Never the other way round: a reasoning figure may even exceed it.
        completion += reasoning
    long_lived = terms.request.cache_write == _LONG_LIVED
    line = UsageLine(
        provider=terms.provider,
        model=model,
        input_tokens=max(0, fresh),
        output_tokens=completion,
        cache_write_5m_tokens=None if long_lived else written,
        cache_write_1h_tokens=written if long_lived else None,
        cache_read_tokens=read,
        input_audio_tokens=min(count(entering, "audio_tokens"), max(0, fresh)) if "audio_tokens" in entering else 0,
        output_audio_tokens=min(count(leaving, "audio_tokens"), completion) if "audio_tokens" in leaving else 0,
        fees=_search_fees(usage),
        service_tier=tier,
    )
    return line, doubts


def _search_fees(usage: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """Return the searches that OpenRouter counts beside the tokens."""
    for name in ("server_tool_use_details", "server_tool_use"):
        if name not in usage:
            continue
        searches = count(sub_object(usage, name), "web_search_requests")
        if searches:
            return (("web_search", searches),)
    return ()


class ChatMeter(Meter):
    """Reads /v1/chat/completions."""

    output = re.compile(rb'"(?:content|arguments|reasoning|reasoning_content|refusal|transcript|name)"' + STRING)

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._lines: tuple[UsageLine, ...] = ()
        self._finished: set[object] = set()  # choices

    def matters(self, block: bytes) -> bool:
        """Tell whether a usage that is not null, the end mark or an error may be in it."""
        return _WORDS.search(block) is not None or b"[DONE]" in block

    def measure(self, block: bytes) -> None:
        """Count texts, and the beginnings of tool calls."""
        super().measure(block)
        if b'"tool_calls"' in block:
            self.hidden_tokens += TOKENS_AROUND_FUNCTION_CALL * block.count(b'"name"')

    def end_marker(self, data: bytes) -> bool:
        """Take in `[DONE]`: figures told before it are the closing ones, wherever they stood."""
        if data.strip() != b"[DONE]":
            return False
        self.terminal = True
        self.final = self.final or bool(self._lines)
        return True

    def read_event(self, name: bytes, event: Any) -> None:  # noqa: ARG002 - chunks have no names
        """Take in one chunk: its names, its figures, an error."""
        chunk = as_object(event)
        choices = _choices(chunk)
        self.note_answer(chunk)
        if chunk.get("error") is not None:
            self.error = error_text(chunk["error"]) or "error"
        elif any(as_object(choice).get("finish_reason") == "error" for choice in choices):
            self.error = self.error or "error: the provider ended the answer with an error"
        # Some upstreams tell running figures with every chunk; they are final with the last choice only.
        self._finished.update(str(item.get("index")) for item in map(as_object, choices) if item.get("finish_reason") is not None)
        self._take(chunk.get("usage"), final=not choices or len(self._finished) >= self.terms.request.choices)

    def read_body(self, body: dict[str, Any]) -> bool:
        """Take in a whole completion."""
        self.note_answer(body)
        self._take(body.get("usage"), final=True)
        return True

    def lines(self) -> tuple[UsageLine, ...]:
        """Return the one line of the answer."""
        return self._lines

    def output_floor(self) -> int:
        """Return the output told by running figures."""
        return self._lines[0].output_tokens if self._lines else 0

    def known_line(self, output_tokens: int) -> UsageLine:
        """Return the line with the input of running figures, else with its estimate."""
        return replace(self._lines[0], output_tokens=output_tokens) if self._lines else super().known_line(output_tokens)

    def _take(self, usage: Any, *, final: bool) -> None:
        if usage is None:
            return
        if not isinstance(usage, dict):
            raise UnreadableUsage("usage is not an object")
        tier = self.terms.line_tier(self.service_tier)
        line, self.doubts = openai_line(self.terms, usage, names=("prompt", "completion"), model=self.model or self.terms.rate.model, tier=tier)
        self._lines, self.cost, self.final = (line,), cost_text(usage), self.final or final


def _choices(chunk: dict[str, Any]) -> list[Any]:
    choices = chunk.get("choices")
    return choices if isinstance(choices, list) else []
