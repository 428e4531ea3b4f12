"""Transactions as the RPC shows them, in the four encodings."""

import base64
from typing import Any, Final

from solders.instruction import CompiledInstruction
from solders.message import MessageV0
from solders.transaction import VersionedTransaction

from ledger.base58 import decode_base58, encode_base58
from sandbox.chain.arguments import UNSUPPORTED_VERSION, Config, RpcError
from sandbox.chain.keys import MEMO_PROGRAMS, SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAMS
from sandbox.chain.landing import amount_json
from sandbox.chain.provider import Provider
from sandbox.chain.records import Record

ENCODINGS: Final = ("json", "jsonParsed", "base58", "base64")
UNSUPPORTED: Final = (
    "Transaction version (0) is not supported by the requesting client. "
    'Please try the request again with the following configuration parameter: "maxSupportedTransactionVersion": 0'
)
# Where the accounts of a token instruction are; "multisig" signers behind the authority are not told apart.
TOKEN_PARSED: Final = {
    3: ("transfer", ("source", "destination", "authority")),
    7: ("mintTo", ("mint", "account", "mintAuthority")),
    8: ("burn", ("account", "mint", "authority")),
    9: ("closeAccount", ("account", "destination", "owner")),
    12: ("transferChecked", ("source", "mint", "destination", "authority")),
}
WITH_DECIMALS: Final = 12


def transaction_row(provider: Provider, record: Record, config: Config) -> dict[str, Any]:
    """Return a transaction with its metadata.

    Raises:
        RpcError: the client does not say that it can read its version.
    """
    most = config.number("maxSupportedTransactionVersion")
    if record.version is not None and most is None:
        raise RpcError(UNSUPPORTED_VERSION, UNSUPPORTED)
    encoding, meta = config.encoding("json", ENCODINGS), provider.meta_of(record)
    if encoding == "jsonParsed":
        meta["innerInstructions"] = [_parsed_group(record, one) for one in meta["innerInstructions"]]
        del meta["loadedAddresses"]  # as on a node: they are among the account keys
    version = {} if most is None else {"version": "legacy" if record.version is None else record.version}
    return {"meta": meta, "transaction": _encoded(record, provider.wire_of(record), encoding)} | version


def _encoded(record: Record, wire: bytes, encoding: str) -> Any:
    if encoding == "base64":
        return [base64.b64encode(wire).decode(), "base64"]
    if encoding == "base58":
        return [encode_base58(wire), "base58"]
    transaction = VersionedTransaction.from_bytes(wire)
    message, parsed = transaction.message, encoding == "jsonParsed"
    said = _parsed_message(record, transaction) if parsed else _plain_message(transaction)
    said["recentBlockhash"] = str(message.recent_blockhash)
    if isinstance(message, MessageV0):
        said["addressTableLookups"] = [
            {"accountKey": str(one.account_key), "writableIndexes": list(one.writable_indexes), "readonlyIndexes": list(one.readonly_indexes)}
            for one in message.address_table_lookups
        ]
    return {"signatures": [str(one) for one in transaction.signatures], "message": said}


def _plain_message(transaction: VersionedTransaction) -> dict[str, Any]:
    message = transaction.message
    return {
        "header": {
            "numRequiredSignatures": message.header.num_required_signatures,
            "numReadonlySignedAccounts": message.header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": message.header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "instructions": [_plain(one) for one in message.instructions],
    }


def _plain(one: CompiledInstruction) -> dict[str, Any]:
    return {"programIdIndex": one.program_id_index, "accounts": list(one.accounts), "data": encode_base58(bytes(one.data)), "stackHeight": 1}


def _parsed_message(record: Record, transaction: VersionedTransaction) -> dict[str, Any]:
    message = transaction.message
    header, static = message.header, len(message.account_keys)
    signers, loaded = header.num_required_signatures, record.read_meta()["loadedAddresses"]["writable"]

    def is_writable(index: int) -> bool:
        if index >= static:
            return index < static + len(loaded)
        return index < signers - header.num_readonly_signed_accounts or signers <= index < static - header.num_readonly_unsigned_accounts

    keys = [
        {"pubkey": key, "signer": index < signers, "writable": is_writable(index), "source": "transaction" if index < static else "lookupTable"}
        for index, key in enumerate(record.keys)
    ]
    steps = [
        parse_instruction(record.keys[one.program_id_index], [record.keys[at] for at in one.accounts], bytes(one.data), depth=1) for one in message.instructions
    ]
    return {"accountKeys": keys, "instructions": steps}


def _parsed_group(record: Record, group: dict[str, Any]) -> dict[str, Any]:
    steps = [
        parse_instruction(record.keys[one["programIdIndex"]], [record.keys[at] for at in one["accounts"]], decode_base58(one["data"]), depth=one["stackHeight"])
        for one in group["instructions"]
    ]
    return {"index": group["index"], "instructions": steps}


def parse_instruction(program: str, accounts: list[str], data: bytes, *, depth: int) -> dict[str, Any]:
    """Return an instruction taken apart as far as we can: tokens moved, memos, SOL moved. The others stay bytes, as on a node."""
    parsed: object = None
    name = ""
    if program in TOKEN_PROGRAMS:
        name, parsed = ("spl-token-2022" if program == str(TOKEN_2022_PROGRAM) else "spl-token"), _parse_token(accounts, data)
    elif program in MEMO_PROGRAMS:
        name, parsed = "spl-memo", _parse_memo(data)
    elif program == str(SYSTEM_PROGRAM) and data[:4] == b"\2\0\0\0" and len(accounts) == 2:
        info = {"source": accounts[0], "destination": accounts[1], "lamports": int.from_bytes(data[4:12], "little")}
        name, parsed = "system", {"type": "transfer", "info": info}
    if parsed is None:
        return {"programId": program, "accounts": accounts, "data": encode_base58(data), "stackHeight": depth}
    return {"program": name, "programId": program, "parsed": parsed, "stackHeight": depth}


def _parse_token(accounts: list[str], data: bytes) -> dict[str, Any] | None:
    known = TOKEN_PARSED.get(data[0]) if data else None
    if known is None or len(accounts) < len(known[1]):
        return None
    kind, names = known
    info: dict[str, Any] = dict(zip(names, accounts, strict=False))
    if len(data) >= 9:
        amount = int.from_bytes(data[1:9], "little")
        info |= {"tokenAmount": amount_json(amount, data[9])} if data[0] == WITH_DECIMALS and len(data) > 9 else {"amount": str(amount)}
    return {"type": kind, "info": info}


def _parse_memo(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
