"""Deposits: money that arrived in the vault on Solana, recorded once and credited once."""

from collections.abc import Collection, Sequence
from datetime import datetime

from ledger.account_values import Account, Credit
from ledger.balances import Balances
from ledger.deposit_values import ChainStatus, Claim, Cursor, Deposit, Move, PageOutcome, Pending, Vault, VaultFigures
from ledger.entries import AccountId
from ledger.journal import Pool


class Deposits:
    """The vault's moves and what became of them. Any method may raise JournalUnavailable; repeating is then right."""

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances = pool, balances

    async def open_vault(self, vault: Vault, *, opening: int | None) -> Cursor:
        """Pin `vault` at the first start and return the cursor; `opening` is the balance to begin with, None to read the whole history."""
        raise NotImplementedError

    async def vault(self) -> Vault | None:
        """Return the vault of these books, None before the first start."""
        raise NotImplementedError

    async def find_references(self, keys: Collection[str]) -> dict[str, str]:
        """Return, of these keys in base58, those that are an account's Solana Pay reference, with its deposit code."""
        raise NotImplementedError

    async def record_page(self, vault: Vault, moves: Sequence[Move], *, cursor: Cursor, set_aside_min: int) -> PageOutcome:
        """Record moves in chain order, and the cursor behind them, in one transaction; known ones are skipped."""
        raise NotImplementedError

    async def credit_due(self, *, limit: int = 100) -> int:
        """Credit what is due; return how many."""
        raise NotImplementedError

    async def set_pending(self, vault: Vault, pending: Sequence[Pending]) -> None:
        """Replace the set of confirmed, not yet finalized payments."""
        raise NotImplementedError

    async def pending_by_account(self) -> dict[AccountId, int]:
        """Return what is on its way, by account."""
        raise NotImplementedError

    async def list(self, *, state: str | None = None, before: int | None = None, limit: int = 50) -> list[Deposit]:
        """Return deposits, newest first."""
        raise NotImplementedError

    async def find(self, signature: str) -> Deposit:
        """Return the deposit of this transaction."""
        raise NotImplementedError

    async def assign(self, deposit: Deposit, account: Account, *, actor: str, reason: str, source: str = "operator") -> Credit:
        """Credit a deposit to an account by somebody's decision."""
        raise NotImplementedError

    async def rewind(self, vault: Vault) -> None:
        """Forget the cursor, so that the whole history is read again."""
        raise NotImplementedError

    async def stop_crediting(self, reason: str) -> None:
        """Credit nothing from now on; recording goes on."""
        raise NotImplementedError

    async def resume_crediting(self) -> None:
        """Credit again."""
        raise NotImplementedError

    async def stopped(self) -> str | None:
        """Return why crediting is stopped, None where it is not."""
        raise NotImplementedError

    async def report(self, status: ChainStatus) -> None:
        """Keep what the watcher says of itself."""
        raise NotImplementedError

    async def status(self) -> ChainStatus | None:
        """Return what the watcher last said of itself."""
        raise NotImplementedError

    async def figures(self) -> VaultFigures:
        """Return the sums to compare with the chain."""
        raise NotImplementedError

    async def open_claim(self, deposit: Deposit, account: Account, *, text: str, nonce: str, expires_at: datetime) -> str:
        """Keep a challenge; return its id."""
        raise NotImplementedError

    async def find_claim(self, claim_id: str) -> Claim | None:
        """Return a claim."""
        raise NotImplementedError

    async def take_claim(self, claim_id: str) -> Claim:
        """Use a claim up."""
        raise NotImplementedError
