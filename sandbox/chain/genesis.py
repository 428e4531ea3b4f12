"""What the cluster begins with: the mint, the treasury's vault, and the faucet that may make test USDC."""

from typing import Final

from solders.account import Account
from solders.pubkey import Pubkey

from sandbox.chain.cluster import Cluster
from sandbox.chain.instructions import MINT_BYTES, create_associated_account, create_mint, mint_to, sign
from sandbox.chain.keys import FAUCET, MINT, SYSTEM_PROGRAM, TREASURY, associated_account

FAUCET_LAMPORTS: Final = 500_000_000 * 10**9
FAUCET_STOCK: Final = 10**15  # microunits: a billion USDC
VAULT: Final = associated_account(TREASURY.pubkey(), MINT.pubkey())
FAUCET_ACCOUNT: Final = associated_account(FAUCET.pubkey(), MINT.pubkey())


def found(cluster: Cluster) -> None:
    """Make what is missing. A crash between two steps is made good by the next start."""
    faucet, mint = FAUCET.pubkey(), MINT.pubkey()
    if cluster.accounts.now(str(faucet)) is None:
        cluster.set_account(str(faucet), Account(FAUCET_LAMPORTS, b"", SYSTEM_PROGRAM))
    blockhash = cluster.clock.latest_hash(cluster.clock.slot)[1]
    if cluster.accounts.now(str(mint)) is None:
        steps = create_mint(faucet, mint, authority=faucet, lamports=cluster.machine.rent_exempt(MINT_BYTES))
        cluster.submit(sign(steps, [FAUCET, MINT], blockhash=blockhash))
    if cluster.accounts.now(str(VAULT)) is None:
        cluster.submit(sign([create_associated_account(faucet, TREASURY.pubkey(), mint=mint)], [FAUCET], blockhash=blockhash))
    if cluster.accounts.now(str(FAUCET_ACCOUNT)) is None:
        steps = [create_associated_account(faucet, faucet, mint=mint), mint_to(mint, FAUCET_ACCOUNT, authority=faucet, amount=FAUCET_STOCK)]
        cluster.submit(sign(steps, [FAUCET], blockhash=blockhash))
        cluster.finalize()


def is_address(text: str) -> bool:
    """Whether this is a public key in base58."""
    try:
        Pubkey.from_string(text)
    except ValueError:
        return False
    return True
