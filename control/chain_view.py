"""What the control API knows of the chain: the vault to pay into, and what is on its way to whom.

The watcher writes it into the journal. Here it is read again every second and kept in memory, so that looking at a balance asks
Redis alone, unless a payment is on its way to the account. While Postgres is away, what was known last stays.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from config.chain import CLUSTERS
from config.settings import Settings
from ledger.deposit_values import ChainStatus, Vault
from ledger.entries import AccountId
from ledger.errors import LedgerError
from telemetry.logs import get_log

REFRESH_SECONDS: Final = 1.0
READ_SECONDS_MAX: Final = 2.0
ANSWER_SECONDS_MAX: Final = 0.5  # that somebody who looks at a balance waits for the journal, twice at most
SANDBOX_CLUSTER: Final = "sandbox"
# Nobody can pay into a frozen vault, and nobody should into one that others may empty or own, or while crediting is stopped. A
# watcher that is in trouble itself closes nothing: what is paid meanwhile is found later.
CLOSED_STATES: Final = frozenset({"frozen", "faulty", "stopped"})


class Source(Protocol):
    """Where the picture comes from: the journal's deposits."""

    def vault(self) -> Coroutine[Any, Any, Vault | None]:
        """Return the vault of these books."""

    def status(self) -> Coroutine[Any, Any, ChainStatus | None]:
        """Return what the watcher last said of itself."""

    def pending_by_account(self) -> Coroutine[Any, Any, dict[AccountId, int]]:
        """Return what is on its way, by account."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayTo:
    """Where deposits go, as payers see it.

    `owner` owns the token account `vault`, which is None while nobody has derived it yet. `by_owner` tells that a wallet which is
    given the owner pays into the vault; where it would pay past it, payers are given the vault itself.
    """

    owner: str
    mint: str
    cluster: str
    vault: Vault | None = None
    by_owner: bool = True

    @property
    def address(self) -> str:
        """What payers are to pay to."""
        return self.owner if self.by_owner or self.vault is None else self.vault.address


@dataclass(frozen=True, slots=True)
class _Picture:
    vault: Vault | None
    status: ChainStatus | None
    pending: Mapping[AccountId, int]


class ChainView:
    """The chain as it was a second ago. Nobody is told to pay into a vault that was not checked, or that something is wrong with."""

    def __init__(self, settings: Settings, source: Source) -> None:
        self._settings, self._source = settings, source
        self._picture: _Picture | None = None
        self._question: asyncio.Task[_Picture] | None = None
        self._failed = False
        self._found_by_owner: dict[str, bool] = {}

    @property
    def is_on(self) -> bool:
        """Whether the operator has switched deposits on."""
        return self._settings.chain.is_on

    @property
    def cluster(self) -> str:
        """The name of the cluster that deposits come from; empty while it is not known."""
        pay_to = self._pay_to()
        return pay_to.cluster if pay_to else ""

    @property
    def pay_to(self) -> PayTo | None:
        """Where to pay, or None: then `closed` says why."""
        return None if self.closed else self._pay_to()

    @property
    def closed(self) -> str:
        """Why nobody is to pay now, in words for the payer; empty where paying is right."""
        if not self.is_on:
            return "On-chain deposits are off here."
        if self._picture is not None and self._picture.status is not None and self._picture.status.state in CLOSED_STATES:
            return "Do not pay on chain now: deposits are closed until the operator has looked into the vault. What was paid before is not lost."
        if self._pay_to() is None:
            return "Do not pay on chain yet: the vault has not been checked. Ask again in a minute."
        return ""

    def pending(self, account: AccountId) -> int:
        """Return what is seen on chain for an account and not final yet, in microunits."""
        return 0 if self._picture is None else self._picture.pending.get(account, 0)

    async def look(self) -> None:
        """Make sure that there was a first look, for whoever comes before the background has begun."""
        if self.is_on and self._picture is None:
            await self.refresh()

    async def watch(self) -> None:
        """Look every second until cancelled."""
        while self.is_on:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def still_pending(self, account: AccountId) -> int:
        """Return what `pending` does, without anything that was credited before this call. For answers that show a balance beside it."""
        if self.pending(account):
            if self._question is not None and not self._question.done():
                await asyncio.wait({self._question}, timeout=ANSWER_SECONDS_MAX)  # it may have begun before the credit
            await self.refresh(seconds_max=ANSWER_SECONDS_MAX)  # one question for all who ask at once
        return self.pending(account)

    async def refresh(self, *, seconds_max: float | None = None) -> None:
        """Look again. Where the journal does not answer in time, keep what was known."""
        # In a task of its own: a database that hangs, instead of failing, also hangs the cancelling of a question.
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._read())
        question = self._question
        await asyncio.wait({question}, timeout=READ_SECONDS_MAX if seconds_max is None else seconds_max)
        if not question.done() or question.cancelled():
            return
        error = question.exception()
        if error is None:
            self._picture = question.result()
        elif not self._failed:
            get_log().warning("chain_view_stale", reason=f"{type(error).__name__}: {error}", expected=isinstance(error, LedgerError))
        self._failed = error is not None

    async def _read(self) -> _Picture:
        return _Picture(await self._source.vault(), await self._source.status(), await self._source.pending_by_account())

    def _pay_to(self) -> PayTo | None:
        chain, picture = self._settings.chain, self._picture
        if chain.treasury is None:
            return None
        if picture is None or picture.vault is None:
            # The simulated cluster makes vault and mint by itself, so there is nothing to find out first.
            if self._settings.mode == SANDBOX_CLUSTER and chain.usdc_mint is not None:
                return PayTo(owner=chain.treasury, mint=chain.usdc_mint, cluster=SANDBOX_CLUSTER)
            return None
        vault = picture.vault
        # Books of another treasury or mint: the watcher refuses to start, and nobody is to pay into either.
        if vault.owner != chain.treasury or chain.usdc_mint not in {None, vault.mint}:
            return None
        cluster = SANDBOX_CLUSTER if self._settings.mode == SANDBOX_CLUSTER else CLUSTERS.get(vault.genesis, vault.genesis)
        return PayTo(owner=vault.owner, mint=vault.mint, cluster=cluster, vault=vault, by_owner=self._is_found_by_owner(vault))

    def _is_found_by_owner(self, vault: Vault) -> bool:
        if self._settings.chain.vault is None:
            return True  # the watcher derived it from the owner
        if vault.address not in self._found_by_owner:
            from control.transfer_transaction import associated_account

            self._found_by_owner[vault.address] = associated_account(vault.owner, vault) == vault.address
        return self._found_by_owner[vault.address]
