"""The faucet: real transfers of test USDC, to the vault with a deposit code as memo, or to a wallet."""

import itertools
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from sandbox.chain.cluster import Cluster
from sandbox.chain.genesis import FAUCET_ACCOUNT, FAUCET_STOCK, VAULT, is_address
from sandbox.chain.instructions import create_associated_account, distinct, memo, mint_to, sign, transfer_checked
from sandbox.chain.keys import FAUCET, MINT, associated_account
from sandbox.chain.machine import read_holding
from sandbox.chain.records import Record

USDC_MAX: Final = 1_000_000 * 10**6  # microunits in one call
LAMPORTS_MAX: Final = 100 * 10**9
WALLET_LAMPORTS: Final = 10**8  # SOL that a wallet gets along, for its fees
# One after another: drawn by lot, two payments of one block hash would now and then be the same transaction, and the second one not land.
NUMBERS: Final = itertools.count(secrets.randbits(32))
CODE: Final = re.compile(r"[0-9A-Fa-f]{16}")


class BadRequest(Exception):
    """The faucet was asked for something it does not give; `field` is what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field, self.reason = field, reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """What the faucet is asked for: `usdc` microunits to the vault for a code, or to a wallet."""

    usdc: int
    deposit_code: str | None
    wallet: str | None


def read_payment(body: object) -> Payment:
    """Return what a JSON body asks for.

    Raises:
        BadRequest: naming the field that is wrong.
    """
    if not isinstance(body, Mapping):
        raise BadRequest("body", "must be a JSON object")
    unknown = sorted(set(body) - {"usdc", "deposit_code", "wallet"})
    if unknown:
        raise BadRequest(str(unknown[0]), "is not known; there are deposit_code, wallet and usdc")
    usdc, code, wallet = body.get("usdc"), body.get("deposit_code"), body.get("wallet")
    if not isinstance(usdc, int) or isinstance(usdc, bool) or not 1 <= usdc <= USDC_MAX:
        raise BadRequest("usdc", f"must be a whole number of microunits from 1 to {USDC_MAX} (5000000 is 5 USDC)")
    if (code is None) == (wallet is None):
        raise BadRequest("deposit_code", "or wallet must be given, and not both")
    if code is not None and not (isinstance(code, str) and CODE.fullmatch(code)):
        raise BadRequest("deposit_code", "must be 16 hexadecimal digits, as registering gave them")
    if wallet is not None and not (isinstance(wallet, str) and is_address(wallet)):
        raise BadRequest("wallet", "must be a public key in base58")
    return Payment(usdc=usdc, deposit_code=code, wallet=wallet)


def pay(cluster: Cluster, payment: Payment) -> Record:
    """Make the transfer that was asked for; the record tells its signature and slot.

    Raises:
        BadRequest: the wallet cannot be paid.
    """
    faucet, mint = FAUCET.pubkey(), MINT.pubkey()
    if payment.wallet is None:
        target, before = VAULT, []
        after = [memo(payment.deposit_code or "")]
    else:
        owner = Pubkey.from_string(payment.wallet)
        target, after = associated_account(owner, mint), []
        before = [
            transfer(TransferParams(from_pubkey=faucet, to_pubkey=owner, lamports=WALLET_LAMPORTS)),
            create_associated_account(faucet, owner, mint=mint),
        ]
    _restock(cluster, payment.usdc)
    step = transfer_checked(FAUCET_ACCOUNT, target, mint=mint, authority=faucet, amount=payment.usdc)
    record = _submit(cluster, [*before, step, *after])
    if record.fault is not None:
        raise BadRequest("wallet" if payment.wallet is not None else "deposit_code", f"cannot be paid: {record.fault}")
    return record


def give_lamports(cluster: Cluster, wallet: str, *, lamports: int) -> Record:
    """Send SOL to an address; this is what an airdrop does."""
    step = transfer(TransferParams(from_pubkey=FAUCET.pubkey(), to_pubkey=Pubkey.from_string(wallet), lamports=lamports))
    return _submit(cluster, [step])


def _restock(cluster: Cluster, amount: int) -> None:
    holding = read_holding(cluster.accounts.now(str(FAUCET_ACCOUNT)))
    if holding is None or holding.amount < amount:
        _submit(cluster, [mint_to(MINT.pubkey(), FAUCET_ACCOUNT, authority=FAUCET.pubkey(), amount=FAUCET_STOCK)])


def _submit(cluster: Cluster, steps: list[Instruction]) -> Record:
    # An older block hash lets the payment land once more after a fork has dropped it.
    blockhash = cluster.clock.latest_hash(cluster.clock.covered("confirmed"))[1]
    return cluster.submit(sign([distinct(next(NUMBERS)), *steps], [FAUCET], blockhash=blockhash))
