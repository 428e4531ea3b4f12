"""A transaction from its wire bytes, legacy or version 0, read strictly: pure.

Every byte has a meaning or the whole is refused, so that no two readers of the same bytes see different transactions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chainwatch.base58 import KEY_BYTES, SIGNATURE_BYTES, encode_base58
from chainwatch.unreadable import Unreadable

WIRE_BYTES_MAX: Final = 65_536  # far above a packet's 1,232, so that it is a bound on work only
KEYS_MAX: Final = 256  # an index is one byte

_VERSIONED: Final = 0x80  # set in a message's first byte, whose other bits are the version then
_COMPACT_SHIFTS: Final = (0, 7, 14)
_COMPACT_MAX: Final = 0xFFFF


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One call of a program, its accounts as base58 keys.

    `height` is 2 for what an instruction of the message called, 3 for what that one called, and so on; None for the message's
    own instructions, and where the provider does not tell.
    """

    program: str
    accounts: tuple[str, ...]
    data: bytes
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireTransaction:
    """A transaction as it was signed. `version` is None for a legacy one.

    `signers` are the first of `keys`, one for each of `signatures` and in their order; `message` is what they signed.
    `keys` are the message's own, then those that lookup tables gave: the writable, then the readonly.
    """

    signatures: tuple[bytes, ...]
    signers: tuple[str, ...]
    message: bytes
    keys: tuple[str, ...]
    instructions: tuple[Instruction, ...]
    version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Compiled:
    """An instruction whose accounts are still indexes."""

    program: int
    accounts: bytes
    data: bytes


class _Reader:
    """Takes bytes from the front, and never more than there are."""

    def __init__(self, raw: bytes) -> None:
        self._raw, self.at = raw, 0

    @property
    def rest(self) -> bytes:
        return self._raw[self.at :]

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        end = self.at + count
        if end > len(self._raw):
            raise Unreadable("the transaction ends too early")
        piece, self.at = self._raw[self.at : end], end
        return piece

    def take_length(self) -> int:
        """Return a compact-u16: seven bits a byte, lowest first, in the fewest bytes that hold it."""
        length = 0
        for shift in _COMPACT_SHIFTS:
            byte = self.take(1)[0]
            length |= (byte & 0x7F) << shift
            if byte < 0x80:
                if length > _COMPACT_MAX or (shift and not byte):
                    break
                return length
        raise Unreadable("a length in the transaction is not a compact-u16")

    def take_run(self) -> bytes:
        """Return bytes that follow their length."""
        return self.take(self.take_length())

    def take_each(self, size: int) -> tuple[bytes, ...]:
        """Return pieces of `size` bytes that follow their number."""
        return tuple(self.take(size) for _ in range(self.take_length()))


def read_wire(raw: bytes, *, writable: Sequence[str] = (), readonly: Sequence[str] = ()) -> WireTransaction:
    """Read a transaction; `writable` and `readonly` are the keys that its lookup tables gave, in their order.

    Signatures are not verified.

    Raises:
        Unreadable: the bytes are no transaction of a known version, bytes are left over, it breaks the rules that every
            node checks, or the keys from lookup tables are not as many as it asks for.
    """
    if len(raw) > WIRE_BYTES_MAX:
        raise Unreadable("the transaction is longer than any can be")
    reader = _Reader(raw)
    signatures = reader.take_each(SIGNATURE_BYTES)
    message = reader.rest
    version = _take_version(reader)
    header = reader.take(3)
    static = [encode_base58(key) for key in reader.take_each(KEY_BYTES)]
    reader.take(KEY_BYTES)  # the recent blockhash
    compiled = [_take_instruction(reader) for _ in range(reader.take_length())]
    loads = (0, 0) if version is None else _take_lookups(reader)
    if reader.rest:
        raise Unreadable("bytes follow the transaction")
    _require_header(header, signatures=len(signatures), static=len(static))
    if loads != (len(writable), len(readonly)):
        raise Unreadable("the keys from lookup tables are missing, or not as many as the transaction asks for")
    keys = (*static, *writable, *readonly)
    if len(keys) > KEYS_MAX or len(set(keys)) != len(keys):
        raise Unreadable("the transaction has too many keys, or one twice")
    if not all(0 < one.program < len(static) for one in compiled):
        raise Unreadable("an instruction's program is not among the message's own keys")
    instructions = tuple(resolve_instruction(keys, one.program, accounts=one.accounts, data=one.data) for one in compiled)
    return WireTransaction(
        signatures=signatures, signers=keys[: len(signatures)], message=message, keys=keys, instructions=instructions, version=version
    )  # fmt: skip


def resolve_instruction(keys: Sequence[str], program: int, *, accounts: Sequence[int], data: bytes, height: int | None = None) -> Instruction:
    """Return an instruction whose indexes, none of which is below zero, are looked up in `keys`.

    Raises:
        Unreadable: an index beyond them.
    """
    if max((program, *accounts)) >= len(keys):
        raise Unreadable("an instruction refers to a key that does not exist")
    return Instruction(program=keys[program], accounts=tuple(keys[index] for index in accounts), data=data, height=height)


def _take_version(reader: _Reader) -> int | None:
    first = reader.rest[:1]
    if first < bytes([_VERSIONED]):
        return None  # the byte is the header's, or missing
    version = reader.take(1)[0] - _VERSIONED
    if version != 0:
        raise Unreadable("the transaction is of an unknown version")
    return version


def _take_instruction(reader: _Reader) -> _Compiled:
    program = reader.take(1)[0]
    accounts = reader.take_run()
    return _Compiled(program=program, accounts=accounts, data=reader.take_run())


def _take_lookups(reader: _Reader) -> tuple[int, int]:
    """Return how many keys the lookup tables give: writable, readonly."""
    writable = readonly = 0
    for _ in range(reader.take_length()):
        reader.take(KEY_BYTES)  # the table's own address
        counts = len(reader.take_run()), len(reader.take_run())
        if not any(counts):
            raise Unreadable("a lookup table is named for nothing")
        writable, readonly = writable + counts[0], readonly + counts[1]
    return writable, readonly


def _require_header(header: bytes, *, signatures: int, static: int) -> None:
    """Refuse what no node lets in: signatures without their signer, no payer that can write, more kinds of keys than keys."""
    required, readonly_signed, readonly_unsigned = header
    if not signatures or signatures != required:
        raise Unreadable("the transaction has not as many signatures as it requires")
    if readonly_signed >= required or required + readonly_unsigned > static:
        raise Unreadable("the transaction's header contradicts its keys")
