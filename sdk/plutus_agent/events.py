"""One tracked call as it goes over the wire."""

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from plutus_agent.amounts import usd_text

TOKEN_FIELDS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")
TOKENS_MAX = 2**53 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """One tracked call, checked.

    `tokens` holds a count for each of TOKEN_FIELDS; `cost` is USD as exact decimal text, None where it is
    to be estimated. `extras` are further fields with the values they have in JSON. The idempotency key
    makes the event count once, however often it is sent.
    """

    provider: str
    model: str | None
    task_type: str
    workspace: str | None
    source: str
    tokens: Mapping[str, int]
    cost: str | None
    extras: Mapping[str, Any]
    idempotency_key: str

    def to_json(self) -> str:
        """Return the event as one line of JSON. The same event always gives the same text, which its key is bound to."""
        fields: dict[str, Any] = {"provider": self.provider, "task_type": self.task_type, "source": self.source}
        fields |= {name: value for name, value in (("model", self.model), ("workspace", self.workspace)) if value}
        fields |= {name: count for name, count in self.tokens.items() if count or name in ("input_tokens", "output_tokens")}
        fields |= {name: value for name, value in self.extras.items() if value is not None}
        fields["idempotency_key"] = self.idempotency_key
        text = json.dumps(fields, separators=(",", ":"), allow_nan=False)
        # The standard writer knows no decimals; a float would not be what the caller gave us.
        return text if self.cost is None else f'{text[:-1]},"cost_usd":{self.cost}}}'


def new_key() -> str:
    """Return an idempotency key that nobody else has."""
    return "sdk-" + secrets.token_hex(16)


def count_of(value: Any, name: str) -> int:
    """Return a token count; None counts as 0, a text or a float as `int` reads it.

    Raises:
        TypeError, ValueError: it is no number, below zero or absurdly large; the text names the field.
    """
    if value is None:
        return 0
    try:
        count = int(value)
    except OverflowError:
        raise ValueError(f"{name} must be a finite number") from None
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name} must be an integer") from None
    if not 0 <= count <= TOKENS_MAX:
        raise ValueError(f"{name} must not be negative" if count < 0 else f"{name} is too large")
    return count


def text_of(value: Any, name: str, *, default: str | None = None) -> str | None:
    """Return a text field, `default` where it is None or blank.

    Raises:
        TypeError: it is no text.
    """
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, not {type(value).__name__}")
    return value.strip() or default


def moment_of(value: Any) -> str:
    """Return a moment (datetime, or seconds since the epoch) as ISO 8601 text in UTC with milliseconds.

    Raises:
        TypeError, ValueError: it is no moment, or a datetime without a time zone.
    """
    if not isinstance(value, datetime):
        value = datetime.fromtimestamp(value, tz=timezone.utc)
    if value.tzinfo is None:
        raise ValueError("occurred_at needs a time zone")
    text: str = value.astimezone(timezone.utc).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def now() -> str:
    """Return this moment as `moment_of` writes it."""
    return moment_of(time.time())


def usage_event(
    *,
    provider: Any,
    model: Any,
    task_type: Any,
    workspace: Any,
    source: Any,
    tokens: Mapping[str, Any],
    cost_usd: Any,
    extras: Mapping[str, Any],
    idempotency_key: str | None,
) -> UsageEvent:
    """Check what an agent passed and return the event.

    Raises:
        TypeError, ValueError: a field has no such value; nothing was sent.
    """
    named = text_of(provider, "provider")
    if named is None:
        raise ValueError("provider must not be empty")
    return UsageEvent(
        provider=named,
        model=text_of(model, "model"),
        task_type=text_of(task_type, "task_type", default="general") or "general",
        workspace=text_of(workspace, "workspace"),
        source=text_of(source, "source", default="sdk") or "sdk",
        tokens={name: count_of(tokens.get(name), name) for name in TOKEN_FIELDS},
        cost=None if cost_usd is None else usd_text(cost_usd),
        extras=dict(extras),
        idempotency_key=text_of(idempotency_key, "idempotency_key") or new_key(),
    )
