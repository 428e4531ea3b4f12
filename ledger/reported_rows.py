"""The rows of reported usage: an event each, and the figures that run with them. Collected here, written together."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ledger.entries import AccountId
from ledger.moments import moment
from ledger.queries import SQL
from ledger.usage_record import ESTIMATED, UNPRICED, WHOLE_REQUEST, UsageRecord

type RollupCounts = list[int]  # requests, input, output, cache write and cache read tokens, microunits, cache write tokens for an hour

REPORTED: Final = "reported"
SEVERAL: Final = "*"
MODELS_MAX: Final = 500  # of one account that its figures tell apart: whoever reports names them, and figures are to stay small
TASK_TYPES_MAX: Final = 200
type RollupKey = tuple[int, int, datetime, str, str]  # shard, account, hour; provider and model, or workspace and task type

_COLUMNS: Final = (
    "shard", "account_id", "request_id", "line", "provider", "model", "operation", "input_tokens", "output_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "amount", "estimated", "occurred_at", "settled_at", "seq", "reasoning_tokens", "task_type", "source",
    "workspace_id", "external_ref", "user_id", "unpriced",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFigures:
    """What a request comes to on the statement; provider and model are None where its events have several, workspace and task type then `SEVERAL`."""

    request_id: str
    provider: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    cache_write_tokens: int
    cache_read_tokens: int
    estimated: bool
    workspace_id: str | None
    task_type: str | None


@dataclass(slots=True)
class ReportedRows:
    """Rows of one transaction. Nothing is written before `flush`."""

    _events: list[tuple[Any, ...]] = field(default_factory=list)
    _rollups: dict[RollupKey, RollupCounts] = field(default_factory=dict)
    _work: dict[RollupKey, RollupCounts] = field(default_factory=dict)
    _months: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    _used: dict[str, datetime] = field(default_factory=dict)
    _claims: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, record: UsageRecord, *, shard: int, account: AccountId, settled_at: datetime, seq: int) -> ReportedFigures:
        """Add the events of a request and what they add to the figures; return what they come to."""
        hour = settled_at.replace(minute=0, second=0, microsecond=0)
        totals = [[0, 0, 0, 0, 0, 0, 0] for _ in record.labels]
        tokens, flagged = 0, 0
        for row, line in zip(record.rows, record.kept_lines, strict=True):
            label, put, out, read, write, reasoning, cost, flags, since, *rest = row
            provider, model, task_type, source, workspace_id, user_id = record.labels[label]
            long = rest[1] if len(rest) > 1 else 0
            occurred_at = moment(record.at + since)
            self._events.append(
                (
                    shard, account, record.request_id, line, provider, model, REPORTED, put, out, write - long, long, read, cost, flags & ESTIMATED != 0,
                    occurred_at, settled_at, seq, reasoning, task_type, source, workspace_id, rest[0] if rest else None, user_id, flags & UNPRICED != 0,
                )
            )  # fmt: skip
            total = totals[label]
            total[0] += 1
            total[1] += put
            total[2] += out + reasoning
            total[3] += write
            total[4] += read
            total[5] += cost
            total[6] += long
            tokens += put + out + read + write + reasoning
            flagged |= flags
        for (provider, model, task_type, _, workspace_id, _), total in zip(record.labels, totals, strict=True):
            if total[0] and provider is not None and model is not None:
                _add(self._rollups, (shard, account, hour, provider, model), total)
                _add(self._work, (shard, account, hour, workspace_id or "", task_type or ""), total)
        sums = totals[0] if len(totals) == 1 else [sum(column) for column in zip(*totals, strict=True)]
        _add(self._months, (account, record.month), [tokens, sums[0], sums[5]])
        for claim in record.claims:
            if claim.line == WHOLE_REQUEST or not record.mask or claim.line in record.kept_lines:
                self._claims.append((account, claim.key_sha256, claim.body_sha256, record.request_id, claim.line, settled_at))
        self._used[record.key_id] = max(settled_at, self._used.get(record.key_id, settled_at))
        return _figures(record, sums, estimated=flagged & ESTIMATED != 0)

    async def flush(self, connection: Any) -> None:
        """Write everything. The caller's transaction makes it one."""
        if not self._events:
            return
        await connection.copy_records_to_table("usage_events", records=self._events, columns=_COLUMNS)
        await connection.execute(SQL["add_reported_rollups"], *_columns((*key, *counts) for key, counts in sorted(self._rollups.items())), MODELS_MAX)
        await connection.execute(SQL["add_work"], *_columns((*key, *counts[:6]) for key, counts in sorted(self._work.items())), TASK_TYPES_MAX)
        await connection.execute(SQL["add_months"], *_columns((*key, *counts) for key, counts in sorted(self._months.items())))
        if self._claims:
            await connection.execute(SQL["restore_claims"], *_columns(self._claims))
        await connection.execute(SQL["use_keys"], *_columns(sorted(self._used.items())))


def _figures(record: UsageRecord, sums: list[int], *, estimated: bool) -> ReportedFigures:
    provider, model, task_type, _, workspace_id, _ = record.labels[0]
    return ReportedFigures(
        request_id=record.request_id,
        provider=provider if all(label[0] == provider for label in record.labels) else None,
        model=model if all(label[1] == model for label in record.labels) else None,
        task_type=task_type if all(label[2] == task_type for label in record.labels) else SEVERAL,
        workspace_id=workspace_id if all(label[4] == workspace_id for label in record.labels) else SEVERAL,
        input_tokens=sums[1],
        output_tokens=sums[2],
        cache_write_tokens=sums[3],
        cache_read_tokens=sums[4],
        estimated=estimated,
    )


def _add[Key](target: dict[Key, list[int]], key: Key, counts: list[int]) -> None:
    present = target.get(key)
    target[key] = counts if present is None else [old + new for old, new in zip(present, counts, strict=True)]


def _columns(rows: Any) -> Iterator[list[Any]]:
    return (list(column) for column in zip(*rows, strict=True))
