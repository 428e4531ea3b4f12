"""Base58, the way in which Solana writes keys, signatures and bytes: pure."""

from typing import Final

KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_PIECE_LETTERS: Final = 32


def encode_base58(raw: bytes) -> str:
    """Write bytes in base58; each leading zero byte is a leading `1`."""
    number, letters = int.from_bytes(raw), []
    while number:
        number, value = divmod(number, len(_ALPHABET))
        letters.append(_ALPHABET[value])
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    return _ALPHABET[0] * zeros + "".join(reversed(letters))


def decode_base58(text: str) -> bytes:
    """Read base58; what `encode_base58` writes of the answer is `text` again, so no bytes have two spellings.

    The caller bounds the length: a text of megabytes takes long.

    Raises:
        ValueError: a letter outside the alphabet.
    """
    if not _VALUES.keys() >= set(text):
        raise ValueError("must be base58")
    zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    number = _read_number(text)
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8)


def decode_exactly(text: str, length: int) -> bytes:
    """Read base58 that stands for `length` bytes: a key or a signature.

    Raises:
        ValueError: a letter outside the alphabet, or another length.
    """
    # A long text is refused before it is read: base58 has at most 1.5 letters to the byte.
    raw = decode_base58(text) if len(text) <= 2 * length and _VALUES.keys() >= set(text) else b""
    if len(raw) != length:
        raise ValueError(f"must be base58 of {length} bytes")
    return raw


def _read_number(text: str) -> int:
    """Read the digits by halves: an instruction may carry 10 KB, and digit by digit that takes time by its square."""
    if len(text) > _PIECE_LETTERS:
        half = len(text) // 2
        shift: int = len(_ALPHABET) ** (len(text) - half)
        return _read_number(text[:half]) * shift + _read_number(text[half:])
    number = 0
    for letter in text:
        number = number * len(_ALPHABET) + _VALUES[letter]
    return number
