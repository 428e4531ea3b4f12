"""Watching over the vault and the books: what stops crediting, and when it goes on.

Nothing is credited at the end of a round that found a difference or a vault that is not ours alone. After three such rounds on end crediting is
stopped in the ledger, for every watcher and over restarts. It goes on by itself only where this watcher had stopped it and two rounds
on end found everything right again; what an operator stopped, an operator resumes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from chainwatch.accounts import TokenAccount
from ledger.deposit_values import Vault
from ledger.deposits import Deposits
from telemetry import metrics

log = structlog.get_logger("chainwatch")

ROUNDS_BEFORE_STOP: Final = 3  # several nodes behind one address may differ for a moment
ROUNDS_BEFORE_RESUME: Final = 2
OWN_STOP: Final = "stopped by the watcher: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a vault, in sentences. `is_ours` is false where it is another account than the one to watch."""

    faults: tuple[str, ...] = ()
    is_ours: bool = True
    is_frozen: bool = False


def judge_vault(vault: Vault, account: TokenAccount | None) -> Verdict:
    """Return what is wrong with the vault as the chain has it."""
    if account is None:
        return Verdict(faults=(f"the vault {vault.address} does not exist on chain, or is no token account",), is_ours=False)
    wrong = {
        "mint": (account.mint, vault.mint),
        "owner": (account.owner, vault.owner),
        "token program": (account.program, vault.token_program),
    }
    faults = [f"the {what} of the vault {vault.address} is {told}, and should be {meant}" for what, (told, meant) in wrong.items() if told != meant]
    is_ours = not faults and account.is_initialized
    if account.has_delegate:
        faults.append("the vault has a delegate, who can take what is paid in: revoke it with the treasury's key")
    if account.has_close_authority:
        faults.append("the vault has a close authority other than its owner: remove it with the treasury's key")
    return Verdict(faults=tuple(faults), is_ours=is_ours, is_frozen=account.is_frozen)


class Guard:
    """Decides from round to round whether deposits may be credited."""

    def __init__(self, deposits: Deposits) -> None:
        self._deposits = deposits
        self._bad = self._good = 0

    @property
    def has_doubts(self) -> bool:
        """Whether the last round that could tell found something wrong."""
        return self._bad > 0

    async def note(self, verdict: Verdict, differences: Mapping[str, int]) -> tuple[str, ...]:
        """Take in one round: the vault, and by how many microunits providers differ from the journal, where that could be told.

        Return what is wrong, in sentences.
        """
        faults = (*verdict.faults, *(describe_difference(host, one) for host, one in differences.items() if one))
        metrics.chain_difference_microunits.set(max(differences.values(), key=abs, default=0))
        if faults:
            self._bad, self._good = self._bad + 1, 0
            log.error("vault_differs", faults=faults, rounds=self._bad)
            if self._bad >= ROUNDS_BEFORE_STOP and await self._deposits.stopped() is None:
                await self._deposits.stop_crediting(OWN_STOP + "; ".join(faults))
                log.error("crediting_stopped", faults=faults)
        elif differences:
            self._bad, self._good = 0, self._good + 1
            if self._good >= ROUNDS_BEFORE_RESUME:
                await self._resume()
        return faults

    async def _resume(self) -> None:
        reason = await self._deposits.stopped()
        if reason is not None and reason.startswith(OWN_STOP):
            await self._deposits.resume_crediting()
            log.warning("crediting_resumed", reason=reason)


def describe_difference(host: str, microunits: int) -> str:
    """Return the sentence for an operator about a vault that differs from the journal."""
    side = "more" if microunits > 0 else "less"
    return f"{host} shows {abs(microunits)} microunits {side} in the vault than the journal has: run `level5 verify`, and `level5 deposits rescan`"
