"""Links of Solana Pay, and the base58 in them."""

from hashlib import sha256
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from control.solana_pay import read_amount, reference_of, transaction_link, transfer_link, write_amount
from ledger.base58 import decode_exactly, encode_base58
from ledger.deposit_values import deposit_reference

CODE = "475007C3664E21F4"
OWNER = encode_base58(sha256(b"owner").digest())
MINT = encode_base58(sha256(b"mint").digest())


def test_a_link_names_the_owner_the_token_the_account_and_the_code() -> None:
    link = transfer_link(owner=OWNER, mint=MINT, deposit_code=CODE, label="Level5 & Söhne", message=f"Deposit for {CODE}?")

    parts = urlsplit(link)
    assert (parts.scheme, parts.path) == ("solana", OWNER)
    assert dict(parse_qsl(parts.query, strict_parsing=True)) == {
        "spl-token": MINT,
        "reference": reference_of(CODE),
        "label": "Level5 & Söhne",
        "message": f"Deposit for {CODE}?",
        "memo": CODE,
    }


def test_blanks_are_percent_encoded_since_wallets_do_not_read_plus_signs() -> None:
    link = transfer_link(owner=OWNER, mint=MINT, deposit_code=CODE, label="a b", message="c+d/e")

    assert "label=a%20b&message=c%2Bd%2Fe" in link


def test_an_amount_stands_in_user_units() -> None:
    link = transfer_link(owner=OWNER, mint=MINT, deposit_code=CODE, label="l", message="m", amount=5_250_000)

    assert f"{OWNER}?amount=5.25&spl-token=" in link


@pytest.mark.parametrize(("amount", "text"), [(1, "0.000001"), (250_000, "0.25"), (5_000_000, "5"), (10_000_000, "10"), (123_456_789, "123.456789")])
def test_amounts_are_written_and_read_without_exponents_and_idle_zeros(amount: int, text: str) -> None:
    assert write_amount(amount) == text
    assert read_amount(text) == amount


@pytest.mark.parametrize("text", ["", "0", "0.0", "-1", "+1", "1e3", ".5", "5.", "1.0000001", "NaN", "1_000", "１", "99999999999", " 5", "9999999999"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        read_amount(text)


def test_a_reference_is_the_accounts_own_in_base58() -> None:
    assert Pubkey.from_string(reference_of(CODE)) == Pubkey(deposit_reference(CODE))
    assert reference_of(CODE) != reference_of(CODE[::-1])


def test_the_address_of_a_transaction_request_is_encoded_whole() -> None:
    link = transaction_link(f"https://pay.example.com/v1/pay/{CODE}?amount=5")

    assert "?" not in link
    assert unquote(link.removeprefix("solana:")) == f"https://pay.example.com/v1/pay/{CODE}?amount=5"


@given(st.one_of(st.binary(min_size=32, max_size=32), st.binary(min_size=30, max_size=30).map(lambda raw: bytes(2) + raw)))
def test_base58_is_that_of_solana(raw: bytes) -> None:
    assert encode_base58(raw) == str(Pubkey(raw))
    assert decode_exactly(encode_base58(raw), 32) == raw


@pytest.mark.parametrize("text", ["", "0", "l" * 44, "O" * 32, "1" * 31, "1" * 33, "z" * 44, "1" * 10_000, "é" * 32])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_exactly(text, 32)
