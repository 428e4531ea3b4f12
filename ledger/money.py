"""Money: whole USDC microunits, and the few exact conversions at the edges.

One microunit is 10⁻⁶ USDC, one base unit of the token. No float ever touches an amount;
Decimal appears only where text that people or other programs wrote is read.
"""

from decimal import Decimal, InvalidOperation
from typing import NewType

Microunits = NewType("Microunits", int)

MICROUNITS_PER_USDC = 1_000_000
AMOUNT_MAX = 2**53 - 1  # beyond this Lua, which runs the hot balances, would lose digits


def charge_from_numerator(numerator: int) -> Microunits:
    """Return the whole microunits that pay for `numerator` millionths of one, rounded up once."""
    return Microunits(-(-numerator // 1_000_000))


def parse_usdc(text: str) -> Microunits:
    """Read an amount of USDC that a person typed, such as `12.50`, exactly.

    Raises:
        ValueError: not a number, finer than a microunit, or beyond what the books can hold.
    """
    try:
        amount = Decimal(text.strip().replace("_", ""))
    except InvalidOperation:
        raise ValueError(f"{text!r} is not an amount of USDC; write it like 12.50") from None
    if not amount.is_finite():
        raise ValueError(f"{text!r} is not an amount of USDC; write it like 12.50")
    if abs(amount) * MICROUNITS_PER_USDC > AMOUNT_MAX:
        raise ValueError(f"{text} USDC is more than one account can hold")
    scaled = amount.scaleb(6)
    if scaled != scaled.to_integral_value():
        raise ValueError(f"{text} USDC is finer than a microunit; at most six decimals are possible")
    return Microunits(int(scaled))


def format_usdc(amount: int) -> str:
    """Write microunits as USDC with six decimals, such as `-0.000330`."""
    sign, digits = ("-" if amount < 0 else ""), abs(amount)
    return f"{sign}{digits // MICROUNITS_PER_USDC}.{digits % MICROUNITS_PER_USDC:06d}"
