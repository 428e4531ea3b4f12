"""Crediting deposits: each one a short transaction on the customer's shard, under one key whoever decides it."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from ledger.account_values import Account, Credit
from ledger.change_rows import Change, record_change
from ledger.changes import apply_due
from ledger.deposit_values import Deposit
from ledger.entries import AccountId
from ledger.errors import AlreadyAssigned, BalanceUnavailable, InactiveAccount, JournalUnavailable, LedgerError, UnknownDeposit
from ledger.holds import ShardMeta
from ledger.journal import Connection, JournalWriter, driver, insert_audit, journal_answers, journal_transaction, lock_shards, now_ms, read_figures
from ledger.money import AMOUNT_MAX
from ledger.postings import UNATTRIBUTED, key_digest
from ledger.queries import SQL
from ledger.vault_link import VaultLink, require_all_current

log = structlog.get_logger("ledger")

SHARDS_AT_ONCE: Final = 8  # fewer than the pool has connections: pages, people and reports need one as well
_CREDIT_TRIES: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decision:
    """Who gets a deposit, and by whose decision; `audited` is the reason of a decision that is noted beside the journal.

    Without `source` the deposit's own stands, and what is no longer due to this account is left alone.
    """

    account: AccountId
    shard: int
    source: str = ""
    actor: str = ""
    audited: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of it: credited, known (it was, to `owner`), found (the same, though only the journal knew), waiting (crediting is
    stopped), aside (`why`) or gone.
    """

    state: str
    key: str = ""
    amount: int = 0
    balance_after: int | None = None
    owner: int | None = None
    why: str = ""


@dataclass(slots=True)
class _Batch:
    """Deposits that are credited in one go. Once it `is_over` no further one is begun."""

    hot: Mapping[int, ShardMeta | None]
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SHARDS_AT_ONCE))
    credited: int = 0
    is_over: bool = False


class DepositCredits(VaultLink):
    """Turning recorded arrivals into money that can be spent."""

    async def credit_due(self, *, limit: int = 100) -> int:
        """Credit what is due, at most `limit`, oldest first in each shard; return how many became credited. Any number of callers may do so at once.

        Each is a transaction of its own; those of different shards run side by side. One that cannot be credited is set aside with the
        reason. While crediting is stopped, or Redis does not answer, all of them wait.

        Raises:
            JournalUnavailable: Postgres did not answer, or a restored journal is being brought up to date.
        """
        async with journal_answers():
            await self._pool.execute(SQL["name_unknown_codes"])
            rows = await self._pool.fetch(SQL["due_deposits"], limit)
        if not rows:
            return 0
        try:
            hot = await self._balances.read_all_meta()
        except BalanceUnavailable as error:
            log.warning("deposits_wait", error=str(error))
            return 0
        batch, by_shard = _Batch(hot), dict[int, list[Any]]()
        for row in rows:
            by_shard.setdefault(row["shard"], []).append(row)
        results = await asyncio.gather(*(self._credit_shard(shard, due, batch) for shard, due in by_shard.items()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result  # only now: what is wrong with one shard must not keep the deposits of others waiting
        return batch.credited

    async def _credit_shard(self, shard: int, rows: Sequence[Any], batch: "_Batch") -> None:
        """Credit deposits of one shard one after another, and let Redis have them."""
        async with batch.slots:
            credited = 0
            for row in rows:
                if batch.is_over:
                    break
                credited += await self._credit_one(row, batch)
            if credited:
                batch.credited += credited
                await self._apply_now(shard)

    async def _credit_one(self, row: Any, batch: "_Batch") -> bool:
        decision = _Decision(account=AccountId(row["account_id"]), shard=row["shard"])
        try:
            outcome = await self._decide(row["id"], decision, batch.hot)
        except JournalUnavailable:
            batch.is_over = True  # the others would only wait for it too
            raise
        if outcome.state == "waiting":
            batch.is_over = True
        if outcome.state == "aside":
            log.warning("deposit_set_aside", deposit=row["id"], reason=outcome.why)
        return outcome.state in ("credited", "found")

    async def assign(self, deposit: Deposit, account: Account, *, actor: str, reason: str, source: str = "operator") -> Credit:
        """Credit a deposit to `account` by somebody's decision, noted with `actor` and `reason`. A repeat gives nothing more.

        While crediting is stopped the decision is kept, and carried out when it goes on: the answer then has no balance.

        Raises:
            AlreadyAssigned: it is credited to another account.
            InactiveAccount: the account is closed.
            UnknownDeposit: there is no such deposit.
            ValueError: the account cannot hold so much.
            BalanceUnavailable, JournalUnavailable: a store did not answer, or is being brought up to date; ask again.
        """
        hot = await self._balances.read_all_meta()
        decision = _Decision(account=account.id, shard=account.shard, source=source, actor=actor, audited=reason)
        outcome = await self._decide(deposit.id, decision, hot)
        if outcome.state == "gone":
            raise UnknownDeposit(deposit.signature)
        if outcome.state in ("known", "found") and outcome.owner != account.id:
            async with journal_answers():
                public_id = await self._pool.fetchval(SQL["public_id_of"], outcome.owner)
            raise AlreadyAssigned(deposit.signature, public_id)
        if outcome.state == "aside":
            raise InactiveAccount("closed") if outcome.why == "closed_account" else ValueError("no account can hold 2^53 microunits")
        applied = outcome.state != "waiting" and await self._apply_now(account.shard)
        return Credit(key=outcome.key, amount=outcome.amount, balance_after=outcome.balance_after, applied=applied)

    async def _decide(self, deposit: int, decision: _Decision, hot: Mapping[int, ShardMeta | None]) -> _Outcome:
        for _ in range(_CREDIT_TRIES):
            try:
                async with journal_transaction(self._pool) as connection:
                    return await _decide_once(connection, deposit, decision, hot)
            except driver.UniqueViolationError:
                continue  # the outbox of a restored journal brought the same credit meanwhile; it is known now
        raise JournalUnavailable(f"deposit {deposit} is being credited by another; ask again")

    async def _apply_now(self, shard: int) -> bool:
        """Apply what is due at once; without an answer the poster does it later."""
        try:
            await apply_due(self._pool, self._balances, shard)
        except LedgerError as error:
            log.warning("change_waits", shard=shard, error=str(error))
            return False
        return True


async def _decide_once(connection: Connection, deposit: int, decision: _Decision, hot: Mapping[int, ShardMeta | None]) -> _Outcome:
    """One transaction. Locks: the customer's shard, the vault (shared), the deposit; a page takes the house shard and the vault."""
    positions = await lock_shards(connection, [decision.shard])
    await require_all_current(connection, hot)
    vault = await connection.fetchrow(SQL["share_vault_of"], deposit)
    if vault is None:
        return _Outcome(state="gone")
    row = await connection.fetchrow(SQL["lock_deposit"], deposit)
    known = await _known_credit(connection, row)
    if known is not None:
        return known
    if not decision.source and (row["state"], row["account_id"]) != ("due", decision.account):
        return _Outcome(state="gone")  # somebody decided otherwise meanwhile
    account = await connection.fetchrow(SQL["account_by_id"], decision.account)
    writer = JournalWriter(connection, positions, await read_figures(connection, [decision.account]))
    why = _obstacle(account, writer, row["amount"])
    if why:
        if not decision.source:
            await connection.execute(SQL["set_deposit_aside"], deposit, why)
        return _Outcome(state="aside", why=why)
    if decision.audited is not None:
        await _note(connection, row, decision, account["public_id"])
    if vault["stopped"] is not None:
        if decision.source:
            await connection.execute(SQL["set_deposit_due"], deposit, decision.account, decision.source, decision.actor)
        return _Outcome(state="waiting", key=row["key"], amount=row["amount"])
    await record_change(writer, decision.shard, _change(row, decision))
    await writer.flush()
    return _Outcome(state="credited", key=row["key"], amount=row["amount"], balance_after=writer.figures[decision.account].balance)


async def _known_credit(connection: Connection, row: Any) -> _Outcome | None:
    """Find the credit of a deposit in the journal, and let the deposit say so where it does not yet: the journal was restored."""
    found = await connection.fetch(SQL["journal_by_key"], [key_digest(row["key"])])
    if not found:
        return None
    [credit] = found
    detail = json.loads(credit["detail"])
    await connection.execute(SQL["mark_credited"], row["key"], credit["account_id"], detail["source"], detail["actor"], credit["settled_at"])
    return _Outcome(state="known" if row["state"] == "credited" else "found", key=row["key"], amount=row["amount"], owner=credit["account_id"])


def _obstacle(account: Any, writer: JournalWriter, amount: int) -> str:
    """Tell why an account cannot get an amount: Redis would refuse it, and with it every later change of the shard."""
    if account["status"] == "closed":
        return "closed_account"
    if writer.figures[account["id"]].balance + amount > AMOUNT_MAX or amount > AMOUNT_MAX:
        return "balance_full"
    return ""


async def _note(connection: Connection, row: Any, decision: _Decision, public_id: str) -> None:
    detail = {
        "deposit": row["id"], "signature": row["signature"], "amount": row["amount"], "account": public_id, "source": decision.source,
        "reason": decision.audited,
    }  # fmt: skip
    await insert_audit(connection, actor=decision.actor, action="deposit_assigned", detail=detail)


def _change(row: Any, decision: _Decision) -> Change:
    detail = {
        "kind": "deposit", "created_at": now_ms(), "type": "DEPOSIT", "house": UNATTRIBUTED, "genesis": row["genesis"], "vault": row["vault"],
        "signature": row["signature"], "source": decision.source or row["source"], "actor": decision.actor or row["actor"],
    }  # fmt: skip
    return Change(account=decision.account, key=row["key"], amount=row["amount"], fields={}, detail=detail)
