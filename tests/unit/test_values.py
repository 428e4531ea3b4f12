"""Values of the hot path: frozen where it is tested, quick where it is run, and equal in both."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from ledger.values import value

SCRIPT = """
from ledger.values import value

@value
class Price:
    units: int
    name: str = "usdc"

price = Price(units=3)
facts = [price == Price(units=3), price != Price(units=4), hash(price) == hash(Price(units=3)), hasattr(price, "__dict__")]
print(__debug__, facts, price)
"""


@value
class Price:
    units: int
    name: str = "usdc"


def test_a_value_cannot_be_changed_where_changes_are_looked_for() -> None:
    price = Price(units=3)

    with pytest.raises(FrozenInstanceError):
        price.units = 4  # type: ignore[misc]
    assert price.units == 3


@pytest.mark.parametrize(("flags", "debug"), [([], "True"), (["-O"], "False")])
def test_a_value_is_compared_hashed_and_shown_alike_both_ways(flags: list[str], debug: str) -> None:
    told = subprocess.run([sys.executable, *flags, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout

    assert told == f"{debug} [True, True, True, False] Price(units=3, name='usdc')\n"
