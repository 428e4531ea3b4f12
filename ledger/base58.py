"""Base58, the way in which Solana writes keys and signatures: pure."""

from typing import Final

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_TEXT_MAX: Final = 128  # a signature has 88 letters at most; reading is quadratic in their number


def encode_base58(data: bytes) -> str:
    """Write bytes in base58."""
    number, letters = int.from_bytes(data), []
    while number:
        number, value = divmod(number, 58)
        letters.append(_ALPHABET[value])
    zeros = len(data) - len(data.lstrip(b"\x00"))
    return _ALPHABET[0] * zeros + "".join(reversed(letters))


def decode_base58(text: str) -> bytes:
    """Read base58 back.

    Raises:
        ValueError: a letter is none of base58's, or the text is longer than any key or signature.
    """
    if len(text) > _TEXT_MAX:
        raise ValueError("too long for a key or a signature")
    number = 0
    for letter in text:
        if letter not in _VALUES:
            raise ValueError(f"{letter!r} does not occur in base58")
        number = number * 58 + _VALUES[letter]
    zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)
