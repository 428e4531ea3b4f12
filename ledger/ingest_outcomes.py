"""What became of the events of a request, worked out from what the script answered or the journal has. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ledger.entries import RequestId
from ledger.ingest_values import Charged, IngestOutcome, IngestPolicy, ItemOutcome, UsageItem, event_id
from ledger.money import AMOUNT_MAX
from ledger.usage_record import UsageRecord

RECORDED, OVER_FREE_LIMIT, OVER_BALANCE = "1", "f", "b"


@dataclass(slots=True)
class _Running:
    """The account's figures while its events are gone through: microunits, and the month's tokens."""

    balance: int
    available: int
    used: int
    limit: int | None
    funded: bool

    def take(self, request_id: RequestId, line: int, *, mark: str, tokens: int, cost: int) -> ItemOutcome:
        recorded = mark == RECORDED
        if recorded:
            self.used, self.balance, self.available = min(self.used + tokens, AMOUNT_MAX), self.balance - cost, self.available - cost
        over_balance = self.funded and cost > 0 and self.available < 0 if recorded else mark == OVER_BALANCE
        return ItemOutcome(
            recorded=recorded,
            event_id=event_id(request_id, line) if recorded else None,
            over_free_limit=self.limit is not None and self.used >= self.limit,
            over_balance=over_balance,
            balance_after=self.balance,
        )


def outcome_of_charged(charged: Charged, request_id: RequestId, items: Sequence[UsageItem], *, policy: IngestPolicy, tier: str, org_id: str) -> IngestOutcome:
    """Read what `charge_usage` answered."""
    mask = charged.mask or RECORDED * len(items)
    events = [(item.line, mark, item.tokens, item.cost) for item, mark in zip(items, mask, strict=True)]
    paid = sum(cost for _, mark, _, cost in events if mark == RECORDED)
    running = _Running(charged.balance + paid, charged.available + paid, charged.used, policy.tracked_limit(tier), charged.funded)
    outcomes = tuple(running.take(request_id, line, mark=mark, tokens=tokens, cost=cost) for line, mark, tokens, cost in events)
    return IngestOutcome(
        items=outcomes, tokens_mtd=running.used, tracked_limit=running.limit, balance=running.balance, available=running.available, tier=tier,
        org_id=org_id, repeated=charged.status == "duplicate",
    )  # fmt: skip


def outcome_of_record(record: UsageRecord, *, policy: IngestPolicy, tier: str, org_id: str) -> IngestOutcome:
    """Work the outcome of a request out of the journal. Its limit is today's; of an event that was refused the cost is not known."""
    paid = record.cost
    running = _Running(record.balance + paid, record.available + paid, record.used, policy.tracked_limit(tier), record.funded)
    outcomes = tuple(
        running.take(record.request_id, line, mark=mark, tokens=item.tokens if item else 0, cost=item.cost if item else 0)
        for line, mark, item in _events(record)
    )  # fmt: skip
    return IngestOutcome(
        items=outcomes, tokens_mtd=running.used, tracked_limit=running.limit, balance=running.balance, available=running.available, tier=tier,
        org_id=org_id, repeated=True,
    )  # fmt: skip


def _events(record: UsageRecord) -> Iterator[tuple[int, str, UsageItem | None]]:
    by_line = {item.line: item for item in record.items}
    for line, mark in zip(record.lines, record.mask or RECORDED * len(record.lines), strict=True):
        yield line, mark, by_line.get(line)
