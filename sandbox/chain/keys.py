"""The addresses of programs, and the keys of the simulated cluster, which everybody may know."""

from hashlib import sha256
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

SYSTEM_PROGRAM: Final = Pubkey.default()
TOKEN_PROGRAM: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM: Final = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
MEMO_V1_PROGRAM: Final = Pubkey.from_string("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo")
MEMO_V2_PROGRAM: Final = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
LOOKUP_TABLE_PROGRAM: Final = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
TOKEN_PROGRAMS: Final = (str(TOKEN_PROGRAM), str(TOKEN_2022_PROGRAM))
MEMO_PROGRAMS: Final = (str(MEMO_V1_PROGRAM), str(MEMO_V2_PROGRAM))


def keypair_of(text: str) -> Keypair:
    """Return the keypair that belongs to a text: the same one everywhere, and no secret."""
    return Keypair.from_seed(sha256(text.encode()).digest())


TREASURY: Final = keypair_of("level5 sandbox treasury")
MINT: Final = keypair_of("level5 sandbox usdc mint")
FAUCET: Final = keypair_of("level5 sandbox faucet")


def associated_account(owner: Pubkey, mint: Pubkey, *, program: Pubkey = TOKEN_PROGRAM) -> Pubkey:
    """Return the address of the token account of `mint` that everybody expects `owner` to have."""
    return Pubkey.find_program_address([bytes(owner), bytes(program), bytes(mint)], ASSOCIATED_TOKEN_PROGRAM)[0]
