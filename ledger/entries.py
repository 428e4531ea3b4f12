"""What the books record: identities, usage lines and the record of one charge.

Pure values with an exact JSON form; the form is what the outbox carries and what the
journal hashes, so it never changes meaning.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NewType

from ledger.money import Microunits

AccountId = NewType("AccountId", int)
RequestId = NewType("RequestId", str)

SHARDS = 64
HOUSE_SHARD = 64
MADE_MAX = 256  # objects of one answer that are remembered


def object_digest(identity: str) -> str:
    """Return what the books keep of the id of an object at a provider: 96 bits of its SHA-256, in 16 characters.

    Providers draw these ids at random, so nobody can choose one whose digest is that of another.
    """
    return base64.urlsafe_b64encode(hashlib.sha256(identity.encode()).digest()[:12]).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """What one model did in one answer: token counts by kind, never money.

    `input_tokens` are the uncached ones. Cache figures are None where the answer reported none.
    Audio tokens are a part of input and output, not added to them. `fees` counts priced events
    by name, such as `(("web_search", 2),)`.
    """

    provider: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    cache_read_tokens: int | None = None
    input_audio_tokens: int = 0
    output_audio_tokens: int = 0
    fees: tuple[tuple[str, int], ...] = ()
    service_tier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeRecord:
    """One charge with everything needed to compute it again.

    `amount` is what the customer pays and `provider_leg` what the provider is owed at list price,
    in microunits; the numerators are the same two figures unrounded, in millionths of a microunit.
    `rate_card` is the hash of the card that was used; `started_at` and `rated_at` are milliseconds since
    the epoch. `estimated` tells that the usage was not (fully) reported by the provider. `made` holds the
    digests of what the provider keeps of the answer and its account may refer to (`object_digest`); a record
    without any does not have the field, as none had before there was one.
    """

    request_id: RequestId
    provider: str
    model: str
    operation: str
    lines: tuple[UsageLine, ...]
    amount: Microunits
    provider_leg: Microunits
    numerator: int
    list_numerator: int
    rate_card: str
    started_at: int
    estimated: bool = False
    made: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the canonical form: sorted keys, no spaces, so that equal records are equal bytes."""
        names, read = (_MAKERS_FIELDS, _read_maker) if self.made else (_RECORD_FIELDS, _read_record)
        fields = dict(zip(names, read(self), strict=True))
        fields["lines"] = [dict(zip(_LINE_FIELDS, _read_line(line), strict=True)) for line in self.lines]
        return _encode(fields)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ChargeRecord":
        """Read the canonical form back.

        Raises:
            ValueError: the text is not such a record.
        """
        fields: dict[str, Any] = json.loads(text)
        try:
            lines = tuple(UsageLine(**{**line, "fees": tuple((name, count) for name, count in line["fees"])}) for line in fields.pop("lines"))
            return cls(lines=lines, made=tuple(fields.pop("made", ())), **fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a charge record: {error}") from error


# Every request writes one record: its fields are put in order once, not sorted (nor copied) each time.
_MAKERS_FIELDS = tuple(sorted(ChargeRecord.__dataclass_fields__))
_RECORD_FIELDS = tuple(name for name in _MAKERS_FIELDS if name != "made")
_LINE_FIELDS = tuple(sorted(UsageLine.__dataclass_fields__))
_read_maker, _read_record, _read_line = attrgetter(*_MAKERS_FIELDS), attrgetter(*_RECORD_FIELDS), attrgetter(*_LINE_FIELDS)
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
