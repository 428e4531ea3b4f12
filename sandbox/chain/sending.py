"""RPC methods that change the chain, or try out what would."""

from contextlib import suppress
from typing import Any, Final

from solders.transaction import VersionedTransaction

from sandbox.chain.account_json import account_json
from sandbox.chain.arguments import (
    INVALID_PARAMS,
    PREFLIGHT_FAILURE,
    SIGNATURE_FAILURE,
    TRANSACTION_BYTES_MAX,
    Arguments,
    Config,
    RpcError,
    invalid,
    read_address,
    read_bytes,
)
from sandbox.chain.faucet import LAMPORTS_MAX, give_lamports
from sandbox.chain.landing import TransactionRefused, returned_json
from sandbox.chain.machine import Outcome, TransactionFault
from sandbox.chain.provider import Provider, in_context

# How the faults that clients look for are told in words.
WORDS: Final = {
    "AccountNotFound": "Attempt to debit an account but found no record of a prior credit.",
    "AlreadyProcessed": "This transaction has already been processed",
    "BlockhashNotFound": "Blockhash not found",
    "InsufficientFundsForFee": "Insufficient funds for fee",
    "AddressLookupTableNotFound": "Transaction loads an address table account that doesn't exist",
    "InvalidProgramForExecution": "This program may not be used for executing instructions",
    "SignatureFailure": "Transaction signature verification failure",
}


def send_transaction(provider: Provider, given: Arguments) -> str:
    """Let a transaction land, and return its signature. With skipPreflight one that cannot land is answered the same."""
    config = given.config(1)
    transaction = _read_transaction(given.text(0), config)
    signature, cluster = str(transaction.signatures[0]), provider.cluster
    if config.flag("skipPreflight"):
        with suppress(TransactionRefused):
            cluster.submit(transaction)
        return signature
    try:
        cluster.require_valid(transaction)
        outcome = cluster.simulate(transaction)
        if outcome.fault is not None:
            raise TransactionRefused(outcome.fault, outcome)
        cluster.submit(transaction)
    except TransactionRefused as refusal:
        raise _preflight_failure(refusal) from refusal
    return signature


def _preflight_failure(refusal: TransactionRefused) -> RpcError:
    if refusal.fault == "SignatureFailure":
        return RpcError(SIGNATURE_FAILURE, WORDS["SignatureFailure"])
    data = _simulated(refusal.fault, refusal.outcome) | {"accounts": None}
    return RpcError(PREFLIGHT_FAILURE, f"Transaction simulation failed: {_in_words(refusal.fault)}", data)


def _in_words(fault: TransactionFault) -> str:
    if isinstance(fault, str):
        return WORDS.get(fault, fault)
    if "InstructionError" in fault:
        index, reason = fault["InstructionError"]
        custom = reason.get("Custom") if isinstance(reason, dict) else None
        return f"Error processing Instruction {index}: " + (f"custom program error: {custom:#x}" if custom is not None else str(reason))
    return str(fault)


def _simulated(fault: TransactionFault | None, outcome: Outcome | None) -> dict[str, Any]:
    return {
        "err": fault,
        "logs": outcome.logs if outcome is not None else [],
        "unitsConsumed": outcome.units if outcome is not None else 0,
        "returnData": returned_json(outcome) if outcome is not None else None,
        "innerInstructions": None,
        "replacementBlockhash": None,
    }


def simulate_transaction(provider: Provider, given: Arguments) -> dict[str, Any]:
    """Return what a transaction would do."""
    config = given.config(1)
    transaction, cluster = _read_transaction(given.text(0), config), provider.cluster
    slot, replaces = provider.read_slot(config), config.flag("replaceRecentBlockhash")
    if config.flag("sigVerify") and replaces:
        raise RpcError(INVALID_PARAMS, "sigVerify may not be used with replaceRecentBlockhash")
    if config.flag("sigVerify") and not all(transaction.verify_with_results()):
        raise RpcError(SIGNATURE_FAILURE, WORDS["SignatureFailure"])
    clock = cluster.clock
    if not replaces and not clock.is_valid_hash(str(transaction.message.recent_blockhash), clock.slot):
        return in_context(slot, _simulated("BlockhashNotFound", None) | {"accounts": None})
    try:
        outcome = cluster.simulate(transaction)
    except TransactionRefused as refusal:
        return in_context(slot, _simulated(refusal.fault, None) | {"accounts": None})
    at, value = clock.latest_hash(slot)
    shown: dict[str, Any] = {"accounts": _accounts(provider, outcome, config)}
    if replaces:
        shown["replacementBlockhash"] = {"blockhash": value, "lastValidBlockHeight": clock.height(at) + 150}
    return in_context(slot, _simulated(outcome.fault, outcome) | shown)


def _accounts(provider: Provider, outcome: Outcome, config: Config) -> list[Any] | None:
    wanted = config.raw("accounts")
    if not isinstance(wanted, dict):
        return None
    now = provider.cluster.accounts.now
    addresses = [read_address(one) for one in wanted.get("addresses") or []]
    accounts = [outcome.accounts.get(address) or now(address) for address in addresses]
    return [account_json(account, Config({"encoding": wanted.get("encoding")}), lookup=now) for account in accounts]


def request_airdrop(provider: Provider, given: Arguments) -> str:
    """Send SOL from the faucet."""
    address, lamports = given.address(0), given.number(1)
    if not 1 <= lamports <= LAMPORTS_MAX:
        raise invalid(f"an airdrop is of 1 to {LAMPORTS_MAX} lamports")
    return give_lamports(provider.cluster, address, lamports=lamports).signature


def _read_transaction(text: str, config: Config) -> VersionedTransaction:
    wire = read_bytes(text, config.encoding("base58", ("base58", "base64")))
    if len(wire) > TRANSACTION_BYTES_MAX:
        raise RpcError(INVALID_PARAMS, f"decoded transaction too large: {len(wire)} bytes (max: {TRANSACTION_BYTES_MAX} bytes)")
    try:
        return VersionedTransaction.from_bytes(wire)
    except ValueError as error:
        raise RpcError(INVALID_PARAMS, "failed to deserialize solana_transaction::versioned::VersionedTransaction") from error
