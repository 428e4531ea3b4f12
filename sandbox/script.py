"""Scripts: how a request tells the sandbox what to answer, and how badly to behave.

A script is a line of `key=value` words, separated by blanks or semicolons; values are
percent-decoded (`text=two%20words`) and a key alone means 1. The keys are the fields
of the three dataclasses below. A request carries its script in the header
`X-Sandbox-Script`, in `metadata.sandbox` of its body, or in the first line of its last
user text, when that begins with `sandbox:`; the first of these that is present counts.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args
from urllib.parse import unquote

DIRECTIVE = "sandbox:"
USAGE_VARIANTS = ("normal", "absent", "null", "null_fields", "bare", "low_start", "output_only", "choices")
ENCODINGS = ("", "gzip", "deflate", "br", "zstd")
ITERATIONS = r"(\w+:[^:,]*:\d+:\d+)(,\w+:[^:,]*:\d+:\d+)*"
WAIT_MS_MAX = 600_000
WORDS_MAX = 1_000_000


class ScriptError(Exception):
    """A script that cannot be read; the text names the word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScript:
    """What the answer says."""

    text: str = ""  # the words of the answer; by default a short greeting
    words: int = 0  # instead: this many generated words
    events: int = 0  # text events of a stream; by default one for every two words
    tool: str = ""  # call the tool of this name; "1" for the first tool of the request
    arguments: str = ""  # the call's JSON; by default made from the tool's required fields
    thinking: int = 0  # words of reasoning that are shown
    hidden: int = 0  # reasoning tokens that are counted but not shown
    stop: str = ""  # the provider's stop reason, word for word ("length" and "refusal" are translated)
    answer_model: str = ""  # the model that the answer names; by default the one asked for
    tier: str = ""  # the service tier that the answer names


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageScript:
    """What the answer says it cost; counts as they are billed, so `input` leaves out all cached tokens."""

    input: int | None = None
    output: int | None = None
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_write_flat: int = 0  # written tokens for which no lifetime is told
    audio_input: int = 0
    audio_output: int = 0
    web_search: int = 0
    cost: str = ""  # OpenRouter's own charge, its exact JSON text
    iterations: str = ""  # Anthropic: type:model:input:output,... (model may be empty)
    usage: str = "normal"  # one of USAGE_VARIANTS


@dataclass(frozen=True, slots=True, kw_only=True)
class WireScript:
    """How the answer travels, and what goes wrong on its way."""

    status: int = 200  # an error of the provider, in its own form
    error: str = ""  # the error's type or code, in place of the usual one
    message: str = ""
    retry_after: str = ""
    stream_error: int | None = None  # an error event in place of event k; the status stays 200
    head_delay_ms: int = 0
    delay_ms: int = 0  # before every piece but the first
    stall_after: int | None = None  # go silent after k pieces of the body (0: right after the head)
    stall: str = ""  # "head": never begin; "in_head": stop within the head
    close: str = ""  # "before_head" or "in_head"
    cut_after: int | None = None  # close after k events
    cut_bytes: int | None = None  # close after k bytes of the body
    cut: str = "close"  # or "reset"
    end_after: int | None = None  # end politely after k events, as if that were all
    no_terminal: bool = False  # end politely without the events that close a stream
    framing: str = ""  # "chunked", "length" or "close"
    length: int = 0  # how much too large (or small) content-length is
    chunk_bytes: int = 0  # cut the body into pieces of this size
    seed: int | None = None  # cut it at pseudo-random places instead (pieces of 1..chunk_bytes, by default 64)
    together: bool = False  # the whole body in one piece
    encoding: str = ""  # gzip, deflate, br or zstd
    informational: int = 0  # send this 1xx status first
    trailers: bool = False
    bad: str = ""  # "head", "header", "chunk", "json" or "utf8"
    crlf: bool = False  # stream with CRLF line ends
    comments: bool = False  # comment lines between the events
    recording: str = ""  # answer with this recording, "provider/name"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """All that a request wants of the sandbox."""

    answer: AnswerScript = AnswerScript()
    usage: UsageScript = UsageScript()
    wire: WireScript = WireScript()


def parse_script(line: str) -> Script:
    """Read a script.

    Raises:
        ScriptError: an unknown key or a value of the wrong kind.
    """
    words = dict(_read_words(line))
    script = Script(
        answer=AnswerScript(**_take_fields(AnswerScript, words)),
        usage=UsageScript(**_take_fields(UsageScript, words)),
        wire=WireScript(**_take_fields(WireScript, words)),
    )
    if words:
        raise ScriptError(f"unknown words in the sandbox script: {', '.join(sorted(words))}")
    _require_sense(script)
    return script


def _require_sense(script: Script) -> None:
    """Refuse values that no answer could be made of."""
    if script.usage.usage not in USAGE_VARIANTS:
        raise ScriptError(f"usage must be one of {', '.join(USAGE_VARIANTS)}")
    if script.wire.encoding not in ENCODINGS:
        raise ScriptError(f"encoding must be one of {', '.join(ENCODINGS[1:])}")
    if script.usage.iterations and not re.fullmatch(ITERATIONS, script.usage.iterations):
        raise ScriptError("iterations must be type:model:input:output,...")
    for name, value in (("arguments", script.answer.arguments), ("cost", script.usage.cost)):
        try:
            json.loads(value or "null")
        except ValueError as error:
            raise ScriptError(f"{name} must be JSON") from error
    if max(script.answer.words, script.answer.events, script.answer.thinking) > WORDS_MAX:
        raise ScriptError(f"an answer has at most {WORDS_MAX} words")


def _read_words(line: str) -> Iterator[tuple[str, str]]:
    for word in line.replace(";", " ").split():
        key, equals, value = word.partition("=")
        yield key, unquote(value) if equals else "1"


def _take_fields(cls: type[AnswerScript] | type[UsageScript] | type[WireScript], words: dict[str, str]) -> dict[str, Any]:
    return {field.name: _convert(field.name, words.pop(field.name), field.type) for field in fields(cls) if field.name in words}


def _convert(name: str, value: str, kind: Any) -> str | int | bool:
    if kind is str:
        return value
    if kind is bool:
        return value not in {"0", "no", "false"}
    try:
        number = int(value)
    except ValueError as error:
        raise ScriptError(f"{name} must be a whole number, not {value!r}") from error
    if number < 0 and name != "length":
        raise ScriptError(f"{name} must not be negative")
    if int in {kind, *get_args(kind)} and name.endswith("_ms") and number > WAIT_MS_MAX:
        raise ScriptError(f"{name} must be at most {WAIT_MS_MAX}")
    return number


def find_script(headers: Mapping[str, str], body: Any) -> str:
    """Return the script line that a request carries, or an empty one."""
    if "x-sandbox-script" in headers:
        return headers["x-sandbox-script"]
    if not isinstance(body, dict):
        return ""
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("sandbox"), str):
        return str(metadata["sandbox"])
    text = last_user_text(body).lstrip()
    return text[len(DIRECTIVE) :].partition("\n")[0] if text.startswith(DIRECTIVE) else ""


def last_user_text(body: dict[str, Any]) -> str:
    """Return the last text that a user says in a request of any dialect."""
    turns = body.get("messages", body.get("input", []))
    if isinstance(turns, str):
        return turns
    for turn in reversed(turns if isinstance(turns, list) else []):
        if isinstance(turn, str):
            return turn
        if isinstance(turn, dict) and turn.get("role") == "user":
            return _first_text(turn.get("content"))
    return ""


def _first_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    for part in content if isinstance(content, list) else []:
        if isinstance(part, dict) and isinstance(part.get("text"), str):
            return str(part["text"])
    return ""
