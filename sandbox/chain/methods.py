"""JSON-RPC 2.0: which method is answered by whom, and what an answer looks like."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from sandbox.chain import sending, signatures, slots, state
from sandbox.chain.arguments import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR, Arguments, RpcError
from sandbox.chain.provider import Provider
from telemetry.logs import get_log

BATCH_MAX: Final = 200

METHODS: Final[Mapping[str, Callable[[Provider, Arguments], Any]]] = {
    "getAccountInfo": state.get_account_info,
    "getBalance": state.get_balance,
    "getBlock": slots.get_block,
    "getBlockHeight": slots.get_block_height,
    "getBlockTime": slots.get_block_time,
    "getBlocks": slots.get_blocks,
    "getEpochInfo": slots.get_epoch_info,
    "getFeeForMessage": slots.get_fee_for_message,
    "getFirstAvailableBlock": slots.get_first_available_block,
    "getGenesisHash": slots.get_genesis_hash,
    "getHealth": slots.get_health,
    "getLatestBlockhash": slots.get_latest_blockhash,
    "getMinimumBalanceForRentExemption": slots.get_minimum_balance,
    "getMultipleAccounts": state.get_multiple_accounts,
    "getProgramAccounts": state.get_program_accounts,
    "getRecentPrioritizationFees": slots.get_recent_prioritization_fees,
    "getSignatureStatuses": signatures.get_signature_statuses,
    "getSignaturesForAddress": signatures.get_signatures_for_address,
    "getSlot": slots.get_slot,
    "getTokenAccountBalance": state.get_token_account_balance,
    "getTokenAccountsByDelegate": state.get_token_accounts_by_delegate,
    "getTokenAccountsByOwner": state.get_token_accounts_by_owner,
    "getTokenSupply": state.get_token_supply,
    "getTransaction": signatures.get_transaction,
    "getTransactionCount": slots.get_transaction_count,
    "getVersion": slots.get_version,
    "isBlockhashValid": slots.is_blockhash_valid,
    "minimumLedgerSlot": slots.get_first_available_block,
    "requestAirdrop": sending.request_airdrop,
    "sendTransaction": sending.send_transaction,
    "simulateTransaction": sending.simulate_transaction,
}


def read_body(body: bytes) -> Any:
    """Return what a request's body says.

    Raises:
        RpcError: it is no JSON.
    """
    try:
        return json.loads(body)
    except ValueError as error:
        raise RpcError(PARSE_ERROR, "Parse error") from error


def methods_of(asked: Any) -> set[str]:
    """Return the methods that a request, or a batch of them, asks for."""
    return {str(one.get("method")) for one in (asked if isinstance(asked, list) else [asked]) if isinstance(one, dict)}


def answer(provider: Provider, asked: Any) -> Any:
    """Return the answer to a request or to a batch of them."""
    if isinstance(asked, list):
        if not asked or len(asked) > BATCH_MAX:
            return error_answer(None, RpcError(INVALID_REQUEST, "Invalid request" if not asked else f"Batch of more than {BATCH_MAX} requests"))
        return [_answer_one(provider, one) for one in asked]
    return _answer_one(provider, asked)


def _answer_one(provider: Provider, asked: Any) -> dict[str, Any]:
    if not isinstance(asked, dict) or asked.get("jsonrpc") != "2.0" or not isinstance(asked.get("method"), str):
        return error_answer(asked.get("id") if isinstance(asked, dict) else None, RpcError(INVALID_REQUEST, "Invalid request"))
    method, name = METHODS.get(asked["method"]), asked.get("id")
    provider.asked(asked["method"])
    try:
        if method is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        return {"jsonrpc": "2.0", "result": method(provider, Arguments(asked.get("params"))), "id": name}
    except RpcError as error:
        return error_answer(name, error)
    except Exception as error:  # one request that we did not foresee must not end the cluster
        get_log().error("chain_request_failed", method=asked["method"], reason=repr(error), exc_info=True)
        return error_answer(name, RpcError(INTERNAL_ERROR, "Internal error"))


def error_answer(name: Any, error: RpcError) -> dict[str, Any]:
    """Return the answer that a request ends in an error."""
    return {"jsonrpc": "2.0", "error": error.as_json(), "id": name}
