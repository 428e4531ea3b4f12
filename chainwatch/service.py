"""The watcher's process: started until everything answers, turned again and again, and always telling how it is."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import structlog

from chainwatch.errors import ChainError, NoProvider, ProviderFailure, WrongCluster, WrongVault
from chainwatch.founding import found
from chainwatch.hints import Hints
from chainwatch.providers import Providers
from chainwatch.watcher import Round, Watcher
from config.settings import Settings
from ledger.deposit_values import ChainStatus, Vault
from ledger.deposits import Deposits
from ledger.errors import LedgerError, WrongStore
from telemetry import metrics

log = structlog.get_logger("chainwatch")

START_PAUSE_SECONDS: Final = 2.0
START_SECONDS_MAX: Final = 60.0
REPORT_SECONDS: Final = 5.0
HINT_PAUSE_SECONDS: Final = 0.4  # who spams the vault must not set the pace
PATIENCE_SECONDS: Final = 15.0  # failures of providers and stores that pass sooner are no error
CANCEL_SECONDS_MAX: Final = 10.0
REFUSALS: Final = (WrongCluster, WrongVault, WrongStore)


class Service:
    """Runs one watcher for one vault until it is told to stop. `claim` makes sure that the stores are this appliance's."""

    def __init__(
        self,
        deposits: Deposits,
        providers: Providers,
        settings: Settings,
        *,
        claim: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deposits, self._providers, self._settings, self._claim, self._clock = deposits, providers, settings, claim, clock
        self._hinted = asyncio.Event()
        self._watcher: Watcher | None = None
        self._round: Round | None = None
        self._failure: Exception | None = None
        self._level_at = clock()
        self._before: str | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Watch until `stop` is set.

        Raises:
            WrongCluster, WrongVault, WrongStore: these settings do not fit the chain or the books; the text says what to do.
        """
        async with _beside(self._report_forever()):
            vault = await self._start(stop)
            if vault is None:
                return
            single = self._settings.mode == "sandbox" and len(self._providers.all) == 1  # the simulated cluster has no second provider
            chain = self._settings.chain
            self._watcher = Watcher(
                self._deposits, self._providers, vault, settings=chain, cross_check_above=None if single else chain.cross_check_above
            )  # fmt: skip
            log.info("watching", vault=vault.address, genesis=vault.genesis, providers=[one.host for one in self._providers.all])
            async with _beside(self._listen(vault)):
                while not stop.is_set():
                    await self._turn(self._watcher)
                    await self._report()
                    await self._pause(stop)

    async def _start(self, stop: asyncio.Event) -> Vault | None:
        """Settle what must be settled, as soon as providers and stores answer."""
        while not stop.is_set():
            try:
                await self._claim()
                return await found(self._settings.chain, self._providers, self._deposits)
            except REFUSALS as refusal:
                self._failure = refusal
                await self._report()
                raise
            except (ChainError, LedgerError, OSError) as failure:
                self._failure = failure
                log.warning("watcher_waits", reason=str(failure))
            except Exception as failure:  # such as tables that are not there yet: whatever it is, it is not ready
                self._failure = failure
                log.exception("watcher_cannot_start")
            with suppress(TimeoutError):
                async with asyncio.timeout(START_PAUSE_SECONDS):
                    await stop.wait()
        return None

    async def _turn(self, watcher: Watcher) -> None:
        try:
            self._round = await watcher.turn()
            self._failure, self._level_at = None, self._clock()
        except REFUSALS:
            raise
        except (ChainError, LedgerError, OSError) as failure:
            self._round, self._failure = None, failure
            log.warning("round_failed", reason=str(failure), kind=type(failure).__name__)
        except Exception as failure:  # a fault of ours must not end the watching: the next round may do without it
            self._round, self._failure = None, failure
            log.exception("round_crashed")

    async def _pause(self, stop: asyncio.Event) -> None:
        """Wait until the next round, or for a hint, or to be stopped."""
        seconds = self._settings.chain.poll_seconds
        least = min(seconds, HINT_PAUSE_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(least):
                await stop.wait()
        if stop.is_set() or (self._failure is None and self._watcher is not None and self._watcher.backlog):
            return  # there is more to read at once
        waits = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._hinted.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds - least, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        self._hinted.clear()

    async def _listen(self, vault: Vault) -> None:
        url = self._settings.chain.ws_url
        if url is not None:
            await Hints(url.get_secret_value(), vault.address, hint=self._hinted.set).run()

    async def _report_forever(self) -> None:
        """Report while a long round runs too: a watcher that is silent counts as dead."""
        while True:
            await self._report()
            await asyncio.sleep(REPORT_SECONDS)

    async def _report(self) -> None:
        try:
            await self._deposits.report(await self.status())
        except (LedgerError, OSError) as failure:
            log.info("status_not_kept", reason=str(failure))
        except Exception:  # such as tables that are not there yet; whoever reports must go on reporting
            log.exception("status_not_kept")

    async def status(self) -> ChainStatus:
        """Return how the watcher is."""
        watcher, latest, stopped = self._watcher, self._round, await self._deposits.stopped()
        if self._before is None:
            before = await self._deposits.status()
            self._before = before.state if before is not None else ""
        lag = self._clock() - self._level_at
        metrics.chain_cursor_age_seconds.set(lag)
        metrics.chain_read_timestamp_seconds.set(time.time() - lag)
        return ChainStatus(
            state=self._state(stopped),
            reasons=self._reasons(stopped),
            finalized_slot=latest.slot if latest else self._providers.slot,
            lag_seconds=lag,
            backlog=watcher.backlog if watcher else 0,
            oldest_pending_seconds=watcher.oldest_pending_seconds if watcher else 0.0,
            vault_on_chain=latest.amount if latest else None,
            updated_at=time.time_ns() // 1_000_000,
        )

    def _state(self, stopped: str | None) -> str:
        """Return one word. Those by which nobody is told to pay come first, and stand until the vault was seen to be in order again."""
        verdict = self._watcher.verdict if self._watcher is not None else None
        if isinstance(self._failure, REFUSALS) or (verdict is not None and verdict.faults):
            return "stopped" if stopped is not None else "faulty"
        if stopped is not None:
            return "stopped"
        if verdict is None and self._before in ("faulty", "frozen"):
            return self._before
        if verdict is not None and verdict.is_frozen:
            return "frozen"
        if self._watcher is None:
            return "starting" if self._clock() - self._level_at <= START_SECONDS_MAX else "error"
        if self._failure is not None and (not _may_pass(self._failure) or self._clock() - self._level_at > PATIENCE_SECONDS):
            return "error"
        return "error" if self._round is not None and self._round.faults else "ok"

    def _reasons(self, stopped: str | None) -> tuple[str, ...]:
        found = [stopped] if stopped is not None else []
        found += [str(self._failure) or type(self._failure).__name__] if self._failure is not None else []
        found += self._round.faults if self._round is not None else ()
        if self._watcher is not None and self._watcher.verdict is not None:
            found += self._watcher.verdict.faults
            found += ["the vault is frozen by the mint's issuer: nothing can be paid in or out"] if self._watcher.verdict.is_frozen else []
        return tuple(dict.fromkeys([*found, *self._providers.faults(), *self._advice()]))

    def _advice(self) -> list[str]:
        if len(self._providers.all) > 1 or self._settings.mode == "sandbox":
            return []
        return [f"there is only one RPC provider: deposits above {self._settings.chain.cross_check_above} microunits wait for a second one"]


def _may_pass(failure: Exception) -> bool:
    return isinstance(failure, ProviderFailure | NoProvider | LedgerError | OSError)


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `work` for the length of the block."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=CANCEL_SECONDS_MAX)
