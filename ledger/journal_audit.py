"""Invariants of one shard that Postgres alone can show: rows, chain, keys, running figures, statements, prices.

Everything is read in one snapshot, so that traffic may go on meanwhile.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ledger.entries import HOUSE_SHARD, ChargeRecord
from ledger.figure_audit import check_rollups
from ledger.findings import Fault, Report
from ledger.journal import ACQUIRE_SECONDS_MAX, LONG_READ_SECONDS_MAX, Connection, Pool, journal_answers
from ledger.moments import milliseconds
from ledger.postings import CUSTOMER, GENESIS_HEAD, Transaction, chain, key_digest
from ledger.queries import SQL
from ledger.reported_audit import PriceUsage, ReportedAudit
from ledger.reported_posting import USAGE

type PriceRecord = Callable[[ChargeRecord, str], tuple[int, int]]  # record and rate card body; amount and provider leg

PREFETCH: Final = 1000
FAULTS_SHOWN: Final = 20  # of one kind and shard: a broken shard must not fill the report


@dataclass(slots=True)
class ShardAudit:
    """The audit of one shard within one snapshot."""

    connection: Connection
    shard: int
    report: Report
    price: PriceRecord | None
    cards: dict[str, str | None]
    reported: ReportedAudit
    sums: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Check everything."""
        await self._check_rows()
        await self._check_keys()
        await self._check_figures()
        await self._check_statements()
        if self.shard != HOUSE_SHARD:
            await check_rollups(self.connection, self.shard, postings=self.sums, report=self.report)

    async def _check_rows(self) -> None:
        position = await self.connection.fetchrow(SQL["audit_position"], self.shard)
        seq, head = 0, GENESIS_HEAD
        async for row in self.connection.cursor(SQL["audit_rows"], self.shard, 0, prefetch=PREFETCH, timeout=LONG_READ_SECONDS_MAX):
            if row["seq"] != seq + 1:
                self.report.add(Fault.ROW_MISSING, f"shard {self.shard}: rows {seq + 1} to {row['seq'] - 1} are missing", shard=self.shard)
            head = check_row(row, head, self.report)
            seq = row["seq"]
            for account, amount in zip(row["accounts"], row["amounts"], strict=False):
                self.sums[account] = self.sums.get(account, 0) + amount
            if self.price is not None and row["kind"] in ("charge", "adjust"):
                await self._check_price(row)
            elif row["kind"] == USAGE:
                await self.reported.take(row, await self._card(row["rate_card"]))
        await self.reported.finish()
        self.report.count("rows", seq)
        if (seq, head) != (position["chain_seq"], position["chain_head"]):
            self.report.add(Fault.TAIL_CUT, f"shard {self.shard}: the chain ends at row {seq}, but should at row {position['chain_seq']}", shard=self.shard)

    async def _check_price(self, row: Any) -> None:
        """Invariant 5: the charge equals the recomputation from its usage and its recorded rate card."""
        where = f"shard {self.shard} row {row['seq']} ({row['key']})"
        try:
            record = ChargeRecord.from_json(row["detail"])
        except ValueError as error:
            self.report.add(Fault.PRICE_UNKNOWN, f"{where}: its record cannot be read: {error}", shard=self.shard)
            return
        body = await self._card(record.rate_card)
        if body is None:
            self.report.add(Fault.PRICE_UNKNOWN, f"{where}: rate card {record.rate_card!r} is not in the journal", shard=self.shard)
            return
        try:
            expected = self.price(record, body) if self.price is not None else (0, 0)
        except Exception as error:  # whatever the caller's pricing raises means that the charge cannot be explained
            self.report.add(Fault.PRICE_UNKNOWN, f"{where}: its price cannot be computed: {error}", shard=self.shard)
            return
        self.report.count("prices")
        if expected != (record.amount, record.provider_leg):
            text = f"{where}: charged {record.amount} and owed {record.provider_leg} microunits, by its rate card {expected[0]} and {expected[1]}"
            self.report.add(Fault.PRICE_DIFFERS, text, shard=self.shard, account=row["account_id"], difference=abs(record.amount - expected[0]))
        await self._check_legs(row, record, where)

    async def _check_legs(self, row: Any, record: ChargeRecord, where: str) -> None:
        """The customer's leg is the record's amount, or for an adjustment its difference to the charge before."""
        paid = sum(amount for account, amount in zip(row["accounts"], row["amounts"], strict=False) if account.startswith(CUSTOMER))
        expected: int = record.amount
        if row["kind"] == "adjust":
            before = await self.connection.fetchrow(SQL["journal_by_key"], [key_digest(f"charge:{record.request_id}")])
            if before is None:
                self.report.add(Fault.ROW_MISSING, f"{where}: adjusts a charge that is not in the journal", shard=self.shard)
                return
            expected -= ChargeRecord.from_json(before["detail"]).amount
        if paid != expected:
            text = f"{where}: the customer paid {paid} microunits for a record of {expected}"
            self.report.add(Fault.PRICE_DIFFERS, text, shard=self.shard, account=row["account_id"], difference=abs(paid - expected))

    async def _card(self, card_hash: str) -> str | None:
        if card_hash not in self.cards:
            self.cards[card_hash] = await self.connection.fetchval(SQL["read_rate_card"], card_hash)
        return self.cards[card_hash]

    async def _check_keys(self) -> None:
        for row in await self.connection.fetch(SQL["audit_keys"], self.shard, FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX):
            self.report.add(Fault.KEY_MISSING, f"shard {self.shard} row {row['seq']}: its key {row['key']} does not guard it", shard=self.shard)

    async def _check_figures(self) -> None:
        """The running figures of customers and house accounts equal the sums of their postings."""
        figures = {
            f"{CUSTOMER}{row['id']}": -row["balance"] for row in await self.connection.fetch(SQL["audit_accounts"], self.shard, timeout=LONG_READ_SECONDS_MAX)
        }
        figures |= {row["account"]: row["balance"] for row in await self.connection.fetch(SQL["audit_house"], self.shard, timeout=LONG_READ_SECONDS_MAX)}
        self.report.count("accounts", len(figures))
        for account in sorted(figures.keys() | self.sums.keys()):
            running, posted = figures.get(account, 0), self.sums.get(account, 0)
            if running != posted:
                text = f"shard {self.shard}: {account} runs at {running} microunits, its postings sum to {posted}"
                self.report.add(Fault.FIGURES_DIFFER, text, shard=self.shard, difference=abs(running - posted))

    async def _check_statements(self) -> None:
        """The statement numbers have no gaps, each balance follows from the one before, and the last one is the account's."""
        for row in await self.connection.fetch(SQL["audit_lines"], self.shard, FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX):
            text = f"account {row['account_id']}: statement line {row['n']} does not follow from line {row['before']}"
            self.report.add(Fault.STATEMENT_BROKEN, text, shard=self.shard, account=row["account_id"])
        for row in await self.connection.fetch(SQL["audit_ends"], self.shard, FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX):
            text = (
                f"account {row['id']}: its statement ends at line {row['last']} with {row['balance_after']} microunits, "
                f"its figures say line {row['n']}, {row['statement_balance']}, and {row['due']} still due to make {row['balance']}"
            )
            self.report.add(Fault.STATEMENT_BROKEN, text, shard=self.shard, account=row["id"])


def check_row(row: Any, head: bytes, report: Report) -> bytes:
    """Invariant 1 for one row behind `head`: it sums to zero and its hash is that of its content. Return its hash as stored."""
    shard, seq = row["shard"], row["seq"]
    if sum(row["amounts"]) != 0 or len(row["amounts"]) != len(row["accounts"]):
        report.add(Fault.UNBALANCED, f"shard {shard} row {seq}: its postings do not sum to zero", shard=shard, difference=abs(sum(row["amounts"])))
    if chain(head, shard, seq=seq, transaction=transaction_of(row)) != row["hash"]:
        report.add(Fault.CHAIN_BROKEN, f"shard {shard} row {seq}: its hash is not that of its content and its predecessor", shard=shard)
    return bytes(row["hash"])


def transaction_of(row: Any) -> Transaction:
    """Return what a row says, as it was chained."""
    return Transaction(
        kind=row["kind"],
        key=row["key"],
        account=row["account_id"],
        legs=tuple(zip(row["accounts"], row["amounts"], strict=False)),
        occurred_at=milliseconds(row["occurred_at"]),
        settled_at=milliseconds(row["settled_at"]),
        detail=row["detail"],
        numerator=int(row["numerator"]),
        rate_card=row["rate_card"],
    )


async def audit_shard(
    pool: Pool, shard: int, *, report: Report, price: PriceRecord | None, cards: dict[str, str | None], price_usage: PriceUsage | None = None
) -> None:
    """Check one shard of the journal from its first row. `cards` remembers rate cards from shard to shard.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers(), pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await ShardAudit(connection, shard, report, price, cards, ReportedAudit(connection, shard, report, price_usage)).run()
