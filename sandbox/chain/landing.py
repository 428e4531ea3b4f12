"""From a transaction that was run to its record: the metadata that a node keeps of it."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from solders.account import Account
from solders.message import MessageV0
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import InnerInstruction

from ledger.base58 import encode_base58
from sandbox.chain.keys import LOOKUP_TABLE_PROGRAM, MEMO_PROGRAMS, TOKEN_PROGRAMS
from sandbox.chain.machine import Outcome, TransactionFault, read_holding
from sandbox.chain.records import Record

TABLE_HEAD_BYTES = 56
KEY_BYTES = 32

type Accounts = Mapping[str, Account | None]


class TransactionRefused(Exception):
    """The transaction does not land; `fault` says why in the words of the RPC."""

    def __init__(self, fault: TransactionFault, outcome: Outcome | None = None) -> None:
        super().__init__(str(fault))
        self.fault, self.outcome = fault, outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The addresses that a transaction takes from lookup tables."""

    writable: tuple[str, ...] = ()
    readonly: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Landing:
    """A transaction, all its keys, and the accounts before and after it."""

    transaction: VersionedTransaction
    keys: tuple[str, ...]
    loaded: Loaded
    before: Accounts
    after: Accounts
    outcome: Outcome
    decimals: Mapping[str, int]  # of the mints it touches

    @property
    def changed(self) -> tuple[str, ...]:
        """The accounts that are not what they were."""
        return tuple(key for key in dict.fromkeys(self.keys) if self.before[key] != self.after[key])


def load_addresses(transaction: VersionedTransaction, tables: Accounts) -> Loaded:
    """Return what the transaction takes from `tables`, the accounts of its lookup tables.

    Raises:
        TransactionRefused: there is no such table, or it has no such entry.
    """
    message = transaction.message
    if not isinstance(message, MessageV0):
        return Loaded()
    writable: list[str] = []
    readonly: list[str] = []
    for lookup in message.address_table_lookups:
        table = tables[str(lookup.account_key)]
        if table is None or table.owner != LOOKUP_TABLE_PROGRAM:
            raise TransactionRefused("AddressLookupTableNotFound")
        entries = bytes(table.data)[TABLE_HEAD_BYTES:]
        addresses = [encode_base58(entries[at : at + KEY_BYTES]) for at in range(0, len(entries), KEY_BYTES)]
        if max((*lookup.writable_indexes, *lookup.readonly_indexes), default=0) >= len(addresses):
            raise TransactionRefused("InvalidAddressLookupTableIndex")
        writable += [addresses[index] for index in lookup.writable_indexes]
        readonly += [addresses[index] for index in lookup.readonly_indexes]
    return Loaded(writable=tuple(writable), readonly=tuple(readonly))


def make_record(landing: Landing, *, slot: int, order: int, block_time: int) -> Record:
    """Return the record of a transaction that landed in `slot`."""
    transaction = landing.transaction
    return Record(
        signature=str(transaction.signatures[0]),
        slot=slot,
        order=order,
        block_time=block_time,
        wire=bytes(transaction),
        keys=landing.keys,
        version=0 if isinstance(transaction.message, MessageV0) else None,
        fault=landing.outcome.fault,
        memo=_memo(landing),
        changed=landing.changed,
        meta=json.dumps(_meta(landing), separators=(",", ":")),
    )


def _meta(landing: Landing) -> dict[str, Any]:
    outcome, fault = landing.outcome, landing.outcome.fault
    meta: dict[str, Any] = {
        "err": fault,
        "status": {"Ok": None} if fault is None else {"Err": fault},
        "fee": outcome.fee,
        "preBalances": [_lamports(landing.before[key]) for key in landing.keys],
        "postBalances": [_lamports(landing.after[key]) for key in landing.keys],
        "innerInstructions": [{"index": index, "instructions": [_inner(one) for one in group]} for index, group in enumerate(outcome.inner) if group],
        "logMessages": outcome.logs,
        "preTokenBalances": _token_balances(landing, landing.before),
        "postTokenBalances": _token_balances(landing, landing.after),
        "rewards": [],
        "loadedAddresses": {"writable": landing.loaded.writable, "readonly": landing.loaded.readonly},
        "computeUnitsConsumed": outcome.units,
    }
    return meta | ({"returnData": returned_json(outcome)} if outcome.returned else {})


def returned_json(outcome: Outcome) -> dict[str, Any] | None:
    """Return the data that a program returned, as the RPC has it."""
    if outcome.returned is None:
        return None
    program, data = outcome.returned
    return {"programId": program, "data": [base64.b64encode(data).decode(), "base64"]}


def _inner(inner: InnerInstruction) -> dict[str, Any]:
    instruction = inner.instruction()
    return {
        "programIdIndex": instruction.program_id_index,
        "accounts": list(instruction.accounts),
        "data": encode_base58(bytes(instruction.data)),
        "stackHeight": inner.stack_height(),
    }


def _token_balances(landing: Landing, accounts: Accounts) -> list[dict[str, Any]]:
    """Return the balances of the token accounts among the keys. As on a node, none at all where no token program is named."""
    if not any(key in TOKEN_PROGRAMS for key in landing.keys):
        return []
    invoked = {instruction.program_id_index for instruction in landing.transaction.message.instructions}
    found: list[dict[str, Any]] = []
    for index, key in enumerate(landing.keys):
        account = accounts[key]
        holding = read_holding(account) if account is not None and str(account.owner) in TOKEN_PROGRAMS and index not in invoked else None
        if account is not None and holding is not None:
            amount = amount_json(holding.amount, landing.decimals.get(holding.mint, 0))
            found.append({"accountIndex": index, "mint": holding.mint, "owner": holding.owner, "programId": str(account.owner), "uiTokenAmount": amount})
    return found


def amount_json(amount: int, decimals: int) -> dict[str, Any]:
    """Return an amount of tokens as the RPC has it: the number for display beside the whole one, which alone is exact."""
    whole, part = divmod(amount, 10**decimals)
    text = f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(amount)
    return {"amount": str(amount), "decimals": decimals, "uiAmount": amount / 10**decimals if amount else None, "uiAmountString": text}


def _memo(landing: Landing) -> str | None:
    """Return the memos of the top level in the notation of getSignaturesForAddress, which any memo can imitate."""
    memos = [bytes(one.data) for one in landing.transaction.message.instructions if landing.keys[one.program_id_index] in MEMO_PROGRAMS]
    return "; ".join(f"[{len(memo)}] {_text(memo)}" for memo in memos) or None


def _text(memo: bytes) -> str:
    try:
        return memo.decode()
    except UnicodeDecodeError:
        return "(unparseable)"


def _lamports(account: Account | None) -> int:
    return account.lamports if account is not None else 0
