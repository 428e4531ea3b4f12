"""USD at the edges: exact decimal text outside, whole microunits (10⁻⁶ USD) inside.

A float is accepted because providers and agents have them; it is taken at its shortest decimal
writing (`repr`) and never computed with.
"""

import math
import operator
import re
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

MICROUNITS = 1_000_000
# Beyond it a double, and with it most JSON readers, no longer tells microunits apart.
MICROUNITS_MAX = 2**53 - 1
_SURE_DIGITS = Context(prec=15)
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,29})(?:\.[0-9]{1,60})?(?:[eE][+-]?[0-9]{1,3})?")


def usd_text(value: Any) -> str:
    """Return an amount of USD as the text of a JSON number, digit for digit.

    Raises:
        TypeError: it is no int, str, Decimal or float.
        ValueError: it is no number, not finite, below zero or absurdly large.
    """
    text = _written(value)
    if not _JSON_NUMBER.fullmatch(text):
        raise ValueError("cost_usd must be a finite decimal number")
    amount = Fraction(text)
    if amount < 0:
        raise ValueError("cost_usd must not be negative")
    if amount * MICROUNITS > MICROUNITS_MAX:
        raise ValueError("cost_usd is too large")
    return text.removeprefix("-")


def _written(value: Any) -> str:
    if isinstance(value, bool):
        raise TypeError("cost_usd must be a number, not a bool")
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float):
        # Called on the class: a subclass may write itself otherwise.
        return float.__repr__(value) if math.isfinite(value) else ""
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else ""
    try:
        return str(operator.index(value))
    except TypeError:
        raise TypeError(f"cost_usd must be an int, str, Decimal or float, not {type(value).__name__}") from None


def microunits_up(text: str) -> int:
    """Return USD, as `usd_text` writes them, in microunits; a fraction of one counts as one.

    Programs write 0.1 + 0.2 as 0.30000000000000004: what lies beyond the fifteen digits that a double is sure of is no money.
    """
    exact = Fraction(text) * MICROUNITS
    if exact.denominator == 1 or exact < 1:
        return math.ceil(exact)
    return math.ceil(Fraction(_SURE_DIGITS.create_decimal(text)) * MICROUNITS)


def microunits(value: Any) -> int:
    """Return USD of an answer (int or Decimal, of either sign) in microunits, to the nearest.

    Raises:
        ValueError: it is no finite number, or absurdly large.
    """
    if type(value) is int or (isinstance(value, Decimal) and value.is_finite() and -40 < value.adjusted() < 20):
        return round(Fraction(value) * MICROUNITS)
    if value == 0:
        return 0
    raise ValueError("no amount of USD")


def usd_float(amount: int) -> float:
    """Return microunits as a float of USD, for those who only show it: the float nearest to the exact amount."""
    return amount / MICROUNITS
