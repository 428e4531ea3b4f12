"""Reading what is reported to `POST /v1/usage`: strictly, exactly, and with faults that name the event and the field.

JSON numbers never pass through a float: whole ones are read as integers, all others as decimals. A name that an object has twice
is refused, since senders and books could take different values for it. A thousand events are read in a few milliseconds: what is
right is checked by the plainest means, and only what is not is looked at closely.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, Final, NoReturn

from ledger.ingest_values import COST_MAX, ITEMS_MAX, TEXT_LENGTH_MAX, TOKENS_MAX

KEY_LENGTH_MAX: Final = 255
FUTURE_MS_MAX: Final = 300_000  # clocks differ
DAY_MS: Final = 86_400_000
MOMENT_LENGTH_MAX: Final = 40
_NEVER: Final = 2**62
COUNT_FAULT: Final = f"send 1–{ITEMS_MAX} events"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_LENGTH_MAX}}}")
# Programs write 0.1 + 0.2 as 0.30000000000000004: what is beyond the digits that a double holds is noise, not money.
_DOUBLE = Context(prec=15)
_TOKEN_FIELDS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "reasoning_tokens")


class BadEvents(Exception):
    """The body is no usage; `event` is the number of the event from 0, None where the fault is not in one, `field` its field.

    `status` is 409 where an idempotency key stands for something else, or is being worked on.
    """

    def __init__(self, text: str, *, event: int | None = None, field: str | None = None, status: int = 400) -> None:
        super().__init__(text)
        self.text, self.event, self.field, self.status = text, event, field, status


class FieldFault(Exception):
    """One field of an event is wrong."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(text)
        self.field, self.text = field, text


@dataclass(slots=True)
class ReportedEvent:
    """One event as it was reported. Not frozen, since thousands are made at once: nobody changes it.

    `cost` is in microunits, None where it is to be estimated; `occurred_at` in milliseconds, None for now. `workspace` and `model`
    are empty where none is named. `cache_write_1h_tokens` are a part of `cache_write_tokens`.
    """

    provider: str
    model: str
    task_type: str
    source: str
    workspace: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cost: int | None
    occurred_at: int | None
    external_ref: str | None
    user_id: str | None
    idempotency_key: str | None

    def canonical(self) -> str:
        """Return what an idempotency key is bound to: everything that counts, however it was written."""
        fields: tuple[object, ...] = (
            self.provider, self.model, self.task_type, self.source, self.workspace, self.input_tokens, self.output_tokens, self.cache_read_tokens,
            self.cache_write_tokens, self.reasoning_tokens, self.cost, self.occurred_at, self.external_ref, self.user_id,
        )  # fmt: skip
        if self.cache_write_1h_tokens:  # at the end, so that what was bound before there was such a field stays bound
            fields = (*fields, self.cache_write_1h_tokens)
        return json.dumps(fields)


@dataclass(slots=True)
class Reported:
    """The events of one request. `bad` holds the faults of those that were left out, by their number, which only a `partial` batch allows."""

    events: dict[int, ReportedEvent]
    bad: dict[int, BadEvents]
    is_batch: bool
    count: int
    partial: bool = False

    def canonical(self) -> str:
        """Return what the idempotency key of the whole request is bound to."""
        texts = [self.events[number].canonical() if number in self.events else str(self.bad[number]) for number in range(self.count)]
        return json.dumps([self.is_batch, self.partial, *texts])

    def leave_out(self, numbers: Sequence[int], *, field: str, text: str, status: int = 400) -> None:
        """Take events out that turned out to be bad.

        Raises:
            BadEvents: the others are not wanted without them.
        """
        for number in numbers:
            fault = BadEvents(f"event {number}: {text}" if self.is_batch else text, event=number, field=field, status=status)
            if not self.partial:
                raise fault
            del self.events[number]
            self.bad[number] = fault


def read_events(body: bytes, *, now_ms: int, late_days_max: int, partial: bool = False) -> Reported:
    """Read one event or an array of 1 to 1000 of them. With `partial` bad events of a batch are left out, else the first refuses all.

    Raises:
        BadEvents: the body is not JSON, has too few or too many events, or one is wrong.
    """
    content = _parse(body)
    is_batch = isinstance(content, list)
    items: list[object] = content if isinstance(content, list) else [content]
    if not 1 <= len(items) <= ITEMS_MAX:
        raise BadEvents(COUNT_FAULT)
    reported, oldest = Reported({}, {}, is_batch, len(items), partial=partial and is_batch), now_ms - late_days_max * DAY_MS
    for number, item in enumerate(items):
        try:
            reported.events[number] = _read_event(item, oldest=oldest, newest=now_ms + FUTURE_MS_MAX)
        except FieldFault as fault:
            refusal = BadEvents(f"event {number}: {fault.text}" if is_batch else fault.text, event=number, field=fault.field)
            if not reported.partial:
                raise refusal from None
            reported.bad[number] = refusal
    return reported


def _parse(body: bytes) -> object:
    """Read JSON. An empty body counts as an empty object, which then lacks its provider."""
    try:
        text = body.decode("utf-8") if body.strip() else "{}"
        return _decoder.decode(text)
    except BadEvents:
        raise
    except (ValueError, RecursionError):
        raise BadEvents("body must be JSON") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadEvents(f"body must be JSON without repeated names: {twice[:TEXT_LENGTH_MAX]!r} is given twice", field=twice[:TEXT_LENGTH_MAX])
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise BadEvents(f"body must be JSON: {name} is no JSON number")


_decoder: Final = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_object)


def _read_event(item: object, *, oldest: int, newest: int) -> ReportedEvent:
    if not isinstance(item, dict) or not (provider := _read_provider(item)):
        raise FieldFault("provider", "each event needs a 'provider'")
    tokens = [value if type(value := item.get(name, 0)) is int and 0 <= value <= TOKENS_MAX else _odd_tokens(value, name) for name in _TOKEN_FIELDS]
    if tokens[4] > tokens[3]:
        raise FieldFault("cache_write_1h_tokens", "cache_write_1h_tokens must be at most cache_write_tokens, of which they are a part")
    return ReportedEvent(
        provider,
        _text(item, "model", ""),
        _text(item, "task_type", "general"),
        _text(item, "source", "api"),
        _workspace(item),
        tokens[0],
        tokens[1],
        tokens[2],
        tokens[3],
        tokens[4],
        tokens[5],
        _cost(item.get("cost_usd")),
        None if item.get("occurred_at") is None else _moment(item["occurred_at"], oldest=oldest, newest=newest),
        _text(item, "external_ref", "") or None,
        _text(item, "user_id", "") or None,
        None if item.get("idempotency_key") is None else _key(item["idempotency_key"]),
    )


def _read_provider(item: Mapping[str, object]) -> str:
    return _text(item, "provider", "")


def _text(item: Mapping[str, Any], name: str, default: str) -> str:
    """Return a text without blanks around it; absent, null and blank ones are the default."""
    value = item.get(name)
    if value is None:
        return default
    if type(value) is not str:
        raise FieldFault(name, f"{name} must be text")
    if not value.isprintable() and _UNPRINTABLE.search(value):
        raise FieldFault(name, f"{name} must have no control characters")
    if len(value) > TEXT_LENGTH_MAX:
        raise FieldFault(name, f"{name} must have at most {TEXT_LENGTH_MAX} characters")
    return value.strip() or default


def _workspace(item: Mapping[str, object]) -> str:
    """Return the name of a workspace, which unlike other texts makes something: it is one that people can read."""
    name = _text(item, "workspace", "")
    if not name.isprintable():
        raise FieldFault("workspace", "workspace must be printable")
    return name


def _odd_tokens(value: object, name: str) -> int:
    if value is None:
        return 0
    if type(value) is int and value > TOKENS_MAX:
        raise FieldFault(name, f"{name} must be at most {TOKENS_MAX}")
    raise FieldFault(name, f"{name} must be a non-negative integer")


def _cost(value: object) -> int | None:
    """Return microunits for a number of USD, rounded up to a whole one; None where none is given."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise FieldFault("cost_usd", "cost_usd must be a number")
    if value < 0:
        raise FieldFault("cost_usd", "cost_usd must be non-negative")
    if value > COST_MAX // 1_000_000:
        raise FieldFault("cost_usd", f"cost_usd must be at most {COST_MAX // 1_000_000}")
    return value * 1_000_000 if isinstance(value, int) else microunits(value)


def microunits(usd: Decimal) -> int:
    """Return USD as whole microunits, rounded up, and never nothing for something; the noise of a double's last digits is no money."""
    if not usd:
        return 0
    if usd.adjusted() < -6:  # below one microunit, however many zeros
        return 1
    scaled = usd.scaleb(6)
    whole = int(scaled)
    if scaled != whole:
        whole = int(_DOUBLE.plus(scaled).to_integral_value(ROUND_CEILING))
    return whole


def _moment(value: object, *, oldest: int, newest: int) -> int:
    """Return milliseconds for an RFC 3339 time or for seconds since 1970."""
    moment = _milliseconds(value)
    if moment < oldest:
        raise FieldFault("occurred_at", "occurred_at is longer ago than late events are taken")
    if moment > newest:
        raise FieldFault("occurred_at", "occurred_at is in the future")
    return moment


def _milliseconds(value: object) -> int:
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return int(value * 1000) if -(10**15) < value < 10**15 else _NEVER
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= MOMENT_LENGTH_MAX else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise FieldFault("occurred_at", "occurred_at must be a time with its offset, such as 2026-01-31T12:00:00Z, or seconds since 1970")
    return int(at.timestamp() * 1000)


def _key(value: object) -> str:
    if not isinstance(value, str) or not is_idempotency_key(value):
        raise FieldFault("idempotency_key", f"idempotency_key must be 1 to {KEY_LENGTH_MAX} visible ASCII characters")
    return value


def is_idempotency_key(text: str) -> bool:
    """Tell whether a text may be an idempotency key."""
    return _KEY.fullmatch(text) is not None
