"""What the sender of a deposit signs to claim it: the text, and the forms in which wallets sign a text. Pure.

The text has the layout of CAIP-122 ("Sign In With Solana"), which wallets show in full. The server makes it, keeps it
and checks signatures against it byte for byte; nothing that a client sends is ever read as such a text.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from ledger.money import format_usdc

# Wallets know three clusters by name; the simulated one is to them what a validator on one's own machine is.
CHAIN_IDS: Final = {"mainnet": "mainnet", "devnet": "devnet"}
OTHER_CHAIN_ID: Final = "localnet"

_DOMAIN: Final = b"\xffsolana offchain"
_VERSION: Final = b"\x00"
_NO_APPLICATION: Final = bytes(32)
_ONE_SIGNER: Final = b"\x01"
# 0 is plain ASCII without line breaks, which our texts are not; some wallets write it all the same.
_FORMATS: Final = (b"\x00", b"\x01")


class Envelope(StrEnum):
    """What a wallet puts around a text before it signs: nothing, or one of the two layouts of an off-chain message.

    `solana sign-offchain-message` writes the short one; the long one, of the proposal, names application and signers.
    """

    PLAIN = "plain"
    OFFCHAIN_SHORT = "offchain_short"
    OFFCHAIN_LONG = "offchain_long"


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """All that a claim's text says. `domain` and `uri` are this instance's, `wallet` is the deposit's one sender."""

    domain: str
    uri: str
    wallet: str
    cluster: str
    signature: str
    amount: int
    deposit_code: str
    nonce: str
    issued_at: datetime
    expires_at: datetime


def claim_text(challenge: Challenge) -> str:
    """Return the text to sign."""
    statement = (
        f"I sent the deposit {challenge.signature} of {format_usdc(challenge.amount)} USDC and claim it for the Level5 account "
        f"with the deposit code {challenge.deposit_code}. Signing this moves no money from my wallet."
    )
    return "\n".join(
        (
            f"{challenge.domain} wants you to sign in with your Solana account:",
            challenge.wallet,
            "",
            statement,
            "",
            f"URI: {challenge.uri}",
            "Version: 1",
            f"Chain ID: {CHAIN_IDS.get(challenge.cluster, OTHER_CHAIN_ID)}",
            f"Nonce: {challenge.nonce}",
            f"Issued At: {_written(challenge.issued_at)}",
            f"Expiration Time: {_written(challenge.expires_at)}",
        )
    )


def signed_forms(text: str, envelope: Envelope, *, wallet: bytes) -> tuple[bytes, ...]:
    """Return the byte strings of which one must have been signed. `wallet` is the signer's public key."""
    raw = text.encode()
    size = len(raw).to_bytes(2, "little")
    match envelope:
        case Envelope.PLAIN:
            return (raw,)
        case Envelope.OFFCHAIN_SHORT:
            return tuple(_DOMAIN + _VERSION + kind + size + raw for kind in _FORMATS)
        case Envelope.OFFCHAIN_LONG:
            return tuple(_DOMAIN + _VERSION + _NO_APPLICATION + kind + _ONE_SIGNER + wallet + size + raw for kind in _FORMATS)


def _written(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
