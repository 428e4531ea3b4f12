"""The record of one ingest request: what the outbox carries, the journal hashes and keeps, and the posting reads. Pure.

The form is compact, because every event passes through it five times: texts that events share stand once in `labels`
(provider, model, task type, source, workspace, user), and an event is an array on a line of its own, by which the script
that charges it leaves out what it refuses: label, input, output, cache read, cache write and reasoning tokens, cost, flags
(1 estimated, 2 unpriced), milliseconds from `at` to its occurrence, and where there is such its external reference (or null) and the cache
writes that are for an hour.
"""

import itertools
import json
import math
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Any, Final

from ledger.entries import RequestId
from ledger.ingest_values import COST_MAX, ITEMS_MAX, TEXT_LENGTH_MAX, TOKENS_MAX, UsageItem

ESTIMATED: Final = 1
UNPRICED: Final = 2
WHOLE_REQUEST: Final = -1

type Label = tuple[str | None, ...]  # provider, model, task type, source, workspace, user

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimMark:
    """That this request carries an idempotency key: for the whole of it (line -1) or for one event. Digests of key and body.

    Its owner may charge until `valid_until`, by the monotonic clock of this process.
    """

    key_sha256: bytes
    body_sha256: bytes
    line: int = WHOLE_REQUEST
    valid_until: float = field(default=math.inf, compare=False)


@dataclass(frozen=True, slots=True)
class UsageDraft:
    """A request as the script gets it: `head` ends where the events begin, `items` has one a line; sums of all of them."""

    head: str
    items: str
    tokens: int
    cost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """A recorded request: `rows` are its events that were recorded, as they are written, with the texts of `labels`.

    `lines` are the numbers of all events that were sent, `mask` says what became of each: 1 recorded, f over the free limit,
    b over the balance; empty where all were recorded. `used` are the month's tokens before it, `balance` and `available` microunits after it.
    `funded` tells that the account ever had money. `key_id` is the key that sent it, `rate_card` what estimates were made with, with mark-up or without.
    """

    request_id: RequestId
    key_id: str
    at: int
    rate_card: str
    markup: bool
    labels: tuple[Label, ...]
    rows: tuple[tuple[Any, ...], ...]
    lines: tuple[int, ...]
    mask: str
    month: int
    used: int
    balance: int
    available: int
    funded: bool
    claims: tuple[ClaimMark, ...]

    @property
    def kept_lines(self) -> Sequence[int]:
        """The numbers of the events that were recorded."""
        return [line for line, mark in zip(self.lines, self.mask, strict=True) if mark == "1"] if self.mask else self.lines

    @property
    def items(self) -> Iterator[UsageItem]:
        """The events that were recorded."""
        for line, (label, put, out, read, write, reasoning, cost, flags, since, *rest) in zip(self.kept_lines, self.rows, strict=True):
            provider, model, task_type, source, workspace_id, user_id = self.labels[label]
            yield UsageItem(
                line=line, provider=str(provider), model=str(model), task_type=str(task_type), source=str(source), occurred_at=self.at + since,
                workspace_id=workspace_id, input_tokens=put, output_tokens=out, cache_read_tokens=read, cache_write_tokens=write,
                reasoning_tokens=reasoning, cost=cost, estimated=flags & ESTIMATED != 0, unpriced=flags & UNPRICED != 0,
                external_ref=rest[0] if rest else None, cache_write_1h_tokens=rest[1] if len(rest) > 1 else 0, user_id=user_id,
            )  # fmt: skip

    @property
    def tokens(self) -> int:
        """What counts into the month's quota."""
        return sum(sum(row[1:6]) for row in self.rows)

    @property
    def cost(self) -> int:
        """What the request cost, in microunits."""
        return sum(row[6] for row in self.rows)

    @classmethod
    def from_json(cls, text: str) -> "UsageRecord":
        """Read the text that the script completed.

        Raises:
            ValueError: it is no such record.
        """
        try:
            fields: dict[str, Any] = json.loads(text)
            claims = tuple([ClaimMark(key_sha256=b64decode(key), body_sha256=b64decode(body), line=line) for key, body, line in fields.get("claims", ())])
            record = cls(
                request_id=RequestId(fields["request_id"]), key_id=fields["key"], at=fields["at"], rate_card=fields["rate_card"], markup=fields["markup"],
                labels=tuple(fields["labels"]), rows=tuple(fields["items"]), lines=tuple(fields.get("lines", range(fields["count"]))), mask=fields["mask"],
                month=fields["month"], used=fields["used"], balance=fields["balance"], available=fields["available"], funded=bool(fields["funded"]),
                claims=claims,
            )  # fmt: skip
            if len(record.kept_lines) != len(record.rows):
                raise ValueError("not a record of usage: its events are not as many as it says")
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"not a record of usage: {error!r}") from error
        return record


def draft_usage(request_id: RequestId, items: Sequence[UsageItem], *, at: int, rate_card: str, markup: bool, claims: Sequence[ClaimMark]) -> UsageDraft:
    """Write a request down for the script.

    Raises:
        ValueError: there are no events or too many, or one is beyond the bounds: it could not be posted, and would stop its shard.
    """
    if not 1 <= len(items) <= ITEMS_MAX:
        raise ValueError(f"a request has 1 to {ITEMS_MAX} events")
    labels: dict[Label, int] = {}
    written, lines, tokens, cost = list[str](), list[int](), 0, 0
    for item in items:
        label = (item.provider, item.model, item.task_type, item.source, item.workspace_id, item.user_id)
        number = labels.setdefault(label, len(labels))
        counted = item.tokens
        _require_bounds(item)
        tokens, cost = tokens + counted, cost + item.cost
        rest = "" if item.external_ref is None and not item.cache_write_1h_tokens else "," + _checked(item.external_ref)
        if item.cache_write_1h_tokens:
            rest += f",{item.cache_write_1h_tokens}"
        written.append(
            f"[{number},{item.input_tokens},{item.output_tokens},{item.cache_read_tokens},{item.cache_write_tokens},{item.reasoning_tokens},"
            f"{item.cost},{item.estimated + 2 * item.unpriced},{item.occurred_at - at}{rest}]"
        )
        lines.append(item.line)
    head = (
        f'{{"at":{at},"count":{len(items)},"labels":[{",".join([_label_text(label) for label in labels])}],"markup":{"true" if markup else "false"},'
        f'"rate_card":{quoted(rate_card)},"request_id":{quoted(request_id)}'
    )
    if lines != list(range(len(lines))):
        _require_lines(lines)
        head += f',"lines":{_encode(lines)}'
    if claims:
        marks = [[b64encode(claim.key_sha256).decode(), b64encode(claim.body_sha256).decode(), claim.line] for claim in claims]
        head += f',"claims":{_encode(marks)}'
    text = ",\n".join(written)
    return UsageDraft(head + ',"items":[', text, tokens, cost)


def _require_bounds(item: UsageItem) -> None:
    counts = (item.input_tokens, item.output_tokens, item.cache_read_tokens, item.cache_write_tokens, item.reasoning_tokens)
    if min(counts) < 0 or max(counts) > TOKENS_MAX or not 0 <= item.cost <= COST_MAX:
        raise ValueError(f"event {item.line}: counts are 0 to {TOKENS_MAX} tokens, its cost 0 to {COST_MAX} microunits")
    if not 0 <= item.cache_write_1h_tokens <= item.cache_write_tokens:
        raise ValueError(f"event {item.line}: of its cache writes more are for an hour than there are")


def _require_lines(lines: Sequence[int]) -> None:
    if any(after <= before for before, after in itertools.pairwise(lines)) or lines[0] < 0 or lines[-1] >= ITEMS_MAX:
        raise ValueError(f"events are numbered upwards, from 0 to {ITEMS_MAX - 1}")


@lru_cache(maxsize=4096)
def _label_text(label: Label) -> str:
    """Return the JSON of a label: the same few come again and again."""
    return f"[{','.join([_checked(part) for part in label])}]"


def _checked(text: str | None) -> str:
    """Return the JSON of a text.

    Raises:
        ValueError: Postgres cannot hold it as text, because of a NUL or half of a surrogate pair, or it is too long.
    """
    if text is None:
        return "null"
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"a text of an event has at most {TEXT_LENGTH_MAX} characters")
    if "\0" in text:
        raise ValueError("a text of an event contains NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("a text of an event is not Unicode") from None
    return quoted(text)
