"""Invariants of reported usage: each request's charge, its events, the month's figures, and the month as Redis counts it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from ledger.balances import Balances
from ledger.changes import wait_posted
from ledger.entries import AccountId
from ledger.errors import NotPostedYet, ShardClosed
from ledger.findings import Fault, Report
from ledger.ingest_values import UsageItem
from ledger.journal import LONG_READ_SECONDS_MAX, Connection, Pool, journal_answers
from ledger.money import AMOUNT_MAX
from ledger.postings import CUSTOMER
from ledger.queries import SQL
from ledger.usage_record import UsageRecord

PREFETCH: Final = 1000
ACCOUNTS_AT_ONCE: Final = 500
POSTED_SECONDS_MAX: Final = 10.0


class PriceUsage(Protocol):
    """Estimates a recorded event again: what it costs by the rate card of this text, in microunits."""

    def __call__(self, item: UsageItem, body: str, /, *, markup: bool) -> int:
        """Return the cost."""
        ...


@dataclass(slots=True)
class ReportedAudit:
    """The audit of one shard's reported usage, row after row of its journal and within the same snapshot."""

    connection: Connection
    shard: int
    report: Report
    price: PriceUsage | None
    _events: AsyncIterator[Any] | None = None
    _next: Any = None
    _months: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    async def take(self, row: Any, card: str | None) -> None:
        """Check one journal row; `card` is the text of its rate card, None where the journal has none."""
        where = f"shard {self.shard} row {row['seq']} ({row['key']})"
        try:
            record = UsageRecord.from_json(row["detail"])
        except ValueError as error:
            self.report.add(Fault.PRICE_UNKNOWN, f"{where}: its record cannot be read: {error}", shard=self.shard)
            return
        self.report.count("reported", len(record.rows))
        paid = sum(amount for account, amount in zip(row["accounts"], row["amounts"], strict=False) if account.startswith(CUSTOMER))
        if paid != record.cost or row["key"] != f"usage:{record.request_id}":
            text = f"{where}: the customer paid {paid} microunits for events of {record.cost}"
            self.report.add(Fault.PRICE_DIFFERS, text, shard=self.shard, account=row["account_id"], difference=abs(paid - record.cost))
        self._check_prices(record, card, where, account=row["account_id"])
        await self._check_events(record, row["seq"], where)
        month = self._months.setdefault((row["account_id"], record.month), [0, 0, 0])
        month[0], month[1], month[2] = min(AMOUNT_MAX, month[0] + record.tokens), month[1] + len(record.rows), month[2] + record.cost

    async def finish(self) -> None:
        """Find events that no row speaks of, and compare the figures of the months."""
        rows = await self.connection.fetch(SQL["audit_months"], self.shard, timeout=LONG_READ_SECONDS_MAX)
        found = {(row["account_id"], row["month"]): [row["tokens"], row["events"], row["amount"]] for row in rows}
        for account, month in sorted(found.keys() | self._months.keys()):
            running, summed = found.get((account, month)), self._months.get((account, month))
            if running != summed:
                text = f"account {account}: its month {month} runs at {running} (tokens, events, microunits), its requests sum to {summed}"
                self.report.add(Fault.FIGURES_DIFFER, text, shard=self.shard, account=account)
        if found or self._months:
            await self._pass_strangers(None)

    def _check_prices(self, record: UsageRecord, card: str | None, where: str, *, account: int) -> None:
        items = [item for item in record.items if item.estimated] if self.price is not None else []
        if items and card is None:
            self.report.add(Fault.PRICE_UNKNOWN, f"{where}: rate card {record.rate_card!r} is not in the journal", shard=self.shard)
            return
        for item in items:
            try:
                cost = self.price(item, card or "", markup=record.markup) if self.price is not None else 0
            except Exception as error:  # whatever the caller's pricing raises means that the charge cannot be explained
                self.report.add(Fault.PRICE_UNKNOWN, f"{where}: its price cannot be computed: {error}", shard=self.shard)
                return
            self.report.count("prices")
            if item.cost != cost:
                text = f"{where}: event {item.line} was charged {item.cost} microunits, by its rate card {cost}"
                self.report.add(Fault.PRICE_DIFFERS, text, shard=self.shard, account=account, difference=abs(item.cost - cost))

    async def _check_events(self, record: UsageRecord, seq: int, where: str) -> None:
        """The events of all rows come in the order of the journal: they are gone through beside it."""
        found = await self._pass_strangers(seq)
        if found is None or found["seq"] != seq:
            self.report.add(Fault.EVENTS_DIFFER, f"{where}: its events are missing", shard=self.shard, difference=record.cost)
            return
        self._next = await self._pull()
        if (found["events"], int(found["amount"]), int(found["tokens"])) != (len(record.rows), record.cost, record.tokens):
            text = f"{where}: its events come to {found['events']}, {found['tokens']} tokens and {found['amount']} microunits"
            self.report.add(Fault.EVENTS_DIFFER, text, shard=self.shard, difference=abs(int(found["amount"]) - record.cost))

    async def _pass_strangers(self, seq: int | None) -> Any:
        """Go on to the events of row `seq`, or to the end; those in between belong to no reported request."""
        if self._events is None:
            self._events = aiter(self.connection.cursor(SQL["audit_usage"], self.shard, prefetch=PREFETCH, timeout=LONG_READ_SECONDS_MAX))
            self._next = await self._pull()
        while self._next is not None and (seq is None or self._next["seq"] < seq):
            text = f"shard {self.shard}: there are events of row {self._next['seq']}, which is no reported request"
            self.report.add(Fault.EVENTS_DIFFER, text, shard=self.shard, difference=abs(int(self._next["amount"])))
            self._next = await self._pull()
        return self._next

    async def _pull(self) -> Any:
        return None if self._events is None else await anext(self._events, None)


async def check_months(pool: Pool, balances: Balances, shard: int, *, accounts: Sequence[int], report: Report) -> None:
    """Compare the month's tokens that Redis counts with the journal's: what Redis had before, the journal has; what that has, Redis has after.

    Raises:
        ShardClosed: the shard is not open.
    """
    for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
        async with journal_answers():
            rows = await pool.fetch(SQL["months_of"], accounts[start : start + ACCOUNTS_AT_ONCE])
        part = sorted({AccountId(row["account_id"]) for row in rows})
        if not part:
            continue
        before = await _read_months(balances, shard, part)
        meta = await balances.read_meta(shard)
        if meta is None or meta.state != "open":
            raise ShardClosed(shard)
        try:
            await wait_posted(pool, shard, epoch=meta.epoch, seq=meta.seq, seconds_max=POSTED_SECONDS_MAX)
        except NotPostedYet:
            continue  # found by the balances
        async with journal_answers():
            rows = await pool.fetch(SQL["months_of"], part)
        after = await _read_months(balances, shard, part)
        report.count("months", len(part))
        for account in part:
            _compare_month(
                account, {row["month"]: row["tokens"] for row in rows if row["account_id"] == account}, before[account], after[account], report, shard
            )


def _compare_month(account: AccountId, journal: dict[int, int], before: tuple[int, int], after: tuple[int, int], report: Report, shard: int) -> None:
    month, tokens = before
    posted = journal.get(month, 0)
    latest = max(journal)
    most = after[1] if after[0] == month else AMOUNT_MAX
    if latest > after[0] or not tokens <= posted <= most:
        text = f"account {account}: Redis counts {tokens} tokens in month {month}, the journal {posted} (latest month {latest})"
        report.add(Fault.FIGURES_DIFFER, text, shard=shard, account=account)


async def _read_months(balances: Balances, shard: int, accounts: Sequence[AccountId]) -> dict[AccountId, tuple[int, int]]:
    answers = await asyncio.gather(*(balances.account_month(account, shard) for account in accounts))
    return dict(zip(accounts, answers, strict=True))
