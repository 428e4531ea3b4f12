"""What the books record: identities, usage lines and the record of one charge.

Pure values with an exact JSON form; the form is what the outbox carries and what the
journal hashes, so it never changes meaning.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NewType

from ledger.money import Microunits
from ledger.values import value

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


@value
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


@value
class ChargeRecord:
    """One charge with everything needed to compute it again.

    `amount` is what the customer pays and `provider_leg` what the provider is owed at list price,
    in microunits; the numerators are the same two figures unrounded, in millionths of a microunit.
    `rate_card` is the hash of the card that was used; `started_at` and `rated_at` are milliseconds since
    the epoch. `estimated` tells that the usage was not (fully) reported by the provider. `made` holds the
    digests of what the provider keeps of the answer and its account may refer to (`object_digest`), `hold` what was
    set aside for the request at its end; a record without them does not have the fields, as none had before there were such.
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
    hold: int = 0

    def to_json(self) -> str:
        """Return the canonical form: sorted keys, no spaces, so that equal records are equal bytes."""
        names, read = _FORMS[self.made != (), self.hold != 0]
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
_ALL_FIELDS = tuple(sorted(ChargeRecord.__dataclass_fields__))


def _form(*left_out: str) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    names = tuple(name for name in _ALL_FIELDS if name not in left_out)
    return names, attrgetter(*names)


_FORMS = {(False, False): _form("made", "hold"), (False, True): _form("made"), (True, False): _form("hold"), (True, True): _form()}
_LINE_FIELDS = tuple(sorted(UsageLine.__dataclass_fields__))
_read_line = attrgetter(*_LINE_FIELDS)
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
