"""The transactions that landed, found by signature, by address and by slot."""

import json
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from sandbox.chain.machine import TransactionFault


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One landed transaction. `meta` is JSON as a node's answer has it, kept as text so that nobody changes it."""

    signature: str
    slot: int
    order: int  # counts all records up; within a slot it is the order in which they were run
    block_time: int
    wire: bytes
    keys: tuple[str, ...]  # static, then loaded writable, then loaded readonly
    version: int | None  # None: legacy
    fault: TransactionFault | None
    memo: str | None  # as getSignaturesForAddress shows it
    changed: tuple[str, ...]  # accounts whose state it changed
    meta: str

    def read_meta(self) -> dict[str, Any]:
        """Return the metadata, fresh for the caller to do with as he likes."""
        found: dict[str, Any] = json.loads(self.meta)
        return found


class Records:
    """All records that are on the chain now, in its order."""

    def __init__(self) -> None:
        self.all: list[Record] = []
        self.by_signature: dict[str, Record] = {}
        self._by_address: dict[str, list[Record]] = {}

    def add(self, record: Record) -> None:
        """Append the newest record."""
        self.all.append(record)
        self.by_signature[record.signature] = record
        for address in dict.fromkeys(record.keys):
            self._by_address.setdefault(address, []).append(record)

    def drop_after(self, slot: int) -> list[Record]:
        """Forget the records above `slot` and return them, oldest first."""
        dropped: list[Record] = []
        while self.all and self.all[-1].slot > slot:
            record = self.all.pop()
            dropped.append(record)
            del self.by_signature[record.signature]
            for address in dict.fromkeys(record.keys):
                self._by_address[address].pop()
        return dropped[::-1]

    def between(self, first: int, last: int) -> list[Record]:
        """Return the records of the slots `first` to `last`, both included."""
        start = bisect_left(self.all, first, key=lambda record: record.slot)
        return self.all[start : bisect_right(self.all, last, key=lambda record: record.slot)]

    def mentioning(self, address: str) -> list[Record]:
        """Return the records that name an address, oldest first. The list is ours: read only."""
        return self._by_address.get(address, [])
