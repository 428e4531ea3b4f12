"""Identities: api_tokens and request ids."""

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.entries import SHARDS, AccountId
from ledger.errors import UnknownToken
from ledger.tokens import ADDRESS_MAX, choose_shard, mint_token, new_request_id, new_token_id, parse_token

SECRET = "0" * 64


@given(account=st.integers(0, ADDRESS_MAX // SHARDS), shard=st.integers(0, SHARDS - 1))
def test_a_minted_token_names_its_account_and_shard(account: int, shard: int) -> None:
    text, token = mint_token(AccountId(account), shard)

    assert parse_token(text) == token
    assert (token.account, token.shard, token.digest) == (account, shard, hashlib.sha256(text.encode()).hexdigest())


def test_no_two_tokens_of_one_account_are_alike() -> None:
    assert len({mint_token(AccountId(1), 0)[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "text",
    [
        "", "l5_", "l5_1", f"l5_1_{SECRET[1:]}", f"l5_1_{SECRET}0", f"L5_1_{SECRET}", f"l5_u_{SECRET}", f"l5_1_{SECRET[1:]}A", f" l5_1_{SECRET}",
        f"l5_1_{SECRET}\n", f"l5_01_{SECRET}", f"l5_zzzzzzzzzzzzz_{SECRET}", f"l5__{SECRET}", f"l5_{'1' * 14}_{SECRET}", f"l5_١_{SECRET}",
    ],
)  # fmt: skip
def test_a_malformed_token_is_unknown(text: str) -> None:
    with pytest.raises(UnknownToken):
        parse_token(text)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(UnknownToken):
        parse_token(text)


def test_the_shard_of_an_account_is_one_of_sixty_four() -> None:
    shards = {choose_shard(AccountId(account)) for account in range(2000)}

    assert shards == set(range(SHARDS))
    assert choose_shard(AccountId(1)) == hashlib.sha256(b"1").digest()[0] & 63


def test_request_ids_are_uuids_of_version_seven_in_the_order_of_time() -> None:
    identities = [new_request_id() for _ in range(1000)]

    assert {uuid.UUID(identity).version for identity in identities} == {7}
    assert {uuid.UUID(identity).variant for identity in identities} == {uuid.RFC_4122}
    assert len(set(identities)) == 1000
    instants = [uuid.UUID(identity).int >> 80 for identity in identities]
    assert instants == sorted(instants)


def test_token_ids_are_sixteen_hex_digits() -> None:
    assert len(new_token_id()) == len("tok_") + 16
