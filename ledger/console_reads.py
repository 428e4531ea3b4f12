"""What the operator's console reads: accounts by name, an account's hot figures and open holds, the audit, the rate cards that were in force.

Every list is bounded. Functions that ask Postgres raise JournalUnavailable where it does not answer, `hot_account` BalanceUnavailable.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ledger.account_values import Account
from ledger.balances import Balances
from ledger.entries import AccountId
from ledger.errors import ShardClosed
from ledger.journal import COMMAND_SECONDS_MAX, Pool, journal_answers
from ledger.queries import SQL
from ledger.shard_link import epoch_prefix
from ledger.stores import redis_command, redis_pipeline

PAGE_MAX: Final = 200
HOLDS_READ_MAX: Final = 2000  # of a shard, to find those of one account
HOLDS_MAX: Final = 64
SEARCH_LENGTH_MAX: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    """Money set aside for a request that runs; `deadline` in milliseconds since the epoch."""

    request_id: str
    amount: int
    deadline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HotAccount:
    """An account as Redis has it. `holds_count` is exact; `holds` are those that were found, at most 64."""

    balance: int
    held: int
    holds_count: int
    status: str
    holds: tuple[OpenHold, ...]

    @property
    def available(self) -> int:
        """What can be spent now."""
        return self.balance - self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """Who did what, and when."""

    id: int
    at: datetime
    actor: str
    action: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which lines of the audit are asked for."""

    before: int | None = None
    actor: str | None = None
    action: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRow:
    """A rate card that was in force from `loaded_at` on."""

    hash: str
    loaded_at: datetime


async def search_accounts(pool: Pool, *, before: int | None = None, status: str | None = None, part: str | None = None, limit: int = 50) -> list[Account]:
    """Return accounts whose name contains `part`, the latest first, from below the id `before`."""
    escaped = None
    if part:
        words = part[:SEARCH_LENGTH_MAX].replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        escaped = f"%{words}%"
    async with journal_answers():
        rows = await pool.fetch(SQL["search_accounts"], before, status, escaped, min(limit, PAGE_MAX), timeout=COMMAND_SECONDS_MAX)
    return [Account(**{name: row[name] for name in Account.__dataclass_fields__}) for row in rows]


async def hot_account(balances: Balances, account: AccountId, shard: int) -> HotAccount | None:
    """Return what Redis has of an account, None where it knows none.

    Raises:
        ShardClosed: the shard is being rebuilt.
        BalanceUnavailable: Redis did not answer.
    """
    meta = await balances.read_meta(shard)
    if meta is None or meta.state != "open":
        raise ShardClosed(shard)
    prefix = epoch_prefix(shard, meta.epoch)
    fields = await redis_command(balances, "HMGET", f"{prefix}a:{account}", "balance", "held", "holds", "status")
    if fields[3] is None:
        return None
    holds = await _open_holds(balances, account, prefix) if int(fields[2] or 0) else ()
    return HotAccount(balance=int(fields[0] or 0), held=int(fields[1] or 0), holds_count=int(fields[2] or 0), status=fields[3].decode(), holds=holds)


async def _open_holds(balances: Balances, account: AccountId, prefix: str) -> tuple[OpenHold, ...]:
    names = await redis_command(balances, "ZRANGE", f"{prefix}holds", 0, HOLDS_READ_MAX - 1)
    requests = [name.decode() for name in names]
    commands: list[tuple[str | int, ...]] = [("HMGET", f"{prefix}h:{name}", "account", "amount") for name in requests]
    commands += [("ZSCORE", f"{prefix}holds", name) for name in requests]
    answers = await redis_pipeline(balances, commands) if commands else []
    found = zip(requests, answers[: len(requests)], answers[len(requests) :], strict=True)
    own = [
        OpenHold(request_id=name, amount=int(fields[1]), deadline=int(float(score)))
        for name, fields, score in found
        if fields[0] == str(account).encode() and fields[1] is not None and score is not None
    ]
    return tuple(own[:HOLDS_MAX])


async def read_audit(pool: Pool, query: AuditQuery, *, limit: int) -> list[AuditLine]:
    """Return lines of the audit, the latest first."""
    terms = (query.before, query.actor, query.action, query.since, query.until, limit)
    async with journal_answers():
        rows = await pool.fetch(SQL["read_audit"], *terms, timeout=COMMAND_SECONDS_MAX)
    return [_line(row) for row in rows]


async def audit_of_account(pool: Pool, public_id: str, *, limit: int = 20) -> list[AuditLine]:
    """Return what operators did to an account, the latest first."""
    async with journal_answers():
        rows = await pool.fetch(SQL["audit_of_account"], public_id, min(limit, PAGE_MAX), timeout=COMMAND_SECONDS_MAX)
    return [_line(row) for row in rows]


async def owner_of(pool: Pool, identifier: str) -> str | None:
    """Return whose an api_token or ingest key is, by its id; None where there is none."""
    async with journal_answers():
        public_id: str | None = await pool.fetchval(SQL["owner_of"], identifier, timeout=COMMAND_SECONDS_MAX)
    return public_id


async def rate_cards(pool: Pool, *, before: datetime | None = None, limit: int = 20) -> list[CardRow]:
    """Return the rate cards that were ever in force, the latest first."""
    async with journal_answers():
        rows = await pool.fetch(SQL["list_rate_cards"], before, min(limit, PAGE_MAX), timeout=COMMAND_SECONDS_MAX)
    return [CardRow(**dict(row)) for row in rows]


async def rate_card_body(pool: Pool, card_hash: str) -> str | None:
    """Return the text of a rate card; None where there never was one with this hash."""
    async with journal_answers():
        body: str | None = await pool.fetchval(SQL["read_rate_card"], card_hash, timeout=COMMAND_SECONDS_MAX)
    return body


async def rate_card_before(pool: Pool, card_hash: str) -> str | None:
    """Return the hash of the card that was in force before this one."""
    async with journal_answers():
        found: str | None = await pool.fetchval(SQL["rate_card_before"], card_hash, timeout=COMMAND_SECONDS_MAX)
    return found


def _line(row: Any) -> AuditLine:
    return AuditLine(id=row["id"], at=row["at"], actor=row["actor"], action=row["action"], detail=_read_detail(row["detail"]))


def _read_detail(text: str) -> Mapping[str, object]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {"detail": found}
