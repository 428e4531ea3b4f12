"""Identities: api_tokens that carry their own route, and the ids of requests.

An api_token is `l5_<address>_<secret>`. The address says which account and which shard of the
books it belongs to, so that no lookup by token exists anywhere; only the digest of the whole
text is ever stored.
"""

import hashlib
import os
import re
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from ledger.entries import SHARDS, AccountId, RequestId
from ledger.errors import UnknownToken

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
ADDRESS_MAX = 2**63 - 1
_TOKEN = re.compile(r"l5_([0-9a-hjkmnp-tv-z]{1,13})_([0-9a-f]{64})")
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}  # two bits of a uuid are fixed there
_DIGITS = {character: value for value, character in enumerate(ALPHABET)}


class TokenScope(StrEnum):
    """What an api_token is for, as the journal has it."""

    FULL = "full"
    READ_ONLY = "read_only"


class TokenState(StrEnum):
    """What an api_token may do, as Redis has it. Scripts let only the first one spend, so what they do not know may not."""

    ACTIVE = "1"
    READ_ONLY = "r"
    REVOKED = "0"


STATES = {TokenScope.FULL: TokenState.ACTIVE, TokenScope.READ_ONLY: TokenState.READ_ONLY}
HINT_CHARACTERS = 4  # of the secret's end, so that a person can tell tokens apart; 240 bits stay unknown


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A well-formed api_token without its secret; whether it is good only its open shard can say."""

    account: AccountId
    shard: int
    digest: str


def choose_shard(account: AccountId) -> int:
    """Return the shard of a new account; it is stored with the account and never computed again."""
    return hashlib.sha256(str(account).encode()).digest()[0] & (SHARDS - 1)


def mint_token(account: AccountId, shard: int) -> tuple[str, ApiToken]:
    """Return a new api_token's text, which is shown once and never stored, and what is kept of it."""
    text = f"l5_{write_address(account, shard)}_{secrets.token_hex(32)}"
    return text, ApiToken(account, shard, digest_of(text))


@lru_cache(maxsize=1024)  # a client shows its token with every request; what is kept here stays in this process's memory
def parse_token(text: str) -> ApiToken:
    """Read account and shard from an api_token; its secret is not checked here.

    Raises:
        UnknownToken: it is malformed, or not written the one way that `mint_token` writes it.
    """
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise UnknownToken("malformed")
    account, shard = read_address(match[1])
    return ApiToken(account, shard, digest_of(text))


def write_address(account: AccountId, shard: int) -> str:
    """Return the part of a token or key that says where it belongs."""
    return _encode(account * SHARDS + shard)


def read_address(text: str) -> tuple[AccountId, int]:
    """Return account and shard out of that part, which is of the alphabet's characters.

    Raises:
        UnknownToken: it is not written the one way that `write_address` writes it.
    """
    address = _decode(text)
    if address > ADDRESS_MAX or _encode(address) != text:
        raise UnknownToken("malformed")
    return AccountId(address // SHARDS), address % SHARDS


def new_token_id() -> str:
    """Return the public id of a new api_token."""
    return "tok_" + secrets.token_hex(8)


def wished_id(prefix: str, account: AccountId, wish: str) -> str:
    """Return the public id of what an account wished for once: the same wish gives the same id, and one thing has it."""
    return prefix + hashlib.sha256(f"{account}:{wish}".encode()).hexdigest()[:16]


def hint_of(text: str) -> str:
    """Return what of a token's text is kept for people."""
    return text[-HINT_CHARACTERS:]


def new_request_id() -> RequestId:
    """Return a new uuid7: unique, and ordered by time to the millisecond."""
    instant, noise = f"{time.time_ns() // 1_000_000:012x}", os.urandom(10).hex()
    return RequestId(f"{instant[:8]}-{instant[8:]}-7{noise[:3]}-{_VARIANT[noise[3]]}{noise[4:7]}-{noise[7:19]}")


def digest_of(text: str) -> str:
    """Return what is kept of a token or key."""
    return hashlib.sha256(text.encode()).hexdigest()


def _encode(number: int) -> str:
    digits = ""
    while number:
        number, value = divmod(number, 32)
        digits = ALPHABET[value] + digits
    return digits or "0"


def _decode(digits: str) -> int:
    number = 0
    for character in digits:
        number = number * 32 + _DIGITS[character]
    return number
