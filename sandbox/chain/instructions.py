"""The instructions of the token, associated-account and memo programs that the cluster itself and the tests use."""

import struct
from typing import Final

from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import CreateAccountParams, create_account
from solders.transaction import VersionedTransaction

from sandbox.chain.keys import ASSOCIATED_TOKEN_PROGRAM, MEMO_V2_PROGRAM, SYSTEM_PROGRAM, TOKEN_PROGRAM, associated_account

USDC_DECIMALS: Final = 6
MINT_BYTES: Final = 82
UNITS_MIN: Final = 200_000
UNITS_SPREAD: Final = 1_000_000


def writable(key: Pubkey, *, signer: bool = False) -> AccountMeta:
    """Return an account that an instruction may change."""
    return AccountMeta(key, signer, True)


def readonly(key: Pubkey, *, signer: bool = False) -> AccountMeta:
    """Return an account that an instruction only reads."""
    return AccountMeta(key, signer, False)


def create_mint(payer: Pubkey, mint: Pubkey, *, authority: Pubkey, lamports: int, decimals: int = USDC_DECIMALS) -> list[Instruction]:
    """Return what makes a mint of SPL Token with a freeze authority, as USDC has one. The mint's key must sign."""
    room = create_account(CreateAccountParams(from_pubkey=payer, to_pubkey=mint, lamports=lamports, space=MINT_BYTES, owner=TOKEN_PROGRAM))
    start = Instruction(TOKEN_PROGRAM, bytes([20, decimals]) + bytes(authority) + b"\1" + bytes(authority), [writable(mint)])
    return [room, start]


def create_associated_account(payer: Pubkey, owner: Pubkey, *, mint: Pubkey, program: Pubkey = TOKEN_PROGRAM) -> Instruction:
    """Return what makes the owner's associated token account where it does not exist."""
    address = associated_account(owner, mint, program=program)
    accounts = [writable(payer, signer=True), writable(address), readonly(owner), readonly(mint), readonly(SYSTEM_PROGRAM), readonly(program)]
    return Instruction(ASSOCIATED_TOKEN_PROGRAM, b"\1", accounts)


def mint_to(mint: Pubkey, account: Pubkey, *, authority: Pubkey, amount: int, program: Pubkey = TOKEN_PROGRAM) -> Instruction:
    """Return what makes new tokens."""
    return Instruction(program, struct.pack("<BQ", 7, amount), [writable(mint), writable(account), readonly(authority, signer=True)])


def transfer_checked(
    source: Pubkey, target: Pubkey, *, mint: Pubkey, authority: Pubkey, amount: int, program: Pubkey = TOKEN_PROGRAM, references: tuple[Pubkey, ...] = ()
) -> Instruction:
    """Return a transfer of `amount` base units. Solana Pay references go behind the accounts that the program reads."""
    accounts = [writable(source), readonly(mint), writable(target), readonly(authority, signer=True), *map(readonly, references)]
    return Instruction(program, struct.pack("<BQB", 12, amount, USDC_DECIMALS), accounts)


def memo(text: str | bytes, *, program: Pubkey = MEMO_V2_PROGRAM, signers: tuple[Pubkey, ...] = ()) -> Instruction:
    """Return a memo; `signers` vouch for it."""
    return Instruction(program, text.encode() if isinstance(text, str) else text, [readonly(one, signer=True) for one in signers])


def distinct(number: int) -> Instruction:
    """Return what makes a transaction unlike its twin on the same block hash, and changes nothing else."""
    return set_compute_unit_limit(UNITS_MIN + number % UNITS_SPREAD)


def sign(instructions: list[Instruction], signers: list[Keypair], *, blockhash: str) -> VersionedTransaction:
    """Return the transaction; the first signer pays its fee."""
    message = MessageV0.try_compile(signers[0].pubkey(), instructions, [], Hash.from_string(blockhash))
    return VersionedTransaction(message, signers)
