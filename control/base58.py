"""Keys and signatures as callers write them: base58 of a length that is known. Pure."""

from typing import Final

from ledger.base58 import decode_base58

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


def decode_exactly(text: str, length: int) -> bytes:
    """Read base58 that stands for `length` bytes.

    Raises:
        ValueError: it does not.
    """
    try:
        raw = decode_base58(text)
    except ValueError:
        raw = b""
    if len(raw) != length:
        raise ValueError(f"must be base58 of {length} bytes")
    return raw
