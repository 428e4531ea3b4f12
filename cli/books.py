"""The books as the commands see them: both stores, opened together, known to belong to each other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from config.rate_card import load_rate_card
from config.settings import Settings, SettingsError
from ledger.accounts import Accounts
from ledger.balances import Balances, connect_redis
from ledger.journal import Pool, open_pool, record_rate_card
from ledger.migrate import migrate
from ledger.stores import claim_stores
from metering.rate_cards import RateCard

CLOSE_SECONDS_MAX = 5.0
NO_STORES = "LEVEL5_DATABASE_URL and LEVEL5_REDIS_URL must both be set to run this alone; `level5 up` brings stores of its own"

OPERATOR_SECONDS_MAX = 10.0  # a person waits sooner than starting over


@dataclass(frozen=True, slots=True)
class Books:
    """Both stores of one appliance."""

    pool: Pool
    balances: Balances
    accounts: Accounts
    instance: str


def database_url(settings: Settings) -> str:
    """Return the address of Postgres.

    Raises:
        SettingsError: there is none.
    """
    if settings.database_url is None:
        raise SettingsError(NO_STORES)
    return settings.database_url.get_secret_value()


def redis_url(settings: Settings) -> str:
    """Return the address of Redis.

    Raises:
        SettingsError: there is none.
    """
    if settings.redis_url is None:
        raise SettingsError(NO_STORES)
    return settings.redis_url.get_secret_value()


@asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[tuple[Pool, Balances]]:
    """Open both stores for the length of the block; neither needs to answer yet.

    Raises:
        SettingsError: an address is missing.
    """
    redis = connect_redis(redis_url(settings), command_seconds_max=OPERATOR_SECONDS_MAX)
    pool = await open_pool(database_url(settings))
    try:
        yield pool, Balances(redis, instance="")
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await redis.aclose()
                await pool.close()
        except (TimeoutError, OSError):
            pool.terminate()  # a store that hangs must not keep us


@asynccontextmanager
async def open_books(settings: Settings) -> AsyncIterator[Books]:
    """Open both stores and make sure that they are the two of one appliance in this mode.

    Raises:
        SettingsError: an address is missing.
        WrongStore: the stores belong to different appliances, or to another mode.
        JournalUnavailable, BalanceUnavailable: a store did not answer.
    """
    async with open_stores(settings) as (pool, balances):
        instance = await claim_stores(pool, balances, mode=settings.mode)
        await balances.load()
        yield Books(pool, balances, Accounts(pool, balances), instance)


async def prepare_books(settings: Settings) -> None:
    """Bring the database up to date, then claim the stores as `claim_books` does.

    Raises:
        WrongStore: the stores belong to another appliance, mode or a newer version.
        RateCardError: the rate card cannot be read.
        JournalUnavailable, BalanceUnavailable: a store did not answer.
    """
    card = load_rate_card(settings.rates)  # a card with a mistake must not be found after the database was changed
    await migrate(database_url(settings))
    await claim_books(settings, card)


async def claim_books(settings: Settings, card: RateCard | None = None) -> None:
    """Claim both stores for this mode, and record the rate card that charges will name.

    Raises:
        WrongStore: the stores belong to another appliance or mode.
        RateCardError: the rate card cannot be read.
        JournalUnavailable, BalanceUnavailable: a store did not answer.
    """
    card = card or load_rate_card(settings.rates)
    async with open_books(settings) as books:
        await record_rate_card(books.pool, card.hash, card.body)
