"""RPC methods about transactions that have landed."""

from typing import Any, Final

from sandbox.chain.arguments import INVALID_PARAMS, TRANSACTION_NOT_FOUND, Arguments, Config, RpcError, read_signature
from sandbox.chain.provider import Provider, in_context
from sandbox.chain.records import Record
from sandbox.chain.transaction_json import transaction_row

PAGE_MAX: Final = 1000
STATUSES_MAX: Final = 256
RECENT_SLOTS: Final = 150  # beyond them a status is only found by searchTransactionHistory


def get_signatures_for_address(provider: Provider, given: Arguments) -> list[dict[str, Any]]:
    """Return the transactions that name an address, newest first."""
    config, address = given.config(1), given.address(0)
    slot, limit = provider.read_slot(config, least_confirmed=True), config.number("limit")
    limit = PAGE_MAX if limit is None else limit
    if not 1 <= limit <= PAGE_MAX:
        raise RpcError(INVALID_PARAMS, f"Invalid limit; max {PAGE_MAX}")
    rows = [one for one in provider.cluster.records.mentioning(address) if provider.knows(one, slot)]
    if provider.faults.reversed_in_slot:
        rows.sort(key=lambda one: (one.slot, -one.order))
    rows = _cut(provider, rows[::-1], config, slot=slot)[: min(limit, provider.faults.page_max)]
    return [_row(provider, one) for one in rows]


def _cut(provider: Provider, rows: list[Record], config: Config, *, slot: int) -> list[Record]:
    """Return the rows, newest first, that are older than `before` and newer than `until`."""
    before, until = config.signature("before"), config.signature("until")
    for name in (before, until):
        if name is not None and provider.record(name, slot) is None:
            if provider.faults.unknown_before == "error":
                raise RpcError(TRANSACTION_NOT_FOUND, f"Transaction {name} not found", {"signature": name})
            if provider.faults.unknown_before == "empty" and name == before:
                return []
    first = provider.record(before, slot) if before is not None else None
    last = provider.record(until, slot) if until is not None else None
    backwards = -1 if provider.faults.reversed_in_slot else 1

    def place(record: Record) -> tuple[int, int]:
        return record.slot, backwards * record.order

    return [one for one in rows if (first is None or place(one) < place(first)) and (last is None or place(one) > place(last))]


def _row(provider: Provider, record: Record) -> dict[str, Any]:
    return {
        "signature": record.signature,
        "slot": record.slot,
        "err": provider.fault_of(record),
        "memo": record.memo,
        "blockTime": record.block_time,
        "confirmationStatus": provider.confirmation(record.slot),
    }


def get_signature_statuses(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return how sure each transaction is; null where it is not on the chain, or no longer."""
    config, newest = given.config(1), provider.slot("processed")
    signatures = [read_signature(one) for one in given.items(0, most=STATUSES_MAX)]
    oldest = 0 if config.flag("searchTransactionHistory") else newest - RECENT_SLOTS
    found = [provider.record(one, newest) for one in signatures]
    return in_context(newest, [_status(provider, one, newest) if one is not None and one.slot >= oldest else None for one in found])


def _status(provider: Provider, record: Record, newest: int) -> dict[str, Any]:
    fault, confirmation = provider.fault_of(record), provider.confirmation(record.slot)
    return {
        "slot": record.slot,
        "confirmations": None if confirmation == "finalized" else newest - record.slot,
        "err": fault,
        "status": {"Ok": None} if fault is None else {"Err": fault},
        "confirmationStatus": confirmation,
    }


def get_transaction(provider: Provider, given: Arguments) -> dict[str, Any] | None:
    """Return a transaction with its metadata; null where this provider does not have it."""
    config, signature = given.config(1), read_signature(given.text(0))
    record = provider.record(signature, provider.slot(config.commitment(least_confirmed=True)))
    if record is None or signature in provider.faults.unreadable:
        return None
    return {"slot": record.slot, "blockTime": record.block_time} | transaction_row(provider, record, config)
