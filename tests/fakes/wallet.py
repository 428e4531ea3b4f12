"""A wallet as any agent has one: solana-py and nothing of ours. Amounts are microunits."""

from dataclasses import dataclass
from typing import Any

from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction, VersionedTransaction
from spl.memo.constants import MEMO_PROGRAM_ID
from spl.memo.instructions import create_memo
from spl.memo.models import MemoParams
from spl.token.constants import TOKEN_PROGRAM_ID
from spl.token.instructions import get_associated_token_address, transfer_checked
from spl.token.models import TransferCheckedParams


@dataclass(frozen=True)
class Wallet:
    """A key and the node that it talks to."""

    rpc_url: str
    key: Keypair

    @property
    def address(self) -> str:
        return str(self.key.pubkey())

    async def pay(self, instructions: dict[str, Any], amount: int, *, with_memo: bool = True) -> str:
        """Pay as the instructions of registering say; return the signature of the transaction."""
        mint, owner = Pubkey.from_string(instructions["usdc_mint"]), Pubkey.from_string(instructions["deposit_address"])
        transfer = TransferCheckedParams(
            program_id=TOKEN_PROGRAM_ID, mint=mint, owner=self.key.pubkey(), amount=amount, decimals=6,
            source=get_associated_token_address(self.key.pubkey(), mint), dest=get_associated_token_address(owner, mint),
        )  # fmt: skip
        memo = MemoParams(program_id=MEMO_PROGRAM_ID, signer=self.key.pubkey(), message=instructions["memo"].encode())
        steps: list[Instruction] = [create_memo(memo), transfer_checked(transfer)] if with_memo else [transfer_checked(transfer)]
        async with AsyncClient(self.rpc_url, commitment=Confirmed) as rpc:
            blockhash = (await rpc.get_latest_blockhash()).value.blockhash
            message = Message.new_with_blockhash(steps, self.key.pubkey(), blockhash)
            return str((await rpc.send_transaction(VersionedTransaction(message, [self.key]))).value)

    async def sign_and_send(self, transaction: bytes) -> str:
        """Sign a transaction that somebody else made, and send it."""
        unsigned = Transaction.from_bytes(transaction)
        signed = Transaction([self.key], unsigned.message, unsigned.message.recent_blockhash)
        async with AsyncClient(self.rpc_url, commitment=Confirmed) as rpc:
            return str((await rpc.send_raw_transaction(bytes(signed))).value)

    async def token_balance(self, owner: str, mint: str) -> int:
        """Return what the associated token account of `owner` holds, as of the newest confirmed slot."""
        account = get_associated_token_address(Pubkey.from_string(owner), Pubkey.from_string(mint))
        async with AsyncClient(self.rpc_url, commitment=Confirmed) as rpc:
            return int((await rpc.get_token_account_balance(account)).value.amount)
