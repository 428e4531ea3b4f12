"""The text that claims a deposit, and the forms in which wallets sign it."""

import base64
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from control.claim_texts import Challenge, Envelope, claim_text, signed_forms
from control.wallet_proof import can_sign, is_signed_by

WALLET = Keypair.from_seed(sha256(b"the sender of a deposit").digest())
STRANGER = Keypair.from_seed(sha256(b"somebody else").digest())
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def a_text(*, cluster: str = "mainnet", at: datetime = AT) -> str:
    return claim_text(
        Challenge(
            domain="pay.example.com", uri="https://pay.example.com", wallet=str(WALLET.pubkey()), cluster=cluster, signature="5ig" + "n" * 84,
            amount=12_500_000, deposit_code="475007C3664E21F4", nonce="0123456789abcdef", issued_at=at, expires_at=at + timedelta(minutes=5),
        )
    )  # fmt: skip


def is_proof(signature: str, *, envelope: Envelope = Envelope.PLAIN, text: str | None = None) -> bool:
    return is_signed_by(str(WALLET.pubkey()), a_text() if text is None else text, envelope=envelope, signature=signature)


def test_the_text_has_the_layout_that_wallets_know() -> None:
    assert a_text().split("\n") == [
        "pay.example.com wants you to sign in with your Solana account:",
        str(WALLET.pubkey()),
        "",
        f"I sent the deposit 5ig{'n' * 84} of 12.500000 USDC and claim it for the Level5 account with the deposit code 475007C3664E21F4."
        " Signing this moves no money from my wallet.",
        "",
        "URI: https://pay.example.com",
        "Version: 1",
        "Chain ID: mainnet",
        "Nonce: 0123456789abcdef",
        "Issued At: 2026-03-04T05:06:07Z",
        "Expiration Time: 2026-03-04T05:11:07Z",
    ]


def test_times_are_written_in_utc_and_clusters_by_the_names_that_wallets_know() -> None:
    assert a_text(at=AT.astimezone(timezone(timedelta(hours=9)))) == a_text()
    assert "\nChain ID: devnet\n" in a_text(cluster="devnet")
    assert "\nChain ID: localnet\n" in a_text(cluster="sandbox")


def test_the_plain_text_is_signed_as_it_is() -> None:
    assert signed_forms(a_text(), Envelope.PLAIN, wallet=bytes(WALLET.pubkey())) == (a_text().encode(),)


def test_the_short_envelope_has_format_and_length_before_the_text() -> None:
    text = "é\n"

    forms = signed_forms(text, Envelope.OFFCHAIN_SHORT, wallet=bytes(32))

    assert b"\xffsolana offchain\x00\x01\x03\x00" + text.encode() in forms


def test_the_long_envelope_names_application_and_signer() -> None:
    key = bytes(WALLET.pubkey())

    forms = signed_forms("text", Envelope.OFFCHAIN_LONG, wallet=key)

    assert b"\xffsolana offchain\x00" + bytes(32) + b"\x01\x01" + key + b"\x04\x00text" in forms


@pytest.mark.parametrize("envelope", list(Envelope))
def test_each_form_is_a_proof_in_its_own_envelope_only(envelope: Envelope) -> None:
    for form in signed_forms(a_text(), envelope, wallet=bytes(WALLET.pubkey())):
        signature = str(WALLET.sign_message(form))

        assert [is_proof(signature, envelope=other) for other in Envelope] == [other is envelope for other in Envelope]


def test_a_signature_is_read_in_base58_and_in_every_base64() -> None:
    signature = WALLET.sign_message(a_text().encode())
    plain, safe = base64.b64encode(bytes(signature)).decode(), base64.urlsafe_b64encode(bytes(signature)).decode()

    assert all(is_proof(text) for text in (str(signature), plain, safe, plain.rstrip("="), safe.rstrip("=")))


def test_another_wallet_or_another_text_is_no_proof() -> None:
    assert not is_proof(str(STRANGER.sign_message(a_text().encode())))
    assert not is_proof(str(WALLET.sign_message(a_text().encode() + b" ")))
    assert not is_proof(str(WALLET.sign_message(a_text().replace("12.5", "99.5").encode())))


def test_a_second_spelling_of_a_signature_is_no_proof() -> None:
    order = 2**252 + 27742317777372353535851937790883648493
    raw = bytes(WALLET.sign_message(a_text().encode()))
    spelt_again = raw[:32] + (int.from_bytes(raw[32:], "little") + order).to_bytes(32, "little")

    assert not is_proof(base64.b64encode(spelt_again).decode())


def test_keys_of_small_order_prove_nothing() -> None:
    identity = (1).to_bytes(32, "little")
    forged = identity + bytes(32)

    assert not is_signed_by(str(Pubkey(identity)), "any text", envelope=Envelope.PLAIN, signature=base64.b64encode(forged).decode())


@pytest.mark.parametrize("signature", ["", "x", "0" * 88, "A" * 88, "1" * 63, base64.b64encode(bytes(63)).decode(), "\u00e9" * 86, "=" * 88])
def test_what_is_no_signature_is_told_from_a_wrong_one(signature: str) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        is_proof(signature)


def test_the_address_of_a_program_cannot_sign() -> None:
    program, _ = Pubkey.find_program_address([b"a smart wallet"], Pubkey.default())

    assert can_sign(str(WALLET.pubkey()))
    assert not can_sign(str(program))
