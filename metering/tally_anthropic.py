"""The tally of Anthropic's messages.

`message_start` brings input and cache figures and a placeholder of the output; each `message_delta`
then replaces what it names, cumulatively. `input_tokens` excludes what was cached. The flat
`cache_creation_input_tokens` is the total of the writes, `cache_creation` splits it by lifetime.
Where `iterations` stand, several passes and maybe several models took part, and their sum is the bill.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ledger.entries import UsageLine
from ledger.values import value
from metering.tally_meter import BYTES_PER_TOKEN, NEUTRAL_TIERS, STRING, TOKENS_AROUND_TOOL_CALL, Meter, Terms
from metering.usage import UnreadableUsage, as_object, as_text, count, count_or_none, error_text, sub_object

NEUTRAL_GEOS = frozenset({"", "global", "not_available"})
# Patterns that begin with one and the same character are searched faster than several words.
_WORDS = re.compile(rb'"(?:message_(?:start|delta|stop)|error)"')
_FRAMES = re.compile(rb'"(?:content_block_st(?:art|op)|thinking|signature)"')
_THINKING = re.compile(rb'"thinking"' + STRING)
_SIGNATURE = re.compile(rb'"signature"' + STRING)
TOKENS_AROUND_BLOCK = 4
SIGNATURE_BYTES_PER_TOKEN = 4
_FLAT = "cache_creation_input_tokens"


@value
class CacheWrites:
    """Tokens written to the cache: the total where it was told, and the split that was last told."""

    total: int | None = None
    short: int | None = None
    long: int | None = None

    def told(self, usage: dict[str, Any]) -> "CacheWrites":
        """Return the writes after another usage: what it does not name stays."""
        total = count_or_none(usage, _FLAT)
        if usage.get("cache_creation") is None:
            return self if total is None else CacheWrites(total=total, short=self.short, long=self.long)
        split = sub_object(usage, "cache_creation")
        short, long = count_or_none(split, "ephemeral_5m_input_tokens"), count_or_none(split, "ephemeral_1h_input_tokens")
        if short is None and long is None:
            return self if total is None else CacheWrites(total=total, short=self.short, long=self.long)
        parts = (short or 0) + (long or 0)
        return CacheWrites(total=parts if total is None else max(total, parts), short=short or 0, long=long or 0)

    def by_lifetime(self) -> tuple[int | None, int | None]:
        """Return (5 minutes, 1 hour). What the split leaves open is of the only lifetime seen, else 5 minutes."""
        if self.total is None:
            return None, None
        short, long = self.short or 0, self.long or 0
        if long and not short:
            return 0, self.total
        long = min(long, self.total)
        return self.total - long, long


NO_WRITES = CacheWrites()


@dataclass(slots=True)
class Figures:
    """The figures of one message, as far as they have been told."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read: int | None = None
    writes: CacheWrites = NO_WRITES
    searches: int = 0
    service_tier: str | None = None
    geo: str | None = None
    speed: str | None = None
    iterations: Sequence[dict[str, Any]] = ()

    def told(self, usage: dict[str, Any]) -> "Figures":
        """Return the figures after another usage: every field it names replaces the one kept.

        Raises:
            UnreadableUsage: a figure in it is not a count.
        """
        searches = count_or_none(sub_object(usage, "server_tool_use"), "web_search_requests") if "server_tool_use" in usage else None
        read = count_or_none(usage, "cache_read_input_tokens")
        fresh, output = count_or_none(usage, "input_tokens"), count_or_none(usage, "output_tokens")
        return Figures(
            input_tokens=self.input_tokens if fresh is None else fresh,
            output_tokens=self.output_tokens if output is None else output,
            cache_read=self.cache_read if read is None else read,
            writes=self.writes.told(usage),
            searches=self.searches if searches is None else searches,
            service_tier=as_text(usage.get("service_tier")) or self.service_tier,
            geo=(as_text(usage["inference_geo"]) or self.geo) if "inference_geo" in usage else self.geo,
            speed=(as_text(usage["speed"]) or self.speed) if "speed" in usage else self.speed,
            iterations=_iterations(usage) if "iterations" in usage else self.iterations,
        )


def _iterations(usage: dict[str, Any]) -> Sequence[dict[str, Any]]:
    listed = usage["iterations"]
    if listed is None:
        return ()
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise UnreadableUsage("iterations is not a list of objects")
    return listed


class AnthropicMeter(Meter):
    """Reads /v1/messages."""

    output = re.compile(rb'"(?:text|partial_json|thinking|name)"' + STRING)

    def __init__(self, terms: Terms) -> None:
        super().__init__(terms)
        self._figures = Figures()
        self._lines: tuple[UsageLine, ...] = ()
        self._stopping = False
        self._thinking_bytes = 0
        self._container: str | None = None

    def matters(self, block: bytes) -> bool:
        """Tell whether a message's start, end, figures or an error may be in it."""
        return _WORDS.search(block) is not None

    def read_event(self, name: bytes, event: Any) -> None:
        """Take in message_start, message_delta, message_stop and error; leave all others."""
        event = as_object(event)
        kind = as_text(event.get("type")) or name.decode("latin-1")
        if kind == "message_start":
            message = as_object(event.get("message"))
            self.note_answer(message)
            self._figures, self.final, self._stopping = Figures(), False, False
            self._take(message.get("usage"))
        elif kind == "message_delta":
            delta = as_object(event.get("delta"))
            self._stopping = self._stopping or delta.get("stop_reason") is not None
            self._note_container(delta)
            self._take(event.get("usage"))
            # A delta without a stop reason may be followed by another with higher figures.
            self.final = self.final or (isinstance(event.get("usage"), dict) and self._stopping)
            self._settle_lines()
        elif kind == "message_stop":
            self.terminal = True
        elif kind == "error":
            self.error = error_text(event.get("error")) or "error"

    def read_body(self, body: dict[str, Any]) -> bool:
        """Take in a whole message."""
        self.note_answer(body)
        self._take(body.get("usage"))
        self.final = isinstance(body.get("usage"), dict)
        self._settle_lines()
        return True

    def measure(self, block: bytes) -> None:
        """Count texts, the blocks and tool calls that frame them, and thinking that is not shown."""
        super().measure(block)
        if _FRAMES.search(block) is None:
            return
        self.hidden_tokens += TOKENS_AROUND_BLOCK * block.count(b'"content_block_start"') + TOKENS_AROUND_TOOL_CALL * block.count(b'tool_use"')
        self._thinking_bytes += sum(map(len, _THINKING.findall(block)))
        self.signature_bytes += sum(map(len, _SIGNATURE.findall(block)))
        begun, ended = block.rfind(b'"content_block_start"'), block.rfind(b'"content_block_stop"')
        if begun > ended:
            # A summary of thinking, or nothing, is shown while it goes on: how much it was, only its signature tells.
            self.reasons_unseen = b'thinking"' in block[begun:]
        elif ended >= 0:
            self.reasons_unseen = False

    def output_seen(self) -> bool:
        """Tell whether any output has come; a signature is that of thinking, shown or not."""
        return super().output_seen() or self.signature_bytes > 0

    def output_estimate(self) -> int:
        """Return the estimate; a signature holds the whole thinking, of which a stream may show nothing."""
        unseen = self.signature_bytes // SIGNATURE_BYTES_PER_TOKEN - self._thinking_bytes // BYTES_PER_TOKEN
        return super().output_estimate() + max(0, unseen)

    def lines(self) -> tuple[UsageLine, ...]:
        """Return the closing figures, one line a model."""
        return self._lines

    def made(self) -> tuple[str, ...]:
        """Return the id of the container that code ran in."""
        return (self._container,) if self._container else ()

    def note_answer(self, answer: dict[str, Any]) -> None:
        """Keep what a message says of itself, also where code ran."""
        super().note_answer(answer)
        self._note_container(answer)

    def _note_container(self, told: dict[str, Any]) -> None:
        if "container" in told:
            self._container = as_text(as_object(told["container"]).get("id")) or self._container

    def output_floor(self) -> int:
        """Return the output told so far; at the start that is a placeholder, so it is only a floor."""
        return self._figures.output_tokens or 0

    def known_line(self, output_tokens: int) -> UsageLine:
        """Return the line with the input and cache figures told so far, exactly."""
        if self._figures.input_tokens is None:
            return super().known_line(output_tokens)
        return replace(self._top_line(), output_tokens=output_tokens)

    def _take(self, usage: Any) -> None:
        if usage is None:
            return
        if not isinstance(usage, dict):
            raise UnreadableUsage("usage is not an object")
        self._figures = self._figures.told(usage)
        self.service_tier = self._figures.service_tier or self.service_tier

    def _settle_lines(self) -> None:
        if not self.final:
            return
        if self._figures.input_tokens is None or self._figures.output_tokens is None:
            raise UnreadableUsage("input_tokens or output_tokens is missing")
        self._lines = self._iteration_lines() if self._figures.iterations else (self._top_line(),)

    def _top_line(self) -> UsageLine:
        figures = self._figures
        short, long = figures.writes.by_lifetime()
        return UsageLine(
            provider=self.terms.provider,
            model=self.model or self.terms.rate.model,
            input_tokens=figures.input_tokens or 0,
            output_tokens=figures.output_tokens or 0,
            cache_write_5m_tokens=short,
            cache_write_1h_tokens=long,
            cache_read_tokens=figures.cache_read,
            fees=(("web_search", figures.searches),) if figures.searches else (),
            service_tier=self._line_tier(),
        )

    def _iteration_lines(self) -> tuple[UsageLine, ...]:
        """Sum the passes by model, in the order in which the models first appear."""
        top, sums = self._top_line(), dict[str, UsageLine]()
        for iteration in self._figures.iterations:
            model = as_text(iteration.get("model")) or top.model
            kept = sums.get(model) or UsageLine(provider=top.provider, model=model, service_tier=top.service_tier)
            sums[model] = self._add_pass(kept, iteration)
        first = top.model if top.model in sums else next(iter(sums))
        sums[first] = replace(sums[first], fees=top.fees)
        return tuple(sums.values())

    def _add_pass(self, line: UsageLine, iteration: dict[str, Any]) -> UsageLine:
        # A pass that does not split its writes is read like the message as a whole.
        told = CacheWrites(short=self._figures.writes.short, long=self._figures.writes.long).told(iteration)
        short, long = told.by_lifetime()
        return replace(
            line,
            input_tokens=line.input_tokens + count(iteration, "input_tokens"),
            output_tokens=line.output_tokens + count(iteration, "output_tokens"),
            cache_write_5m_tokens=_plus(line.cache_write_5m_tokens, short),
            cache_write_1h_tokens=_plus(line.cache_write_1h_tokens, long),
            cache_read_tokens=_plus(line.cache_read_tokens, count_or_none(iteration, "cache_read_input_tokens")),
        )

    def _line_tier(self) -> str | None:
        """Return tier, place and speed of the answer, those that may change the price, joined by `+`."""
        figures, asked = self._figures, self.terms.request
        if figures.geo is None and figures.speed is None and not asked.tiers:
            return self.terms.line_tier(figures.service_tier)
        parts = [
            self.terms.line_tier(figures.service_tier),
            self._modifier("geo", figures.geo, NEUTRAL_GEOS),
            self._modifier("speed", figures.speed, NEUTRAL_TIERS),
        ]
        return "+".join(part for part in parts if part) or None

    def _modifier(self, prefix: str, answered: str | None, neutral: frozenset[str]) -> str | None:
        if answered is None:
            return self.terms.asked_tier(f"{prefix}_")
        return None if answered in neutral else f"{prefix}_{answered}"


def _plus(kept: int | None, more: int | None) -> int | None:
    return kept if more is None else (kept or 0) + more
