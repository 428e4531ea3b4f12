"""The one chain of the simulated cluster: transactions land in slots, slots are covered by commitments, forks lose."""

import base64
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from solders.account import Account
from solders.hash import Hash
from solders.message import Message, MessageV0
from solders.transaction import VersionedTransaction

from sandbox.chain.accounts import AccountHistory
from sandbox.chain.clock import Pace, SlotClock
from sandbox.chain.landing import Landing, Loaded, TransactionRefused, load_addresses, make_record
from sandbox.chain.machine import Machine, Outcome, read_decimals, read_holding
from sandbox.chain.records import Record, Records
from sandbox.chain.store import Store, read_account, read_record, write_account, write_record

RESERVED_SLOTS: Final = 25  # slots that a running clock may go on before the log has to know
DRIFT_MS_MAX: Final = 2_000  # that the time of slots may be behind the real one

type Event = Literal["slot", "landed"]
type Listener = Callable[[Event, Record | None], None]


def now_ms() -> int:
    """Return the time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


class Cluster:
    """State and history of the chain. Everything happens in one thread; whoever wants to know of it adds a listener."""

    def __init__(self, folder: Path | None = None, *, pace: Pace | None = None) -> None:
        """Open the cluster that is in `folder`, or make a new one there. Without a folder nothing is kept.

        Raises:
            DamagedLog: the folder's log cannot be read.
        """
        self.machine, self.records, self.pace = Machine(), Records(), pace or Pace()
        self.accounts = AccountHistory(self.machine)
        self.listeners: list[Listener] = []
        self._store = Store(folder)
        self._order = self._reserved = 0
        lines = self._store.lines()
        first = next(lines, None)
        if first is None:
            first = {"hash": str(Hash(secrets.token_bytes(32))), "slot": self.machine.first_slot, "time_ms": now_ms()}
            self._store.append("genesis", **first)
        self.clock = SlotClock(genesis=first["hash"], first_slot=first["slot"], first_time_ms=first["time_ms"], pace=self.pace)
        for line in lines:
            self._replay(line)
        self.clock.jump(max(self._reserved, self.clock.slot), time_ms=now_ms())
        self._anchor(self.clock.slot, self.clock.milliseconds(self.clock.slot), each=self.pace.slot_milliseconds)

    @property
    def genesis(self) -> str:
        """The hash of the first block, by which the cluster is known."""
        return self.clock.genesis

    def close(self) -> None:
        """Close the log. There is nothing else to save."""
        self._store.close()

    # Time

    def advance(self, slots: int = 1) -> int:
        """Go on by some slots, all of them now, and return the one we are in."""
        clock = self.clock
        self._anchor(clock.slot + 1, max(now_ms(), clock.milliseconds(clock.slot)), each=0)
        for _ in range(slots):
            clock.advance()
            self._tell("slot", None)
        self._keep_slot(0)
        return clock.slot

    def tick(self) -> None:
        """Go on by one slot, as the running clock does. Its time follows from the pace, unless that has lost touch with the real one."""
        clock, now = self.clock, now_ms()
        clock.advance()
        if clock.each != self.pace.slot_milliseconds or now - clock.milliseconds(clock.slot) > DRIFT_MS_MAX:
            self._anchor(clock.slot, max(now, clock.milliseconds(clock.slot - 1)), each=self.pace.slot_milliseconds)
        self._tell("slot", None)
        if clock.slot > self._reserved:
            self._keep_slot(RESERVED_SLOTS)

    def set_pace(self, *, slot_milliseconds: int | None = None, confirmed_slots: int | None = None, finalized_slots: int | None = None) -> None:
        """Change the pace from now on; what is left out stays."""
        self.pace.confirmed_slots = self.pace.confirmed_slots if confirmed_slots is None else confirmed_slots
        self.pace.finalized_slots = self.pace.finalized_slots if finalized_slots is None else finalized_slots
        self.pace.slot_milliseconds = self.pace.slot_milliseconds if slot_milliseconds is None else slot_milliseconds

    def finalize(self) -> int:
        """Go on until everything up to now is finalized."""
        return self.advance(self.pace.finalized_slots)

    def fork(self, slots: int) -> list[str]:
        """Drop the last `slots` slots, the current one included, and go on in a new one. Return the signatures that disappear.

        Raises:
            ValueError: they are finalized, or there are not so many.
        """
        first, last = self.clock.slot - slots + 1, self.clock.slot
        if slots < 1 or first <= self.clock.covered("finalized"):
            raise ValueError(f"only the {last - self.clock.covered('finalized')} slots that are not finalized can be dropped, not {slots}")
        self._store.append("fork", first=first, last=last)
        dropped = self._drop(first, last)
        self.advance()
        return dropped

    # Transactions

    def resolve(self, transaction: VersionedTransaction) -> tuple[str, ...]:
        """Return all keys of a transaction, those of lookup tables included.

        Raises:
            TransactionRefused: a lookup table is not there.
        """
        return self._keys(transaction)[0]

    def require_valid(self, transaction: VersionedTransaction) -> None:
        """Refuse what no node would take.

        Raises:
            TransactionRefused: a signature is wrong, the block hash is too old or unknown, or it has landed already.
        """
        if not isinstance(transaction.message, Message | MessageV0):
            raise TransactionRefused("UnsupportedVersion")
        if not all(transaction.verify_with_results()):
            raise TransactionRefused("SignatureFailure")
        if not self.clock.is_valid_hash(str(transaction.message.recent_blockhash), self.clock.slot):
            raise TransactionRefused("BlockhashNotFound")
        if str(transaction.signatures[0]) in self.records.by_signature:
            raise TransactionRefused("AlreadyProcessed")

    def simulate(self, transaction: VersionedTransaction) -> Outcome:
        """Return what the transaction would do now, its signatures and block hash aside.

        Raises:
            TransactionRefused: a lookup table is not there.
        """
        self._keys(transaction)
        self._set_clock()
        return self.machine.simulate(transaction)

    def submit(self, transaction: VersionedTransaction) -> Record:
        """Run the transaction in the current slot. One whose instruction fails lands too.

        Raises:
            TransactionRefused: it does not land.
            OSError: it cannot be kept, so it has not landed.
        """
        self.require_valid(transaction)
        keys, loaded = self._keys(transaction)
        before = {key: self.accounts.now(key) for key in keys}
        self._set_clock()
        outcome = self.machine.run(transaction)
        if not outcome.landed:
            raise TransactionRefused(outcome.fault or "AccountNotFound", outcome)
        after = {key: self.accounts.now(key) for key in keys}
        landing = Landing(
            transaction=transaction, keys=keys, loaded=loaded, before=before, after=after, outcome=outcome, decimals=self._decimals(before, after)
        )
        slot = self.clock.slot
        record = make_record(landing, slot=slot, order=self._order, block_time=self.clock.milliseconds(slot) // 1000)
        changes = {key: write_account(after[key]) for key in record.changed}
        try:
            self._store.append("transaction", **write_record(record), accounts=changes)
        except OSError:
            for key in record.changed:  # what is not in the log has not happened
                self.machine.set_account(key, before[key])
            raise
        self._keep(record, {key: (before[key], after[key]) for key in record.changed})
        self._tell("landed", record)
        return record

    # What no transaction can do

    def set_account(self, address: str, account: Account) -> None:
        """Put an account where a test wants it, such as a lookup table."""
        self._store.append("account", slot=self.clock.slot, address=address, account=write_account(account))
        self._put_account(address, account, slot=self.clock.slot)

    def add_program(self, address: str, elf: bytes) -> None:
        """Put a program where a test wants it."""
        self._store.append("program", address=address, elf=base64.b64encode(elf).decode())
        self.machine.add_program(address, elf)

    # Below: how the above is done, also when the log is read again

    def _keep(self, record: Record, changes: Mapping[str, tuple[Account | None, Account | None]]) -> None:
        self._order = record.order + 1
        self.records.add(record)
        settled = self.clock.covered("finalized")
        for key, (before, after) in changes.items():
            self.accounts.note(key, after, slot=record.slot, before=before, settled=settled)

    def _put_account(self, address: str, account: Account | None, *, slot: int) -> None:
        before = self.accounts.now(address)
        self.machine.set_account(address, account)
        self.accounts.note(address, account, slot=slot, before=before, settled=self.clock.covered("finalized"))

    def _drop(self, first: int, last: int) -> list[str]:
        self.accounts.go_back(first - 1)
        self.clock.skip(first, last)
        return [record.signature for record in self.records.drop_after(first - 1)]

    def _replay(self, line: Mapping[str, Any]) -> None:
        kind = line["kind"]
        if kind == "slots":
            self._reserved = line["slot"]
        elif kind == "anchor":
            self._catch_up(line["slot"])
            self.clock.anchor(line["slot"], line["time_ms"], each=line["each"])
        elif kind == "transaction":
            self._catch_up(line["slot"])
            record = read_record(line, self._order)
            changes = {key: (self.accounts.now(key), read_account(fields)) for key, fields in line["accounts"].items()}
            for key, (_, after) in changes.items():
                self.machine.set_account(key, after)
            self._keep(record, changes)
        elif kind == "fork":
            self._catch_up(line["last"] + 1)
            self._drop(line["first"], line["last"])
        elif kind == "account":
            self._catch_up(line["slot"])
            self._put_account(line["address"], read_account(line["account"]), slot=line["slot"])
        elif kind == "program":
            self.machine.add_program(line["address"], base64.b64decode(line["elf"]))

    def _catch_up(self, slot: int) -> None:
        self.clock.slot = max(self.clock.slot, slot)

    def _keep_slot(self, reserve: int) -> None:
        # Not durable: after a power failure it is enough that the slots of transactions are below the next one.
        self._reserved = self.clock.slot + reserve
        self._store.append("slots", durable=False, slot=self._reserved)

    def _anchor(self, slot: int, time_ms: int, *, each: int) -> None:
        self.clock.anchor(slot, time_ms, each=each)
        self._store.append("anchor", durable=False, slot=slot, time_ms=time_ms, each=each)

    def _keys(self, transaction: VersionedTransaction) -> tuple[tuple[str, ...], Loaded]:
        message = transaction.message
        lookups = getattr(message, "address_table_lookups", ())
        loaded = load_addresses(transaction, {str(one.account_key): self.accounts.now(str(one.account_key)) for one in lookups})
        return (*map(str, message.account_keys), *loaded.writable, *loaded.readonly), loaded

    def _decimals(self, *states: Mapping[str, Account | None]) -> dict[str, int]:
        holdings = [read_holding(account) for accounts in states for account in accounts.values()]
        return {mint: read_decimals(self.accounts.now(mint)) for mint in {one.mint for one in holdings if one is not None}}

    def _set_clock(self) -> None:
        self.machine.set_clock(self.clock.slot, self.clock.milliseconds(self.clock.slot) // 1000)

    def _tell(self, event: Event, record: Record | None) -> None:
        for listener in list(self.listeners):
            listener(event, record)
