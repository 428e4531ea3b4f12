"""Links of Solana Pay, which a wallet opens and a QR code shows. Pure."""

import re
from typing import Final
from urllib.parse import quote

from ledger.base58 import encode_base58
from ledger.deposit_values import deposit_reference
from ledger.money import Microunits, format_usdc, parse_usdc

SCHEME: Final = "solana:"
# As the specification writes amounts: no exponent, no sign, a digit before the point.
AMOUNT: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,6})?")


def read_amount(text: str) -> Microunits:
    """Return the microunits of an amount such as `5` or `0.25` USDC.

    Raises:
        ValueError: it is no such amount, zero, or finer than a microunit.
    """
    if not AMOUNT.fullmatch(text):
        raise ValueError("must be an amount of USDC such as 5 or 0.25, with six decimals at most")
    amount = parse_usdc(text)
    if amount == 0:
        raise ValueError("must be more than 0 USDC")
    return amount


def write_amount(amount: int) -> str:
    """Write microunits as USDC without idle zeros: `5`, `0.25`."""
    return format_usdc(amount).rstrip("0").rstrip(".")


def reference_of(deposit_code: str) -> str:
    """Return the account's reference in base58: a key that marks a payment as this account's, memo or not."""
    return encode_base58(deposit_reference(deposit_code))


def transfer_link(*, owner: str, mint: str, deposit_code: str, label: str, message: str, amount: int | None = None) -> str:
    """Return the link of a transfer request. `owner` owns the token account that is paid; the wallet finds that account itself."""
    fields = {
        **({} if amount is None else {"amount": write_amount(amount)}),
        "spl-token": mint,
        "reference": reference_of(deposit_code),
        "label": label,
        "message": message,
        "memo": deposit_code,
    }
    return f"{SCHEME}{owner}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in fields.items())


def transaction_link(address: str) -> str:
    """Return the link of a transaction request: the wallet asks `address` what to sign."""
    return SCHEME + quote(address, safe="")
