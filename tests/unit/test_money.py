"""Amounts: whole microunits in, whole microunits out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.money import AMOUNT_MAX, charge_from_numerator, format_usdc, parse_usdc


def test_a_fraction_of_a_microunit_is_charged_as_one() -> None:
    assert charge_from_numerator(1) == 1
    assert charge_from_numerator(1_000_000) == 1
    assert charge_from_numerator(1_000_001) == 2


def test_nothing_costs_nothing() -> None:
    assert charge_from_numerator(0) == 0


@given(st.integers(min_value=0, max_value=10**30))
def test_a_charge_covers_its_numerator_and_exceeds_it_by_less_than_a_microunit(numerator: int) -> None:
    charge = charge_from_numerator(numerator)

    assert 0 <= charge * 1_000_000 - numerator < 1_000_000


@pytest.mark.parametrize(
    ("text", "microunits"), [("5", 5_000_000), ("12.50", 12_500_000), ("0.000001", 1), ("1_000", 1_000_000_000), (" 2 ", 2_000_000), ("-3", -3_000_000)]
)
def test_usdc_that_a_person_typed_is_read_exactly(text: str, microunits: int) -> None:
    assert parse_usdc(text) == microunits


@pytest.mark.parametrize("text", ["", "abc", "NaN", "Infinity", "1.0000001", "1e40", "1,5"])
def test_usdc_that_cannot_be_exact_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="USDC"):
        parse_usdc(text)


@given(st.integers(min_value=-AMOUNT_MAX, max_value=AMOUNT_MAX))
def test_what_is_written_reads_back_as_the_same_amount(amount: int) -> None:
    assert parse_usdc(format_usdc(amount)) == amount


def test_small_debts_keep_their_sign() -> None:
    assert format_usdc(-330) == "-0.000330"
