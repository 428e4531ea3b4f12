"""Whether a wallet signed a text. The one part of a claim that needs cryptography; it is loaded when a claim comes.

solders refuses what some libraries accept: signatures for keys of small order, and second spellings of a signature.
"""

import base64

from solders.pubkey import Pubkey
from solders.signature import Signature

from control.claim_texts import Envelope, signed_forms
from ledger.base58 import SIGNATURE_BYTES, decode_exactly


def can_sign(address: str) -> bool:
    """Tell whether a secret key to `address` can exist: the addresses of programs, such as those of smart wallets, have none."""
    return Pubkey.from_string(address).is_on_curve()


def is_signed_by(address: str, text: str, *, envelope: Envelope, signature: str) -> bool:
    """Tell whether the owner of `address` signed `text` in this envelope.

    Raises:
        ValueError: `signature` is not 64 bytes in base58 or base64.
    """
    key = Pubkey.from_string(address)
    readings = _read_signature(signature)
    return any(reading.verify(key, form) for reading in readings for form in signed_forms(text, envelope, wallet=bytes(key)))


def _read_signature(text: str) -> list[Signature]:
    """Return every reading of `text`: base64 without its padding may happen to look like base58 too."""
    found = []
    for read in (_decode_base58, _decode_base64):
        try:
            found.append(Signature.from_bytes(read(text)))
        except ValueError:
            continue
    if not found:
        raise ValueError("must be the 64 bytes of a signature, in base58 or base64")
    return found


def _decode_base58(text: str) -> bytes:
    return decode_exactly(text, SIGNATURE_BYTES)


def _decode_base64(text: str) -> bytes:
    """Read base64 in either alphabet, padded or not. What it reads may have any length; the signature's type looks at that."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)  # its error is a ValueError
