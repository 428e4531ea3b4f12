"""Local mode: the books of one organisation in a SQLite file, in whole microunits."""

import secrets
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from plutus_agent.amounts import MICROUNITS_MAX, microunits_up, usd_float
from plutus_agent.errors import PlutusError
from plutus_agent.events import UsageEvent
from plutus_agent.local_database import Database
from plutus_agent.prices import estimate
from plutus_agent.results import TrackResult

# Tracked tokens a month and workspaces by tier; None is no cap.
TIERS: Mapping[str, tuple[int | None, int | None]] = {"free": (10_000, 1), "pro": (None, 10), "team": (None, None), "enterprise": (None, None)}
COUNTED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRules:
    """What stops an event in local mode, and prices of one's own."""

    block_over_balance: bool = True
    block_over_free_limit: bool = False
    overrides: Mapping[str, Any]

    @staticmethod
    def read(config: Mapping[str, Any] | None) -> "LocalRules":
        """Read the `pricing` section of a configuration; whatever else is in it does not concern local mode."""
        pricing = (config or {}).get("pricing") or {}
        return LocalRules(
            block_over_balance=bool(pricing.get("block_over_balance", True)),
            block_over_free_limit=bool(pricing.get("block_over_free_limit", False)),
            overrides=pricing.get("overrides") or {},
        )


def new_id(kind: str) -> str:
    """Return an id such as `evt_` and 16 hexadecimal digits."""
    return f"{kind}_{secrets.token_hex(8)}"


def now_ms() -> int:
    """Return this moment in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def month_of(ms: int) -> str:
    """Return the calendar month (UTC) of a moment, as `2026-01`."""
    return datetime.fromtimestamp(ms / 1000, tz=timezone.utc).strftime("%Y-%m")


def slug_of(name: str) -> str:
    """Return a name in lower-case letters, digits and dashes."""
    kept = "".join(character if character.isalnum() else "-" for character in name.lower())
    return "-".join(part for part in kept.split("-") if part) or "org"


class LocalBooks:
    """One organisation in a local file."""

    def __init__(self, database: Database, org: str | None, *, tier: str, create: bool, rules: LocalRules) -> None:
        """Find the organisation by id, slug or name, or make it.

        Raises:
            ValueError: it does not exist and `create` is off, or the tier is unknown.
            PlutusError: the file cannot be used.
        """
        if tier not in TIERS:
            raise ValueError(f"unknown tier {tier!r}: one of {', '.join(TIERS)}")
        self.database, self._rules = database, rules
        with database.transaction() as books:
            self.org_id = self._find_org(books, org) or self._make_org(books, org, tier=tier, create=create)

    def record(self, event: UsageEvent) -> TrackResult:
        """Record one event, all or nothing. One that was recorded before is not counted again.

        Raises:
            PlutusError: the file cannot be used.
        """
        cost, unpriced = (
            (microunits_up(event.cost), False)
            if event.cost is not None
            else estimate(event.provider, event.model, event.tokens, overrides=self._rules.overrides)
        )
        if cost > MICROUNITS_MAX:
            raise PlutusError("the event's cost is too large to be recorded")
        with self.database.transaction() as books:
            known = books.execute("SELECT * FROM meter_events WHERE org_id=? AND idempotency_key=?", (self.org_id, event.idempotency_key)).fetchone()
            if known is not None:
                return self._result(books, event, event_id=known["id"], cost=known["cost"], unpriced=bool(known["unpriced"]), replay=True)
            return self._decide(books, event, cost=cost, unpriced=unpriced)

    def topup(self, amount: int, reason: str) -> dict[str, Any]:
        """Add `amount` microunits to the balance and return the entry.

        Raises:
            PlutusError: the file cannot be used, or the balance would be too large to be exact.
        """
        with self.database.transaction() as books:
            books.execute("UPDATE meter_orgs SET funded=1 WHERE id=?", (self.org_id,))
            entry = self._enter(books, amount, "topup", reason=reason, event_id=None)
        return {
            "id": entry,
            "org_id": self.org_id,
            "kind": "topup",
            "reason": reason,
            "delta_usd": usd_float(amount),
            "delta_microunits": amount,
            "balance_after": usd_float(self.balance()),
        }

    def balance(self) -> int:
        """Return the balance in microunits."""
        with self.database.transaction() as books:
            return int(self._org(books)["balance"])

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def _decide(self, books: sqlite3.Connection, event: UsageEvent, *, cost: int, unpriced: bool) -> TrackResult:
        org = self._org(books)
        limit, tokens = TIERS[org["tier"]][0], sum(event.tokens[name] for name in COUNTED)
        used = self.tokens_of_month(books)
        over_limit = limit is not None and used + tokens >= limit
        over_balance = bool(org["funded"]) and org["balance"] < cost and cost > 0
        if limit is not None and self._rules.block_over_free_limit and used >= limit:
            return self._result(books, event, unpriced=unpriced, over_limit=True, refused=True)
        if self._rules.block_over_balance and over_balance:
            return self._result(books, event, cost=cost, unpriced=unpriced, over_limit=over_limit, over_balance=True, refused=True)
        workspace_id, folded = self._workspace(books, event.workspace, cap=TIERS[org["tier"]][1])
        event_id = self._insert(books, event, cost=cost, unpriced=unpriced, workspace_id=workspace_id, tokens=tokens)
        return self._result(books, event, event_id=event_id, cost=cost, unpriced=unpriced, over_limit=over_limit, workspace_id=workspace_id, folded=folded)

    def _insert(self, books: sqlite3.Connection, event: UsageEvent, *, cost: int, unpriced: bool, workspace_id: str | None, tokens: int) -> str:
        event_id, at = new_id("evt"), now_ms()
        moment = event.extras.get("occurred_at")
        row = {
            "id": event_id,
            "org_id": self.org_id,
            "workspace_id": workspace_id,
            "provider": event.provider.lower(),
            "model": event.model,
            "task_type": event.task_type,
            "source": event.source,
            **event.tokens,
            "cost": cost,
            "estimated": int(event.cost is None),
            "unpriced": int(unpriced),
            "external_ref": event.extras.get("external_ref"),
            "user_id": event.extras.get("user_id"),
            "idempotency_key": event.idempotency_key,
            "occurred_at": at if moment is None else int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() * 1000),
            "recorded_at": at,
        }
        books.execute(f"INSERT INTO meter_events ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))
        books.execute(
            "INSERT INTO meter_months VALUES (?,?,?) ON CONFLICT (org_id, month) DO UPDATE SET tokens = tokens + excluded.tokens",
            (self.org_id, month_of(at), tokens),
        )
        if cost:
            self._enter(books, -cost, "debit", reason=f"{event.provider}/{event.model or '-'}", event_id=event_id)
        return event_id

    def _enter(self, books: sqlite3.Connection, amount: int, kind: str, *, reason: str, event_id: str | None) -> str:
        balance = self._org(books)["balance"] + amount
        if abs(balance) > MICROUNITS_MAX:
            raise PlutusError("the balance would be too large to be exact")
        books.execute("UPDATE meter_orgs SET balance=? WHERE id=?", (balance, self.org_id))
        entry = new_id("led")
        books.execute(
            "INSERT INTO meter_entries (id, org_id, event_id, amount, kind, reason, balance_after, recorded_at) VALUES (?,?,?,?,?,?,?,?)",
            (entry, self.org_id, event_id, amount, kind, reason, balance, now_ms()),
        )
        return entry

    def tokens_of_month(self, books: sqlite3.Connection) -> int:
        """Return the tokens tracked in the running month (UTC)."""
        row = books.execute("SELECT tokens FROM meter_months WHERE org_id=? AND month=?", (self.org_id, month_of(now_ms()))).fetchone()
        return 0 if row is None else int(row["tokens"])

    def _org(self, books: sqlite3.Connection) -> sqlite3.Row:
        row: sqlite3.Row = books.execute("SELECT * FROM meter_orgs WHERE id=?", (self.org_id,)).fetchone()
        return row

    def _find_org(self, books: sqlite3.Connection, org: str | None) -> str | None:
        if org:
            row = books.execute("SELECT id FROM meter_orgs WHERE ? IN (id, slug, name) ORDER BY created_at LIMIT 1", (org,)).fetchone()
        else:
            row = books.execute("SELECT id FROM meter_orgs ORDER BY created_at LIMIT 1").fetchone()
        return None if row is None else str(row["id"])

    def _make_org(self, books: sqlite3.Connection, org: str | None, *, tier: str, create: bool) -> str:
        if not create:
            raise ValueError(f"unknown org {org!r}" if org else "no organizations exist")
        made, name = new_id("org"), org or "default"
        books.execute("INSERT INTO meter_orgs (id, name, slug, tier, created_at) VALUES (?,?,?,?,?)", (made, name, slug_of(name), tier, now_ms()))
        return made

    def _workspace(self, books: sqlite3.Connection, wanted: str | None, *, cap: int | None) -> tuple[str | None, bool]:
        """Return the workspace of an event, made within the tier's cap, and whether it was folded into the oldest."""
        if not wanted:
            return None, False
        row = books.execute("SELECT id FROM meter_workspaces WHERE org_id=? AND ? IN (id, slug, name) LIMIT 1", (self.org_id, wanted)).fetchone()
        if row is not None:
            return str(row["id"]), False
        held = books.execute("SELECT id FROM meter_workspaces WHERE org_id=? ORDER BY created_at, id", (self.org_id,)).fetchall()
        if cap is not None and len(held) >= cap:
            return str(held[0]["id"]), True
        made = new_id("ws")
        books.execute("INSERT INTO meter_workspaces VALUES (?,?,?,?,?)", (made, self.org_id, wanted, slug_of(wanted), now_ms()))
        return made, False

    def _result(
        self,
        books: sqlite3.Connection,
        event: UsageEvent,
        *,
        event_id: str = "",
        cost: int = 0,
        unpriced: bool = False,
        over_limit: bool = False,
        over_balance: bool = False,
        workspace_id: str | None = None,
        folded: bool = False,
        refused: bool = False,
        replay: bool = False,
    ) -> TrackResult:
        org = self._org(books)
        return TrackResult(
            event_id=event_id,
            org_id=self.org_id,
            workspace_id=workspace_id,
            provider=event.provider,
            model=event.model,
            task_type=event.task_type,
            cost_usd=usd_float(cost),
            cost_microunits=cost,
            estimated=event.cost is None,
            balance_after=usd_float(org["balance"]),
            balance_after_microunits=org["balance"],
            external_ref=event.extras.get("external_ref"),
            recorded=not refused,
            over_free_limit=over_limit,
            over_balance=over_balance,
            unpriced=unpriced,
            workspace_folded=folded,
            tracked_tokens_mtd=self.tokens_of_month(books),
            tracked_limit=TIERS[org["tier"]][0],
            tier=org["tier"],
            idempotent_replay=replay,
        )
