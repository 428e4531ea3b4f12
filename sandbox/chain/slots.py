"""RPC methods about the cluster itself: slots, blocks, hashes, fees."""

from typing import Any, Final

from solders.message import from_bytes_versioned

from sandbox.chain.arguments import (
    BLOCK_CLEANED_UP,
    BLOCK_NOT_AVAILABLE,
    LONG_TERM_SLOT_SKIPPED,
    NODE_UNHEALTHY,
    SLOT_SKIPPED,
    Arguments,
    RpcError,
    invalid,
    read_bytes,
)
from sandbox.chain.clock import BLOCKHASH_SLOTS_MAX
from sandbox.chain.provider import API_VERSION, Provider, in_context
from sandbox.chain.transaction_json import transaction_row

UNHEALTHY_SLOTS: Final = 128
LAMPORTS_PER_SIGNATURE: Final = 5000
FEATURE_SET: Final = 0
DETAILS: Final = ("full", "accounts", "signatures", "none")


def get_genesis_hash(provider: Provider, _: Arguments) -> str:
    """Return the hash of the first block."""
    return provider.faults.genesis or provider.cluster.genesis


def get_health(provider: Provider, _: Arguments) -> str:
    """Return "ok", or an error where the provider is far behind."""
    behind = provider.cluster.clock.slot - provider.slot("processed")
    if behind > UNHEALTHY_SLOTS:
        raise RpcError(NODE_UNHEALTHY, f"Node is behind by {behind} slots", {"numSlotsBehind": behind})
    return "ok"


def get_version(_provider: Provider, _: Arguments) -> dict[str, Any]:
    """Return the version of the software."""
    return {"solana-core": API_VERSION, "feature-set": FEATURE_SET}


def get_slot(provider: Provider, given: Arguments) -> int:
    """Return the newest slot."""
    return provider.read_slot(given.config(0))


def get_block_height(provider: Provider, given: Arguments) -> int:
    """Return the number of blocks."""
    return provider.cluster.clock.height(provider.read_slot(given.config(0)))


def get_epoch_info(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return where we are; there is one epoch only."""
    slot, clock = provider.read_slot(given.config(0)), provider.cluster.clock
    past = slot - clock.first_slot
    return {
        "absoluteSlot": slot,
        "blockHeight": clock.height(slot),
        "epoch": 0,
        "slotIndex": past,
        "slotsInEpoch": 432_000,
        "transactionCount": len(provider.cluster.records.all),
    }


def get_first_available_block(provider: Provider, _: Arguments) -> int:
    """Return the oldest block that is not pruned."""
    return max(provider.cluster.clock.first_slot, provider.faults.pruned_below)


def get_transaction_count(provider: Provider, given: Arguments) -> int:
    """Return how many transactions have landed."""
    slot = provider.read_slot(given.config(0))
    return len(provider.cluster.records.between(0, slot))


def get_block_time(provider: Provider, given: Arguments) -> int | None:
    """Return the time of a block in seconds since the epoch."""
    slot = _block_slot(provider, given.number(0), skipped=LONG_TERM_SLOT_SKIPPED)
    return provider.cluster.clock.milliseconds(slot) // 1000


def get_blocks(provider: Provider, given: Arguments) -> list[int]:
    """Return the slots that have a block."""
    first, clock = given.number(0), provider.cluster.clock
    end, newest = given.raw_or_none(1), provider.slot("finalized")
    last = min(newest, end) if type(end) is int else newest
    if last - first > 500_000:
        raise invalid("Slot range too large; max 500000")
    return [slot for slot in range(max(first, get_first_available_block(provider, given)), last + 1) if not clock.is_skipped(slot)]


def get_block(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return a block with the transactions that this provider knows."""
    config, clock = given.config(1), provider.cluster.clock
    config.commitment(least_confirmed=True)
    slot = _block_slot(provider, given.number(0), newest=provider.slot(config.commitment()))
    details = config.raw("transactionDetails") or "full"
    if details not in DETAILS:
        raise invalid(f"transactionDetails must be one of {', '.join(DETAILS)}")
    records = [one for one in provider.cluster.records.between(slot, slot) if one.signature not in provider.faults.hidden]
    if provider.faults.reversed_in_slot:
        records.reverse()
    parent = clock.parent(slot)
    block: dict[str, Any] = {
        "blockhash": clock.hash_of(slot),
        "previousBlockhash": clock.hash_of(parent),
        "parentSlot": parent,
        "blockHeight": clock.height(slot),
        "blockTime": records[0].block_time if records else clock.milliseconds(slot) // 1000,
    }
    if details == "full":
        block["transactions"] = [transaction_row(provider, one, config) for one in records]
    elif details == "signatures":
        block["signatures"] = [one.signature for one in records]
    elif details == "accounts":
        raise invalid("transactionDetails accounts is not simulated")
    return block | ({"rewards": []} if config.raw("rewards") is not False else {})


def _block_slot(provider: Provider, slot: int, *, newest: int | None = None, skipped: int = SLOT_SKIPPED) -> int:
    clock, first = provider.cluster.clock, max(provider.cluster.clock.first_slot, provider.faults.pruned_below)
    if slot > (provider.slot("confirmed") if newest is None else newest):
        raise RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")
    if slot < first:
        raise RpcError(BLOCK_CLEANED_UP, f"Block {slot} cleaned up, does not exist on node. First available block: {first}", {"firstAvailableBlock": first})
    if clock.is_skipped(slot):
        where = "missing in long-term storage" if skipped == LONG_TERM_SLOT_SKIPPED else "missing due to ledger jump to recent snapshot"
        raise RpcError(skipped, f"Slot {slot} was skipped, or {where}")
    return slot


def get_latest_blockhash(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return the newest block hash, and the last height at which a transaction with it may land."""
    slot, clock = provider.read_slot(given.config(0)), provider.cluster.clock
    at, value = clock.latest_hash(slot)
    return in_context(slot, {"blockhash": value, "lastValidBlockHeight": clock.height(at) + BLOCKHASH_SLOTS_MAX})


def is_blockhash_valid(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return whether a transaction with this hash may land."""
    slot = provider.read_slot(given.config(1))
    return in_context(slot, provider.cluster.clock.is_valid_hash(given.text(0), slot))


def get_fee_for_message(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return the fee of a message without its priority fee; null where its block hash is too old."""
    slot = provider.read_slot(given.config(1))
    try:
        message = from_bytes_versioned(read_bytes(given.text(0), "base64"))
    except ValueError as error:
        raise invalid("failed to deserialize the message") from error
    valid = provider.cluster.clock.is_valid_hash(str(message.recent_blockhash), slot)
    return in_context(slot, message.header.num_required_signatures * LAMPORTS_PER_SIGNATURE if valid else None)


def get_recent_prioritization_fees(provider: Provider, _: Arguments) -> list[dict[str, int]]:
    """Return that nobody pays more than he must."""
    newest = provider.slot("processed")
    return [{"slot": slot, "prioritizationFee": 0} for slot in range(max(provider.cluster.clock.first_slot, newest - 149), newest + 1)]


def get_minimum_balance(provider: Provider, given: Arguments) -> int:
    """Return the lamports that an account of this size must hold."""
    return provider.cluster.machine.rent_exempt(given.number(0))
