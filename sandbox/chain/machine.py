"""The SVM itself: LiteSVM runs one transaction at a time; slots, forks and block hashes are not its business."""

import json
import struct
from dataclasses import dataclass
from typing import Any, Final

from solders.account import Account
from solders.clock import Clock
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import FailedTransactionMetadata, InnerInstruction, TransactionMetadata

type TransactionFault = str | dict[str, Any]
"""Why a transaction failed, in the words of the RPC: "AccountNotFound" or {"InstructionError": [0, {"Custom": 1}]}."""

DECIMALS_AT: Final = 44
MINT_BYTES: Final = 82
TOKEN_ACCOUNT_BYTES: Final = 165
TOKEN_ACCOUNT_KIND: Final = 2  # the byte behind the 165 that tells a token account with extensions from a mint
TOKEN_STATE_AT: Final = 108


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What running a transaction gave. `landed` is false where it failed before it was run, which costs no fee."""

    fault: TransactionFault | None
    landed: bool
    logs: list[str]
    units: int
    fee: int
    inner: list[list[InnerInstruction]]
    returned: tuple[str, bytes] | None
    accounts: dict[str, Account]  # only of a simulation: what they would hold


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenHolding:
    """What an initialised token account says."""

    mint: str
    owner: str
    amount: int


class Machine:
    """The state of all accounts now, and the means to change it."""

    def __init__(self) -> None:
        # Signatures and block hashes are checked by the cluster, which knows forks; LiteSVM does not.
        self._svm = LiteSVM().with_transaction_history(0).with_blockhash_check(False).with_sigverify(False)

    @property
    def first_slot(self) -> int:
        """The slot at which LiteSVM begins, near mainnet's of its release: features depend on it."""
        return self._svm.get_clock().slot

    def set_clock(self, slot: int, unix_time: int) -> None:
        """Let programs see this slot and time."""
        self._svm.set_clock(Clock(slot, 0, 0, 0, unix_time))

    def account(self, address: str) -> Account | None:
        """Return the account as it is now, or None where there is none."""
        found = self._svm.get_account(Pubkey.from_string(address))
        return found if found is not None and found.lamports else None

    def set_account(self, address: str, account: Account | None) -> None:
        """Put an account, or nothing, at an address."""
        self._svm.set_account(Pubkey.from_string(address), account or Account(0, b"", Pubkey.default()))

    def add_program(self, address: str, elf: bytes) -> None:
        """Put a program at an address."""
        self._svm.add_program(Pubkey.from_string(address), elf)

    def owned_by(self, program: str) -> list[str]:
        """Return the addresses of all accounts that a program owns now."""
        return [str(address) for address, _ in self._svm.get_program_accounts(Pubkey.from_string(program))]

    def rent_exempt(self, size: int) -> int:
        """Return the lamports that an account of this size must hold."""
        return self._svm.minimum_balance_for_rent_exemption(size)

    def run(self, transaction: VersionedTransaction) -> Outcome:
        """Run it and keep its effects. One that fails in an instruction has landed: its fee is gone."""
        return _outcome(self._svm.send_transaction(transaction), {})

    def simulate(self, transaction: VersionedTransaction) -> Outcome:
        """Run it and forget its effects."""
        result = self._svm.simulate_transaction(transaction)
        if isinstance(result, FailedTransactionMetadata):
            return _outcome(result, {})
        return _outcome(result.meta(), {str(address): account for address, account in result.post_accounts()})


def _outcome(result: TransactionMetadata | FailedTransactionMetadata, accounts: dict[str, Account]) -> Outcome:
    failed = isinstance(result, FailedTransactionMetadata)
    meta = result.meta() if isinstance(result, FailedTransactionMetadata) else result
    data = meta.return_data()
    return Outcome(
        # The text of the error is the RPC's own notation; the objects of solders would have to be translated one by one.
        fault=json.loads(result.to_json())["err"] if failed else None,
        landed=not failed or meta.signature() != Signature.default(),
        logs=meta.logs(),
        units=meta.compute_units_consumed(),
        fee=meta.fee(),
        inner=meta.inner_instructions(),
        returned=(str(data.program_id), bytes(data.data)) if bytes(data.data) else None,
        accounts=accounts,
    )


def read_holding(account: Account | None) -> TokenHolding | None:
    """Return what a token account of either token program says; None where it is no such account."""
    if account is None:
        return None
    data = bytes(account.data)
    if len(data) != TOKEN_ACCOUNT_BYTES and not (len(data) > TOKEN_ACCOUNT_BYTES and data[TOKEN_ACCOUNT_BYTES] == TOKEN_ACCOUNT_KIND):
        return None
    if data[TOKEN_STATE_AT] == 0:
        return None
    return TokenHolding(mint=str(Pubkey(data[:32])), owner=str(Pubkey(data[32:64])), amount=int(struct.unpack_from("<Q", data, 64)[0]))


def read_decimals(mint: Account | None) -> int:
    """Return the decimals of a mint; 0 where it is gone."""
    return bytes(mint.data)[DECIMALS_AT] if mint is not None and len(mint.data) >= MINT_BYTES else 0
