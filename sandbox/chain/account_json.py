"""Accounts as the RPC shows them: bytes in an encoding, or token accounts and mints taken apart."""

import base64
from collections.abc import Callable
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from ledger.base58 import encode_base58
from sandbox.chain.arguments import INVALID_PARAMS, Config, RpcError, invalid, read_bytes
from sandbox.chain.keys import TOKEN_2022_PROGRAM, TOKEN_PROGRAMS
from sandbox.chain.landing import amount_json
from sandbox.chain.machine import MINT_BYTES, TOKEN_ACCOUNT_BYTES, TOKEN_ACCOUNT_KIND, read_decimals, read_holding

ENCODINGS: Final = ("base58", "base64", "base64+zstd", "jsonParsed")
BASE58_BYTES_MAX: Final = 128
STATES: Final = ("uninitialized", "initialized", "frozen")

type Lookup = Callable[[str], Account | None]


def account_json(account: Account | None, config: Config, *, lookup: Lookup, encoding: str = "base64") -> dict[str, Any] | None:
    """Return an account in the encoding that `config` asks for; `lookup` finds the mint of a token account."""
    if account is None:
        return None
    data, cut = bytes(account.data), config.raw("dataSlice")
    asked = config.encoding(encoding, ENCODINGS)
    parsed = parsed_account(account, lookup) if asked == "jsonParsed" else None
    if isinstance(cut, dict):
        data = data[int(cut["offset"]) : int(cut["offset"]) + int(cut["length"])]
    return {
        "data": parsed or _encoded(data, asked),
        "executable": account.executable,
        "lamports": account.lamports,
        "owner": str(account.owner),
        "rentEpoch": account.rent_epoch,
        "space": len(account.data),
    }


def _encoded(data: bytes, encoding: str) -> Any:
    if encoding == "base58":
        if len(data) > BASE58_BYTES_MAX:
            raise RpcError(INVALID_PARAMS, "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding.")
        return [encode_base58(data), "base58"]
    if encoding == "base64+zstd":
        raise invalid("base64+zstd is not simulated")
    return [base64.b64encode(data).decode(), "base64"]


def parsed_account(account: Account, lookup: Lookup) -> dict[str, Any] | None:
    """Return a token account or a mint taken apart; None where it is neither."""
    program, data = str(account.owner), bytes(account.data)
    if program not in TOKEN_PROGRAMS:
        return None
    name = "spl-token-2022" if program == str(TOKEN_2022_PROGRAM) else "spl-token"
    if read_holding(account) is not None:
        parsed = {"type": "account", "info": _holding_json(account, lookup)}
    elif len(data) == MINT_BYTES or (len(data) > TOKEN_ACCOUNT_BYTES and data[TOKEN_ACCOUNT_BYTES] != TOKEN_ACCOUNT_KIND):
        info = {
            "mintAuthority": _optional_key(data, 0),
            "supply": str(int.from_bytes(data[36:44], "little")),
            "decimals": data[44],
            "isInitialized": data[45] == 1,
            "freezeAuthority": _optional_key(data, 46),
        }
        parsed = {"type": "mint", "info": info}
    else:
        return None
    return {"program": name, "parsed": parsed, "space": len(data)}


def _holding_json(account: Account, lookup: Lookup) -> dict[str, Any]:
    data, mint = bytes(account.data), str(Pubkey(bytes(account.data)[:32]))
    decimals = read_decimals(lookup(mint))
    info: dict[str, Any] = {
        "mint": mint,
        "owner": str(Pubkey(data[32:64])),
        "tokenAmount": amount_json(int.from_bytes(data[64:72], "little"), decimals),
        "state": STATES[data[108]],
        "isNative": data[109] == 1,
    }
    delegate, closer = _optional_key(data, 72), _optional_key(data, 129)
    if delegate:
        info |= {"delegate": delegate, "delegatedAmount": amount_json(int.from_bytes(data[121:129], "little"), decimals)}
    return info | ({"closeAuthority": closer} if closer else {})


def _optional_key(data: bytes, at: int) -> str | None:
    return str(Pubkey(data[at + 4 : at + 36])) if data[at] == 1 else None


def passes(account: Account, filters: Any) -> bool:
    """Whether an account passes the filters of getProgramAccounts.

    Raises:
        RpcError: a filter is unknown.
    """
    data = bytes(account.data)
    for one in filters or []:
        if one == "tokenAccountState":
            kept = read_holding(account) is not None
        elif isinstance(one, dict) and "dataSize" in one:
            kept = len(data) == one["dataSize"]
        elif isinstance(one, dict) and "memcmp" in one:
            compare = one["memcmp"]
            wanted = compare["bytes"]
            wanted = read_bytes(wanted, compare.get("encoding") or "base58") if isinstance(wanted, str) else bytes(wanted)
            kept = data[compare["offset"] : compare["offset"] + len(wanted)] == wanted
        else:
            raise invalid("unknown filter")
        if not kept:
            return False
    return True
