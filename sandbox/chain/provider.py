"""One RPC provider: its own view of the cluster, with its own faults."""

import base64
from collections import deque
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from sandbox.chain.arguments import MIN_CONTEXT_SLOT, Config, RpcError
from sandbox.chain.clock import Commitment
from sandbox.chain.cluster import Cluster
from sandbox.chain.faults import Faults
from sandbox.chain.machine import TransactionFault, read_holding
from sandbox.chain.records import Record

CALLS_MAX: Final = 20_000  # calls that are remembered for tests
API_VERSION: Final = "4.1.2"
AMOUNT_AT: Final = slice(64, 72)


class Provider:
    """What one provider knows. `number` counts from 1; `calls` are the methods it was asked, oldest first."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster, self.number, self.faults = cluster, number, Faults()
        self.calls: deque[str] = deque(maxlen=CALLS_MAX)
        self._asked = 0

    def asked(self, method: str) -> None:
        """Remember that a request for `method` begins."""
        self.calls.append(method)
        self._asked += 1

    def slot(self, commitment: Commitment) -> int:
        """Return the newest slot of this provider that a commitment covers."""
        faults, clock = self.faults, self.cluster.clock
        newest = clock.slot if faults.stuck_at is None else min(faults.stuck_at, clock.slot)
        back = faults.lag + (faults.backwards if self._asked % 2 == 0 else 0)
        behind = clock.slot - clock.covered(commitment)
        return max(clock.first_slot, newest - back - behind)

    def read_slot(self, config: Config, *, least_confirmed: bool = False) -> int:
        """Return the slot at which a request is answered.

        Raises:
            RpcError: it is below the request's minContextSlot.
        """
        slot, least = self.slot(config.commitment(least_confirmed=least_confirmed)), config.number("minContextSlot")
        if least is not None and slot < least:
            raise RpcError(MIN_CONTEXT_SLOT, "Minimum context slot has not been reached", {"contextSlot": slot})
        return slot

    def account(self, address: str, slot: int) -> Account | None:
        """Return what this provider says of an account at the end of `slot`."""
        found = self.cluster.accounts.at(address, slot)
        if address in self.faults.account_lies:
            data = self.faults.account_lies[address]
            return None if found is None or data is None else _with_data(found, base64.b64decode(data))
        holding = read_holding(found) if address in self.faults.balance_lies else None
        if found is None or holding is None:
            return found
        changed = bytearray(found.data)
        changed[AMOUNT_AT] = max(0, holding.amount + self.faults.balance_lies[address]).to_bytes(8, "little")
        return _with_data(found, bytes(changed))

    def record(self, signature: str, slot: int) -> Record | None:
        """Return a transaction that this provider knows at `slot`."""
        record = self.cluster.records.by_signature.get(signature)
        return record if record is not None and self.knows(record, slot) else None

    def knows(self, record: Record, slot: int) -> bool:
        """Whether this provider lists a transaction at `slot`."""
        return self.faults.pruned_below <= record.slot <= slot and record.signature not in self.faults.hidden

    def fault_of(self, record: Record) -> TransactionFault | None:
        """Return the error that this provider claims of a transaction."""
        claimed: TransactionFault | None = self.faults.fault_lies.get(record.signature, record.fault)
        return claimed

    def wire_of(self, record: Record) -> bytes:
        """Return the bytes that this provider gives for a transaction."""
        swapped = self.faults.swapped.get(record.signature)
        if swapped is None:
            return record.wire
        other = self.cluster.records.by_signature.get(swapped)
        return other.wire if other is not None else base64.b64decode(swapped)

    def meta_of(self, record: Record) -> dict[str, Any]:
        """Return the metadata that this provider claims of a transaction."""
        meta = record.read_meta() | self.faults.meta_lies.get(record.signature, {})
        if record.signature in self.faults.fault_lies:
            fault = self.faults.fault_lies[record.signature]
            meta |= {"err": fault, "status": {"Ok": None} if fault is None else {"Err": fault}}
        if record.signature in self.faults.gain_lies:
            held = {row["accountIndex"]: int(row["uiTokenAmount"]["amount"]) for row in meta["preTokenBalances"]}
            for row in meta["postTokenBalances"]:
                amount = int(row["uiTokenAmount"]["amount"])
                if amount > held.get(row["accountIndex"], 0):
                    row["uiTokenAmount"]["amount"] = str(max(0, amount + self.faults.gain_lies[record.signature]))
        return meta

    def confirmation(self, slot: int) -> Commitment:
        """Return the highest commitment that covers `slot`."""
        if slot <= self.slot("finalized"):
            return "finalized"
        return "confirmed" if slot <= self.slot("confirmed") else "processed"


def in_context(slot: int, value: Any) -> dict[str, Any]:
    """Return a value with the slot at which it is true."""
    return {"context": {"slot": slot, "apiVersion": API_VERSION}, "value": value}


def _with_data(account: Account, data: bytes) -> Account:
    return Account(account.lamports, data, Pubkey(bytes(account.owner)), account.executable, account.rent_epoch)
