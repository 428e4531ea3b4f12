"""Workspaces: the parts of an organisation that usage is counted for. Each is a change of the books, so that it comes back with them."""

import secrets
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from ledger.account_changes import AccountChanges
from ledger.account_values import Account
from ledger.balances import Balances
from ledger.change_rows import Change, record_change
from ledger.changes import require_current
from ledger.entries import AccountId
from ledger.errors import UnknownAccount, UnknownWorkspace, WorkspaceRefused
from ledger.ingest_values import FREE_TIER, TEXT_LENGTH_MAX, WARN_PERCENT, BudgetUse, ResolvedWorkspace, Workspace, WorkspaceUse
from ledger.journal import Connection, JournalWriter, Pool, journal_answers, journal_transaction, lock_shards, now_ms, read_figures
from ledger.money import AMOUNT_MAX
from ledger.queries import SQL

__all__ = ["ResolvedWorkspace", "Workspace", "Workspaces", "slug_of"]

CACHE_MAX: Final = 20_000
FOLDED_SECONDS: Final = 30.0  # a tier may have changed since
WORKSPACES_MAX: Final = 10_000  # of one account, whatever its tier
SLUG_LENGTH_MAX: Final = 60
USE_LIST_MAX: Final = 1000  # of one page
WARNED_MAX: Final = 10_000  # budgets that are nearly used, of all accounts


def slug_of(name: str) -> str:
    """Return what all spellings of a name share: lower-case letters and digits with hyphens between them."""
    words = "".join(character if character.isalnum() else " " for character in name.casefold()).split()
    slug = "-".join(words)
    if not slug or len(slug) > SLUG_LENGTH_MAX:
        slug = f"{slug[: SLUG_LENGTH_MAX - 9]}-{sha256(name.encode()).hexdigest()[:8]}".lstrip("-")
    return slug


class Workspaces(AccountChanges):
    """The workspaces of all accounts; what was found is remembered in this process, since none is ever renamed or taken away."""

    def __init__(self, pool: Pool, balances: Balances) -> None:
        super().__init__(pool, balances)
        self._known: OrderedDict[tuple[AccountId, str], tuple[ResolvedWorkspace, float]] = OrderedDict()

    async def resolve(
        self, account: AccountId, shard: int, wanted: str, *, caps: Mapping[str, int | None], refuse_beyond_cap: bool = False
    ) -> ResolvedWorkspace:
        """Return the workspace with this id, name or slug; make it where there is none and the account's tier has room for it.

        `caps` says how many workspaces each tier has, None for no cap. Where there is no room, the oldest workspace is returned as folded.

        Raises:
            WorkspaceRefused: there is no room, and the caller wants that refused.
            JournalUnavailable: Postgres did not answer, and the workspace is not known to this process.
            ValueError: it is not a name of 1 to 200 printable characters.
        """
        name = wanted.strip()
        if not name or len(name) > TEXT_LENGTH_MAX or not name.isprintable():
            raise ValueError(f"a workspace is named by 1 to {TEXT_LENGTH_MAX} printable characters")
        known = self._known.get((account, name))
        if known is not None and (not known[0].folded or (time.monotonic() < known[1] and not refuse_beyond_cap)):
            return known[0]
        found = await self._find(account, name) or await self._make(account, shard, name, caps=caps)
        if found.folded and refuse_beyond_cap:
            raise WorkspaceRefused(await self._cap(account, caps) or WORKSPACES_MAX)
        self._known[account, name] = (found, time.monotonic() + FOLDED_SECONDS)
        if len(self._known) > CACHE_MAX:
            self._known.popitem(last=False)
        return found

    async def list(self, account: AccountId) -> list[Workspace]:
        """Return all workspaces of an account, oldest first."""
        async with journal_answers():
            return await _list(self._pool, account)

    async def list_with_use(self, account: Account, *, since: datetime, limit: int, offset: int = 0) -> Sequence[WorkspaceUse]:
        """Return workspaces, oldest first, each with what was reported for it since `since`, which is on the hour."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["workspaces_with_use"], account.id, account.shard, since, min(limit, USE_LIST_MAX), offset)
        return [WorkspaceUse(**{**dict(row), "tokens": int(row["tokens"])}) for row in rows]

    async def set_budget(self, account: Account, workspace_id: str, budget: int | None) -> None:
        """Note what a workspace is meant to cost a month, in microunits; None for nothing in particular. Nothing is refused for it.

        Raises:
            UnknownWorkspace: the account has none with this id.
            ValueError: the budget is not above zero, or more than an account can have.
        """
        if budget is not None and not 0 < budget <= AMOUNT_MAX:
            raise ValueError("a budget is more than nothing, and no account can have more than 2^53 microunits")
        async with journal_answers():
            if not await self._pool.fetchval(SQL["has_workspace"], workspace_id, account.id):
                raise UnknownWorkspace(workspace_id)
        detail = {"kind": "budget", "created_at": now_ms(), "workspace_id": workspace_id, "budget": budget}
        await self.record(account.shard, Change(account=account.id, key=f"budget:{uuid.uuid4()}", amount=0, fields={}, detail=detail))
        await self.apply(account.shard)

    async def budgets_nearly_used(self, *, since: datetime) -> dict[str, BudgetUse]:
        """Return of all accounts the budgets of which `WARN_PERCENT` is used since `since`, by their workspace's id."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["budgets_nearly_used"], since, WARN_PERCENT, WARNED_MAX)
        return {row["id"]: BudgetUse(budget=row["budget"], spent=row["spent"]) for row in rows}

    async def _find(self, account: AccountId, name: str) -> ResolvedWorkspace | None:
        async with journal_answers():
            return await _find(self._pool, account, name)

    async def _cap(self, account: AccountId, caps: Mapping[str, int | None]) -> int | None:
        async with journal_answers():
            return await _cap(self._pool, account, caps)

    async def _make(self, account: AccountId, shard: int, name: str, *, caps: Mapping[str, int | None]) -> ResolvedWorkspace:
        """Make it behind the lock of the shard, so that no two of them pass the cap together."""
        hot = await self._glance(shard)
        async with journal_transaction(self._pool) as connection:
            positions = await lock_shards(connection, [shard])
            require_current(positions[shard], hot)
            found = await _find(connection, account, name)
            if found is not None:
                return found
            present, cap = await _list(connection, account), await _cap(connection, account, caps)
            if present and len(present) >= (WORKSPACES_MAX if cap is None else cap):
                return ResolvedWorkspace(workspace=present[0], folded=True)
            workspace = Workspace(id="ws_" + secrets.token_hex(8), name=name, slug=slug_of(name))
            detail = {"kind": "workspace", "created_at": now_ms(), "workspace_id": workspace.id, "name": workspace.name, "slug": workspace.slug}
            writer = JournalWriter(connection, positions, await read_figures(connection, [account]))
            await record_change(writer, shard, Change(account=account, key=f"workspace:{workspace.id}", amount=0, fields={}, detail=detail))
            await writer.flush()
        await self.apply(shard)
        return ResolvedWorkspace(workspace=workspace)


async def _find(connection: Connection, account: AccountId, name: str) -> ResolvedWorkspace | None:
    row = await connection.fetchrow(SQL["find_workspace"], account, name, slug_of(name))
    return ResolvedWorkspace(workspace=Workspace(**dict(row))) if row is not None else None


async def _list(connection: Connection, account: AccountId) -> list[Workspace]:
    return [Workspace(**dict(row)) for row in await connection.fetch(SQL["list_workspaces"], account)]


async def _cap(connection: Connection, account: AccountId, caps: Mapping[str, int | None]) -> int | None:
    row = await connection.fetchrow(SQL["account_tier"], account)
    if row is None:
        raise UnknownAccount(f"no account {account}")
    return caps[row["tier"]] if row["tier"] in caps else caps.get(FREE_TIER)
