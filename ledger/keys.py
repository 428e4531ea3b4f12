"""Ingest keys: `plutus_sk_<address>_<secret>`. Like an api_token a key says itself where it belongs, and only its digest is stored."""

import re
import secrets
from collections.abc import Sequence
from typing import Final

from ledger.account_changes import AccountChanges
from ledger.account_values import Account, checked_name
from ledger.change_rows import Change
from ledger.entries import AccountId
from ledger.errors import TooManyKeys, UnknownKey, UnknownToken
from ledger.ingest_values import IngestKey, KeyRow, NewKey
from ledger.journal import journal_answers, now_ms
from ledger.queries import SQL
from ledger.tokens import digest_of, read_address, wished_id, write_address

__all__ = ["IngestKey", "KeyRow", "Keys", "NewKey", "mint_key", "parse_key"]

KEY_PREFIX: Final = "plutus_sk_"
SHOWN_CHARACTERS: Final = 4  # of the secret, so that a person can tell keys apart
ACTIVE_MAX: Final = 200
RECENT_MAX: Final = ACTIVE_MAX + 50
_KEY = re.compile(KEY_PREFIX + r"([0-9a-hjkmnp-tv-z]{1,13})_([A-Za-z0-9_-]{43})")


def mint_key(account: AccountId, shard: int) -> tuple[str, IngestKey]:
    """Return a new key's text, which is shown once and never stored, and what is kept of it."""
    text = f"{KEY_PREFIX}{write_address(account, shard)}_{secrets.token_urlsafe(32)}"
    return text, IngestKey(account, shard, digest_of(text))


def parse_key(text: str) -> IngestKey:
    """Read account and shard from a key; its secret is not checked here.

    Raises:
        UnknownKey: it is malformed, or not written the one way that `mint_key` writes it.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        raise UnknownKey("malformed")
    try:
        account, shard = read_address(match[1])
    except UnknownToken as error:
        raise UnknownKey("malformed") from error
    return IngestKey(account, shard, digest_of(text))


class Keys(AccountChanges):
    """The ingest keys of accounts. Any method raises JournalUnavailable where Postgres does not answer; repeating is then right."""

    async def create(self, account: Account, name: str | None = None, *, once: str | None = None) -> NewKey:
        """Give an account a further key. `once` names this wish: of all that bear the same name, one is granted.

        Raises:
            KeyReused: a key was made for this wish before.
            TooManyKeys: it has as many as it may have at once.
            ValueError: the name is not up to 200 printable characters.
        """
        name = checked_name(name)
        async with journal_answers():
            if await self._pool.fetchval(SQL["count_keys"], account.id) >= ACTIVE_MAX:
                raise TooManyKeys(f"an account has at most {ACTIVE_MAX} active keys; revoke one")
        text, key = mint_key(account.id, account.shard)
        key_id = "key_" + secrets.token_hex(8) if once is None else wished_id("key_", account.id, once)
        prefix = text[: text.rindex("_", 0, -43) + 1 + SHOWN_CHARACTERS]
        detail = {"kind": "key", "created_at": now_ms(), "key_id": key_id, "digest": key.digest, "name": name, "prefix": prefix}
        change = Change(account=account.id, key=f"key:{key_id}", amount=0, fields={f"k:{key.digest}": key_id}, detail=detail)
        await self.record(account.shard, change)
        await self.apply(account.shard, required=True)
        return NewKey(text=text, key_id=key_id, prefix=prefix)

    async def list(self, account: Account) -> list[KeyRow]:
        """Return all keys of an account, oldest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["list_keys"], account.id)
        return [KeyRow(**dict(row)) for row in rows]

    async def recent(self, account: Account) -> Sequence[KeyRow]:
        """Return the keys that work, oldest first, and then some that were revoked, the latest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["recent_keys"], account.id, RECENT_MAX)
        return [KeyRow(**dict(row)) for row in rows]

    async def find(self, key_id: str) -> KeyRow:
        """Return a key by its id.

        Raises:
            UnknownKey: there is none.
        """
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["find_key"], key_id)
        if row is None:
            raise UnknownKey(key_id)
        return KeyRow(**dict(row))

    async def revoke(self, key_id: str, account: Account | None = None) -> None:
        """Take a key back for ever, at once; a repeat changes nothing. With `account` only a key of that account is known.

        Raises:
            UnknownKey: no key (of this account) has this id.
        """
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["key_to_revoke"], key_id)
        if row is None or (account is not None and row["account_id"] != account.id):
            raise UnknownKey(key_id)
        if row["revoked_at"] is None:
            detail = {"kind": "key_revoke", "created_at": now_ms(), "key_id": key_id, "digest": row["digest"]}
            # An empty value takes the field away: what the shard does not know is refused.
            fields = {f"k:{row['digest']}": ""}
            await self.record(row["shard"], Change(account=AccountId(row["account_id"]), key=f"key_revoke:{key_id}", amount=0, fields=fields, detail=detail))
        await self.apply(row["shard"])
