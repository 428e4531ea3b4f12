"""A watcher over a simulated cluster and real books, turned by hand, in few words."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from chainwatch.errors import ChainError
from chainwatch.founding import found
from chainwatch.providers import Providers
from chainwatch.watcher import Round, Watcher
from config.chain import ChainSettings
from ledger.accounts import NewAccount
from ledger.deposit_values import Vault
from ledger.deposits import Deposits
from tests.fakes.books import Books, open_books
from tests.fakes.chain import Chain, open_chain

CALL_SECONDS_MAX = 8.0  # simulated clusters share their loop with the watcher, and on a busy machine it stands still for seconds
DEADLINE_SECONDS = 30.0


def chain_settings(chain: Chain, *, providers: int = 2, **changes: Any) -> ChainSettings:
    """Return the settings that point at the first providers of a cluster."""
    urls = ",".join(chain.rpc_url(number) for number in range(1, providers + 1))
    terms = {"rpc_urls": urls, "treasury": str(chain.treasury.pubkey()), "usdc_mint": str(chain.mint), "requests_per_second": 5000.0, "poll_seconds": 0.05}
    return ChainSettings.model_validate({**terms, **changes})


def providers_of(settings: ChainSettings) -> Providers:
    return Providers.at(settings.providers, requests_per_second=settings.requests_per_second, seconds_max=CALL_SECONDS_MAX)


@dataclass
class Watching:
    """A cluster, books, and one watcher between them."""

    chain: Chain
    books: Books
    deposits: Deposits
    settings: ChainSettings
    providers: Providers
    vault: Vault
    watcher: Watcher

    async def turn(self) -> Round:
        """One round; the rests of providers that failed are waited for first."""
        await self.rest()
        return await self.watcher.turn()

    async def rest(self) -> None:
        """Wait until no provider is being left alone."""
        await eventually(lambda: _truth(not any(one.rest.seconds for one in self.providers.all)), "a provider is left alone for long")

    async def settle(self) -> Round:
        """Let everything that landed become final, and look once."""
        self.chain.finalize()
        return await self.turn()

    async def balance(self, account: NewAccount) -> int:
        return await self.books.balance(account)

    async def recorded(self) -> int:
        """What the journal says the vault holds."""
        return (await self.deposits.figures()).vault_balance

    async def refused(self, kind: type[ChainError] = ChainError) -> ChainError:
        """One round that must fail; return why."""
        try:
            outcome = await self.turn()
        except kind as failure:
            return failure
        raise AssertionError(f"the round did not fail: {outcome}")


@asynccontextmanager
async def watch(chain: Chain, books: Books, *, providers: int = 2, cross_check_above: int | None = 100_000_000, **changes: Any) -> AsyncIterator[Watching]:
    """Start one more watcher on these books."""
    settings = chain_settings(chain, providers=providers, **changes)
    made, deposits = providers_of(settings), Deposits(books.pool, books.balances)
    try:
        vault = await found(settings, made, deposits)
        watcher = Watcher(deposits, made, vault, settings=settings, cross_check_above=cross_check_above)
        yield Watching(chain, books, deposits, settings, made, vault, watcher)
    finally:
        await made.close()


@asynccontextmanager
async def open_watching(database_url: str, redis_url: str, *, providers: int = 2, **changes: Any) -> AsyncIterator[Watching]:
    """Open a new cluster, new books and a watcher."""
    async with open_chain(providers=max(providers, 2)) as chain, open_books(database_url, redis_url) as books:
        chain.finalize()
        async with watch(chain, books, providers=providers, **changes) as watching:
            yield watching


async def _truth(value: bool) -> bool:
    return value


async def eventually(condition: Callable[[], Awaitable[bool]], complaint: str, *, seconds_max: float = DEADLINE_SECONDS) -> None:
    """Wait until `condition` holds; asked often, given up late."""
    deadline = time.monotonic() + seconds_max
    while not await condition():
        if time.monotonic() > deadline:
            raise AssertionError(complaint)
        await asyncio.sleep(0.02)
