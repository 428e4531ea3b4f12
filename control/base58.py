"""Base58 as Solana writes keys and signatures. Pure."""

from typing import Final

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def encode_base58(raw: bytes) -> str:
    """Write bytes in base58; each leading zero byte is a leading `1`."""
    number, letters = int.from_bytes(raw, "big"), ""
    while number:
        number, value = divmod(number, len(ALPHABET))
        letters = ALPHABET[value] + letters
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return ALPHABET[0] * zeros + letters


def decode_base58(text: str, length: int) -> bytes:
    """Read base58 that stands for exactly `length` bytes.

    Raises:
        ValueError: it does not.
    """
    # A long text is refused before it is read: base58 has less than 1.5 letters to the byte.
    if not text or len(text) > 2 * length or any(letter not in ALPHABET for letter in text):
        raise ValueError(f"must be base58 of {length} bytes")
    number = 0
    for letter in text:
        number = number * len(ALPHABET) + ALPHABET.index(letter)
    zeros = len(text) - len(text.lstrip(ALPHABET[0]))
    if zeros + (number.bit_length() + 7) // 8 != length:
        raise ValueError(f"must be base58 of {length} bytes")
    return bytes(zeros) + number.to_bytes(length - zeros, "big")
