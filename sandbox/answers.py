"""What the sandbox answers, before any dialect gives it a form.

Token counts can be worked out by hand: the input is the number of blank-separated words
in all texts of the request, the output the number of words of the answer (shown
reasoning, text and the arguments of a tool call), plus hidden reasoning.
"""

import json
from dataclasses import dataclass, replace
from itertools import cycle, islice, pairwise
from typing import Any

from sandbox.script import Script

GREETING = (
    "Hello from the Level5 sandbox. No model was asked and nothing was paid: this answer is simulated, "
    "but it is streamed, counted and charged exactly as a real one would be."
)
VOCABULARY = ["every", "balance", "begins", "with", "a", "deposit", "and", "each", "answer", "ends", "as", "one", "line", "in", "the", "books", "of", "account"]
REASONING = ["first", "consider", "what", "was", "asked", "then", "recall", "what", "is", "known", "and", "weigh", "it"]
TEXT_KEYS = frozenset({"text", "content", "system", "instructions", "input", "output", "thinking", "arguments"})
LIMIT_KEYS = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Tokens of one answer as they are billed: `input` leaves out everything cached, `output` includes reasoning."""

    input: int
    output: int
    reasoning: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_write_flat: int = 0

    @property
    def cache_write(self) -> int:
        return self.cache_write_5m + self.cache_write_1h + self.cache_write_flat

    @property
    def input_total(self) -> int:
        """All input tokens, as OpenAI and OpenRouter report them."""
        return self.input + self.cache_read + self.cache_write


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call of a tool, its arguments as they are streamed."""

    name: str
    pieces: tuple[str, ...]

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One simulated answer."""

    serial: str  # makes ids unique
    model: str
    text: tuple[str, ...]  # as it is streamed; joined it is the whole text
    thinking: tuple[str, ...]
    tool: ToolCall | None
    stop: str  # "end", "tool", "length", "refusal" or a provider's own word
    choices: int
    counts: Counts
    script: Script


def compose_answer(body: dict[str, Any], script: Script, *, serial: str) -> Answer:
    """Decide what a request is answered."""
    wanted = script.answer
    limit = output_limit(body)
    words = _answer_words(script)
    tool = _call_tool(body, script)
    thinking = list(islice(cycle(REASONING), wanted.thinking))
    room = None if limit is None or script.usage.output is not None else max(limit - len(thinking) - wanted.hidden, 0)
    cut = room is not None and len(words) > room
    words = words[:room] if cut else words
    choices = body["n"] if isinstance(body.get("n"), int) and body["n"] > 0 else 1
    stop = wanted.stop or ("length" if cut else "tool" if tool else "end")
    spoken = len(words) + (len(tool.arguments.split()) if tool else 0)
    output = (spoken + len(thinking) + wanted.hidden) * choices
    return Answer(
        serial=serial,
        model=wanted.answer_model or str(body.get("model", "")),
        text=_into_pieces(words, wanted.events),
        thinking=_into_pieces(thinking, 0),
        tool=tool,
        stop=stop,
        choices=choices,
        counts=_count(body, script, output=output, reasoning=len(thinking) + wanted.hidden),
        script=script,
    )


def _count(body: dict[str, Any], script: Script, *, output: int, reasoning: int) -> Counts:
    told = script.usage
    counted = Counts(
        input=count_words(body),
        output=output,
        reasoning=reasoning,
        cache_read=told.cache_read,
        cache_write_5m=told.cache_write_5m,
        cache_write_1h=told.cache_write_1h,
        cache_write_flat=told.cache_write_flat,
    )
    if told.input is not None:
        counted = replace(counted, input=told.input)
    return counted if told.output is None else replace(counted, output=told.output)


def count_words(body: dict[str, Any]) -> int:
    """Count the blank-separated words of all texts in a request; at least 1."""
    return max(sum(_words_below(value, key) for key, value in body.items() if key in {"system", "messages", "instructions", "input"}), 1)


def _words_below(value: Any, key: str) -> int:
    if isinstance(value, str):
        return len(value.split()) if key in TEXT_KEYS else 0
    if isinstance(value, int):
        return int(key == "input")  # embeddings take numbered tokens, too
    if isinstance(value, list):
        return sum(_words_below(item, key) for item in value)
    if isinstance(value, dict):
        return sum(_words_below(item, name) for name, item in value.items())
    return 0


def output_limit(body: dict[str, Any]) -> int | None:
    """Return the smallest output limit that the request sets, in whichever dialect."""
    limits = [body[key] for key in LIMIT_KEYS if isinstance(body.get(key), int)]
    return min(limits, default=None)


def _answer_words(script: Script) -> list[str]:
    wanted = script.answer
    if wanted.text:
        return wanted.text.split()
    if wanted.words:
        return list(islice(cycle(VOCABULARY), wanted.words))
    if wanted.tool:
        return []
    words = GREETING.split()
    return words if wanted.events <= len(words) else list(islice(cycle(VOCABULARY), wanted.events))


def _into_pieces(words: list[str], pieces: int) -> tuple[str, ...]:
    """Spread words over pieces, two each unless told otherwise; blanks lead, as models' tokens have them."""
    if not words:
        return ()
    count = min(pieces or (len(words) + 1) // 2, len(words))
    bounds = [len(words) * index // count for index in range(count + 1)]
    joined = [" ".join(words[start:end]) for start, end in pairwise(bounds)]
    return (joined[0], *(f" {piece}" for piece in joined[1:]))


def _call_tool(body: dict[str, Any], script: Script) -> ToolCall | None:
    if not script.answer.tool:
        return None
    tools = [tool.get("function", tool) for tool in body.get("tools") or [] if isinstance(tool, dict)]
    wanted = script.answer.tool
    chosen = tools[0] if tools and wanted == "1" else next((tool for tool in tools if tool.get("name") == wanted), {})
    arguments = script.answer.arguments or json.dumps(_sample_arguments(chosen))
    return ToolCall(name=str(chosen.get("name", wanted)), pieces=tuple(arguments[at : at + 8] for at in range(0, len(arguments), 8)))


def _sample_arguments(tool: dict[str, Any]) -> dict[str, Any]:
    """Fill a tool's required fields with the plainest values of their types."""
    schema = tool.get("input_schema") or tool.get("parameters") or {}
    samples: dict[str, Any] = {"string": "sandbox", "integer": 1, "number": 1, "boolean": True, "array": [], "object": {}}
    fields = schema.get("properties") or {}
    return {name: (fields.get(name, {}).get("enum") or [samples.get(fields.get(name, {}).get("type"))])[0] for name in schema.get("required") or []}
