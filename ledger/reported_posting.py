"""Posting what was reported: one transaction a request, whatever the number of its events."""

from typing import Final

from ledger.errors import BrokenInvariant
from ledger.holds import OutboxEntry
from ledger.journal import JournalWriter
from ledger.moments import moment
from ledger.postings import Transaction, usage_legs
from ledger.statement_lines import StatementLine
from ledger.usage_record import UsageRecord

USAGE: Final = "usage"


def add_reported(writer: JournalWriter, shard: int, entry: OutboxEntry) -> None:
    """Add a request's journal row, its events, what they add to the figures, and its statement line where it cost something.

    Raises:
        BrokenInvariant: its record cannot be read, or does not come to what it was charged.
    """
    try:
        record = UsageRecord.from_json(entry.detail)
    except ValueError as error:
        raise BrokenInvariant(f"entry {entry.seq} of shard {shard} carries no readable record: {error}") from error
    if record.cost != -entry.amount:
        raise BrokenInvariant(f"entry {entry.seq} of shard {shard} charges {-entry.amount} microunits for usage of {record.cost}")
    transaction = Transaction(
        kind=USAGE, key=entry.key, account=entry.account, legs=usage_legs(entry.account, -entry.amount), occurred_at=record.at, settled_at=entry.at,
        detail=entry.detail, rate_card=record.rate_card,
    )  # fmt: skip
    seq, settled_at = writer.add_transaction(shard, transaction), moment(entry.at)
    figures = writer.reported.add(record, shard=shard, account=entry.account, settled_at=settled_at, seq=seq)
    account = writer.figures[entry.account]
    account.active_at = max(account.active_at, settled_at)
    if entry.n is not None:
        line = StatementLine(amount=entry.amount, kind=USAGE, type="DEBIT", created_at=settled_at, shard=shard, seq=seq, record=figures)
        writer.add_line(entry.account, line)
