"""Turning what Redis did into journal rows: strictly in the poster, forgivingly in a rebuild.

The poster takes an entry only where it continues the books exactly (`post`); anything else means that one
of the stores went back in time, and the shard is rebuilt. The rebuild takes the same entries by their
keys (`repost`): what the journal does not know yet is posted, numbered anew, and nothing twice.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

import structlog

from ledger.change_rows import Change, record_change
from ledger.entries import AccountId, ChargeRecord
from ledger.errors import BrokenInvariant
from ledger.holds import OutboxEntry
from ledger.journal import AccountFigures, Connection, JournalWriter, ShardPosition, read_figures
from ledger.moments import moment
from ledger.outbox import counts_as_line
from ledger.postings import Transaction, adjustment_legs, body_digest, charge_legs, key_digest
from ledger.queries import SQL
from ledger.reported_posting import USAGE, add_reported
from ledger.statement_lines import LINE_TYPES, StatementLine, rollup_changes, usage_rows

log = structlog.get_logger("ledger")


@dataclass(slots=True, kw_only=True)
class DueRow:
    """A row of `changes_due` as the poster needs it; `applied_epoch` is None until its entry is posted."""

    shard: int
    due_seq: int
    account_id: AccountId
    key: str
    amount: int
    detail: str
    journal_seq: int
    created_at: datetime
    applied_epoch: int | None


def read_record(text: str) -> ChargeRecord:
    """Read the record of a charge.

    Raises:
        BrokenInvariant: the text is none; posting stops there rather than guess.
    """
    try:
        return ChargeRecord.from_json(text)
    except (ValueError, AttributeError) as error:
        raise BrokenInvariant(f"an outbox entry carries no readable charge record: {error}") from error


@dataclass(slots=True)
class Posting:
    """Posts outbox entries within one transaction; the shards are locked in the writer."""

    writer: JournalWriter
    known: dict[str, bytes] = field(default_factory=dict)  # key to the digest of its body
    dues: dict[tuple[int, str], DueRow] = field(default_factory=dict)
    charges: dict[str, ChargeRecord] = field(default_factory=dict)

    @classmethod
    async def prepare(cls, connection: Connection, positions: Mapping[int, ShardPosition], entries: Mapping[int, Iterable[OutboxEntry]]) -> Self:
        """Read what the journal knows of these entries' keys, accounts and due changes."""
        everything = [(shard, entry) for shard, batch in entries.items() for entry in batch]
        figures = await read_figures(connection, {entry.account for _, entry in everything})
        posting = cls(JournalWriter(connection, positions, figures))
        await posting.learn_keys(entry.key for _, entry in everything)
        applies = [(shard, entry.key) for shard, entry in everything if entry.kind == "apply"]
        if applies:
            rows = await connection.fetch(SQL["dues_by_key"], sorted({shard for shard, _ in applies}), [key for _, key in applies])
            posting.dues = {(row["shard"], row["key"]): DueRow(**dict(row)) for row in rows}
        return posting

    async def learn_keys(self, keys: Iterable[str]) -> None:
        """Learn which of these keys the journal has."""
        by_digest = {key_digest(key): key for key in keys}
        for row in await self.writer.connection.fetch(SQL["known_keys"], list(by_digest)):
            self.known[by_digest[row["key_sha256"]]] = row["body_sha256"]

    async def post(self, shard: int, entry: OutboxEntry) -> bool:
        """Post an entry that continues the books exactly; return False, with nothing added, for any other.

        Raises:
            BrokenInvariant: a charge carries no readable record.
        """
        figures = self.writer.figures.get(entry.account)
        if figures is None or not _continues(figures, entry):
            return False
        if entry.kind == "apply":
            due = self.dues.get((shard, entry.key))
            if due is None or due.applied_epoch is not None or (due.account_id, due.amount) != (entry.account, entry.amount):
                return False
            self.add_applied(due)
            return True
        if entry.key in self.known:
            return False
        if entry.kind == USAGE:
            add_reported(self.writer, shard, entry)
        else:
            await self._post_charge(shard, entry)
        return True

    async def repost(self, shard: int, entry: OutboxEntry) -> None:
        """Post whatever of an entry the journal does not have; the statement numbers it anew.

        Raises:
            BrokenInvariant: the entry's account is in neither store's past, or its detail cannot be read.
        """
        if entry.kind == "apply":
            if self._is_credited_elsewhere(shard, entry):
                log.critical("deposit_credited_elsewhere", shard=shard, seq=entry.seq, account_id=entry.account, key=entry.key)
                return
            due = self.dues.get((shard, entry.key)) or await self._recreate(shard, entry)
            if due.applied_epoch is None:
                self.add_applied(due)
            return
        if entry.account not in self.writer.figures:
            raise BrokenInvariant(f"entry {entry.seq} of shard {shard} charges account {entry.account}, which the journal does not know")
        if entry.kind == USAGE:
            if entry.key not in self.known:
                self.known[entry.key] = b""
                add_reported(self.writer, shard, entry)
        elif entry.kind == "adjust":
            await self._repost_adjustment(shard, entry)
        elif entry.key not in self.known:
            await self._post_charge(shard, entry)
        else:
            await self._repost_known_charge(shard, entry)

    def _is_credited_elsewhere(self, shard: int, entry: OutboxEntry) -> bool:
        """Tell whether a deposit that only this copy of Redis credited was given to another account since: it is credited once."""
        return entry.key.startswith("deposit:") and entry.key in self.known and (shard, entry.key) not in self.dues

    async def _post_charge(self, shard: int, entry: OutboxEntry) -> None:
        record = read_record(entry.detail)
        await self.add_charge(
            shard, record, account=entry.account, kind=entry.kind, amount=-entry.amount, at=entry.at, line=entry.n is not None, text=entry.detail
        )  # fmt: skip

    async def _repost_adjustment(self, shard: int, entry: OutboxEntry) -> None:
        """Post the difference to what the journal charged, which need not be what this copy of Redis had charged."""
        record = read_record(entry.detail)
        charged = await self.charge_of(record.request_id)
        difference = record.amount - (charged.amount if charged else 0)
        if entry.key in self.known or difference == 0:
            return
        kind = "adjust" if charged else "charge"
        await self.add_charge(shard, record, account=entry.account, kind=kind, amount=difference, at=entry.at, line=True)

    async def _repost_known_charge(self, shard: int, entry: OutboxEntry) -> None:
        """Let an exact settlement that only this copy of Redis saw replace the estimate in the journal."""
        record = read_record(entry.detail)
        legs = charge_legs(record, account=entry.account, amount=-entry.amount)
        transaction = _transaction(record, entry.kind, account=entry.account, legs=legs, at=entry.at, text=entry.detail)
        if record.estimated or self.known[entry.key] == body_digest(transaction):
            return
        await self.learn_keys([f"adjust:{record.request_id}"])
        charged = await self.charge_of(record.request_id)
        if charged and charged.estimated and charged.amount != record.amount and f"adjust:{record.request_id}" not in self.known:
            difference = record.amount - charged.amount
            await self.add_charge(shard, record, account=entry.account, kind="adjust", amount=difference, at=entry.at, line=True)

    async def charge_of(self, request_id: str) -> ChargeRecord | None:
        """Return the record that `charge:<request_id>` has in the journal, None where there is none."""
        if request_id not in self.charges:
            rows = await self.writer.connection.fetch(SQL["journal_by_key"], [key_digest(f"charge:{request_id}")])
            if not rows:
                return None
            self.charges[request_id] = read_record(rows[0]["detail"])
        return self.charges[request_id]

    async def add_charge(self, shard: int, record: ChargeRecord, *, account: AccountId, kind: str, amount: int, at: int, line: bool, text: str = "") -> int:
        """Add a charge, or the adjustment that replaces it, with usage and figures; `amount` is what the customer pays (more).

        `text` is the record's own JSON where it is at hand.
        """
        replaced = await self.charge_of(record.request_id) if kind == "adjust" else None
        legs = adjustment_legs(record, replaced, account=account, amount=amount) if kind == "adjust" else charge_legs(record, account=account, amount=amount)
        transaction = _transaction(record, kind, account=account, legs=legs, at=at, text=text)
        seq = self.writer.add_transaction(shard, transaction)
        settled_at = moment(at)
        if kind == "adjust":
            self.writer.supersede_usage(record.request_id, seq)
        else:
            self.charges[record.request_id] = record
        self.known[transaction.key] = body_digest(transaction)
        self.writer.add_usage(
            usage_rows(record, shard=shard, account=account, occurred_at=moment(record.started_at), settled_at=settled_at, seq=seq),
            rollup_changes(record, replaced, shard=shard, account=account, settled_at=settled_at),
        )
        self.writer.figures[account].charged += amount
        self.writer.made.add(account, record.made, settled_at)
        if line:
            self.writer.add_line(
                account,
                StatementLine(amount=-amount, kind=kind, type=LINE_TYPES[kind], created_at=settled_at, shard=shard, seq=seq, record=record),
            )
        return seq

    def add_applied(self, due: DueRow) -> None:
        """Note that Redis has a due change, with its statement line where it is money."""
        epoch = self.writer.positions[due.shard].epoch
        n = None
        if counts_as_line(due.key, due.amount):
            n = self.writer.add_line(due.account_id, _change_line(due))
        self.writer.mark_applied(due.shard, due.due_seq, n=n, epoch=epoch)
        due.applied_epoch = epoch

    async def _recreate(self, shard: int, entry: OutboxEntry) -> DueRow:
        """Make a change again that a restored journal has lost, from the detail that travelled with it."""
        try:
            detail = json.loads(entry.detail)
            change = Change(account=entry.account, key=entry.key, amount=entry.amount, fields={}, detail=detail)
            if detail["kind"] in LINE_TYPES:
                record = ChargeRecord.from_json(json.dumps(detail["record"]))
                if entry.account not in self.writer.figures:
                    raise BrokenInvariant(f"entry {entry.seq} of shard {shard} charges account {entry.account}, which the journal does not know")
                seq = await self.add_charge(
                    shard, record, account=entry.account, kind=detail["kind"], amount=-entry.amount, at=detail["created_at"], line=False
                )  # fmt: skip
                change = replace(change, journal_seq=seq)
            due_seq, journal_seq = await record_change(self.writer, shard, change)
            if detail["kind"] == "open":
                await self.writer.connection.execute(SQL["reserve_account_ids"], entry.account)
            self.known[entry.key] = b""
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenInvariant(f"entry {entry.seq} of shard {shard} ({entry.key}) cannot be made again: {error!r}") from error
        due = DueRow(
            shard=shard, due_seq=due_seq, account_id=entry.account, key=entry.key, amount=entry.amount, detail=entry.detail,
            journal_seq=journal_seq, created_at=moment(detail["created_at"]), applied_epoch=None,
        )  # fmt: skip
        self.dues[shard, entry.key] = due
        return due


def _continues(figures: AccountFigures, entry: OutboxEntry) -> bool:
    """Tell whether an entry is the account's very next change, with the balance that the statement then has."""
    if entry.n is None:
        return entry.amount == 0 and entry.balance == figures.statement_balance
    return entry.n == figures.n + 1 and entry.balance == figures.statement_balance + entry.amount


def _transaction(record: ChargeRecord, kind: str, *, account: AccountId, legs: tuple[tuple[str, int], ...], at: int, text: str) -> Transaction:
    return Transaction(
        kind=kind,
        key=f"{kind}:{record.request_id}",
        account=account,
        legs=legs,
        occurred_at=record.started_at,
        settled_at=at,
        detail=text or record.to_json(),
        numerator=record.numerator,
        rate_card=record.rate_card,
    )


def _change_line(due: DueRow) -> StatementLine:
    detail = json.loads(due.detail)
    kind = detail["kind"]
    record = ChargeRecord.from_json(json.dumps(detail["record"])) if kind in LINE_TYPES else None
    return StatementLine(
        amount=due.amount,
        kind=kind,
        type=LINE_TYPES.get(kind) or detail.get("type", "ADJUSTMENT"),
        created_at=due.created_at,
        shard=due.shard,
        seq=due.journal_seq,
        record=record,
    )
