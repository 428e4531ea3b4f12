"""Deposits: money that arrived in the vault on Solana, recorded once and credited once."""

from ledger.deposit_claims import DepositClaims
from ledger.deposit_credits import DepositCredits
from ledger.deposit_reads import DepositReads, read_deposit
from ledger.deposit_values import Deposit
from ledger.errors import UnknownDeposit
from ledger.journal import journal_answers
from ledger.queries import SQL
from ledger.vault_opening import VaultOpening
from ledger.vault_pages import VaultPages
from ledger.vault_status import VaultStatus

LIST_MAX = 1000


class Deposits(VaultOpening, VaultPages, DepositCredits, DepositClaims, DepositReads, VaultStatus):
    """The vault's moves and what became of them.

    The watcher opens the vault, records pages and has what is due credited; people list, assign and claim. Any method raises
    JournalUnavailable where Postgres does not answer; repeating is then right, and harmless.
    """

    async def list(self, *, state: str | None = None, before: int | None = None, limit: int = 50) -> list[Deposit]:
        """Return deposits, newest first: those in `state` (aside, due, credited), and with an id below `before`."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["list_deposits"], state, before, max(0, min(limit, LIST_MAX)))
        return [read_deposit(row) for row in rows]

    async def find(self, signature: str) -> Deposit:
        """Return the deposit that this transaction made.

        Raises:
            UnknownDeposit: there is none: not finalized yet, no money for the vault in it, or dust.
        """
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["deposit_by_signature"], signature.strip())
        if row is None:
            raise UnknownDeposit(f"no deposit came by transaction {signature}")
        return read_deposit(row)
