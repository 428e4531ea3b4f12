"""Accounts as organisations: found by the names that people give them, and one that every installation has from the start."""

from collections.abc import Mapping
from typing import Final

from ledger.account_values import Account
from ledger.accounts import Accounts
from ledger.errors import UnknownAccount
from ledger.journal import Pool, insert_audit, journal_answers, journal_transaction
from ledger.queries import SQL

DEFAULT_NAME: Final = "default"


async def find_organisation(pool: Pool, accounts: Accounts, text: str) -> Account:
    """Find an account by its id, deposit code, api_token or org_… id, or else by its name.

    Raises:
        UnknownAccount: there is none, or several have this name.
        JournalUnavailable: Postgres did not answer.
    """
    try:
        return await accounts.find(text)
    except UnknownAccount:
        found = await _named(pool, text.strip())
    if not found:
        raise UnknownAccount(f"no organisation is called {text!r}; name it by its id, org_… id, deposit code, api_token or name")
    if len(found) > 1:
        raise UnknownAccount(f"several organisations are called {text!r}; name one by its org_… id")
    return await accounts.find(found[0])


async def default_organisation(pool: Pool, accounts: Accounts) -> Account:
    """Return the organisation of those who name none, and open it where nobody has needed it before.

    Raises:
        JournalUnavailable, BalanceUnavailable: a store did not answer.
    """
    found = await _named(pool, DEFAULT_NAME)
    return await accounts.find(found[0]) if found else (await accounts.create(name=DEFAULT_NAME)).account


async def note_action(pool: Pool, *, actor: str, action: str, detail: Mapping[str, object]) -> None:
    """Note beside the journal who did what.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_transaction(pool) as connection:
        await insert_audit(connection, actor=actor, action=action, detail=detail)


async def _named(pool: Pool, name: str) -> list[str]:
    async with journal_answers():
        return [row["public_id"] for row in await pool.fetch(SQL["accounts_by_name"], name)]
