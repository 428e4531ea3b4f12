"""Payments that are confirmed and not finalized: shown to who waits for them, never spendable, gone when a fork drops them."""

import time
from collections.abc import Sequence
from typing import Final

import structlog

from chainwatch.calls import Row, read_transaction_answer
from chainwatch.decode import read_transaction
from chainwatch.deposits import VaultChange, read_move
from chainwatch.errors import ProviderFailure
from chainwatch.naming import NamingRules
from chainwatch.providers import Provider
from chainwatch.signatures import verify_signatures
from chainwatch.unreadable import Unreadable
from ledger.deposit_values import Pending, Vault
from ledger.deposits import Deposits
from telemetry import metrics

log = structlog.get_logger("chainwatch")

LOOKS_MAX: Final = 10  # transactions read in one round: who spams with unfinalized ones must not take the calls of what is final


class PendingPayments:
    """The set of payments on their way, kept up to date in the ledger."""

    def __init__(self, deposits: Deposits, vault: Vault, *, rules: NamingRules) -> None:
        self._deposits, self._vault, self._rules = deposits, vault, rules
        self._known: dict[str, tuple[int, Pending | None]] = {}  # by signature: its slot, and the payment it is, if any
        self._told: frozenset[str] | None = None

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest one is on its way."""
        seen = [one.seen_at for one in self._present()]
        return max(0.0, time.time() - min(seen) / 1000) if seen else 0.0

    async def note(self, rows: Sequence[Row], *, slot: int, reader: Provider, is_all: bool) -> None:
        """Take in the newest rows of a provider at commitment confirmed, whose newest finalized slot is `slot`.

        `is_all` says that the rows reach back to `slot`, so that what is missing among them is gone.
        """
        waiting = {row.signature: row for row in rows if row.slot > slot and not row.failed}
        settled = {row.signature for row in rows if row.slot <= slot}
        for signature, (at, payment) in list(self._known.items()):
            if at <= slot or signature in settled:
                del self._known[signature]  # final by now, and recorded; or it was dropped while nobody could tell
            elif is_all and signature not in waiting:
                del self._known[signature]
                if payment is not None:
                    log.warning("payment_dropped_by_fork", signature=signature, slot=at, amount=payment.amount)
        unknown = [row for row in waiting.values() if row.signature not in self._known]
        for row in unknown[-LOOKS_MAX:]:
            self._known[row.signature] = (row.slot, await self._look_at(row, reader))
        await self._tell()

    async def _look_at(self, row: Row, reader: Provider) -> Pending | None:
        """Return the payment that a confirmed transaction is; None where it is none, or cannot be read before it is final."""
        try:
            answer = await read_transaction_answer(reader, row.signature, commitment="confirmed")
            if answer is None:
                return None
            transaction = read_transaction(answer, signature=row.signature)
            verify_signatures(transaction.wire)
            change: VaultChange | None = read_move(transaction, self._vault)
        except (ProviderFailure, Unreadable):
            return None
        if change is None or change.amount <= 0:
            return None
        references = await self._deposits.find_references(transaction.wire.keys)
        naming = self._rules.name(transaction, references, amount=change.amount)
        return Pending(
            signature=row.signature, slot=row.slot, amount=change.amount, deposit_code=naming.deposit_code, seen_at=time.time_ns() // 1_000_000
        )  # fmt: skip

    def _present(self) -> list[Pending]:
        return [one for _, one in self._known.values() if one is not None]

    async def _tell(self) -> None:
        present = self._present()
        metrics.chain_oldest_pending_seconds.set(self.oldest_seconds)
        signatures = frozenset(one.signature for one in present)
        if signatures != self._told:
            await self._deposits.set_pending(self._vault, present)
            self._told = signatures
