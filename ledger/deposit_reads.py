"""What somebody who pays in sees of the deposits: an account's own, a payment on its way, what a wallet sent without a name."""

from dataclasses import dataclass
from typing import Any, Final

from ledger.deposit_values import Deposit, Pending
from ledger.entries import AccountId
from ledger.journal import COMMAND_SECONDS_MAX, journal_answers
from ledger.queries import SQL
from ledger.vault_link import VaultLink

DEPOSITS_MAX: Final = 200
PENDING_MAX: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class PaymentTrace:
    """What is known of one transaction, at most one of three: it is `pending`, it became a `deposit`, or it was a `move` that is none.

    `move` is dust (too little to be set aside, and it named nobody) or withdrawal. Where all are None nothing of it was seen yet.
    """

    pending: Pending | None = None
    deposit: Deposit | None = None
    move: str | None = None


class DepositReads(VaultLink):
    """Reads for people; each is bounded and raises JournalUnavailable where Postgres does not answer."""

    async def of_account(self, account: AccountId, *, before: int | None = None, limit: int = 20) -> list[Deposit]:
        """Return the deposits that are this account's, newest first, those about to be credited included."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["deposits_of_account"], account, before, _bounded(limit), timeout=COMMAND_SECONDS_MAX)
        return [read_deposit(row) for row in rows]

    async def on_their_way(self, account: AccountId) -> list[Pending]:
        """Return the confirmed payments to an account that are not final yet, newest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["pending_of_account"], account, PENDING_MAX, timeout=COMMAND_SECONDS_MAX)
        return [Pending(**dict(row)) for row in rows]

    async def set_aside_from(self, wallet: str, *, limit: int = 20) -> list[Deposit]:
        """Return the deposits that are nobody's yet and that this wallet alone sent, newest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["deposits_aside_from"], wallet, _bounded(limit), timeout=COMMAND_SECONDS_MAX)
        return [read_deposit(row) for row in rows]

    async def trace(self, signature: str) -> PaymentTrace:
        """Return what is known of a transaction."""
        async with journal_answers():
            # In this order: what is not pending any more is recorded by the time it is looked for.
            pending = await self._pool.fetchrow(SQL["pending_by_signature"], signature, timeout=COMMAND_SECONDS_MAX)
            found = await self._pool.fetchrow(SQL["deposit_by_signature"], signature, timeout=COMMAND_SECONDS_MAX)
            if found is not None:
                return PaymentTrace(deposit=read_deposit(found))
            move = await self._pool.fetchval(SQL["move_by_signature"], signature, timeout=COMMAND_SECONDS_MAX)
        if move is not None:
            return PaymentTrace(move=move)
        return PaymentTrace() if pending is None else PaymentTrace(pending=Pending(**dict(pending)))


def read_deposit(row: Any) -> Deposit:
    """Return a row of the table of deposits as a value."""
    fields = dict(row)
    return Deposit(**{**fields, "senders": tuple(fields["senders"])})


def _bounded(limit: int) -> int:
    return max(0, min(limit, DEPOSITS_MAX))
