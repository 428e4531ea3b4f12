"""Base58 in what a provider tells: what is none is unreadable. Pure."""

from chainwatch.unreadable import Unreadable
from ledger import base58
from ledger.base58 import KEY_BYTES, SIGNATURE_BYTES, encode_base58

__all__ = ["KEY_BYTES", "SIGNATURE_BYTES", "decode_base58", "decode_exactly", "encode_base58"]


def decode_base58(text: str) -> bytes:
    """Read base58.

    Raises:
        Unreadable: a letter outside the alphabet.
    """
    try:
        return base58.decode_base58(text)
    except ValueError as error:
        raise Unreadable("a text is not base58") from error


def decode_exactly(text: str, length: int) -> bytes:
    """Read base58 of `length` bytes, a key or a signature.

    Raises:
        Unreadable: a letter outside the alphabet, or another length.
    """
    try:
        return base58.decode_exactly(text, length)
    except ValueError as error:
        raise Unreadable(f"a text is not base58 of {length} bytes") from error
