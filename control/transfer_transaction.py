"""The transaction by which a wallet pays into the vault, ready to be signed. Loaded when the first wallet asks for one.

The order of its instructions is Solana Pay's: the memo stands right before the transfer, and the transfer is last.
"""

import base64
from dataclasses import dataclass
from typing import Final

from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from control.solana_pay import reference_of
from ledger.deposit_values import Vault

MEMO_PROGRAM: Final = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
COMPUTE_BUDGET_PROGRAM: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
COMPUTE_UNITS_MAX: Final = 60_000
COMPUTE_UNIT_PRICE: Final = 50_000  # millionths of a lamport: at the limit above 3,000 lamports a payment
USDC_DECIMALS: Final = 6

_SET_COMPUTE_UNIT_LIMIT: Final = b"\x02"
_SET_COMPUTE_UNIT_PRICE: Final = b"\x03"
_TRANSFER_CHECKED: Final = b"\x0c"
_TOKEN_ACCOUNT_BYTES_MIN: Final = 165
_INITIALIZED: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccount:
    """A token account as the chain shows it; `usable` is False where it is frozen."""

    mint: str
    owner: str
    amount: int
    usable: bool


def associated_account(owner: str, vault: Vault) -> str:
    """Return the token account that a wallet of `owner` keeps the vault's token in."""
    mint, program = Pubkey.from_string(vault.mint), Pubkey.from_string(vault.token_program)
    return str(Pubkey.find_program_address([bytes(Pubkey.from_string(owner)), bytes(program), bytes(mint)], ASSOCIATED_TOKEN_PROGRAM)[0])


def read_token_account(data: bytes) -> TokenAccount:
    """Read the bytes of a token account.

    Raises:
        ValueError: they are no token account's.
    """
    if len(data) < _TOKEN_ACCOUNT_BYTES_MIN:
        raise ValueError("is no token account")
    return TokenAccount(
        mint=str(Pubkey(data[0:32])), owner=str(Pubkey(data[32:64])), amount=int.from_bytes(data[64:72], "little"), usable=data[108] == _INITIALIZED
    )


def transfer_transaction(payer: str, vault: Vault, *, deposit_code: str, amount: int, blockhash: str) -> str:
    """Return the unsigned transaction in base64: `payer` pays `amount` microunits to the vault in the name of `deposit_code`."""
    wallet = Pubkey.from_string(payer)
    instructions = [
        Instruction(COMPUTE_BUDGET_PROGRAM, _SET_COMPUTE_UNIT_LIMIT + COMPUTE_UNITS_MAX.to_bytes(4, "little"), []),
        Instruction(COMPUTE_BUDGET_PROGRAM, _SET_COMPUTE_UNIT_PRICE + COMPUTE_UNIT_PRICE.to_bytes(8, "little"), []),
        Instruction(MEMO_PROGRAM, deposit_code.encode(), []),
        Instruction(
            Pubkey.from_string(vault.token_program),
            _TRANSFER_CHECKED + amount.to_bytes(8, "little") + bytes((USDC_DECIMALS,)),
            [
                AccountMeta(Pubkey.from_string(associated_account(payer, vault)), is_signer=False, is_writable=True),
                AccountMeta(Pubkey.from_string(vault.mint), is_signer=False, is_writable=False),
                AccountMeta(Pubkey.from_string(vault.address), is_signer=False, is_writable=True),
                AccountMeta(wallet, is_signer=True, is_writable=False),
                # Not the token program's affair: it marks the payment as this account's, memo or not.
                AccountMeta(Pubkey.from_string(reference_of(deposit_code)), is_signer=False, is_writable=False),
            ],
        ),
    ]
    message = Message.new_with_blockhash(instructions, wallet, Hash.from_string(blockhash))
    return base64.b64encode(bytes(Transaction.new_unsigned(message))).decode()
