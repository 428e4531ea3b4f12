"""A vault with a long history, told by a provider without a network: signed transactions that no chain has run, made by the thousand."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from chainwatch.accounts import TOKEN_PROGRAM, associated_account
from ledger.deposit_values import Vault

MEMO_PROGRAM = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
PAGE_ROWS_MAX = 1000


def key(name: str) -> Keypair:
    return Keypair.from_seed(hashlib.sha256(name.encode()).digest())


OWNER, MINT, PAYER = (str(key(f"level5 test {name}").pubkey()) for name in ("owner", "mint", "payer"))
GENESIS = str(key("level5 test genesis").pubkey())
VAULT = Vault(
    genesis=GENESIS, address=associated_account(OWNER, MINT, token_program=TOKEN_PROGRAM), owner=OWNER, mint=MINT, token_program=TOKEN_PROGRAM
)  # fmt: skip


@dataclass
class ListedHistory:
    """Transactions of a vault. It is a client as `RpcClient` is: `Provider(history, …)` asks it without a network."""

    host: str = "listed.test"
    slot: int = 1000
    balance: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)  # oldest first
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    balances: list[tuple[int, int]] = field(default_factory=list)

    def add(self, amount: int = 0, code: str | None = None, *, failed: bool = False, same_slot: bool = False) -> str:
        """Add one transaction to the end; the vault's balance changes by `amount` unless it failed."""
        self.slot += not same_slot
        signer = key("level5 test payer")
        mark = Instruction(
            Pubkey.from_string(TOKEN_PROGRAM), len(self.rows).to_bytes(8, "little"), [AccountMeta(Pubkey.from_string(VAULT.address), False, True)]
        )
        memo = [Instruction(MEMO_PROGRAM, code.encode(), [])] if code else []
        message = Message.new_with_blockhash([mark, *memo], signer.pubkey(), Hash.default())
        transaction = Transaction([signer], message, Hash.default())
        signature, after = str(transaction.signatures[0]), self.balance if failed else self.balance + amount
        index = message.account_keys.index(Pubkey.from_string(VAULT.address))
        self.answers[signature] = {
            "slot": self.slot, "blockTime": 1_700_000_000 + self.slot, "version": "legacy",
            "transaction": [base64.b64encode(bytes(transaction)).decode(), "base64"],
            "meta": {
                "err": {"InstructionError": [0, "Custom"]} if failed else None, "logMessages": [], "innerInstructions": [],
                "preTokenBalances": [_row(index, self.balance)], "postTokenBalances": [_row(index, after)], "loadedAddresses": {"writable": [], "readonly": []},
            },
        }  # fmt: skip
        self.balance = after
        self.places[signature] = len(self.rows)
        self.rows.append({"signature": signature, "slot": self.slot, "err": {"failed": 1} if failed else None})
        self.balances.append((self.slot, after))
        return signature

    async def call(self, method: str, *params: Any) -> Any:
        self.calls.append(method)
        match method:
            case "getGenesisHash":
                return GENESIS
            case "getAccountInfo":
                return {"context": {"slot": self.slot}, "value": {"owner": TOKEN_PROGRAM, "data": [_account(self.balance), "base64"]}}
            case "getSignaturesForAddress":
                return self._page(params[1].get("before"), min(params[1]["limit"], PAGE_ROWS_MAX))
            case "getTransaction":
                return self.answers.get(params[0])
            case "getTokenAccountsByOwner":
                return {"context": {"slot": self.slot}, "value": []}
        raise AssertionError(f"{method} was not expected")

    def _page(self, before: str | None, limit: int) -> list[dict[str, Any]]:
        end = len(self.rows) if before is None else self.places[before]
        return self.rows[max(0, end - limit) : end][::-1]

    async def close(self) -> None:
        """Do nothing: there is no connection."""


def _row(index: int, amount: int) -> dict[str, Any]:
    return {"accountIndex": index, "mint": MINT, "owner": OWNER, "programId": TOKEN_PROGRAM, "uiTokenAmount": {"amount": str(amount), "decimals": 6}}


def _account(amount: int) -> str:
    data = bytes(Pubkey.from_string(MINT)) + bytes(Pubkey.from_string(OWNER)) + amount.to_bytes(8, "little") + bytes(36) + b"\1" + bytes(56)
    return base64.b64encode(data).decode()
