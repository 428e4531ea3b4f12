"""What a provider's answer says it used, read strictly: whole numbers or nothing.

A figure of the wrong type, below zero or absurdly large makes the whole usage unreadable. It is
then estimated from bytes and alarmed, never guessed at or left at 0.
"""

import json
import re
from enum import StrEnum
from typing import Any

from ledger.entries import UsageLine
from ledger.values import value

# No answer of a real model comes near it; beyond it a figure is an accident or an attack.
TOKENS_MAX = 1_000_000_000
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d{1,3})?")


class UnreadableUsage(Exception):
    """The answer carries a usage that cannot be billed as it stands; the text names the field."""


class Ending(StrEnum):
    """How an answer ended, as far as its own bytes tell."""

    COMPLETE = "complete"
    CUT = "cut"
    ERROR = "error"
    UNREADABLE = "unreadable"


@value
class Usage:
    """What one answer used, a line for each model that took part.

    `final` tells that the provider's closing figures are in; `terminal` that the answer's last event
    was seen. `provider_cost_usd` is the provider's own figure, as it was written. `service_tier` is the
    answer's own word; what it means for the price stands in the lines. `doubts` names figures that
    contradict themselves: they were read in the provider's favour, and somebody should look. `made` are the
    ids of what the provider keeps of the answer.
    """

    lines: tuple[UsageLine, ...]
    final: bool
    model: str | None = None
    service_tier: str | None = None
    response_id: str | None = None
    provider_cost_usd: str | None = None
    terminal: bool = False
    error: str | None = None
    doubts: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


@value
class Reading:
    """The outcome of one answer.

    `usage` is exact: charge it when it is there. `estimated` stands in when it is not: the known
    input and cache figures with the output estimated upwards; None when nothing came that could be
    charged. `error` is the provider's error, as type or code and message.
    """

    usage: Usage | None
    estimated: Usage | None
    output_seen: bool
    ended: Ending
    error: str | None = None


def parse_json(data: bytes | bytearray) -> Any:
    """Read JSON with every fraction kept as its exact text; None when it is not JSON."""
    try:
        return json.loads(data, parse_float=str)
    except (ValueError, RecursionError):
        return None


def as_object(value: Any) -> dict[str, Any]:
    """Return `value` if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_text(value: Any) -> str | None:
    """Return `value` if it is a text that is not empty."""
    return value if isinstance(value, str) and value else None


def sub_object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the object under `name`, an empty one for null or absent.

    Raises:
        UnreadableUsage: something else stands there.
    """
    value = parent.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UnreadableUsage(f"{name} is not an object")
    return value


def count_or_none(usage: dict[str, Any], name: str) -> int | None:
    """Return the count under `name`; None when it is null or absent.

    Raises:
        UnreadableUsage: it is no whole number from 0 to TOKENS_MAX.
    """
    value = usage.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= TOKENS_MAX:
        raise UnreadableUsage(f"{name} is not a count")
    return value


def count(usage: dict[str, Any], name: str) -> int:
    """Return the count under `name`, 0 when it is null or absent."""
    return (count_or_none(usage, name) or 0) if name in usage else 0


def cost_text(usage: dict[str, Any]) -> str | None:
    """Return the provider's own cost in USD exactly as it was written; None when there is none."""
    value = usage.get("cost")
    if type(value) is int:
        return str(value)
    return value if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def error_text(error: Any) -> str | None:
    """Return a provider's error object as one line, its type or code first; None when there is none."""
    if isinstance(error, str):
        return error[:500] or None
    if not isinstance(error, dict) or not error:
        return None
    kind = error.get("code") or error.get("type") or "error"
    return f"{kind}: {error.get('message') or ''}"[:500]
