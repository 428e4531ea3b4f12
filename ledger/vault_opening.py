"""Opening the vault: which token account of which chain these books watch is decided once."""

from dataclasses import replace
from typing import Any, Final

from ledger.deposit_values import Cursor, Vault
from ledger.entries import HOUSE_SHARD
from ledger.errors import NoVault, WrongStore
from ledger.journal import Connection, insert_audit, journal_answers, journal_transaction, lock_shards
from ledger.queries import SQL
from ledger.stores import Identity, read_redis, remember, require_match
from ledger.vault_link import VaultLink, read_cursor

_PINNED: Final = {"genesis": "chain", "address": "vault", "owner": "treasury", "mint": "mint", "token_program": "token program"}


class VaultOpening(VaultLink):
    """Pinning the vault, reading what is pinned, and forgetting how far it was read."""

    async def open_vault(self, vault: Vault, *, opening: int | None) -> Cursor:
        """Pin chain and vault at the first start, compare them at every later one, and return the cursor.

        `opening` is what the vault holds where only what comes from now on is to be read; the first page is then best an empty one
        with the cursor at which it holds that, since a rewind goes back to there. None reads the whole history. Until the first page
        is recorded a later call may change it; then it stays.

        Raises:
            WrongStore: these books belong to another chain or vault; the text says what to do. Nothing changed.
            BalanceUnavailable: Redis did not answer; ask again.
        """
        hot = await read_redis(self._balances)
        async with journal_transaction(self._pool) as connection:
            await lock_shards(connection, [HOUSE_SHARD])
            identity = await _pin_chain(connection, vault.genesis, hot)
            row = await connection.fetchrow(SQL["read_vault"])
            if row is None:
                terms = (vault.genesis, vault.address, vault.owner, vault.mint, vault.token_program, opening or 0, opening is None)
                await connection.execute(SQL["insert_vault"], *terms)
                await insert_audit(connection, actor="chainwatch", action="vault_opened", detail={"vault": vault.address, "opening": opening})
            else:
                _require_same(row, vault)
                if not row["opened"]:
                    await connection.execute(SQL["change_opening"], opening or 0, opening is None)
            cursor = read_cursor(await connection.fetchrow(SQL["read_vault"]))
        # The database is first: whoever starts in between finds a Redis that does not know its chain yet, which is no mismatch.
        if hot != identity:
            await remember(self._balances, identity)
        return cursor

    async def vault(self) -> Vault | None:
        """Return the vault of these books, None before the first one was opened."""
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["read_vault"])
        return None if row is None else Vault(**{name: row[name] for name in _PINNED})

    async def rewind(self, vault: Vault, *, actor: str = "operator") -> None:
        """Forget how far the chain was read: the watcher reads it again from the start, and finds again what is recorded.

        Where only what came after the opening was read, it begins there.

        Raises:
            NoVault: it was never opened.
        """
        async with journal_transaction(self._pool) as connection:
            if await connection.fetchrow(SQL["lock_vault"], vault.genesis, vault.address) is None:
                raise NoVault(f"vault {vault.address} was never opened in these books")
            await connection.execute(SQL["rewind_vault"], vault.genesis, vault.address)
            await insert_audit(connection, actor=actor, action="vault_rewound", detail={"vault": vault.address})


async def _pin_chain(connection: Connection, genesis: str, hot: Identity | None) -> Identity:
    row = await connection.fetchrow(SQL["lock_instance"])
    if row is None:
        raise WrongStore("the database has no instance: start it with `level5 migrate` or `level5 up` first")
    journal = Identity(**dict(row))
    require_match(journal, hot, mode=journal.mode, genesis=genesis)
    await connection.execute(SQL["pin_genesis"], genesis)
    return replace(journal, genesis=genesis)


def _require_same(row: Any, vault: Vault) -> None:
    for name, word in _PINNED.items():
        if row[name] != getattr(vault, name):
            raise WrongStore(
                f"these books watch {word} {row[name]}, and the settings say {getattr(vault, name)}: "
                "put the setting back, or begin new books for another treasury, mint or chain"
            )
