"""`python -m chainwatch`: the watcher as a process of its own, with settings from the environment."""

import telemetry.lean_start  # noqa: F401  # before anything else is imported

# isort: split

import asyncio
import signal
import sys

from chainwatch.errors import WrongCluster, WrongVault
from chainwatch.providers import Providers
from chainwatch.service import Service
from config.settings import Settings, SettingsError, load_settings
from ledger.balances import Balances, connect_redis
from ledger.deposits import Deposits
from ledger.errors import WrongStore
from ledger.journal import open_pool
from ledger.stores import claim_stores
from telemetry.lean_end import leave
from telemetry.logs import configure_logs, get_log

ROLE = "chainwatch"
REDIS_SECONDS_MAX = 10.0
CLOSE_SECONDS_MAX = 5.0
BAD_SETTINGS = 2


def require_chain(settings: Settings) -> tuple[str, str]:
    """Return the addresses of Postgres and Redis, once everything is set that watching needs.

    Raises:
        SettingsError: naming what is missing.
    """
    chain = settings.chain
    missing = [name for name, value in (("LEVEL5_CHAIN__TREASURY", chain.treasury), ("LEVEL5_CHAIN__RPC_URLS", chain.rpc_urls)) if not value]
    if missing:
        raise SettingsError(f"deposits on chain are off: set {' and '.join(missing)}")
    if settings.database_url is None or settings.redis_url is None:
        raise SettingsError("LEVEL5_DATABASE_URL and LEVEL5_REDIS_URL must both be set to run this alone; `level5 up` brings stores of its own")
    return settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()


async def watch(settings: Settings) -> None:
    """Watch until SIGTERM or SIGINT.

    Raises:
        SettingsError: something is missing.
        WrongCluster, WrongVault, WrongStore: the settings do not fit the chain or the books.
    """
    database_url, redis_url = require_chain(settings)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    redis, pool = connect_redis(redis_url, command_seconds_max=REDIS_SECONDS_MAX), await open_pool(database_url)
    providers = Providers.at(settings.chain.providers, requests_per_second=settings.chain.requests_per_second)
    try:
        balances = Balances(redis, instance="")

        async def claim() -> None:
            await claim_stores(pool, balances, mode=settings.mode)

        get_log().info("chainwatch_ready")
        await Service(Deposits(pool, balances), providers, settings, claim=claim).run(stop)
        get_log().info("chainwatch_stopped")
    finally:
        try:
            async with asyncio.timeout(CLOSE_SECONDS_MAX):
                await providers.close()
                await redis.aclose()
                await pool.close()
        except (TimeoutError, OSError):
            pool.terminate()  # a store that hangs must not keep us


def main() -> int:
    """Run the role; return its exit code."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level, ROLE)
        asyncio.run(watch(settings))
    except (SettingsError, WrongCluster, WrongVault, WrongStore) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    leave(main)
