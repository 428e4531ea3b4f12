"""Proving the books: `verify` checks the five invariants while traffic flows, the reconciler a part of them every minute."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from ledger.balances import Balances
from ledger.deposit_audit import check_chain, check_deposit_sums, check_deposits
from ledger.entries import HOUSE_SHARD, SHARDS
from ledger.errors import LedgerError, ShardClosed
from ledger.figure_audit import check_house_hours
from ledger.findings import Fault, Finding, Report
from ledger.hot_audit import check_balances, check_heads, check_holds, read_heads
from ledger.journal import LONG_READ_SECONDS_MAX, Pool, ShardPosition, journal_answers, now_ms, read_shards
from ledger.journal_audit import PREFETCH, PriceRecord, audit_shard, check_row
from ledger.queries import SQL
from ledger.rebuild import rebuild_shard
from ledger.reported_audit import PriceUsage, check_months
from telemetry import metrics

__all__ = ["Fault", "Finding", "Report", "run_reconciler", "verify"]

log = structlog.get_logger("ledger")

RECONCILE_SECONDS: Final = 60.0
RECENT_SECONDS: Final = 180
RECENT_MAX: Final = 2000
ROWS_MAX: Final = 50_000  # of the chain, in one round of the reconciler
SHARD_TRIES: Final = 3
SHARD_PAUSE_SECONDS: Final = 1.0


async def verify(
    pool: Pool,
    balances: Balances | None,
    *,
    price: PriceRecord | None = None,
    checkpoint: Path | None = None,
    vault_on_chain: int | None = None,
    price_usage: PriceUsage | None = None,
) -> Report:
    """Check the books from the first row on, while traffic may flow; without `balances` the journal alone.

    `price` computes a charge again from its record and the text of its rate card, `price_usage` the estimated costs of reported usage.
    `checkpoint` is a file of chain heads: what it holds is compared, then it is written anew if nothing was found. `vault_on_chain` is what the
    chain says of the vault, in microunits; without it the watcher's last word is taken, where it is fresh.

    Raises:
        JournalUnavailable, BalanceUnavailable: a store did not answer.
        ValueError: the checkpoint cannot be read.
    """
    report = Report()
    await _check_remembered_heads(pool, balances, checkpoint, report)
    cards: dict[str, str | None] = {}
    for shard in range(HOUSE_SHARD + 1):
        await audit_shard(pool, shard, report=report, price=price, cards=cards, price_usage=price_usage)
    await check_sums(pool, report=report, vault_on_chain=vault_on_chain)
    await check_house_hours(pool, report=report)
    await check_deposits(pool, report=report)
    if vault_on_chain is None:
        await check_chain(pool, report=report)
    if balances is not None:
        async with journal_answers():
            rows = await pool.fetch(SQL["accounts_of_shards"], timeout=LONG_READ_SECONDS_MAX)
        for shard in range(SHARDS):
            await _check_hot_shard(pool, balances, shard, accounts=[row["id"] for row in rows if row["shard"] == shard], report=report)
    if checkpoint is not None and report.whole:
        await _write_checkpoint(pool, checkpoint)
    return report


async def check_sums(pool: Pool, *, report: Report, vault_on_chain: int | None = None) -> None:
    """Invariant 3: what we own equals what we owe, over all shards, in one snapshot; and the vault is what the chain says."""
    async with journal_answers():
        row = await pool.fetchrow(SQL["audit_sums"], timeout=LONG_READ_SECONDS_MAX)
    customers, house, vault = int(row["customers"]), int(row["house"]), int(row["vault"])
    report.count("sums")
    if customers != house:
        text = f"customers own {customers} microunits, the house accounts show {house}"
        report.add(Fault.SUMS_DIFFER, text, difference=abs(customers - house))
    if vault_on_chain is not None and vault_on_chain != vault:
        text = f"the journal's vault holds {vault} microunits, the one on chain {vault_on_chain}"
        report.add(Fault.SUMS_DIFFER, text, difference=abs(vault - vault_on_chain))
    await check_deposit_sums(pool, report=report)


async def _check_hot_shard(pool: Pool, balances: Balances, shard: int, *, accounts: Sequence[int], report: Report) -> None:
    for attempt in range(SHARD_TRIES):
        part = Report()
        try:
            await check_balances(pool, balances, shard, accounts=accounts, report=part)
            await check_holds(pool, balances, shard, accounts=accounts, report=part)
            await check_months(pool, balances, shard, accounts=accounts, report=part)
        except ShardClosed:
            if attempt < SHARD_TRIES - 1:
                await asyncio.sleep(SHARD_PAUSE_SECONDS)
            continue
        report.findings += part.findings
        for name, number in part.checked.items():
            report.count(name, number)
        return
    report.add(Fault.SHARD_CLOSED, f"shard {shard} is closed or missing in Redis: its balances cannot be compared until it is rebuilt", shard=shard)


async def _check_remembered_heads(pool: Pool, balances: Balances | None, checkpoint: Path | None, report: Report) -> None:
    if balances is not None:
        await check_heads(pool, await read_heads(balances, range(SHARDS)), fault=Fault.TAIL_CUT, whose="Redis", report=report)
    if checkpoint is not None and await asyncio.to_thread(checkpoint.exists):
        heads = _read_checkpoint(await asyncio.to_thread(checkpoint.read_text))
        await check_heads(pool, heads, fault=Fault.CHECKPOINT_DIFFERS, whose="the checkpoint", report=report)


def _read_checkpoint(text: str) -> dict[int, tuple[int, bytes]]:
    try:
        return {int(shard): (int(seq), bytes.fromhex(head)) for shard, (seq, head) in json.loads(text)["heads"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the checkpoint cannot be read: {error!r}") from error


async def _write_checkpoint(pool: Pool, path: Path) -> None:
    async with journal_answers():
        rows = await pool.fetch(SQL["read_shards"])
    heads = {str(row["shard"]): [row["chain_seq"], row["chain_head"].hex()] for row in rows}
    text = json.dumps({"written_at": now_ms(), "heads": heads}, indent=1) + "\n"

    def replace() -> None:
        staging = path.with_name(path.name + ".new")
        staging.write_text(text)
        staging.replace(path)

    await asyncio.to_thread(replace)


@dataclass(slots=True)
class Reconciler:
    """Checks what changed since its last round: sums, recently active balances, and new rows of the chains."""

    pool: Pool
    balances: Balances
    _heads: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    async def round(self) -> Report:
        """Check once, show the outcome in the metrics, and rebuild the shards whose hot balances are wrong."""
        report = Report()
        await check_sums(self.pool, report=report)
        await self._check_new_rows(report)
        async with journal_answers():
            rows = await self.pool.fetch(SQL["recent_accounts"], RECENT_SECONDS, RECENT_MAX)
        for shard in sorted({row["shard"] for row in rows}):
            try:
                await check_balances(self.pool, self.balances, shard, accounts=[row["id"] for row in rows if row["shard"] == shard], report=report)
            except ShardClosed:
                continue  # it is being rebuilt, which has a metric of its own
        metrics.reconcile_difference_microunits.set(sum(finding.difference for finding in report.findings))
        metrics.reconcile_findings.set(len(report.findings))
        for finding in report.findings:
            log.error("books_differ", fault=finding.fault, text=finding.text, difference=finding.difference)
        for shard in sorted({finding.shard for finding in report.findings if finding.fault is Fault.BALANCE_DIFFERS and finding.shard is not None}):
            # Redis decides what can be spent, so it must not go on deciding from a balance that its own statement contradicts.
            await rebuild_shard(self.pool, self.balances, shard, reason="balance_differs")
        return report

    async def _positions(self) -> dict[int, ShardPosition]:
        async with journal_answers():
            return await read_shards(self.pool)

    async def _check_new_rows(self, report: Report) -> None:
        """Follow the chains from where they stood in the first round: what is older is for `verify`."""
        left = ROWS_MAX
        if not self._heads:
            self._heads = {shard: (place.chain_seq, place.chain_head) for shard, place in (await self._positions()).items()}
        for shard, known in list(self._heads.items()):
            seq, head = known
            while left > 0:
                async with journal_answers():
                    rows = await self.pool.fetch(SQL["audit_rows"] + " LIMIT $3", shard, seq, min(left, PREFETCH))
                if not rows:
                    break
                for row in rows:
                    if row["seq"] != seq + 1:
                        report.add(Fault.ROW_MISSING, f"shard {shard}: rows {seq + 1} to {row['seq'] - 1} are missing", shard=shard)
                    seq, head = row["seq"], check_row(row, head, report)
                left -= len(rows)
            self._heads[shard] = (seq, head)
        report.count("rows", ROWS_MAX - left)


async def run_reconciler(pool: Pool, balances: Balances, *, stop: asyncio.Event, interval_seconds: float = RECONCILE_SECONDS) -> None:
    """Check every minute until `stop` is set; a store that is away is left for the next round."""
    reconciler = Reconciler(pool, balances)
    while not stop.is_set():
        try:
            await reconciler.round()
        except LedgerError as error:
            log.warning("reconciler_waits", reason=type(error).__name__, error=str(error))
        try:
            async with asyncio.timeout(interval_seconds):
                await stop.wait()
        except TimeoutError:
            continue
