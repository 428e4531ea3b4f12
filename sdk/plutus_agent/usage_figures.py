"""Reading what a provider's answer says it used, from the official SDKs' objects or from plain dicts. Pure.

Every token is counted once: input without what was cached, output without the reasoning that is told apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from plutus_agent.errors import PlutusUsageError

# No answer of a real model comes near it.
COUNT_MAX = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one model used in one answer.

    `input_tokens` were not cached. `output_tokens` are those beside `reasoning_tokens`. `cache_write_tokens` are all that were written
    to a cache, of which `cache_write_1h_tokens` for an hour and the others for five minutes. `cost_usd` is the provider's own, as it stood there.
    """

    model: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    cost_usd: Any = None


def member(holder: Any, name: str) -> Any:
    """Return what `holder`, an object or a dict, has under `name`; None where it has nothing."""
    if isinstance(holder, Mapping):
        return holder.get(name)
    return None if holder is None else getattr(holder, name, None)


def count_or_none(usage: Any, name: str) -> int | None:
    """Return the count under `name`; None when it is null or absent.

    Raises:
        PlutusUsageError: it is no count.
    """
    value = member(usage, name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= COUNT_MAX:
        raise PlutusUsageError(f"the answer's {name} is not a count")
    return value


def count(usage: Any, name: str) -> int:
    """Return the count under `name`, 0 when it is null or absent."""
    return count_or_none(usage, name) or 0


def _text(holder: Any, name: str) -> str | None:
    value = member(holder, name)
    return value if isinstance(value, str) and value else None


def _kind(holder: Any) -> str:
    return _text(holder, "type") or ""


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def read_openai(answer: Any) -> Figures | None:
    """Read a chat completion, a response, an embedding, their bare usage, a chunk or event of their streams, or a list of these.

    Returns None for a piece of a stream that has no figures, as most have not.

    Raises:
        PlutusUsageError: it is none of these, or has no readable usage.
    """
    if _is_list(answer):
        pieces = [figures for piece in answer if (figures := read_openai(piece)) is not None]
        if not pieces:
            raise PlutusUsageError("the stream told no usage: ask for it with stream_options={'include_usage': True}")
        return pieces[-1]
    whole = member(answer, "response") if _kind(answer).startswith("response.") else None
    holder = answer if whole is None else whole
    usage = member(holder, "usage")
    if usage is None and (count_or_none(answer, "prompt_tokens") is not None or count_or_none(answer, "input_tokens") is not None):
        usage = answer
    if usage is None:
        if _kind(answer).startswith("response.") or _text(answer, "object") == "chat.completion.chunk" or _kind(answer) == "error":
            return None
        raise PlutusUsageError(f"no usage found in {type(answer).__name__}: pass the provider's answer, its last chunk or its usage")
    return _openai_figures(usage, _text(holder, "model"))


def _openai_figures(usage: Any, model: str | None) -> Figures:
    entering, leaving = ("prompt", "completion") if count_or_none(usage, "prompt_tokens") is not None else ("input", "output")
    total_input, output = count_or_none(usage, f"{entering}_tokens"), count(usage, f"{leaving}_tokens")
    if total_input is None:
        raise PlutusUsageError("the answer's usage has neither prompt_tokens nor input_tokens")
    into, out = member(usage, f"{entering}_tokens_details"), member(usage, f"{leaving}_tokens_details")
    read, written, reasoning = count(into, "cached_tokens"), count(into, "cache_write_tokens"), count(out, "reasoning_tokens")
    if reasoning and count_or_none(usage, "total_tokens") == total_input + output + reasoning:
        output += reasoning  # xAI counts the reasoning beside the completion, all others inside it
    reasoning = min(reasoning, output)
    cost = member(usage, "cost")
    return Figures(
        model=model,
        input_tokens=max(0, total_input - read - written),
        output_tokens=output - reasoning,
        reasoning_tokens=reasoning,
        cache_read_tokens=read,
        cache_write_tokens=written,
        # With a key of one's own, what OpenRouter charges is not what the call costs.
        cost_usd=cost if isinstance(cost, int | float | str) and not isinstance(cost, bool) and member(usage, "is_byok") is not True else None,
    )


def read_anthropic(answer: Any) -> tuple[Figures, ...] | None:
    """Read a message, its bare usage, or all events of a stream: figures for each model that took part, the answering one first.

    Returns None for a single event of a stream that has no closing figures.

    Raises:
        PlutusUsageError: it is none of these, or has no readable usage.
    """
    if _is_list(answer):
        return _read_anthropic_events(answer)
    kind = _kind(answer)
    if kind in ("ping", "error", "message_start", "message_stop") or kind.startswith("content_block"):
        return None
    usage = member(answer, "usage")
    if usage is None and count_or_none(answer, "input_tokens") is not None:
        usage = answer
    if usage is None:
        raise PlutusUsageError(f"no usage found in {type(answer).__name__}: pass the message, its usage or all events of its stream")
    if kind == "message_delta" and (count_or_none(usage, "input_tokens") is None or count_or_none(usage, "output_tokens") is None):
        raise PlutusUsageError("this event tells only the output: pass all events of the stream, or its final message")
    return _anthropic_figures([usage], _text(answer, "model"))


def _read_anthropic_events(events: Sequence[Any]) -> tuple[Figures, ...]:
    usages: list[Any] = []
    model: str | None = None
    closed = False
    for event in events:
        if _kind(event) == "message_start":
            message = member(event, "message")
            usages, model, closed = [member(message, "usage")], _text(message, "model"), False
        elif _kind(event) == "message_delta" and member(event, "usage") is not None:
            usages.append(member(event, "usage"))
            closed = True
    if not closed:
        raise PlutusUsageError("the stream told no closing usage: it was cut, or is none of Anthropic's")
    return _anthropic_figures(usages, model)


def _anthropic_figures(usages: Sequence[Any], model: str | None) -> tuple[Figures, ...]:
    """Put usages together: each replaces what it names. Where passes are listed, their sum by model is the bill."""
    told: dict[str, int] = {}
    passes: Sequence[Any] = ()
    for usage in usages:
        told |= _told(usage)
        listed = member(usage, "iterations")
        passes = listed if _is_list(listed) else ()
    if "input_tokens" not in told or "output_tokens" not in told:
        raise PlutusUsageError("the answer's usage lacks input_tokens or output_tokens")
    if not passes:
        return (_figures(told, model),)
    sums: dict[str | None, Figures] = {}
    for one in passes:
        name = _text(one, "model") or model
        own = _figures({"input_tokens": 0, "output_tokens": 0, **_told(one)}, name, lifetimes=told)
        sums[name] = own if name not in sums else _sum(sums[name], own)
    return tuple(sorted(sums.values(), key=lambda figures: figures.model != model))


def _told(usage: Any) -> dict[str, int]:
    """Return the counts that a usage names."""
    writes = member(usage, "cache_creation")
    found = {
        "input_tokens": count_or_none(usage, "input_tokens"),
        "output_tokens": count_or_none(usage, "output_tokens"),
        "read": count_or_none(usage, "cache_read_input_tokens"),
        "written": count_or_none(usage, "cache_creation_input_tokens"),
        "short": count_or_none(writes, "ephemeral_5m_input_tokens"),
        "long": count_or_none(writes, "ephemeral_1h_input_tokens"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _figures(told: Mapping[str, int], model: str | None, *, lifetimes: Mapping[str, int] | None = None) -> Figures:
    """Return the figures of named counts; `lifetimes` are the message's, for a pass that does not split its writes itself."""
    parts = told.get("short", 0) + told.get("long", 0)
    written = max(told.get("written", 0), parts)
    split = told if parts or lifetimes is None else lifetimes
    short, long = split.get("short", 0), split.get("long", 0)
    return Figures(
        model=model,
        input_tokens=told["input_tokens"],
        output_tokens=told["output_tokens"],
        cache_read_tokens=told.get("read", 0),
        cache_write_tokens=written,
        # What the split leaves open is of the only lifetime seen, else of five minutes.
        cache_write_1h_tokens=written if long and not short else min(long, written),
    )


def _sum(one: Figures, other: Figures) -> Figures:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
    return replace(one, **{name: getattr(one, name) + getattr(other, name) for name in names})
