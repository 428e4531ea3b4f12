"""Token accounts and mints as the token programs lay them out, and where a treasury's account of a mint is."""

from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from chainwatch.calls import AccountLook

TOKEN_PROGRAM: Final = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"  # noqa: S105  # an address
TOKEN_2022_PROGRAM: Final = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb"  # noqa: S105  # an address
TOKEN_PROGRAMS: Final = (TOKEN_PROGRAM, TOKEN_2022_PROGRAM)
ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")

ACCOUNT_BYTES_MIN: Final = 165
MINT_BYTES_MIN: Final = 82
DECIMALS: Final = 6  # one base unit is one microunit
FROZEN: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccount:
    """A token account: what it holds in base units, whose it is, and who else may touch it."""

    program: str
    mint: str
    owner: str
    amount: int
    is_initialized: bool
    is_frozen: bool
    has_delegate: bool
    has_close_authority: bool


def read_token_account(look: AccountLook) -> TokenAccount | None:
    """Return the token account that `look` shows; None where there is no account or it is no token account."""
    data = look.data
    if data is None or len(data) < ACCOUNT_BYTES_MIN or look.program not in TOKEN_PROGRAMS:
        return None
    return TokenAccount(
        program=look.program,
        mint=_key(data[0:32]),
        owner=_key(data[32:64]),
        amount=int.from_bytes(data[64:72], "little"),
        is_initialized=data[108] != 0,
        is_frozen=data[108] == FROZEN,
        has_delegate=any(data[72:76]),
        has_close_authority=any(data[129:133]),
    )


def is_mint_of_ours(look: AccountLook) -> bool:
    """Whether `look` shows an initialized mint of a token program whose base unit is one microunit."""
    data = look.data
    return data is not None and look.program in TOKEN_PROGRAMS and len(data) >= MINT_BYTES_MIN and data[45] == 1 and data[44] == DECIMALS


def associated_account(owner: str, mint: str, *, token_program: str) -> str:
    """Return the address of the account of `mint` that wallets pay to when they pay `owner`."""
    seeds = [bytes(Pubkey.from_string(one)) for one in (owner, token_program, mint)]
    return str(Pubkey.find_program_address(seeds, ASSOCIATED_TOKEN_PROGRAM)[0])


def _key(raw: bytes) -> str:
    return str(Pubkey.from_bytes(raw))
