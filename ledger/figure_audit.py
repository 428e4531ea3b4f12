"""Invariants of the figures that pages show: they come to what the events and the journal say, and the house's to its accounts'."""

from collections.abc import Mapping
from typing import Final

from ledger.findings import Fault, Report
from ledger.journal import LONG_READ_SECONDS_MAX, Connection, Pool, journal_answers
from ledger.queries import SQL

FAULTS_SHOWN: Final = 20
_PROVIDER: Final = "provider:"


async def check_rollups(connection: Connection, shard: int, *, postings: Mapping[str, int], report: Report) -> None:
    """Compare the roll-ups of one shard with its events, and with the sums of its postings, in the snapshot of `connection`."""
    for row in await connection.fetch(SQL["audit_rollups"], shard, FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX):
        text = (
            f"account {row['account_id']}: its hours of {'reported' if row['reported'] else 'metered'} usage come to {row['rolled_requests'] or 0} requests "
            f"and {row['rolled_amount'] or 0} microunits, its events to {row['requests'] or 0} and {row['amount'] or 0} (or their tokens differ)"
        )
        difference = abs(int(row["rolled_amount"] or 0) - int(row["amount"] or 0))
        report.add(Fault.FIGURES_DIFFER, text, shard=shard, account=row["account_id"], difference=difference)
    owed = -sum(amount for account, amount in postings.items() if account.startswith(_PROVIDER))
    rolled = await connection.fetchval(SQL["audit_provider_cost"], shard, timeout=LONG_READ_SECONDS_MAX)
    if rolled != owed:
        text = f"shard {shard}: its hours say {rolled} microunits for providers, its postings {owed}"
        report.add(Fault.FIGURES_DIFFER, text, shard=shard, difference=abs(rolled - owed))
    for row in await connection.fetch(SQL["audit_work"], shard, FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX):
        text = (
            f"account {row['account_id']}: in the hour of {row['hour']:%Y-%m-%d %H:%M} its work comes to {row['requests']} events and {row['amount']} "
            f"microunits, what was reported to {row['rolled_requests']} and {row['rolled_amount']} (or their tokens differ)"
        )
        difference = abs(int(row["amount"]) - int(row["rolled_amount"]))
        report.add(Fault.FIGURES_DIFFER, text, shard=shard, account=row["account_id"], difference=difference)
    for query, what in (("audit_days", "usage"), ("audit_work_days", "work")):
        for row in await connection.fetch(SQL[query], shard, FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX):
            text = f"account {row['account_id']}: its day of {row['day']:%Y-%m-%d} does not come to the {what} of its hours, by {row['difference']} microunits"
            report.add(Fault.FIGURES_DIFFER, text, shard=shard, account=row["account_id"], difference=int(row["difference"]))


async def check_house_hours(pool: Pool, *, report: Report) -> None:
    """Compare the house's hours with the sums of its accounts', and its days with its hours, in one statement each.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers():
        rows = await pool.fetch(SQL["audit_house_hours"], FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX)
    report.count("house_hours")
    for row in rows:
        text = (
            f"the house's hour of {row['hour']:%Y-%m-%d %H:%M} has {row['requests']} requests of {row['provider'] or 'reported usage'} {row['model']} "
            f"for {row['amount']} microunits, its accounts' {row['rolled_requests']} for {row['rolled_amount']}"
        )
        report.add(Fault.FIGURES_DIFFER, text, difference=abs(int(row["amount"]) - int(row["rolled_amount"])))
    async with journal_answers():
        days = await pool.fetch(SQL["audit_house_days"], FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX)
    for row in days:
        text = f"the house's day of {row['day']:%Y-%m-%d} does not come to its hours, by {row['difference']} microunits"
        report.add(Fault.FIGURES_DIFFER, text, difference=int(row["difference"]))
