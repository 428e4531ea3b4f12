"""The receipt of one line of a statement: its row of the journal with its place in the chain, what was used, and the card it was priced by."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from ledger.account_values import Account
from ledger.entries import ChargeRecord
from ledger.journal import COMMAND_SECONDS_MAX, Connection, Pool, journal_answers
from ledger.journal_audit import transaction_of
from ledger.postings import GENESIS_HEAD, chain, customer, key_digest
from ledger.queries import SQL
from ledger.usage_record import UsageRecord

EVENTS_MAX: Final = 200  # shown of one request


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptEvent:
    """One usage event of the request, as `usage_events` has it; `amount` in microunits."""

    line: int
    provider: str
    model: str
    operation: str
    input_tokens: int
    output_tokens: int
    reasoning_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    cache_read_tokens: int | None
    amount: int
    estimated: bool
    unpriced: bool
    superseded: bool
    occurred_at: datetime
    task_type: str | None
    source: str | None
    workspace_id: str | None
    workspace: str | None
    external_ref: str | None
    user_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainPlace:
    """Where a row stands in the journal: shard, number, its hash and its predecessor's. `holds` tells that the hash is that of its content."""

    shard: int
    seq: int
    hash: str
    previous: str
    holds: bool
    key: str
    posted_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """All that the books have of one line. `paid` is what the customer's leg of the row says, above 0 where it was charged.

    `record` is a metered charge, `replaced` the one that an adjustment takes the place of; `reported` a report. `events` are at most 200 of `event_count`.
    `card_body` is the text of the rate card that was used, None where none was. `reason` is what the operator said of a credit, `signature` a deposit's.
    """

    id: int
    type: str
    kind: str
    amount: int
    balance_after: int
    request_id: str | None
    created_at: datetime
    occurred_at: datetime
    paid: int
    place: ChainPlace
    record: ChargeRecord | None
    replaced: ChargeRecord | None
    reported: UsageRecord | None
    events: tuple[ReceiptEvent, ...]
    event_count: int
    card_hash: str
    card_loaded_at: datetime | None
    card_body: str | None
    reason: str | None
    signature: str | None


async def read_receipt(pool: Pool, account: Account, n: int) -> Receipt | None:
    """Return the receipt of the account's line `n`, None where there is no such line (yet).

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers(), pool.acquire() as connection:
        line = await connection.fetchrow(SQL["receipt_line"], account.id, n, timeout=COMMAND_SECONDS_MAX)
        if line is None:
            return None
        rows = await connection.fetch(SQL["receipt_rows"], line["shard"], line["seq"], timeout=COMMAND_SECONDS_MAX)
        row, previous = rows[0], bytes(rows[1]["hash"]) if len(rows) > 1 else GENESIS_HEAD
        used = await connection.fetch(SQL["receipt_events"], account.id, row["settled_at"], row["seq"], EVENTS_MAX, timeout=COMMAND_SECONDS_MAX)
        count = len(used)
        if count == EVENTS_MAX:
            count = await connection.fetchval(SQL["receipt_event_count"], account.id, row["settled_at"], row["seq"], timeout=COMMAND_SECONDS_MAX)
        card = await connection.fetchrow(SQL["receipt_card"], row["rate_card"], timeout=COMMAND_SECONDS_MAX) if row["rate_card"] else None
        record = ChargeRecord.from_json(row["detail"]) if row["kind"] in ("charge", "adjust") else None
        replaced = await _replaced(connection, record) if record is not None and row["kind"] == "adjust" else None
    detail = _detail(row) if record is None else {}
    return Receipt(
        id=line["n"], type=line["type"], kind=line["kind"], amount=line["amount"], balance_after=line["balance_after"], request_id=line["request_id"],
        created_at=line["created_at"], occurred_at=row["occurred_at"], paid=_paid(row, account), place=_place(row, previous), record=record,
        replaced=replaced, reported=UsageRecord.from_json(row["detail"]) if row["kind"] == "usage" else None,
        events=tuple(ReceiptEvent(**dict(event)) for event in used), event_count=count, card_hash=row["rate_card"],
        card_loaded_at=card["loaded_at"] if card else None, card_body=card["body"] if card else None, reason=detail.get("reason"),
        signature=detail.get("signature"),
    )  # fmt: skip


async def _replaced(connection: Connection, record: ChargeRecord) -> ChargeRecord | None:
    rows = await connection.fetch(SQL["journal_by_key"], [key_digest(f"charge:{record.request_id}")], timeout=COMMAND_SECONDS_MAX)
    return ChargeRecord.from_json(rows[0]["detail"]) if rows else None


def _place(row: Any, previous: bytes) -> ChainPlace:
    whole = chain(previous, row["shard"], seq=row["seq"], transaction=transaction_of(row)) == row["hash"]
    return ChainPlace(
        shard=row["shard"], seq=row["seq"], hash=row["hash"].hex(), previous=previous.hex(), holds=whole, key=row["key"], posted_at=row["posted_at"]
    )  # fmt: skip


def _paid(row: Any, account: Account) -> int:
    name = customer(account.id)
    return sum(amount for leg, amount in zip(row["accounts"], row["amounts"], strict=True) if leg == name)


def _detail(row: Any) -> dict[str, str]:
    """Return the texts of a change that its owner may read."""
    if row["kind"] not in ("credit", "deposit"):
        return {}
    fields: dict[str, object] = json.loads(row["detail"])
    return {name: value for name in ("reason", "signature") if isinstance(value := fields.get(name), str)}
