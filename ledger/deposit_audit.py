"""Invariant 3 for the vault: journal, recorded moves, deposits and the chain itself tell the same story.

Each check is one statement, so it sees one instant and traffic may go on.
"""

import asyncio
import time
from typing import Any, Final

from ledger.findings import Fault, Report
from ledger.journal import LONG_READ_SECONDS_MAX, Pool, journal_answers, now_ms
from ledger.queries import SQL

FAULTS_SHOWN: Final = 20
FRESH_MS: Final = 60_000  # an older word of the watcher says nothing about now
STEADY_REPORTS: Final = 2  # further ones of the watcher, between which nothing moved
CHAIN_SECONDS_MAX: Final = 20.0
CHAIN_PAUSE_SECONDS: Final = 0.25


async def check_deposit_sums(pool: Pool, *, report: Report) -> None:
    """What the vault holds is its opening and its moves; what nobody owns yet is what was not credited.

    Credits that a restored journal has from the outbox before their arrivals were read from the chain again are no fault: they
    are counted as `credits_ahead_of_the_chain` and disappear with the next pages.
    """
    async with journal_answers():
        row = await pool.fetchrow(SQL["audit_deposits"], timeout=LONG_READ_SECONDS_MAX)
    sums = {name: int(value) for name, value in dict(row).items()}
    for name in ("moves", "deposits"):
        report.count(name, sums[name])
    if sums["early"]:
        report.count("credits_ahead_of_the_chain", sums["early"])
    moved = sums["opening"] + sums["moved"]
    if not sums["vault"] == moved == sums["balance"]:
        text = f"the journal's vault holds {sums['vault']} microunits, its moves come to {moved}, and its record says {sums['balance']}"
        report.add(Fault.VAULT_DIFFERS, text, difference=max(abs(sums["vault"] - moved), abs(sums["balance"] - moved)))
    waiting = sums["uncredited"] + sums["dust"] - sums["early_amount"]
    if sums["unattributed"] != waiting:
        text = f"the journal has {sums['unattributed']} microunits unattributed, and deposits and dust that nobody got come to {waiting}"
        report.add(Fault.UNATTRIBUTED_DIFFERS, text, difference=abs(sums["unattributed"] - waiting))


async def check_deposits(pool: Pool, *, report: Report) -> None:
    """Each move has its journal row and each arrival its deposit; each credited deposit has its credit, and each credit its deposit."""
    for row in await _faulty(pool, "audit_moves"):
        text = f"the moves of house row {row['seq']} come to {row['moved']} microunits, the journal has {row['posted']}"
        report.add(Fault.MOVE_DIFFERS, text, difference=abs(int(row["moved"]) - int(row["posted"])))
    for row in await _faulty(pool, "audit_arrivals"):
        text = f"move {row['signature']} changed the vault by {row['moved']} microunits, its deposit says {row['amount']}"
        report.add(Fault.DEPOSIT_DIFFERS, text, difference=abs(row["moved"] - (row["amount"] or 0)))
    for row in await _faulty(pool, "audit_credits"):
        text = (
            f"{row['key']} is {row['state']} with {row['amount']} microunits for account {row['account_id']}; "
            f"the journal has {row['posted']} for account {row['posted_to']}"
        )
        report.add(Fault.DEPOSIT_DIFFERS, text, account=row["account_id"], difference=abs(int(row["amount"] or 0) - int(row["posted"] or 0)))


async def check_chain(pool: Pool, *, report: Report) -> None:
    """The vault as the watcher saw it on chain is what the journal has up to that slot.

    A difference may only mean that the watcher is behind, so it counts when it outlasts further reports without any progress.
    Where the watcher is silent, or there is always something new, nothing is said.
    """
    deadline = time.monotonic() + CHAIN_SECONDS_MAX
    first = seen = await _compare(pool)
    steady = 0
    while seen is not None and seen["recorded"] != seen["vault_on_chain"]:
        if first is None or _progress(seen) != _progress(first):
            first, steady = seen, 0
        if steady >= STEADY_REPORTS:
            text = f"the vault on chain holds {seen['vault_on_chain']} microunits in slot {seen['finalized_slot']}, the journal {seen['recorded']}"
            report.add(Fault.VAULT_DIFFERS, text, difference=abs(int(seen["vault_on_chain"]) - int(seen["recorded"])))
            return
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(CHAIN_PAUSE_SECONDS)
        before, seen = seen, await _compare(pool)
        steady += seen is not None and seen["updated_at"] > before["updated_at"]
    if seen is not None:
        report.count("vaults_on_chain")


async def _compare(pool: Pool) -> Any:
    async with journal_answers():
        return await pool.fetchrow(SQL["vault_at"], now_ms() - FRESH_MS, timeout=LONG_READ_SECONDS_MAX)


def _progress(row: Any) -> tuple[Any, ...]:
    """What changes whenever the watcher gets on, or the chain does."""
    return (row["cursor_signature"], row["vault_on_chain"], row["recorded"])


async def _faulty(pool: Pool, query: str) -> Any:
    async with journal_answers():
        return await pool.fetch(SQL[query], FAULTS_SHOWN, timeout=LONG_READ_SECONDS_MAX)
