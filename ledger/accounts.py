"""Accounts, their tokens, and what an operator does to them: each one change of the journal, which Redis is then owed."""

import re
import secrets
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from ledger.account_changes import TOO_MUCH, AccountChanges
from ledger.account_values import Account, Credit, KeyReused, NewAccount, Token, checked_name
from ledger.change_rows import Change
from ledger.changes import read_open_meta
from ledger.entries import AccountId
from ledger.errors import LastToken, TooManyTokens, UnknownAccount, UnknownToken
from ledger.journal import Connection, journal_answers, now_ms
from ledger.money import AMOUNT_MAX
from ledger.postings import GRANTS
from ledger.queries import SQL
from ledger.tokens import STATES, TokenScope, TokenState, choose_shard, hint_of, mint_token, new_token_id, parse_token, wished_id

__all__ = ["Account", "Accounts", "Credit", "KeyReused", "NewAccount", "Token"]

LIST_MAX: Final = 1000
TOKENS_ACTIVE_MAX: Final = 200  # of one account: all of them are fields of one key in Redis
RECENT_MAX: Final = TOKENS_ACTIVE_MAX + 50
_DEPOSIT_CODE = re.compile(r"[0-9A-F]{16}")
_TIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_CREDIT_KEY = re.compile(r"[\x21-\x7e]{1,200}")
STATUSES: Final = ("active", "suspended", "closed")


class Accounts(AccountChanges):
    """Every method is one transaction of the journal, followed by its application to Redis.

    Any of them raises JournalUnavailable where Postgres does not answer; repeating is then right.
    """

    async def create(self, name: str | None = None, tier: str = "free") -> NewAccount:
        """Open an account with one token; on return it is usable.

        Raises:
            BalanceUnavailable: Redis does not answer; ask again. At worst an empty account without a known token stays behind.
        """
        async with journal_answers():
            account = AccountId(await self._pool.fetchval(SQL["next_account_id"]))
        shard = choose_shard(account)
        meta = await read_open_meta(self._balances, shard)
        text, token = mint_token(account, shard)
        token_id, public_id = new_token_id(), "org_" + secrets.token_hex(8)
        detail = {
            "kind": "open", "created_at": now_ms(), "public_id": public_id, "deposit_code": secrets.token_hex(8).upper(),
            "name": checked_name(name), "tier": tier, "token_id": token_id, "digest": token.digest, "hint": hint_of(text),
        }  # fmt: skip
        fields = {
            "status": "active", "balance": "0", "held": "0", "holds": "0", "n": "0", "charged": "0", "org": public_id, "tier": tier, f"t:{token.digest}": "1",
        }  # fmt: skip
        change = Change(account=account, key=f"open:{public_id}", amount=0, fields=fields, detail=detail)
        await self.record(shard, change, meta=meta)
        await self.apply(shard, required=True)
        return NewAccount(account=await self._by("account_by_id", account), api_token=text, token_id=token_id)

    async def find(self, text: str) -> Account:
        """Find an account by its id, deposit code, api_token or public id.

        Raises:
            UnknownAccount: there is none.
        """
        wanted = text.strip()
        if _DEPOSIT_CODE.fullmatch(wanted.upper()):
            return await self._by("account_by_deposit_code", wanted.upper())
        if wanted.isascii() and wanted.isdigit() and int(wanted) < 2**63:
            return await self._by("account_by_id", int(wanted))
        if wanted.startswith("org_"):
            return await self._by("account_by_public_id", wanted)
        try:
            return await self._by("account_by_token", parse_token(wanted).digest)
        except UnknownToken:
            raise UnknownAccount("name an account by its id, deposit code, org_… id or api_token") from None

    async def list(self, *, after: int = 0, limit: int = LIST_MAX) -> list[Account]:
        """Return accounts with an id above `after`, in order."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["list_accounts"], after, min(limit, LIST_MAX))
        return [_account(row) for row in rows]

    async def credit(self, account: Account, amount: int, *, reason: str, actor: str, key: str | None = None) -> Credit:
        """Give an account `amount` microunits out of the operator's grants. A repeat with the same `key` gives nothing more.

        Raises:
            KeyReused: the key stands for another credit.
            ValueError: the amount is not above zero or too large, or the key is not 1 to 200 visible characters.
        """
        if not 0 < amount <= AMOUNT_MAX:
            raise ValueError(TOO_MUCH)
        if key is not None and not _CREDIT_KEY.fullmatch(key):
            raise ValueError("an idempotency key is 1 to 200 visible ASCII characters")
        detail = {"kind": "credit", "created_at": now_ms(), "type": "CREDIT", "house": GRANTS, "reason": reason, "actor": actor}
        change = Change(account=account.id, key=f"credit:{key or uuid.uuid4()}", amount=amount, fields={}, detail=detail)
        balance_after = await self.record(account.shard, change)
        applied = await self.apply(account.shard)
        return Credit(key=change.key, amount=amount, balance_after=balance_after, applied=applied)

    async def set_status(self, account: Account, status: str, reason: str) -> None:
        """Make an account active, suspended or closed.

        Raises:
            ValueError: another status.
        """
        if status not in STATUSES:
            raise ValueError(f"a status is one of {', '.join(STATUSES)}")
        detail = {"kind": "status", "created_at": now_ms(), "status": status, "reason": reason}
        await self._change(account, f"status:{uuid.uuid4()}", {"status": status}, detail)

    async def set_line(self, account: Account, line: int | None) -> None:
        """Set how far below zero the account may go, in microunits; None returns it to the rule."""
        if line is not None and not 0 <= line <= AMOUNT_MAX:
            raise ValueError("a line is zero or more microunits")
        detail = {"kind": "line", "created_at": now_ms(), "line": line}
        await self._change(account, f"line:{uuid.uuid4()}", {"line": "" if line is None else str(line)}, detail)

    async def set_tier(self, account: Account, tier: str, reason: str) -> None:
        """Put an account into a tier; what a tier allows is configured, not stored.

        Raises:
            ValueError: the name is not one of up to 40 lower-case letters, digits and signs.
        """
        if not _TIER.fullmatch(tier):
            raise ValueError("a tier is named by up to 40 lower-case letters, digits and signs")
        detail = {"kind": "tier", "created_at": now_ms(), "tier": tier, "reason": reason}
        await self._change(account, f"tier:{uuid.uuid4()}", {"tier": tier}, detail)

    async def create_token(self, account: Account, name: str | None = None, *, scope: TokenScope = TokenScope.FULL, once: str | None = None) -> tuple[str, str]:
        """Give an account a further api_token; return its text, which is kept nowhere, and its id.

        `once` names this wish: of all that bear the same name, one is granted.

        Raises:
            KeyReused: a token was made for this wish before.
            TooManyTokens: the account has as many as it may have at once.
        """
        text, token = mint_token(account.id, account.shard)
        token_id = new_token_id() if once is None else wished_id("tok_", account.id, once)
        detail = {"kind": "token", "created_at": now_ms(), "token_id": token_id, "digest": token.digest, "name": checked_name(name), "hint": hint_of(text)}
        if scope is not TokenScope.FULL:
            detail["scope"] = scope.value
        change = Change(account=account.id, key=f"token:{token_id}", amount=0, fields={f"t:{token.digest}": STATES[scope].value}, detail=detail)
        await self.record(account.shard, change, guard=partial(_require_room, account=account.id))
        await self.apply(account.shard)
        return text, token_id

    async def revoke_token(self, token_id: str, account: Account | None = None, *, keep_one: bool = False) -> None:
        """Take an api_token back for ever; a repeat changes nothing. With `account` only a token of that account is known.

        Raises:
            UnknownToken: no token (of this account) has this id.
            LastToken: `keep_one`, and no other token could spend.
        """
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["token_by_id"], token_id)
        if row is None or (account is not None and row["account_id"] != account.id):
            raise UnknownToken(token_id)
        if row["revoked_at"] is None:
            owner = AccountId(row["account_id"])
            detail = {"kind": "revoke", "created_at": now_ms(), "token_id": token_id, "digest": row["digest"]}
            fields = {f"t:{row['digest']}": TokenState.REVOKED.value}
            change = Change(account=owner, key=f"revoke:{token_id}", amount=0, fields=fields, detail=detail)
            guard = partial(_require_another, account=owner, token_id=token_id) if keep_one and row["scope"] == TokenScope.FULL else None
            await self.record(row["shard"], change, guard=guard)
        await self.apply(row["shard"])

    async def list_tokens(self, account: Account) -> Sequence[Token]:
        """Return all tokens of an account, oldest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["list_tokens"], account.id)
        return [Token(**dict(row)) for row in rows]

    async def recent_tokens(self, account: Account) -> Sequence[Token]:
        """Return the tokens that work, oldest first, and then some that were revoked, the latest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["recent_tokens"], account.id, RECENT_MAX)
        return [Token(**dict(row)) for row in rows]

    async def find_token(self, account: Account, token_id: str) -> Token:
        """Return a token of the account that works.

        Raises:
            UnknownToken: there is none with this id.
        """
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["find_token"], account.id, token_id)
        if row is None:
            raise UnknownToken(token_id)
        return Token(**dict(row))

    async def _by(self, query: str, value: object) -> Account:
        async with journal_answers():
            row = await self._pool.fetchrow(SQL[query], value)
        if row is None:
            raise UnknownAccount("no account has this id, deposit code or api_token")
        return _account(row)

    async def _change(self, account: Account, key: str, fields: dict[str, str], detail: dict[str, Any]) -> None:
        await self.record(account.shard, Change(account=account.id, key=key, amount=0, fields=fields, detail=detail))
        await self.apply(account.shard)


async def _require_room(connection: Connection, *, account: AccountId) -> None:
    """Refuse a token too many; asked behind the lock of the shard, so that no two come in together."""
    if await connection.fetchval(SQL["count_tokens"], account) >= TOKENS_ACTIVE_MAX:
        raise TooManyTokens(f"an account has at most {TOKENS_ACTIVE_MAX} active api_tokens; revoke one")


async def _require_another(connection: Connection, *, account: AccountId, token_id: str) -> None:
    """Refuse to take the last token that can spend; two that each take the other's meet at the lock of the shard."""
    if not await connection.fetchval(SQL["has_other_token"], account, token_id):
        raise LastToken("no other api_token of this account can spend; make one first")


def _account(row: Any) -> Account:
    fields = dict(row)
    return Account(**{name: fields[name] for name in Account.__dataclass_fields__})
