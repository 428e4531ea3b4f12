"""What local mode has recorded, at a glance."""

import sqlite3
from datetime import datetime, timezone
from typing import Any

from plutus_agent.amounts import usd_float
from plutus_agent.local import COUNTED, TIERS, LocalBooks, now_ms

DAY_MS = 86_400_000
RECENT = 12
_TOKENS = " + ".join(COUNTED)
_DIMENSIONS = {"provider": "e.provider", "model": "COALESCE(e.model, '-')", "task_type": "e.task_type", "workspace": "COALESCE(w.name, '(none)')"}


def summarise(books: LocalBooks) -> dict[str, Any]:
    """Return balance, quota and spending; USD as floats for showing, and the same exact in the fields that end in `_microunits`."""
    with books.database.transaction() as rows:
        org = dict(rows.execute("SELECT * FROM meter_orgs WHERE id=?", (books.org_id,)).fetchone())
        limit, used = TIERS[org["tier"]][0], books.tokens_of_month(rows)
        return {
            "org": {name: org[name] for name in ("id", "name", "slug", "tier", "created_at")},
            "tier": {"key": org["tier"], "name": org["tier"].capitalize()},
            "balance": usd_float(org["balance"]),
            "balance_microunits": org["balance"],
            "windows": _windows(rows, books.org_id),
            "tracked_tokens_mtd": used,
            "tracked_limit": limit,
            "tracked_pct": used / limit * 100 if limit else None,
            **{f"by_{name}": _spend_by(rows, books.org_id, column) for name, column in _DIMENSIONS.items()},
            "workspaces": [
                dict(row) for row in rows.execute("SELECT id, name, slug, created_at FROM meter_workspaces WHERE org_id=? ORDER BY created_at", (books.org_id,))
            ],
            "recent_events": _recent(rows, books.org_id),
            "alerts": [],
        }


def _windows(rows: sqlite3.Connection, org_id: str) -> dict[str, dict[str, Any]]:
    now = now_ms()
    month = datetime.fromtimestamp(now / 1000, tz=timezone.utc).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    since = {"today": now - DAY_MS, "7d": now - 7 * DAY_MS, "30d": now - 30 * DAY_MS, "mtd": int(month.timestamp() * 1000), "all": 0}
    query = (
        f"SELECT COALESCE(SUM(cost), 0) AS cost, COALESCE(SUM({_TOKENS}), 0) AS tokens, COUNT(*) AS events FROM meter_events WHERE org_id=? AND recorded_at>=?"
    )
    return {name: _spent(rows.execute(query, (org_id, start)).fetchone()) for name, start in since.items()}


def _spent(row: sqlite3.Row) -> dict[str, Any]:
    return {"cost": usd_float(row["cost"]), "cost_microunits": row["cost"], "tokens": row["tokens"], "events": row["events"]}


def _spend_by(rows: sqlite3.Connection, org_id: str, column: str) -> list[dict[str, Any]]:
    found = rows.execute(
        f"SELECT {column} AS key, SUM(e.cost) AS cost, SUM({_TOKENS}) AS tokens, COUNT(*) AS events FROM meter_events e"
        " LEFT JOIN meter_workspaces w ON w.id = e.workspace_id WHERE e.org_id=? GROUP BY 1 ORDER BY SUM(e.cost) DESC, 1",
        (org_id,),
    )
    return [{"key": row["key"], **_spent(row), "cost_per_event": row["cost"] / row["events"] / 1_000_000} for row in found]


def _recent(rows: sqlite3.Connection, org_id: str) -> list[dict[str, Any]]:
    found = rows.execute("SELECT * FROM meter_events WHERE org_id=? ORDER BY number DESC LIMIT ?", (org_id, RECENT))
    return [{**{name: row[name] for name in row.keys() if name != "cost"}, "cost_usd": usd_float(row["cost"]), "cost_microunits": row["cost"]} for row in found]  # noqa: SIM118 - a row iterates over its values
