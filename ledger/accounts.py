"""Accounts, their tokens, and what an operator does to them: each one change of the journal, which Redis is then owed."""

import asyncio
import json
import re
import secrets
import uuid
from collections.abc import Sequence
from typing import Any, Final

import structlog

from ledger.account_values import Account, Credit, KeyReused, NewAccount, Token
from ledger.balances import Balances
from ledger.change_rows import Change, record_change
from ledger.changes import apply_due, read_open_meta, require_current
from ledger.entries import AccountId
from ledger.errors import BalanceUnavailable, JournalUnavailable, UnknownAccount, UnknownToken
from ledger.holds import ShardMeta
from ledger.journal import JournalWriter, Pool, driver, journal_answers, journal_transaction, lock_shards, now_ms, read_figures
from ledger.money import AMOUNT_MAX
from ledger.postings import GRANTS, body_digest, key_digest
from ledger.queries import SQL
from ledger.tokens import choose_shard, mint_token, new_token_id, parse_token

__all__ = ["Account", "Accounts", "Credit", "KeyReused", "NewAccount", "Token"]

log = structlog.get_logger("ledger")

APPLY_TRIES: Final = 4
APPLY_PAUSE_SECONDS: Final = 0.1
NAME_LENGTH_MAX: Final = 200
LIST_MAX: Final = 1000
_DEPOSIT_CODE = re.compile(r"[0-9A-F]{16}")
_CREDIT_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_TOO_MUCH: Final = "a credit is above zero, and no account can hold 2^53 microunits"
STATUSES: Final = ("active", "suspended", "closed")


class Accounts:
    """Every method is one transaction of the journal, followed by its application to Redis.

    Any of them raises JournalUnavailable where Postgres does not answer; repeating is then right.
    """

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances = pool, balances

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
            "name": _checked_name(name), "tier": tier, "token_id": token_id, "digest": token.digest,
        }  # fmt: skip
        fields = {"status": "active", "balance": "0", "held": "0", "holds": "0", "n": "0", "charged": "0", f"t:{token.digest}": "1"}
        change = Change(account=account, key=f"open:{public_id}", amount=0, fields=fields, detail=detail)
        await self._record(shard, change, meta=meta)
        await self._apply(shard, required=True)
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
            raise ValueError(_TOO_MUCH)
        if key is not None and not _CREDIT_KEY.fullmatch(key):
            raise ValueError("an idempotency key is 1 to 200 visible ASCII characters")
        detail = {"kind": "credit", "created_at": now_ms(), "type": "CREDIT", "house": GRANTS, "reason": reason, "actor": actor}
        change = Change(account=account.id, key=f"credit:{key or uuid.uuid4()}", amount=amount, fields={}, detail=detail)
        balance_after = await self._record(account.shard, change)
        applied = await self._apply(account.shard, required=False)
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

    async def create_token(self, account: Account, name: str | None = None) -> tuple[str, str]:
        """Give an account a further api_token; return its text, which is kept nowhere, and its id."""
        text, token = mint_token(account.id, account.shard)
        token_id = new_token_id()
        detail = {"kind": "token", "created_at": now_ms(), "token_id": token_id, "digest": token.digest, "name": _checked_name(name)}
        await self._change(account, f"token:{token_id}", {f"t:{token.digest}": "1"}, detail)
        return text, token_id

    async def revoke_token(self, token_id: str) -> None:
        """Take an api_token back for ever; a repeat changes nothing.

        Raises:
            UnknownToken: no token has this id.
        """
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["token_by_id"], token_id)
        if row is None:
            raise UnknownToken(token_id)
        if row["revoked_at"] is None:
            detail = {"kind": "revoke", "created_at": now_ms(), "token_id": token_id, "digest": row["digest"]}
            change = Change(account=AccountId(row["account_id"]), key=f"revoke:{token_id}", amount=0, fields={f"t:{row['digest']}": "0"}, detail=detail)
            await self._record(row["shard"], change)
        await self._apply(row["shard"], required=False)

    async def list_tokens(self, account: Account) -> Sequence[Token]:
        """Return all tokens of an account, oldest first."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["list_tokens"], account.id)
        return [Token(**dict(row)) for row in rows]

    async def _by(self, query: str, value: object) -> Account:
        async with journal_answers():
            row = await self._pool.fetchrow(SQL[query], value)
        if row is None:
            raise UnknownAccount("no account has this id, deposit code or api_token")
        return _account(row)

    async def _change(self, account: Account, key: str, fields: dict[str, str], detail: dict[str, Any]) -> None:
        await self._record(account.shard, Change(account=account.id, key=key, amount=0, fields=fields, detail=detail))
        await self._apply(account.shard, required=False)

    async def _record(self, shard: int, change: Change, *, meta: ShardMeta | None = None) -> int | None:
        """Write a change; return the journal's balance after it, or None where the key is known with the same content."""
        try:
            return await self._record_once(shard, change, meta=meta)
        except driver.UniqueViolationError:
            # Another shard's change took the same key meanwhile; it is known now.
            return await self._record_once(shard, change, meta=meta)

    async def _record_once(self, shard: int, change: Change, *, meta: ShardMeta | None) -> int | None:
        hot = meta or await self._glance(shard)
        async with journal_transaction(self._pool) as connection:
            positions = await lock_shards(connection, [shard])
            require_current(positions[shard], hot)
            known = await connection.fetchrow(SQL["known_keys"], [key_digest(change.key)])
            if known is not None:
                await self._require_same(connection, change)
                return None
            writer = JournalWriter(connection, positions, await read_figures(connection, [change.account]))
            if change.amount and writer.figures[change.account].balance + change.amount > AMOUNT_MAX:
                raise ValueError(_TOO_MUCH)  # Redis would refuse it, and with it every later change of the shard
            await record_change(writer, shard, change)
            await writer.flush()
            return writer.figures[change.account].balance

    async def _require_same(self, connection: Any, change: Change) -> None:
        """Compare with what the key stands for; a repeat has another time only."""
        row = (await connection.fetch(SQL["journal_by_key"], [key_digest(change.key)]))[0]
        again = Change(
            account=change.account, key=change.key, amount=change.amount, fields=change.fields,
            detail={**change.detail, "created_at": json.loads(row["detail"])["created_at"]},
        )  # fmt: skip
        if body_digest(again.transaction) != row["body_sha256"]:
            raise KeyReused(f"{change.key} was given before, for something else")

    async def _glance(self, shard: int) -> ShardMeta | None:
        try:
            return await self._balances.read_meta(shard)
        except BalanceUnavailable:
            return None

    async def _apply(self, shard: int, *, required: bool) -> bool:
        """Apply what is due at once; without an answer the poster does it later.

        Raises:
            BalanceUnavailable: it is `required` and Redis did not take it.
        """
        for attempt in range(APPLY_TRIES):
            try:
                await apply_due(self._pool, self._balances, shard)
            except (BalanceUnavailable, JournalUnavailable) as error:
                if not required:
                    log.warning("change_waits", shard=shard, error=str(error))
                    return False
                if attempt == APPLY_TRIES - 1:
                    raise
                await asyncio.sleep(APPLY_PAUSE_SECONDS)
            else:
                return True
        return False


def _account(row: Any) -> Account:
    fields = dict(row)
    return Account(**{name: fields[name] for name in Account.__dataclass_fields__})


def _checked_name(name: str | None) -> str | None:
    if name is not None and (len(name) > NAME_LENGTH_MAX or not name.isprintable()):
        raise ValueError(f"a name is at most {NAME_LENGTH_MAX} printable characters")
    return name or None
