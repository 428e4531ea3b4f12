"""What a charge or change looks like on the customer's statement, as usage events and in the hourly figures: pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from ledger.entries import AccountId, ChargeRecord, UsageLine
from ledger.reported_rows import ReportedFigures

RollupKey = tuple[int, int, datetime, str, str]  # shard, account, hour, provider, model

LINE_TYPES = {"charge": "DEBIT", "adjust": "ADJUSTMENT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One line without its number: `amount` is the signed change of the customer's balance.

    `created_at` is when it was settled; (`shard`, `seq`) the journal row behind it.
    """

    COLUMNS: ClassVar = (
        "account_id", "n", "amount", "balance_after", "kind", "type", "request_id", "provider", "model", "input_tokens", "output_tokens",
        "cache_write_tokens", "cache_read_tokens", "estimated", "workspace_id", "task_type", "created_at", "shard", "seq",
    )  # fmt: skip

    amount: int
    kind: str
    type: str
    created_at: datetime
    shard: int
    seq: int
    record: ChargeRecord | ReportedFigures | None = None

    def row(self, account: AccountId, n: int, *, balance_after: int) -> tuple[object, ...]:
        """Return the line as a row of `statement`."""
        return (account, n, self.amount, balance_after, self.kind, self.type, *self._usage(), self.created_at, self.shard, self.seq)

    def _usage(self) -> tuple[object, ...]:
        record = self.record
        if record is None:
            return (None, None, None, None, None, None, None, False, None, None)
        if isinstance(record, ReportedFigures):
            return (
                record.request_id, record.provider, record.model, record.input_tokens, record.output_tokens, record.cache_write_tokens,
                record.cache_read_tokens, record.estimated, record.workspace_id, record.task_type,
            )  # fmt: skip
        writes = [count for line in record.lines for count in (line.cache_write_5m_tokens, line.cache_write_1h_tokens) if count is not None]
        reads = [line.cache_read_tokens for line in record.lines if line.cache_read_tokens is not None]
        return (
            record.request_id, record.provider, record.model,
            sum(line.input_tokens for line in record.lines), sum(line.output_tokens for line in record.lines),
            sum(writes) if writes else None, sum(reads) if reads else None, record.estimated, None, None,
        )  # fmt: skip


def usage_rows(record: ChargeRecord, *, shard: int, account: AccountId, occurred_at: datetime, settled_at: datetime, seq: int) -> Iterator[tuple[object, ...]]:
    """Yield the usage events of one charge, one per billing line."""
    for number, line in enumerate(record.lines):
        yield (
            shard, account, record.request_id, number, line.provider, line.model, record.operation, line.input_tokens, line.output_tokens,
            line.cache_write_5m_tokens, line.cache_write_1h_tokens, line.cache_read_tokens,
            record.amount if number == 0 else 0, record.estimated, occurred_at, settled_at, seq,
        )  # fmt: skip


def rollup_changes(
    record: ChargeRecord, replaced: ChargeRecord | None, *, shard: int, account: AccountId, settled_at: datetime
) -> Iterator[tuple[RollupKey, tuple[int, ...]]]:
    """Yield what a charge adds to the hourly figures; one that replaces an estimate takes the estimate's away.

    Both count in the hour of the later one, so that no closed hour changes.
    """
    hour = settled_at.replace(minute=0, second=0, microsecond=0)
    for sign, each in ((1, record), (-1, replaced)):
        if each is None:
            continue
        for number, line in enumerate(each.lines):
            first = number == 0
            counts = (1 if first else 0, *_tokens(line), each.amount if first else 0, each.provider_leg if first else 0, line.cache_write_1h_tokens or 0)
            yield (shard, account, hour, line.provider, line.model), tuple(sign * count for count in counts)


def _tokens(line: UsageLine) -> tuple[int, int, int, int]:
    writes = (line.cache_write_5m_tokens or 0) + (line.cache_write_1h_tokens or 0)
    return line.input_tokens, line.output_tokens, writes, line.cache_read_tokens or 0
