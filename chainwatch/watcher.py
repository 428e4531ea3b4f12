"""The watcher: looks at the vault again and again, records what moved it, credits what is due, and says how it is.

Everything it must remember is in the ledger, so it may be killed at any point, and any number of watchers may run at once.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from chainwatch.accounts import read_token_account
from chainwatch.calls import Row, list_rows
from chainwatch.errors import ChainBroken, ChainError, NoProvider, ProviderFailure, Unavailable
from chainwatch.fetching import Fetcher
from chainwatch.guard import Guard, Verdict, describe_difference, judge_vault
from chainwatch.naming import NamingRules
from chainwatch.patching import find_patch
from chainwatch.pending import PendingPayments
from chainwatch.providers import Provider, Providers
from chainwatch.reading import Proof, VaultReader
from chainwatch.upkeep import Upkeep
from config.chain import ChainSettings
from ledger.deposit_values import Cursor, Vault
from ledger.deposits import Deposits
from telemetry import metrics

log = structlog.get_logger("chainwatch")

RECENT_ROWS: Final = 50
CREDITS_AT_ONCE: Final = 100
ROUNDS_BEFORE_PATCH: Final = 3  # several nodes behind one address may differ for a moment
PATCH_PAUSE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one look at the chain came to: whose list was read, up to which slot, what the vault held there, and what is wrong."""

    reader: Provider
    slot: int
    amount: int | None
    recent: tuple[Row, ...] = ()
    differences: Mapping[Provider, int]
    faults: tuple[str, ...] = ()


class Watcher:
    """Watches one vault. `cross_check_above` is in microunits; None believes one provider whatever the amount."""

    def __init__(self, deposits: Deposits, providers: Providers, vault: Vault, *, settings: ChainSettings, cross_check_above: int | None) -> None:
        self._deposits, self._providers, self._vault = deposits, providers, vault
        self._fetcher = Fetcher(providers, vault, cross_check_above=cross_check_above)
        self._reader = VaultReader(deposits, self._fetcher, vault, settings=settings, after_page=self.credit)
        self._guard = Guard(deposits)
        self._pending = PendingPayments(deposits, vault, rules=NamingRules.of(settings, vault))
        self._upkeep = Upkeep(deposits, providers, vault)
        self._broken_rounds, self._patched_at = 0, float("-inf")
        self._verdict: Verdict | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The vault when it was last seen, in this round or before; None while it was not."""
        return self._verdict

    @property
    def backlog(self) -> int:
        """Listed transactions that are not read yet."""
        return self._reader.backlog

    @property
    def oldest_pending_seconds(self) -> float:
        """How long the oldest payment that is not final has been on its way."""
        return self._pending.oldest_seconds

    async def turn(self) -> Round:
        """Look once: read what is new, record and credit it, and compare the vault with the journal.

        Raises:
            ChainError: the chain could not be read to its end; what was read is recorded and credited.
            LedgerError: a store did not answer, or another watcher was faster; the next turn goes on.
        """
        try:
            outcome = await self._look()
        finally:
            metrics.chain_backlog_depth.set(self._reader.backlog)
            await self.credit()  # what is recorded is owed, whether or not the chain can be read now
        await self._upkeep.turn()
        return outcome

    async def _look(self) -> Round:
        await self._providers.pin(self._vault.genesis)
        looks = await self._providers.look(self._vault.address)
        accounts = {provider: read_token_account(look) for provider, look in looks.items()}
        usable = [one for one in self._providers.require_usable() if one in looks]
        if not usable:
            raise NoProvider("no RPC provider shows the vault: " + "; ".join(self._providers.faults()))
        verdict = judge_vault(self._vault, accounts[usable[0]])
        self._verdict = verdict
        if not verdict.is_ours:
            await self._guard.note(verdict, {})
            raise ChainError("; ".join(verdict.faults))
        told = {one: (looks[one].slot, account.amount) for one in usable if (account := accounts[one]) is not None}
        outcome = await self._read([one for one in usable if one in told], told)
        faults = await self._guard.note(verdict, {provider.host: one for provider, one in outcome.differences.items()})
        is_all = len(outcome.recent) < RECENT_ROWS or any(row.slot <= outcome.slot for row in outcome.recent)
        await self._pending.note(outcome.recent, slot=outcome.slot, reader=outcome.reader, is_all=is_all)
        return Round(reader=outcome.reader, slot=outcome.slot, amount=outcome.amount, differences=outcome.differences, faults=faults)

    async def _read(self, readers: list[Provider], told: Mapping[Provider, tuple[int, int]]) -> Round:
        """Read by the first provider whose list is whole and fits all balances; else by the one that comes nearest."""
        found: Round | None = None
        failures: list[ChainError] = []
        for reader in readers:
            cursor = await self._deposits.open_vault(self._vault, opening=None)
            proof = self._proof(reader, told, cursor)
            try:
                recent = await self._read_by(reader, proof, cursor)
            except ChainError as failure:
                self._note_failure(reader, failure)
                failures.append(failure)
                continue
            differences, (slot, amount) = proof.differences(), told[reader]
            found = Round(reader=reader, slot=slot, amount=amount if reader in differences else None, recent=tuple(recent), differences=differences)
            if not any(differences.values()):
                self._broken_rounds = 0
                return found
            # Another provider may list what this one hides.
            failures.append(
                ChainBroken("; ".join(describe_difference(provider.host, one) for provider, one in differences.items() if one), after=cursor.slot, until=slot)
            )
            self._note_failure(reader, failures[-1])
        await self._patch(readers, told, [one for one in failures if isinstance(one, ChainBroken)])
        if found is None:
            raise next((one for one in failures if not isinstance(one, ProviderFailure)), failures[0])
        return found

    def _proof(self, reader: Provider, told: Mapping[Provider, tuple[int, int]], cursor: Cursor) -> Proof:
        return Proof(told=told, since=cursor.slot, until=told[reader][0], start=cursor.balance)

    async def _read_by(self, reader: Provider, proof: Proof, cursor: Cursor) -> list[Row]:
        """Read what is new by one provider's list; return the newest rows at commitment confirmed."""
        if proof.until < cursor.slot:
            raise Unavailable(f"{reader.host} is behind what was read already")
        recent = await list_rows(reader, self._vault.address, commitment="confirmed", limit=RECENT_ROWS, min_slot=proof.until)
        if not is_at_rest(recent, cursor, slot=proof.until):
            await self._reader.read(reader, proof, cursor=cursor)
        return recent

    def _note_failure(self, reader: Provider, failure: ChainError) -> None:
        log.warning("reading_failed", provider=reader.host, reason=str(failure), kind=type(failure).__name__)
        if isinstance(failure, ChainBroken):
            metrics.chain_gaps_total.labels(reader.host).inc()

    async def _patch(self, readers: list[Provider], told: Mapping[Provider, tuple[int, int]], broken: list[ChainBroken]) -> None:
        """Where no provider's list is whole several times on end, read the slots in question block by block."""
        if not broken:
            return
        self._broken_rounds += 1
        if self._broken_rounds < ROUNDS_BEFORE_PATCH or time.monotonic() - self._patched_at < PATCH_PAUSE_SECONDS:
            return
        self._patched_at = time.monotonic()
        for reader in readers:
            cursor = await self._deposits.open_vault(self._vault, opening=None)
            try:
                patch = await find_patch(reader, self._vault.address, after=cursor.slot, until=min(one.until for one in broken))
                await self._reader.read(reader, self._proof(reader, told, cursor), cursor=cursor, patch=patch)
            except ChainError as failure:
                self._note_failure(reader, failure)
                continue
            log.warning("gap_filled_from_blocks", provider=reader.host, after=cursor.slot, until=patch.until)
            return

    async def credit(self) -> None:
        """Credit what is due, unless something is wrong with the vault; where crediting is stopped the ledger credits nothing."""
        if self._guard.has_doubts or (self._verdict is not None and self._verdict.faults):
            return
        while True:
            credited = await self._deposits.credit_due(limit=CREDITS_AT_ONCE)
            if credited:
                metrics.deposits_credited_total.inc(credited)
                log.info("deposits_credited", count=credited)
            if credited < CREDITS_AT_ONCE:
                return
            await asyncio.sleep(0)


def is_at_rest(recent: list[Row], cursor: Cursor, *, slot: int) -> bool:
    """Whether the newest transactions show that nothing up to the finalized `slot` is beyond the cursor."""
    newest = next((row for row in recent if row.slot <= slot), None)
    if newest is None:
        return not recent and cursor.signature is None
    return newest.signature == cursor.signature if cursor.signature is not None else newest.slot <= cursor.slot
