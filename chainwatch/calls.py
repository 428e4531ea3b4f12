"""The calls the watcher makes, with answers checked and turned into values. Whoever answers may be wrong or lie."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from chainwatch.errors import BadAnswer, RefusedCall

PAGE_ROWS_MAX: Final = 1000  # what nodes give at most
SIGNATURE_LENGTH_MAX: Final = 88
SLOT_MAX: Final = 2**63 - 1  # what the journal can hold
ACCOUNT_BYTES_MAX: Final = 64 * 1024
INVALID_PARAMS: Final = -32602


class Caller(Protocol):
    """Something that can be called: a provider."""

    @property
    def host(self) -> str:
        """The name by which people are told of it."""

    async def call(self, method: str, *params: object) -> Any:
        """Return the result of one call."""


@dataclass(frozen=True, slots=True)
class Row:
    """One transaction as a list of them shows it. `failed` ones changed nothing."""

    signature: str
    slot: int
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLook:
    """An account at a finalized slot: its program and bytes, or None where there is no such account."""

    slot: int
    program: str
    data: bytes | None


async def read_genesis(caller: Caller) -> str:
    """Return the hash of the cluster's first block, by which a cluster is known."""
    answer = await caller.call("getGenesisHash")
    if not isinstance(answer, str) or not 32 <= len(answer) <= 44:
        raise BadAnswer(f"{caller.host} gave no genesis hash")
    return answer


async def read_account(caller: Caller, address: str, *, min_slot: int = 0) -> AccountLook:
    """Return an account at the provider's newest finalized slot, which is at least `min_slot`."""
    options: dict[str, object] = {"encoding": "base64", "commitment": "finalized"} | ({"minContextSlot": min_slot} if min_slot else {})
    answer = await caller.call("getAccountInfo", address, options)
    try:
        slot, value = _slot(answer["context"]["slot"]), answer["value"]
        if value is None:
            return AccountLook(slot=slot, program="", data=None)
        return AccountLook(slot=slot, program=_text(value["owner"]), data=_bytes(value["data"]))
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadAnswer(f"{caller.host} gave an account that cannot be read") from None


async def list_rows(caller: Caller, address: str, *, commitment: str, limit: int, before: str | None = None, min_slot: int = 0) -> list[Row]:
    """Return the newest transactions of an address, newest first, or those before the signature `before`.

    Raises:
        UnknownBefore: the provider does not know `before`; some return an empty list instead.
    """
    options: dict[str, object] = {"limit": limit, "commitment": commitment}
    if before is not None:
        options["before"] = before
    if min_slot:
        options["minContextSlot"] = min_slot
    answer = await caller.call("getSignaturesForAddress", address, options)
    if not isinstance(answer, list) or len(answer) > PAGE_ROWS_MAX:
        raise BadAnswer(f"{caller.host} gave no list of signatures")
    return [_row(caller, row) for row in answer]


async def read_transaction_answer(caller: Caller, signature: str, *, commitment: str = "finalized") -> Mapping[str, Any] | None:
    """Return what the provider says of one transaction, bytes in base64; None where it says that there is none."""
    options = {"encoding": "base64", "commitment": commitment, "maxSupportedTransactionVersion": 0}
    answer = await caller.call("getTransaction", signature, options)
    if answer is not None and not isinstance(answer, dict):
        raise BadAnswer(f"{caller.host} gave a transaction that cannot be read")
    return answer


async def list_token_accounts(caller: Caller, owner: str, mint: str) -> dict[str, int]:
    """Return the amounts, in microunits, of all accounts of `mint` that `owner` has, by address."""
    options = {"encoding": "base64", "commitment": "finalized"}
    answer = await caller.call("getTokenAccountsByOwner", owner, {"mint": mint}, options)
    try:
        return {_text(one["pubkey"]): int.from_bytes(_bytes(one["account"]["data"])[64:72], "little") for one in answer["value"]}
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadAnswer(f"{caller.host} gave token accounts that cannot be read") from None


async def list_block_rows(caller: Caller, slot: int, address: str) -> list[Row]:
    """Return the transactions of one block that name `address`, in their order.

    Raises:
        SlotSkipped: there is no block in this slot.
        HistoryMissing: the provider does not have it any more.
    """
    options: dict[str, object] = {"rewards": False, "commitment": "finalized", "maxSupportedTransactionVersion": 0}
    try:
        answer = await caller.call("getBlock", slot, {**options, "transactionDetails": "accounts"})
    except RefusedCall as refusal:
        if refusal.code != INVALID_PARAMS:
            raise
        answer = await caller.call("getBlock", slot, {**options, "transactionDetails": "full", "encoding": "json"})  # the short form is not known everywhere
    try:
        found = [one for one in answer["transactions"] if address in _keys_of(one)]
        return [Row(_signature(one["transaction"]["signatures"][0]), slot, one["meta"]["err"] is not None) for one in found]
    except (KeyError, TypeError, ValueError, IndexError):
        raise BadAnswer(f"{caller.host} gave a block that cannot be read") from None


def _keys_of(transaction: Mapping[str, Any]) -> set[str]:
    """Return all account keys of a block's transaction, in whichever of its forms the provider gave it."""
    body, loaded = transaction["transaction"], transaction["meta"].get("loadedAddresses") or {}
    keys = body["accountKeys"] if "accountKeys" in body else body["message"]["accountKeys"]
    return {key["pubkey"] if isinstance(key, dict) else key for key in keys} | {*loaded.get("writable", ()), *loaded.get("readonly", ())}


def _row(caller: Caller, row: Any) -> Row:
    try:
        return Row(_signature(row["signature"]), _slot(row["slot"]), row["err"] is not None)
    except (KeyError, TypeError, ValueError):
        raise BadAnswer(f"{caller.host} gave a list of signatures that cannot be read") from None


def _signature(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= SIGNATURE_LENGTH_MAX:
        raise ValueError("not a signature")
    return value


def _slot(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= SLOT_MAX:
        raise ValueError("not a slot")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _bytes(value: Any) -> bytes:
    text, encoding = value
    if encoding != "base64" or len(text) > ACCOUNT_BYTES_MAX:
        raise ValueError("not base64")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error
