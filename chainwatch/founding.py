"""What is settled before the first look: the cluster, the mint, the vault, and where reading begins. A mismatch refuses to start."""

from typing import Final

import structlog

from chainwatch.accounts import associated_account, is_mint_of_ours, read_token_account
from chainwatch.calls import read_account
from chainwatch.errors import Unavailable, WrongCluster, WrongVault
from chainwatch.guard import judge_vault
from chainwatch.providers import Provider, Providers, name_cluster
from config.chain import CLUSTERS, USDC_MINTS, ChainSettings
from ledger.deposit_values import Cursor, Vault
from ledger.deposits import Deposits

log = structlog.get_logger("chainwatch")

MONEY_CLUSTER: Final = "mainnet"


async def found(settings: ChainSettings, providers: Providers, deposits: Deposits) -> Vault:
    """Pin the cluster, check mint and vault on chain, and open the vault in the ledger. To be repeated until it is done.

    Raises:
        WrongCluster, WrongVault, WrongStore: these settings and these books do not belong together; the text says what to do.
        NoProvider, ProviderFailure, LedgerError: something does not answer yet.
    """
    pinned = await deposits.vault()
    genesis = await providers.pin(pinned.genesis if pinned else "")
    mint, treasury = choose_mint(settings, genesis), settings.treasury
    if treasury is None:
        raise WrongVault("chain.treasury is not set: it is the public key that owns the vault")
    provider = providers.require_usable()[0]
    look = await read_account(provider, mint)
    if look.data is None:
        raise WrongVault(f"the mint {mint} does not exist on {name_cluster(genesis)}: correct chain.usdc_mint, or chain.rpc_urls")
    if not is_mint_of_ours(look):
        raise WrongVault(f"{mint} on {name_cluster(genesis)} is no mint with six decimals: correct chain.usdc_mint")
    address = settings.vault or associated_account(treasury, mint, token_program=look.program)
    vault = Vault(genesis=genesis, address=address, owner=treasury, mint=mint, token_program=look.program)
    await _require_vault(provider, vault)
    await _begin(settings, provider, deposits, vault)
    return vault


def choose_mint(settings: ChainSettings, genesis: str) -> str:
    """Return the mint to watch on a cluster.

    Raises:
        WrongCluster: none is set on a cluster whose USDC is not known, or another one than USDC where money is real.
    """
    name = CLUSTERS.get(genesis, "")
    known = USDC_MINTS.get(name)
    if name == MONEY_CLUSTER and settings.usdc_mint not in (None, known):
        raise WrongCluster(f"chain.usdc_mint is {settings.usdc_mint}, and USDC on {name} is {known}: leave it unset")
    mint = settings.usdc_mint or known
    if mint is None:
        raise WrongCluster(f"USDC is not known on {name_cluster(genesis)}: set chain.usdc_mint, or correct chain.rpc_urls")
    return mint


async def _require_vault(provider: Provider, vault: Vault) -> None:
    """Refuse an account that is not the treasury's; one that does not exist yet is waited for, and what can be put right is left to the guard."""
    look = await provider.look(vault.address)
    if look.data is None:
        raise Unavailable(f"the vault {vault.address} does not exist on chain yet: send the treasury {vault.owner} any amount of the token to make it")
    verdict = judge_vault(vault, read_token_account(look))
    if not verdict.is_ours:
        raise WrongVault("; ".join(verdict.faults) + ": correct chain.treasury, chain.vault or chain.usdc_mint")


async def _begin(settings: ChainSettings, provider: Provider, deposits: Deposits, vault: Vault) -> None:
    """Open the vault. Where only what comes from now on is read, its balance at one finalized slot stands for all that came up to there."""
    if settings.history == "whole":
        await deposits.open_vault(vault, opening=None)
        return
    look = await provider.look(vault.address)
    account = read_token_account(look)
    balance = account.amount if account else 0
    cursor = await deposits.open_vault(vault, opening=balance)
    if cursor.signature is not None or cursor.slot:
        return  # it began earlier
    # No signature: any of that slot's transactions would leave the others of it to be read, and they are in the balance already.
    await deposits.record_page(vault, [], cursor=Cursor(signature=None, slot=look.slot, balance=balance), set_aside_min=settings.set_aside_min)
    log.info("reading_begins_now", slot=look.slot, opening=balance)
