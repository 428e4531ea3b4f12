"""The shapes of the control API: what it accepts and what it answers. `/openapi.json` is made from them."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, StringConstraints

TRANSACTIONS_MAX = 200
STATEMENT_NUMBER_MAX = 2**63 - 1
PAGE_MAX = 1_000_000

Microunits = Annotated[int, Field(description="USDC microunits: 6 decimals, 1 USDC = 1_000_000.")]
TransactionType = Literal["DEPOSIT", "DEBIT", "CREDIT", "REFUND", "ADJUSTMENT"]


def _mend_offset(value: object) -> object:
    """A plus sign that was not escaped arrives as a blank: `…T10:00:00 00:00` means `+00:00`."""
    return value[:-6] + "+" + value[-5:] if isinstance(value, str) and len(value) > 18 and value[-6] == " " else value


Moment = Annotated[AwareDatetime, BeforeValidator(_mend_offset)]


class Question(BaseModel):
    """Something a caller sends: unknown names are refused, so that a slip is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """Something we send."""

    model_config = ConfigDict(frozen=True)


def _require_printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must have no control characters")
    return text


class RegisterRequest(Question):
    """The body of a registration. It may be left out, and so may everything in it."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_require_printable)] | None = Field(
        default=None, description="A name for the account, shown to its owner and to the operator."
    )


class FundingInstructions(Answer):
    """How to pay in. Fields that are null, or left out, belong to ways of paying that are not open on this appliance."""

    contract_address: str | None = Field(description="Address to pay to, or the program where paying by contract is on; null while on-chain deposits are off.")
    dashboard_url: str = Field(description="The account's page. It contains the api_token: whoever has it has the account.")
    deposit_address: str | None = Field(description="Send USDC to this address, with the memo: the owner of the vault. Null while deposits are off.")
    usdc_mint: str | None = Field(description="Mint of the USDC that is accepted; null while deposits are off.")
    memo: str = Field(description="What names the account on a payment: the deposit code.")
    solana_pay_url: str | None = Field(description="A Solana Pay link; null while deposits are off.")
    how_to_fund: str = Field(description="The same in words.")
    cluster: str | None = Field(default=None, description="Solana cluster to pay on: mainnet, devnet, or sandbox for the simulated one.")
    vault: str | None = Field(default=None, description="The vault itself, a token account; wallets find it by its owner and the mint.")
    reference: str | None = Field(default=None, description="Solana Pay reference of the account: marks a payment as its own where no memo can be given.")
    qr_url: str | None = Field(default=None, description="The Solana Pay link as a QR code (SVG); takes ?amount=<USDC>.")
    pay_url: str | None = Field(default=None, description="A page for people with the QR code; takes ?amount=<USDC>. It holds no secret.")
    transaction_request_url: str | None = Field(default=None, description="Solana Pay transaction request: gives a wallet a transaction to sign.")


class RegisterAnswer(Answer):
    """A new account. The api_token is shown once and cannot be recovered."""

    api_token: str
    deposit_code: str = Field(description="16 upper-case hexadecimal digits; not secret.")
    status: Literal["pending_deposit"]
    instructions: FundingInstructions


class BalanceAnswer(Answer):
    """What an account has."""

    api_token: str
    usdc_balance: Microunits
    is_active: bool = Field(description="False when the account is suspended or closed, or this token was revoked.")
    held: Microunits = Field(description="Set aside for requests that are running, in microunits.")
    available: Microunits = Field(description="Balance less what is held, in microunits.")
    pending_deposits: Microunits = Field(description="Seen on chain and not final yet, in microunits.")
    instructions: FundingInstructions | None = Field(default=None, description="How to pay in; left out while deposits are off, null while it cannot be told.")


class TransactionsQuery(Question):
    """Which lines of the statement to show."""

    page: int = Field(default=1, ge=1, le=PAGE_MAX, description="Page number, from 1.")
    limit: int = Field(default=50, ge=1, le=TRANSACTIONS_MAX, description="Lines a page.")
    order: Literal["desc", "asc"] = Field(default="desc", description="Newest first, or oldest first.")
    before: int | None = Field(default=None, ge=1, le=STATEMENT_NUMBER_MAX, description="Only lines with a smaller id.")
    type: TransactionType | None = Field(default=None, description="Only lines of this type.")
    model: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[!-~]+$", description="Only lines of this model.")
    since: Moment | None = Field(default=None, description="Only lines from this time on (ISO 8601 with its offset).")
    until: Moment | None = Field(default=None, description="Only lines before this time (ISO 8601 with its offset).")


class TransactionLine(Answer):
    """One line of an account's statement. Token counts are null where the answer reported none."""

    id: int = Field(description="The account's statement number, from 1 without gaps.")
    type: TransactionType
    usdc_amount: Microunits
    provider: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cache_write_tokens: int | None
    cache_read_tokens: int | None
    created_at: Annotated[datetime, PlainSerializer(lambda at: at.astimezone(UTC).isoformat(), return_type=str)]
    request_id: str | None
    estimated: bool
    balance_after: Microunits


class TransactionsAnswer(Answer):
    """One page of an account's statement."""

    api_token: str
    page: int
    limit: int
    transactions: list[TransactionLine]


class TierPrices(Answer):
    """The prices of a whole request whose input is above `above` tokens."""

    above: int
    input_per_1m: Microunits
    output_per_1m: Microunits
    cache_write_per_1m: Microunits
    cache_write_1h_per_1m: Microunits
    cache_read_per_1m: Microunits


class ModelPrices(Answer):
    """What one model costs, mark-up included, in microunits per million tokens."""

    input_per_1m: Microunits
    output_per_1m: Microunits
    cache_write_per_1m: Microunits
    cache_read_per_1m: Microunits
    cache_write_1h_per_1m: Microunits
    input_audio_per_1m: Microunits
    output_audio_per_1m: Microunits
    provider: str
    model: str
    provider_model: str = Field(description="What the provider calls it.")
    kind: str = Field(description="text or embedding.")
    context: int = Field(description="Tokens it takes in.")
    output_max: int = Field(description="Tokens it puts out at most.")
    aliases: list[str] = Field(description="Other names it answers to.")
    tiers: list[TierPrices] = Field(description="Dearer prices of long requests.")
    service_tiers: dict[str, int] = Field(description="Service tiers that can be asked for, in basis points of the price.")
    fees: dict[str, int] = Field(description="Microunits for each use of a hosted tool.")
    markup_bps: int = Field(description="Mark-up contained in these prices, in basis points.")
    effective_from: str | None = Field(description="Date from which the price holds; null for always.")
    available: bool = Field(description="False while the operator has no key for the provider.")


class PricingAnswer(Answer):
    """The live rate card."""

    pricing: dict[str, ModelPrices]
    currency: Literal["USDC"]
    denomination: str
    rate_card: str = Field(description="Version of the rate card: the hash that every charge records.")


class LimitsAnswer(Answer):
    """How far an account can go, and what ends a stream whose balance runs out. Amounts in microunits."""

    mode: Literal["finish", "cut", "strict"]
    line: Microunits = Field(description="How far below zero a running stream may take the balance: the most there is, or with a token your own.")
    concurrent_requests: int = Field(description="Requests one account may have open; more get 429.")
    step: Microunits = Field(description="The largest charge of one step by which a stream's hold grows, over all models served, for one choice (n = 1).")
    overdraft_bound: Microunits = Field(description="The balance never falls further below zero than this, where requests ask for one choice each.")


class HealthAnswer(Answer):
    """The state of the service. A component is "ok" or "error"."""

    status: Literal["ok", "degraded"]
    version: str
    mode: Literal["real", "sandbox"]
    components: dict[str, Literal["ok", "error"]]
    details: dict[str, int]


class StateAnswer(Answer):
    """One word."""

    status: Literal["ok", "ready", "not_ready"]
    ok: bool | None = Field(default=None, description="True while the process lives (/healthz).")


class ErrorBody(Answer):
    """What went wrong and what to do."""

    code: str
    message: str
    details: dict[str, object]


class ErrorAnswer(Answer):
    """Every error of this API."""

    error: ErrorBody
