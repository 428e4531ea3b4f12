"""What is said about the vault: payments on their way, the watcher's word of itself, the stop of crediting, and the sums."""

from collections.abc import Sequence

from ledger.deposit_values import ChainStatus, Pending, Vault, VaultFigures
from ledger.entries import AccountId
from ledger.errors import NoVault
from ledger.journal import ACQUIRE_SECONDS_MAX, insert_audit, journal_answers, journal_transaction
from ledger.queries import SQL
from ledger.vault_link import VaultLink, read_cursor


class VaultStatus(VaultLink):
    """Reports about the vault; none of them moves money."""

    async def set_pending(self, vault: Vault, pending: Sequence[Pending]) -> None:
        """Make `pending` the whole set of confirmed payments that are not finalized; a payment seen before keeps its `seen_at`."""
        latest = {each.signature: each for each in pending}
        rows = [(each.signature, each.slot, each.amount, each.deposit_code, each.seen_at) for _, each in sorted(latest.items())]
        async with journal_transaction(self._pool) as connection:
            await connection.execute(SQL["forget_pending"], vault.genesis, vault.address, list(latest))
            if rows:
                await connection.execute(SQL["insert_pending"], vault.genesis, vault.address, *(list(column) for column in zip(*rows, strict=True)))

    async def pending_by_account(self) -> dict[AccountId, int]:
        """Return what is confirmed but not finalized, in microunits, for every account that such a payment names."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["pending_by_account"])
        return {AccountId(row["id"]): int(row["amount"]) for row in rows}

    async def stop_crediting(self, reason: str) -> None:
        """Credit nothing from the return of this call on, for `reason`; recording goes on. A newer reason replaces the older.

        Raises:
            NoVault: no vault was opened, so there is nothing to stop.
        """
        async with journal_transaction(self._pool) as connection:
            # It waits for the credits that are under way: each of them shares the vault's row.
            row = await connection.fetchrow(SQL["stop_crediting"], reason)
            if row is None:
                raise NoVault("no vault was opened in these books yet")
            if row["before"] != reason:
                await insert_audit(connection, actor="chainwatch", action="crediting_stopped", detail={"reason": reason})

    async def resume_crediting(self, *, actor: str = "chainwatch") -> None:
        """Credit again, by the decision of `actor`; what came in meanwhile is credited with the next round."""
        async with journal_transaction(self._pool) as connection:
            row = await connection.fetchrow(SQL["stop_crediting"], None)
            if row is not None and row["before"] is not None:
                await insert_audit(connection, actor=actor, action="crediting_resumed", detail={"reason": row["before"]})

    async def stopped(self) -> str | None:
        """Return why crediting is stopped, None where it is not."""
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["read_vault"])
        return row["stopped"] if row else None

    async def report(self, status: ChainStatus) -> None:
        """Keep what the watcher says of itself, in place of what it said before."""
        terms = (
            status.state, list(status.reasons), status.finalized_slot, status.lag_seconds, status.backlog,
            status.oldest_pending_seconds, status.vault_on_chain, status.updated_at,
        )  # fmt: skip
        async with journal_answers():
            await self._pool.execute(SQL["keep_chain_status"], *terms)

    async def status(self) -> ChainStatus | None:
        """Return what the watcher last said of itself, however long ago; None where it never did."""
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["read_chain_status"])
        return None if row is None else ChainStatus(**{**dict(row), "reasons": tuple(row["reasons"])})

    async def figures(self) -> VaultFigures:
        """Return the sums of moves and deposits beside the journal's balance of the vault, and the cursor, all of one instant."""
        async with journal_answers(), self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                row = await connection.fetchrow(SQL["vault_figures"])
                vault = await connection.fetchrow(SQL["read_vault"])
        cursor = read_cursor(vault) if vault else None
        return VaultFigures(**{name: int(value) for name, value in dict(row).items()}, cursor=cursor)
