"""Usage events as lines of CSV, of JSON and of FOCUS, the open format of cost data. Pure: values in, text out.

Whoever reports usage chooses most of the texts. A spreadsheet takes a cell that begins with = + - or @ for a formula, so such a text
gets an apostrophe before it, as spreadsheets themselves write text.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from control.ingest_answers import usd
from ledger.usage_export import UsageEvent

COLUMNS: Final = (
    "id", "ts", "occurred_at", "received_at", "kind", "provider", "model", "task_type", "workspace", "workspace_id", "source", "input_tokens",
    "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cost_usd", "estimated", "unpriced", "external_ref", "user_id",
    "request_id",
)  # fmt: skip
FOCUS_COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory", "ChargeClass",
    "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart", "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "EffectiveCost",
    "InvoiceIssuerName", "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ResourceId", "ResourceName", "ServiceCategory",
    "ServiceName", "SkuId", "SubAccountId", "SubAccountName", "Tags",
)  # fmt: skip
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
ISSUER: Final = "Level5"
_quoted = json.JSONEncoder(ensure_ascii=False).encode

Cell = str | int | bool | None


def cell(value: Cell) -> Cell:
    """Return what a cell holds, so that no text of a customer's is ever run as a formula."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value


def csv_lines(rows: Iterable[Sequence[Cell]]) -> str:
    """Return rows as lines of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def csv_row(event: UsageEvent) -> list[Cell]:
    """Return the cells of one event under COLUMNS."""
    texts = {"provider": event.provider, "model": event.model, "task_type": event.task_type, "workspace": event.workspace, "source": event.source}
    texts |= {"external_ref": event.external_ref, "user_id": event.user_id}
    known: dict[str, Cell] = {name: cell(value) for name, value in texts.items()}
    known |= {"cost_usd": usd(event.cost), "ts": seconds(event.occurred_at), "occurred_at": iso(event.occurred_at), "received_at": iso(event.received_at)}
    known |= {"id": event.event_id, "kind": kind_of(event), "workspace_id": event.workspace_id, "request_id": event.request_id}
    known |= {"estimated": cell(event.estimated), "unpriced": cell(event.unpriced)}
    return [known[name] if name in known else getattr(event, name) for name in COLUMNS]


def json_row(event: UsageEvent) -> str:
    """Return one event as a JSON object; its cost is the exact number."""
    texts = {
        "id": event.event_id, "occurred_at": iso(event.occurred_at), "received_at": iso(event.received_at), "kind": kind_of(event),
        "provider": event.provider, "model": event.model or None, "task_type": event.task_type, "workspace": event.workspace,
        "workspace_id": event.workspace_id, "source": event.source, "input_tokens": event.input_tokens, "output_tokens": event.output_tokens,
        "cache_read_tokens": event.cache_read_tokens, "cache_write_tokens": event.cache_write_tokens, "reasoning_tokens": event.reasoning_tokens,
        "estimated": event.estimated, "unpriced": event.unpriced, "external_ref": event.external_ref, "user_id": event.user_id,
        "request_id": event.request_id,
    }  # fmt: skip
    return f'{_quoted(texts)[:-1]}, "ts": {seconds(event.occurred_at)}, "cost_usd": {usd(event.cost)}}}'


def focus_row(account: str, name: str | None) -> Callable[[UsageEvent], list[Cell]]:
    """Return what turns events of an account into the cells of FOCUS_COLUMNS."""

    def row(event: UsageEvent) -> list[Cell]:
        cost, start = usd(event.cost), event.occurred_at.astimezone(UTC)
        month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
        tokens = event.input_tokens + event.output_tokens + event.reasoning_tokens + event.cache_read_tokens + event.cache_write_tokens
        tags = {"task_type": event.task_type, "source": event.source, "external_ref": event.external_ref, "user_id": event.user_id}
        model = event.model or "unknown"
        cells: tuple[Cell, ...] = (
            cost, account, name, "USD", iso(following), iso(month), "Usage", None, f"{event.provider} {model}", "Usage-Based", iso(start), iso(start),
            tokens, "Tokens", cost, cost, ISSUER, cost, tokens, "Tokens", event.provider, event.provider, event.event_id, model,
            "AI and Machine Learning", f"{event.provider} models", f"{event.provider}/{model}", event.workspace_id, event.workspace,
            json.dumps({key: value for key, value in tags.items() if value is not None}, ensure_ascii=False),
        )  # fmt: skip
        return [cell(value) for value in cells]

    return row


def kind_of(event: UsageEvent) -> str:
    """Say whether an event was reported or metered by the gateway."""
    return "reported" if event.reported else "metered"


def iso(at: datetime) -> str:
    """Write a time as RFC 3339 in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def seconds(at: datetime) -> str:
    """Write a time as seconds since 1970, exact to the millisecond."""
    milliseconds = round(at.timestamp() * 1000)
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
