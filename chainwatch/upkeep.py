"""What is looked at less often: the sums of the journal for the metrics, and tokens that lie in other accounts of the treasury."""

import time
from typing import Final

import structlog

from chainwatch.calls import list_token_accounts
from chainwatch.errors import ProviderFailure
from chainwatch.providers import Providers
from ledger.deposit_values import Vault
from ledger.deposits import Deposits
from telemetry import metrics

log = structlog.get_logger("chainwatch")

FIGURES_SECONDS: Final = 60.0
STRAYS_SECONDS: Final = 86_400.0
STRAYS_AGAIN_SECONDS: Final = 600.0


class Upkeep:
    """Keeps the slow metrics of one vault."""

    def __init__(self, deposits: Deposits, providers: Providers, vault: Vault) -> None:
        self._deposits, self._providers, self._vault = deposits, providers, vault
        self._figures_at = self._strays_at = float("-inf")

    async def turn(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if now >= self._figures_at:
            self._figures_at = now + FIGURES_SECONDS
            figures = await self._deposits.figures()
            metrics.deposits_credited_microunits.set(figures.credited)
            metrics.deposits_set_aside_microunits.set(figures.set_aside)
        if now >= self._strays_at:
            self._strays_at = now + (STRAYS_SECONDS if await self._look_for_strays() else STRAYS_AGAIN_SECONDS)

    async def _look_for_strays(self) -> bool:
        """Tell of tokens of the treasury outside the vault: somebody paid them to another address, and is owed them."""
        for provider in self._providers.usable():
            try:
                accounts = await list_token_accounts(provider, self._vault.owner, self._vault.mint)
            except ProviderFailure as failure:
                log.info("provider_failed", provider=provider.host, reason=str(failure))
                continue
            strays = {address: amount for address, amount in accounts.items() if amount and address != self._vault.address}
            metrics.chain_stray_microunits.set(sum(strays.values()))
            if strays:
                log.warning("tokens_outside_the_vault", accounts=strays)
            return True
        return False
