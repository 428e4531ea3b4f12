"""Deposits as values: the vault, its moves on chain, whom they name, and what the journal made of them. Pure.

Amounts are microunits; a signature, an address or a key is base58; times are aware datetimes unless they say otherwise.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.entries import AccountId

_REFERENCE_PREFIX: Final = b"level5 deposit reference\x00"


def deposit_reference(deposit_code: str) -> bytes:
    """Return the 32 bytes of the Solana Pay reference of the account with this deposit code.

    Nobody knows a secret key to it: it only marks a payment. The database computes the same in a column of `accounts`.

    Raises:
        ValueError: the code is not hexadecimal.
    """
    return hashlib.sha256(_REFERENCE_PREFIX + bytes.fromhex(deposit_code)).digest()


def deposit_key(genesis: str, signature: str, vault: str) -> str:
    """Return the idempotency key of the one credit that a move can ever become, whoever assigns it."""
    return f"deposit:{genesis}:{signature}:{vault}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """The token account that is watched, and what it must stay: `genesis` is the hash of the cluster's first block."""

    genesis: str
    address: str
    owner: str
    mint: str
    token_program: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """Whom a move is for, as its transaction says.

    `deposit_code` is 16 upper-case hexadecimal digits, or None. `source` is memo, inner_memo, reference or event, and empty
    where nobody is named; `aside` then says why: no_code, several_codes, memo_against_reference and so on.
    """

    deposit_code: str | None = None
    source: str = ""
    aside: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One change of the vault's balance by one finalized transaction.

    `pre` and `post` are the vault's balance before and after; `block_time` is in seconds since the epoch;
    `senders` are the owners whose accounts of this mint fell in it.
    """

    signature: str
    slot: int
    block_time: int | None
    pre: int
    post: int
    senders: tuple[str, ...]
    naming: Naming

    @property
    def amount(self) -> int:
        """What the vault gained; below zero what left it."""
        return self.post - self.pre


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The contiguous frontier: all moves up to here are in the journal. `signature` is None where nothing was read yet."""

    signature: str | None
    slot: int
    balance: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOutcome:
    """What recording a page did: moves that were new and those known before, new arrivals by what became of them, and the cursor now.

    `arrived` and `withdrawn` are the new moves' sums; `due`, `aside`, `credited` (found done in the journal) and `dust` count arrivals.
    """

    recorded: int
    known: int
    arrived: int
    withdrawn: int
    due: int
    aside: int
    credited: int
    dust: int
    cursor: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A confirmed payment that is not finalized yet; `seen_at` is in milliseconds since the epoch."""

    signature: str
    slot: int
    amount: int
    deposit_code: str | None
    seen_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """One incoming move as the journal knows it; `id` orders listings.

    `state` is `aside` (nobody's yet, `aside` says why), `due` (somebody's, about to be credited) or `credited`, which is final.
    Reasons beyond those of a Naming: unknown_code, closed_account, balance_full.
    """

    id: int
    signature: str
    slot: int
    amount: int
    block_time: datetime | None
    senders: tuple[str, ...]
    deposit_code: str | None
    source: str
    aside: str
    account_id: AccountId | None
    public_id: str | None
    state: str
    recorded_at: datetime
    credited_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainStatus:
    """What the watcher last said of itself.

    `state` is ok, starting, stopped (crediting is), faulty (the vault is not the treasury's alone, or not the one that is set), frozen
    or error (the watcher itself cannot go on); `reasons` are sentences for the operator.
    `vault_on_chain` is the vault's balance at `finalized_slot`; `updated_at` in milliseconds since the epoch.
    """

    state: str
    reasons: tuple[str, ...]
    finalized_slot: int
    lag_seconds: float
    backlog: int
    oldest_pending_seconds: float
    vault_on_chain: int | None
    updated_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultFigures:
    """Sums of the journal and of the recorded moves, in one snapshot.

    `vault_balance` is the journal's; `arrived` (dust included) and `withdrawn` are sums of moves, `opening` what the vault held when
    it was opened; `credited`, `due` and `set_aside` are sums of deposits; `cursor` is None where no vault is open. Counts end in `_count`.
    """

    vault_balance: int
    arrived: int
    withdrawn: int
    opening: int
    credited: int
    due: int
    set_aside: int
    dust: int
    moves_count: int
    credited_count: int
    due_count: int
    set_aside_count: int
    dust_count: int
    cursor: Cursor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A challenge to prove that one owns the wallet that sent a deposit; `text` is what is to be signed, byte for byte."""

    id: str
    deposit_id: int
    signature: str
    account_id: AccountId
    text: str
    nonce: str
    opened_at: datetime
    expires_at: datetime
    spent_at: datetime | None
