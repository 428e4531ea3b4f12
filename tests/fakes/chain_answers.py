"""Answers of `getTransaction` as a provider gives them, around transactions that are really signed; nothing is executed.

What they say of balances, calls and logs is what the test says.
"""

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from chainwatch.decode import ConfirmedTransaction, encode_base58, read_transaction
from ledger.deposit_values import Vault

TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TOKEN_2022_PROGRAM = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"
MEMO_V1 = "Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo"
MEMO_V2 = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
CODE = "0123456789ABCDEF"
OTHER_CODE = "FEDCBA9876543210"


def keypair(name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(f"test {name}".encode()).digest())


def key(name: str) -> str:
    """Return a key in base58 that is always the same for a name."""
    return str(keypair(name).pubkey())


VAULT = Vault(genesis=key("genesis"), address=key("vault"), owner=key("treasury"), mint=key("mint"), token_program=TOKEN_PROGRAM)
PAYER, WALLET = keypair("payer"), key("wallet")


def call(program: str, data: bytes = b"", *accounts: str, signers: Sequence[str] = ()) -> Instruction:
    metas = [*(AccountMeta(Pubkey.from_string(one), False, True) for one in accounts), *(AccountMeta(Pubkey.from_string(one), True, False) for one in signers)]
    return Instruction(Pubkey.from_string(program), data, metas)


def memo(text: str | bytes, *, program: str = MEMO_V2, signers: Sequence[str] = ()) -> Instruction:
    return call(program, text.encode() if isinstance(text, str) else text, signers=signers)


def transfer(amount: int = 5_000_000, *references: str) -> Instruction:
    """A transfer as wallets write it; what it moves is up to the balances of the answer."""
    accounts = [
        AccountMeta(Pubkey.from_string(WALLET), False, True),
        AccountMeta(Pubkey.from_string(VAULT.mint), False, False),
        AccountMeta(Pubkey.from_string(VAULT.address), False, True),
        AccountMeta(PAYER.pubkey(), True, False),
        *(AccountMeta(Pubkey.from_string(one), False, False) for one in references),
    ]
    return Instruction(Pubkey.from_string(TOKEN_PROGRAM), struct.pack("<BQB", 12, amount, 6), accounts)


@dataclass(kw_only=True)
class Row:
    """One token account's balance before and after; None where it has no row."""

    account: str
    pre: int | None
    post: int | None
    owner: str | None = None
    mint: str = VAULT.mint
    program: str | None = TOKEN_PROGRAM


@dataclass(kw_only=True)
class Inner:
    """An instruction that a program called, `height` 2 or more."""

    program: str
    data: bytes = b""
    accounts: Sequence[str] = ()
    height: int | None = 2


def paid(amount: int = 5_000_000, *, held: int | None = None) -> list[Row]:
    """The rows of a plain payment of `amount` into the vault, which held `held` or did not exist."""
    return [
        Row(account=WALLET, pre=amount + 7, post=7, owner=str(PAYER.pubkey())),
        Row(account=VAULT.address, pre=held, post=(held or 0) + amount, owner=VAULT.owner),
    ]


@dataclass(kw_only=True)
class Landed:
    """A transaction and what a provider says of it."""

    instructions: Sequence[Instruction]
    rows: Sequence[Row] = field(default_factory=paid)
    inner: Mapping[int, Sequence[Inner]] = field(default_factory=dict)
    logs: Sequence[str] | None = ()
    err: object = None
    signers: Sequence[Keypair] = ()
    legacy: bool = False
    tables: Sequence[Sequence[str]] = ()
    mentioned: Sequence[str] = ()  # keys of programs that are called by programs only

    def sign(self) -> VersionedTransaction:
        instructions = list(self.instructions)
        if self.mentioned:
            instructions.append(Instruction(Pubkey.default(), b"", [AccountMeta(Pubkey.from_string(one), False, False) for one in self.mentioned]))
        blockhash = Hash(hashlib.sha256(b"test blockhash").digest())
        if self.legacy:
            return VersionedTransaction(Message.new_with_blockhash(instructions, PAYER.pubkey(), blockhash), [PAYER, *self.signers])
        tables = [
            AddressLookupTableAccount(Pubkey.from_string(key(f"table {number}")), [Pubkey.from_string(one) for one in keys])
            for number, keys in enumerate(self.tables)
        ]
        return VersionedTransaction(MessageV0.try_compile(PAYER.pubkey(), instructions, tables, blockhash), [PAYER, *self.signers])

    def loaded(self, message: object) -> dict[str, list[str]]:
        lookups = message.address_table_lookups if isinstance(message, MessageV0) else []
        tables = {key(f"table {number}"): keys for number, keys in enumerate(self.tables)}
        return {
            "writable": [tables[str(one.account_key)][index] for one in lookups for index in one.writable_indexes],
            "readonly": [tables[str(one.account_key)][index] for one in lookups for index in one.readonly_indexes],
        }

    def answer(self) -> dict[str, Any]:
        """Return the JSON, to be spoiled at will."""
        signed = self.sign()
        loaded = self.loaded(signed.message)
        keys = [*map(str, signed.message.account_keys), *loaded["writable"], *loaded["readonly"]]
        meta = {
            "err": self.err,
            "fee": 5_000,
            "preTokenBalances": [_balance(keys, row, row.pre) for row in self.rows if row.pre is not None],
            "postTokenBalances": [_balance(keys, row, row.post) for row in self.rows if row.post is not None],
            "innerInstructions": [{"index": index, "instructions": [_inner(keys, one) for one in group]} for index, group in self.inner.items()],
            "loadedAddresses": loaded,
            "logMessages": None if self.logs is None else list(self.logs),
        }
        wire = [base64.b64encode(bytes(signed)).decode(), "base64"]
        return {"slot": 331, "blockTime": 1_700_000_000, "transaction": wire, "meta": meta, "version": "legacy" if self.legacy else 0}

    def read(self) -> ConfirmedTransaction:
        return read_transaction(self.answer(), signature=str(self.sign().signatures[0]))


def _balance(keys: Sequence[str], row: Row, amount: int) -> dict[str, Any]:
    owner = {} if row.owner is None else {"owner": row.owner}
    program = {} if row.program is None else {"programId": row.program}
    return {"accountIndex": keys.index(row.account), "mint": row.mint, "uiTokenAmount": {"amount": str(amount), "decimals": 6}, **owner, **program}


def _inner(keys: Sequence[str], inner: Inner) -> dict[str, Any]:
    return {
        "programIdIndex": keys.index(inner.program),
        "accounts": [keys.index(one) for one in inner.accounts],
        "data": encode_base58(inner.data),
        "stackHeight": inner.height,
    }
