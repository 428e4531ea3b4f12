"""Reading what a provider says of a transaction (`getTransaction`, encoding base64), strictly: pure.

The wire bytes are signed, so they cannot be forged once their signatures are verified (`chainwatch.signatures`). What is
in `Meta` is the provider's word alone; it is held against the balance chain and other providers elsewhere.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from chainwatch.base58 import KEY_BYTES, SIGNATURE_BYTES, decode_base58, decode_exactly, encode_base58
from chainwatch.unreadable import Unreadable
from chainwatch.wire import KEYS_MAX, WIRE_BYTES_MAX, Instruction, WireTransaction, read_wire, resolve_instruction

__all__ = [
    "ConfirmedTransaction",
    "Instruction",
    "Meta",
    "TokenBalance",
    "Unreadable",
    "WireTransaction",
    "decode_base58",
    "encode_base58",
    "read_transaction",
]

AMOUNT_MAX: Final = 2**64 - 1  # base units of a token
SLOT_MAX: Final = 2**63 - 1
BLOCK_TIME_MAX: Final = 253_402_300_799  # seconds; the last of the year 9999, beyond which there are no dates
# Bounds on work. The runtime allows 64 instructions to a transaction and 10,240 bytes to one of them.
INNER_INSTRUCTIONS_MAX: Final = 256
INNER_DATA_LETTERS_MAX: Final = 16_384

_AMOUNT: Final = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)
_WIRE_LETTERS_MAX: Final = (WIRE_BYTES_MAX + 2) // 3 * 4
_INNER_HEIGHT_MIN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBalance:
    """What a token account held, in base units of `mint`. Its owner and token program are None where the provider leaves them out."""

    account: str
    mint: str
    owner: str | None
    program: str | None
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What a transaction did, as the provider says.

    `pre` and `post` have at most one row an account; an account without a row did not exist or is no token account.
    `inner` has the instructions that each instruction of the message (by its index) called, in order of execution.
    `logs` are None where the provider does not keep them.
    """

    failed: bool
    pre: tuple[TokenBalance, ...]
    post: tuple[TokenBalance, ...]
    inner: tuple[tuple[int, tuple[Instruction, ...]], ...]
    logs: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmedTransaction:
    """A transaction on the chain. `signature` is its first one in base58; `block_time` is in seconds since the epoch."""

    signature: str
    slot: int
    block_time: int | None
    wire: WireTransaction
    meta: Meta


def read_transaction(answer: Mapping[str, Any], *, signature: str) -> ConfirmedTransaction:
    """Read the `result` of `getTransaction` for `signature`, asked with encoding base64 and maxSupportedTransactionVersion 0.

    On return the wire bytes bear `signature` as their first one, but whether it and the others are genuine is not verified.

    Raises:
        Unreadable: it is no such answer, lacks what decides about money, contradicts itself, or is another transaction.
            No other exception, whatever is given.
    """
    answer = _mapping(answer, "the answer")
    meta = _mapping(answer.get("meta"), "meta")
    writable, readonly = _read_loaded(meta.get("loadedAddresses"))
    wire = read_wire(_read_base64(answer.get("transaction")), writable=writable, readonly=readonly)
    if wire.signatures[0] != decode_exactly(_text(signature, "the signature"), SIGNATURE_BYTES):
        raise Unreadable("the answer is another transaction than the one that was asked for")
    if answer.get("version", wire.version) not in (("legacy", None) if wire.version is None else (wire.version,)):
        raise Unreadable("the answer calls the transaction another version than its bytes")
    block_time = answer.get("blockTime")
    return ConfirmedTransaction(
        signature=signature,
        slot=_whole(answer.get("slot"), SLOT_MAX, what="slot"),
        block_time=None if block_time is None else _whole(block_time, BLOCK_TIME_MAX, what="blockTime"),
        wire=wire,
        meta=_read_meta(meta, wire),
    )


def _read_meta(meta: Mapping[str, Any], wire: WireTransaction) -> Meta:
    if "err" not in meta:
        raise Unreadable("meta does not say whether the transaction failed")
    logs = meta.get("logMessages")
    return Meta(
        failed=meta["err"] is not None,
        pre=_read_balances(meta.get("preTokenBalances"), wire.keys),
        post=_read_balances(meta.get("postTokenBalances"), wire.keys),
        inner=_read_inner(meta.get("innerInstructions"), wire),
        logs=None if logs is None else tuple(_text(line, "a log line") for line in _sequence(logs, "logMessages")),
    )


def _read_loaded(loaded: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys from lookup tables, writable and readonly; none where the provider sends none."""
    if loaded is None:
        return (), ()
    kinds = _mapping(loaded, "loadedAddresses")
    return _read_keys(kinds.get("writable")), _read_keys(kinds.get("readonly"))


def _read_keys(keys: object) -> tuple[str, ...]:
    listed = _sequence(keys, "loadedAddresses")
    if len(listed) > KEYS_MAX:
        raise Unreadable("the transaction has too many keys")
    return tuple(_address(key) for key in listed)


def _read_base64(transaction: object) -> bytes:
    match transaction:
        case [str() as text, "base64"] if len(text) <= _WIRE_LETTERS_MAX:
            try:
                return base64.b64decode(text, validate=True)
            except ValueError:
                raise Unreadable("the transaction is not base64") from None
    raise Unreadable("the transaction is not there as base64")


def _read_balances(rows: object, keys: Sequence[str]) -> tuple[TokenBalance, ...]:
    balances = tuple(_read_balance(_mapping(row, "a token balance"), keys) for row in _sequence(rows, "token balances"))
    if len({balance.account for balance in balances}) != len(balances):
        raise Unreadable("one account has two token balances")
    return balances


def _read_balance(row: Mapping[str, Any], keys: Sequence[str]) -> TokenBalance:
    owner, program = row.get("owner"), row.get("programId")
    amount = _text(_mapping(row.get("uiTokenAmount"), "uiTokenAmount").get("amount"), "amount")
    if not _AMOUNT.fullmatch(amount) or int(amount) > AMOUNT_MAX:
        raise Unreadable("a token balance is no whole number of base units")
    return TokenBalance(
        account=keys[_whole(row.get("accountIndex"), len(keys) - 1, what="accountIndex")],
        mint=_address(row.get("mint")),
        owner=None if owner is None else _address(owner),
        program=None if program is None else _address(program),
        amount=int(amount),
    )


def _read_inner(groups: object, wire: WireTransaction) -> tuple[tuple[int, tuple[Instruction, ...]], ...]:
    inner, left = [], INNER_INSTRUCTIONS_MAX
    for group in _sequence(groups, "innerInstructions"):
        fields = _mapping(group, "a group of inner instructions")
        index = _whole(fields.get("index"), len(wire.instructions) - 1, what="index")
        listed = _sequence(fields.get("instructions"), "inner instructions")
        left -= len(listed)
        if left < 0:
            raise Unreadable("the transaction has more inner instructions than the runtime allows")
        instructions = tuple(_read_inner_instruction(_mapping(one, "an inner instruction"), wire.keys) for one in listed)
        _require_heights([one.height for one in instructions])
        inner.append((index, instructions))
    if len({index for index, _ in inner}) != len(inner):
        raise Unreadable("one instruction has two groups of inner instructions")
    return tuple(inner)


def _read_inner_instruction(fields: Mapping[str, Any], keys: Sequence[str]) -> Instruction:
    height, data = fields.get("stackHeight"), _text(fields.get("data"), "data")
    if len(data) > INNER_DATA_LETTERS_MAX:
        raise Unreadable("an inner instruction has more data than the runtime allows")
    return resolve_instruction(
        keys,
        _whole(fields.get("programIdIndex"), KEYS_MAX, what="programIdIndex"),
        accounts=[_whole(account, KEYS_MAX, what="accounts") for account in _sequence(fields.get("accounts"), "accounts")],
        data=decode_base58(data),
        height=None if height is None else _whole(height, INNER_INSTRUCTIONS_MAX, what="stackHeight"),
    )


def _require_heights(heights: Sequence[int | None]) -> None:
    """Refuse calls that no program could have made: a call is one level below its caller, and all heights are told or none."""
    before = _INNER_HEIGHT_MIN - 1
    for height in heights:
        if height is not None and not _INNER_HEIGHT_MIN <= height <= before + 1:
            raise Unreadable("an inner instruction has no caller")
        before = height or before
    if None in heights and any(heights):
        raise Unreadable("some inner instructions have a height and some have none")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise Unreadable(f"{what} is missing or no object")
    return value


def _sequence(value: object, what: str) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise Unreadable(f"{what} are missing or no list")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise Unreadable(f"{what} is missing or no text")
    return value


def _whole(value: object, highest: int, *, what: str) -> int:
    """Return a whole number from zero; `True` and 1.0 are none, though Python takes them for 1."""
    if type(value) is not int or not 0 <= value <= highest:
        raise Unreadable(f"{what} is missing, no whole number or out of range")
    return value


def _address(value: object) -> str:
    text = _text(value, "a key")
    decode_exactly(text, KEY_BYTES)
    return text
