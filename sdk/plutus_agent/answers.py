"""Reading what `POST /v1/usage` answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from plutus_agent.amounts import microunits, usd_float
from plutus_agent.errors import PlutusError
from plutus_agent.events import UsageEvent
from plutus_agent.results import TrackResult

UNREADABLE = "the server's answer is no usage answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the server says of one event; amounts in microunits."""

    recorded: bool
    event_id: str
    org_id: str
    cost: int
    balance_after: int
    estimated: bool
    workspace_id: str | None
    over_free_limit: bool
    over_balance: bool
    unpriced: bool
    workspace_folded: bool
    idempotent_replay: bool
    tracked_tokens_mtd: int | None
    tracked_limit: int | None
    tier: str | None
    upgrade_url: str | None


def read_json(body: bytes) -> Any:
    """Read JSON with every fraction exact; None when it is not JSON."""
    try:
        return json.loads(body, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def error_text(body: bytes) -> str:
    """Return the server's own words for an error, on one line and cut to a sane length; empty where it has none."""
    answer = read_json(body)
    said = answer.get("error") if isinstance(answer, dict) else None
    return " ".join(said.split())[:300] if isinstance(said, str) else ""


def read_outcomes(body: bytes, *, count: int, status: int) -> list[Outcome]:
    """Return the outcome of each of `count` events, in the order in which they were sent.

    Raises:
        PlutusError: the answer cannot be read. The events may have been recorded; sending them again does no harm.
    """
    answer = read_json(body)
    if not isinstance(answer, dict):
        raise PlutusError(f"{UNREADABLE}: it is not a JSON object", status=status, retryable=True)
    listed = answer.get("results")
    items = listed if isinstance(listed, list) else [answer]
    if status == 402 and listed is None:
        items = [answer] * count  # refused as a whole
    if len(items) != count or not all(isinstance(item, dict) for item in items):
        raise PlutusError(f"{UNREADABLE}: it does not tell of each event", status=status, retryable=True)
    try:
        return [_outcome(item, answer, refused=status == 402) for item in items]
    except (TypeError, ValueError):
        raise PlutusError(f"{UNREADABLE}: a field has no such value", status=status, retryable=True) from None


def _outcome(item: Mapping[str, Any], answer: Mapping[str, Any], *, refused: bool) -> Outcome:
    def told(name: str) -> Any:
        value = item.get(name)
        return answer.get(name) if value is None else value

    # An answer that does not say so may be anybody's: a portal's, a proxy's. Only a refusal goes without saying.
    recorded, over_balance = item.get("recorded", False if refused else None), told("over_balance") is True
    if not isinstance(recorded, bool):
        raise TypeError("recorded")
    return Outcome(
        recorded=recorded,
        event_id=_text(item.get("event_id")) or "",
        org_id=_text(told("org_id")) or "",
        cost=microunits(item.get("cost_usd") or 0),
        balance_after=microunits(told("balance_after") or 0),
        estimated=told("estimated") is not False,
        workspace_id=_text(told("workspace_id")),
        # Refused for no reason that is told: the tier's hard stop is the one that servers leave out.
        over_free_limit=told("over_free_limit") is True or (refused and not over_balance),
        over_balance=over_balance,
        unpriced=told("unpriced") is True,
        workspace_folded=told("workspace_folded") is True,
        idempotent_replay=told("idempotent_replay") is True,
        tracked_tokens_mtd=_whole(told("tracked_tokens_mtd")),
        tracked_limit=_whole(told("tracked_limit")),
        tier=_text(told("tier")),
        upgrade_url=_text(told("upgrade_url")),
    )


def _text(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("text")
    return value


def _whole(value: Any) -> int | None:
    return value if type(value) is int else None


def result_of(event: UsageEvent, outcome: Outcome, *, remote: str) -> TrackResult:
    """Return what the agent is told of its event."""
    return TrackResult(
        event_id=outcome.event_id,
        org_id=outcome.org_id or remote,
        workspace_id=outcome.workspace_id,
        provider=event.provider,
        model=event.model,
        task_type=event.task_type,
        cost_usd=usd_float(outcome.cost),
        cost_microunits=outcome.cost,
        estimated=outcome.estimated,
        balance_after=usd_float(outcome.balance_after),
        balance_after_microunits=outcome.balance_after,
        external_ref=event.extras.get("external_ref"),
        recorded=outcome.recorded,
        over_free_limit=outcome.over_free_limit,
        over_balance=outcome.over_balance,
        unpriced=outcome.unpriced,
        workspace_folded=outcome.workspace_folded,
        idempotent_replay=outcome.idempotent_replay,
        tracked_tokens_mtd=outcome.tracked_tokens_mtd,
        tracked_limit=outcome.tracked_limit,
        tier=outcome.tier,
        upgrade_url=outcome.upgrade_url,
    )
