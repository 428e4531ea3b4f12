"""The shapes of paying in: what wallets ask and are answered, and claims of deposits that named nobody."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, PlainSerializer

from control.claim_texts import Envelope
from control.schemas import Answer, Microunits, Question
from control.solana_pay import AMOUNT, read_amount
from ledger.base58 import KEY_BYTES, SIGNATURE_BYTES, decode_exactly


def _require_amount(text: str) -> str:
    read_amount(text)
    return text


def _require_key(text: str) -> str:
    decode_exactly(text, KEY_BYTES)
    return text


def _require_signature(text: str) -> str:
    decode_exactly(text, SIGNATURE_BYTES)
    return text


UsdcAmount = Annotated[str, Field(pattern=f"^{AMOUNT.pattern}$"), AfterValidator(_require_amount)]
PublicKey = Annotated[str, Field(max_length=44), AfterValidator(_require_key)]
TransactionSignature = Annotated[str, Field(max_length=88), AfterValidator(_require_signature)]
Moment = Annotated[datetime, PlainSerializer(lambda at: at.astimezone(UTC).isoformat(), return_type=str)]


class PayQuery(Question):
    """What a payment link may say."""

    amount: UsdcAmount | None = Field(default=None, description="Amount in USDC, such as 5 or 0.25; without it the payer chooses.")


class WalletRequest(Question):
    """What a wallet posts to a transaction request. Wallets add fields of their own, which do not matter here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    account: PublicKey = Field(description="The public key that pays and signs.")
    amount: UsdcAmount | None = Field(default=None, description="Amount in USDC, where the link's ?amount= does not say it.")


class WalletLabel(Answer):
    """What a wallet shows before it asks for the transaction."""

    label: str
    icon: str = Field(description="Address of an SVG image.")


class WalletTransaction(Answer):
    """What a wallet is to sign and send."""

    transaction: str = Field(description="The unsigned transaction, in base64.")
    message: str = Field(description="What it does, for the person who signs.")


class ClaimRequest(Question):
    """Which deposit is claimed."""

    signature: TransactionSignature = Field(description="Signature of the transaction that paid, in base58.")


class ClaimOpened(Answer):
    """What to sign, by whom and until when."""

    claim_id: str
    text: str = Field(description="Sign exactly these bytes (UTF-8) with the wallet that sent the deposit.")
    wallet: str = Field(description="The one wallet whose signature counts.")
    usdc_amount: Microunits
    expires_at: Moment


class ClaimProof(Question):
    """A signed claim."""

    wallet_signature: str = Field(max_length=128, description="The 64 bytes of the wallet's signature, in base58 or base64.")
    envelope: Envelope = Field(default=Envelope.PLAIN, description="What was signed: the plain text, or the text in a layout of an off-chain message.")


class ClaimSettled(Answer):
    """What became of a deposit whose sender has proven to be the caller."""

    claim_id: str
    status: Literal["credited", "due"] = Field(description="credited; or due while crediting is stopped: it is credited when it goes on.")
    signature: str
    usdc_amount: Microunits
