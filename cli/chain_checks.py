"""What the doctor asks about deposits: providers, cluster, mint, vault, and the watcher. No address of a provider is told: it may hold a key."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from chainwatch.accounts import associated_account, is_mint_of_ours, read_token_account
from chainwatch.calls import read_account, read_genesis
from chainwatch.errors import ChainError, ProviderFailure
from chainwatch.founding import choose_mint
from chainwatch.guard import judge_vault
from chainwatch.providers import LAG_SLOTS_MAX, name_cluster
from chainwatch.rpc import RpcClient
from cli.findings import Finding
from config.settings import Settings
from ledger.balances import Balances
from ledger.deposit_values import ChainStatus, Vault
from ledger.deposits import Deposits
from ledger.journal import Pool, journal_answers
from ledger.money import format_usdc

ASK_SECONDS_MAX: Final = 10.0
SILENT_SECONDS_MAX: Final = 30.0
STATES_WELL: Final = frozenset({"ok", "starting"})


@dataclass(frozen=True, slots=True)
class _Told:
    """What one provider told: its cluster and finalized slot, or why it did not."""

    client: RpcClient
    genesis: str = ""
    slot: int = 0
    milliseconds: int = 0
    failure: str = ""


async def check_chain(settings: Settings) -> list[Finding]:
    """Ask every RPC provider who it is, and the first good one for mint and vault."""
    clients = [RpcClient(url, seconds_max=ASK_SECONDS_MAX) for url in settings.chain.providers]
    try:
        told = await asyncio.gather(*(_ask(client) for client in clients))
        findings = _judge_providers(told, single_is_meant=settings.mode == "sandbox")
        answering = [one for one in told if one.genesis]
        if answering and len({one.genesis for one in answering}) == 1:
            findings += await _check_vault(settings, answering[0])
        return findings
    finally:
        for client in clients:
            await client.close()


async def check_watcher(pool: Pool, balances: Balances, settings: Settings) -> list[Finding]:
    """Read what the watcher says of itself, and whether deposits are credited."""
    async with journal_answers():
        if not await pool.fetchval("SELECT to_regclass('chain_status') IS NOT NULL"):
            return []  # the schema is at fault, which is said elsewhere
    deposits = Deposits(pool, balances)
    findings = [_judge_watcher(await deposits.status())]
    stopped, vault = await deposits.stopped(), await deposits.vault()
    if stopped is not None:
        findings.append(Finding("crediting", "fault", f"stopped: {stopped}; when it is put right, `level5 deposits resume`"))
    if vault is not None and vault.owner != settings.chain.treasury:
        findings.append(Finding("books", "fault", f"they belong to the treasury {vault.owner}, and chain.treasury is another one"))
    waiting = (await deposits.figures()).set_aside_count
    if waiting:
        findings.append(Finding("set aside", "warning", f"{waiting} deposits named nobody: `level5 deposits list --state aside`"))
    return findings


async def _ask(client: RpcClient) -> _Told:
    begun = time.monotonic()
    try:
        genesis = await read_genesis(client)
        slot = await client.call("getSlot", {"commitment": "finalized"})
    except ProviderFailure as failure:
        return _Told(client, failure=str(failure))
    if not isinstance(slot, int):
        return _Told(client, failure=f"{client.host} gave no slot")
    return _Told(client, genesis=genesis, slot=slot, milliseconds=int((time.monotonic() - begun) * 1000))


def _judge_providers(told: Sequence[_Told], *, single_is_meant: bool) -> list[Finding]:
    newest = max((one.slot for one in told), default=0)
    findings = []
    for number, one in enumerate(told, start=1):
        what = f"rpc provider {number}"
        if one.failure:
            findings.append(Finding(what, "fault" if len(told) == 1 else "warning", one.failure))
            continue
        lag = newest - one.slot
        text = f"{one.client.host}: {name_cluster(one.genesis)}, finalized slot {one.slot}, {lag} slots behind, {one.milliseconds} ms for two calls"
        findings.append(Finding(what, "warning" if lag > LAG_SLOTS_MAX else "ok", text))
    if len({one.genesis for one in told if one.genesis}) > 1:
        findings.append(Finding("cluster", "fault", "the RPC providers are of different clusters; name providers of one"))
    if not any(one.genesis for one in told):
        findings.append(Finding("cluster", "fault", "no RPC provider answers, so deposits are not seen"))
    if len(told) == 1 and not single_is_meant:
        text = "there is only one: it could hide or invent payments, and large deposits wait for a second. Name two independent ones, with a comma"
        findings.append(Finding("rpc providers", "warning", text))
    return findings


async def _check_vault(settings: Settings, told: _Told) -> list[Finding]:
    chain, treasury = settings.chain, settings.chain.treasury or ""
    try:
        mint = choose_mint(chain, told.genesis)
        look = await read_account(told.client, mint)
        if not is_mint_of_ours(look):
            return [Finding("mint", "fault", f"{mint} is no mint with six decimals on {name_cluster(told.genesis)}: correct chain.usdc_mint")]
        associated = associated_account(treasury, mint, token_program=look.program)
        vault = Vault(genesis=told.genesis, address=chain.vault or associated, owner=treasury, mint=mint, token_program=look.program)
        shown = await read_account(told.client, vault.address)
    except ChainError as error:
        return [Finding("vault", "fault", str(error))]
    findings = [Finding("mint", "ok", f"{mint} with six decimals")]
    if shown.data is None:
        text = f"{vault.address} does not exist yet: make it with `spl-token create-account {mint} --owner {treasury} --fee-payer <your key file>`"
        return [*findings, Finding("vault", "fault", text)]
    account = read_token_account(shown)
    verdict = judge_vault(vault, account)
    findings += [Finding("vault", "fault", fault) for fault in verdict.faults]
    if verdict.is_frozen:
        findings.append(Finding("vault", "fault", "it is frozen by the mint's issuer: nothing can be paid in or out, and it is not shown to payers"))
    elif not verdict.faults and account is not None:
        findings.append(Finding("vault", "ok", f"{vault.address} of {treasury} holds {format_usdc(account.amount)} USDC"))
    if vault.address != associated:
        text = f"it is not the treasury's associated account {associated}: a wallet that pays the treasury pays past it, so payers are given the vault itself"
        findings.append(Finding("vault", "warning", text))
    return findings


def _judge_watcher(status: ChainStatus | None) -> Finding:
    if status is None:
        return Finding("watcher", "warning", "it has not run on these books yet")
    silent = time.time() - status.updated_at / 1000
    if silent > SILENT_SECONDS_MAX:
        return Finding("watcher", "fault", f"it said nothing for {silent:.0f} s: look at the log of chainwatch")
    reasons = "; ".join(status.reasons)
    text = f"{status.state}, finalized slot {status.finalized_slot}, {status.lag_seconds:.1f} s behind, {status.backlog} waiting"
    return Finding("watcher", "ok" if status.state in STATES_WELL else "fault", f"{text}: {reasons}" if reasons else text)
