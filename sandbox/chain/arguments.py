"""The parameters of a JSON-RPC request, read one by one, and the errors that it may end in."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from ledger.base58 import decode_base58
from sandbox.chain.clock import Commitment

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
BLOCK_CLEANED_UP: Final = -32001
PREFLIGHT_FAILURE: Final = -32002
SIGNATURE_FAILURE: Final = -32003
BLOCK_NOT_AVAILABLE: Final = -32004
NODE_UNHEALTHY: Final = -32005
SLOT_SKIPPED: Final = -32007
LONG_TERM_SLOT_SKIPPED: Final = -32009
UNSUPPORTED_VERSION: Final = -32015
MIN_CONTEXT_SLOT: Final = -32016
TRANSACTION_NOT_FOUND: Final = -32020
TRANSACTION_BYTES_MAX: Final = 1232


class RpcError(Exception):
    """The request ends in an error; `data` is left out of it where it is None."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    def as_json(self) -> dict[str, Any]:
        """Return the error as the answer has it."""
        return {"code": self.code, "message": self.message} | ({} if self.data is None else {"data": self.data})


def invalid(message: str) -> RpcError:
    """Return the error for a wrong parameter."""
    return RpcError(INVALID_PARAMS, f"Invalid param: {message}")


class Config:
    """The object of options at the end of the parameters."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given

    def commitment(self, *, least_confirmed: bool = False) -> Commitment:
        """Return the commitment, finalized where none is given."""
        value = self._given.get("commitment") or "finalized"
        if value == "processed" and least_confirmed:
            raise RpcError(INVALID_PARAMS, "Method does not support commitment below `confirmed`")
        for known in ("processed", "confirmed", "finalized"):
            if value == known:
                return known
        raise invalid(f"unknown commitment {value!r}")

    def number(self, name: str) -> int | None:
        """Return a whole number."""
        value = self._given.get(name)
        if value is not None and (type(value) is not int or value < 0):
            raise invalid(f"{name} must be a whole number")
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value, false where it is not given."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, bool):
            raise invalid(f"{name} must be true or false")
        return bool(value)

    def signature(self, name: str) -> str | None:
        """Return a signature."""
        value = self._given.get(name)
        return None if value is None else read_signature(value)

    def encoding(self, default: str, allowed: Sequence[str]) -> str:
        """Return the encoding asked for."""
        value = self._given.get("encoding") or default
        if value not in allowed:
            raise invalid(f"encoding must be one of {', '.join(allowed)}")
        return str(value)

    def raw(self, name: str) -> Any:
        """Return an option as it was given."""
        return self._given.get(name)


class Arguments:
    """The list of parameters."""

    def __init__(self, params: object) -> None:
        if params is None:
            params = []
        if not isinstance(params, list):
            raise RpcError(INVALID_PARAMS, "`params` should have at least 1 argument(s)")
        self._params = params

    def raw(self, index: int) -> Any:
        """Return a parameter as it was given."""
        if index >= len(self._params):
            raise RpcError(INVALID_PARAMS, f"`params` should have at least {index + 1} argument(s)")
        return self._params[index]

    def raw_or_none(self, index: int) -> Any:
        """Return a parameter as it was given, None where there is none."""
        return self._params[index] if index < len(self._params) else None

    def text(self, index: int) -> str:
        """Return a text."""
        value = self.raw(index)
        if not isinstance(value, str):
            raise RpcError(INVALID_PARAMS, f"invalid type: {type(value).__name__}, expected a string")
        return value

    def number(self, index: int) -> int:
        """Return a whole number."""
        value = self.raw(index)
        if type(value) is not int or value < 0:
            raise RpcError(INVALID_PARAMS, f"invalid type: {type(value).__name__}, expected u64")
        return value

    def address(self, index: int) -> str:
        """Return a public key."""
        return read_address(self.text(index))

    def items(self, index: int, *, most: int) -> list[str]:
        """Return a list of texts."""
        value = self.raw(index)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise RpcError(INVALID_PARAMS, "invalid type: expected a sequence of strings")
        if len(value) > most:
            raise RpcError(INVALID_PARAMS, f"Too many inputs provided; max {most}")
        return value

    def config(self, index: int) -> Config:
        """Return the options; some methods take the encoding alone in their place."""
        value = self.raw_or_none(index)
        if isinstance(value, str):
            value = {"encoding": value}
        if value is not None and not isinstance(value, dict):
            raise RpcError(INVALID_PARAMS, "invalid type: expected an object of options")
        return Config(value or {})


def read_address(value: object) -> str:
    """Return a public key in base58.

    Raises:
        RpcError: it is none.
    """
    try:
        return str(Pubkey.from_string(str(value)))
    except ValueError as error:
        raise invalid("WrongSize" if value else "Invalid") from error


def read_signature(value: object) -> str:
    """Return a signature in base58.

    Raises:
        RpcError: it is none.
    """
    try:
        return str(Signature.from_string(str(value)))
    except ValueError as error:
        raise invalid("WrongSize" if value else "Invalid") from error


def read_bytes(text: str, encoding: str) -> bytes:
    """Return the bytes of a text in base58 or base64.

    Raises:
        RpcError: it is not in this encoding.
    """
    try:
        return base64.b64decode(text, validate=True) if encoding == "base64" else decode_base58(text)
    except (binascii.Error, ValueError) as error:
        raise RpcError(INVALID_PARAMS, f"invalid {encoding} encoding") from error
