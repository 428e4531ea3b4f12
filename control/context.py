"""What the control API works with, opened once and handed to every endpoint."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, cast

from starlette.requests import Request

from config.settings import Settings, SettingsError, reachable_host
from control.budget_watch import BudgetWatch
from control.catalogue import configured_providers
from control.chain_view import ChainView
from control.deposit_codes import DepositCodes
from control.health import HealthMonitor
from control.ingest import UsageDoor, make_door
from control.minute_limit import MinuteLimit
from control.payment_statuses import PaymentStatuses
from control.peers import Address, Network, client_address, limited_network, peer_address, read_networks
from control.rpc_providers import RpcProviders
from ledger.accounts import Accounts
from ledger.balances import Balances, connect_redis
from ledger.deposits import Deposits
from ledger.idempotency import Claims
from ledger.ingest import Ingest
from ledger.journal import Pool, open_pool
from ledger.keys import Keys
from ledger.workspaces import Workspaces
from metering.rate_cards import RateCard
from metering.rates import Rate

INTERNAL_KEY_VARIABLE: Final = "LEVEL5_INTERNAL_KEY"
DISTRIBUTION: Final = "level5-gateway"
CLOSE_SECONDS_MAX: Final = 5.0
PAY_PER_MINUTE: Final = 60  # transactions that one network may ask for: each asks an RPC provider
CLAIMS_PER_MINUTE: Final = 10  # claims and proofs of one account
TRIALS_PER_MINUTE: Final = 20  # test requests of one account, each of which keeps a connection of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlContext:
    """Settings, rate card and stores. `internal_key` proves that a request came through the gateway."""

    settings: Settings
    card: RateCard
    pool: Pool
    balances: Balances
    accounts: Accounts
    deposits: Deposits
    register_limit: MinuteLimit
    pay_limit: MinuteLimit
    claim_limit: MinuteLimit
    trial_limit: MinuteLimit
    monitor: HealthMonitor
    chain: ChainView
    codes: DepositCodes
    rpc: RpcProviders
    payments: PaymentStatuses
    keys: Keys
    workspaces: Workspaces
    budgets: BudgetWatch
    usage: UsageDoor
    public_url: str
    version: str
    trusted_proxies: tuple[Network, ...] = ()
    internal_key: str | None = None

    def rates(self) -> Sequence[Rate]:
        """Return the rates that hold now."""
        return tuple(self.card.at(time.time_ns() // 1_000_000).all())

    def served_rates(self) -> Sequence[Rate]:
        """Return those of models that can be called now, because the operator has a key for their provider."""
        served = configured_providers(self.settings)
        return tuple(rate for rate in self.rates() if rate.provider in served)


def context_of(request: Request) -> ControlContext:
    """Return the context of the app that serves `request`."""
    return cast("ControlContext", request.app.state.context)


def caller_address(request: Request) -> Address | None:
    """Return the address of the caller, as far as trusted proxies tell it."""
    context = context_of(request)
    peer = peer_address(request, context.internal_key)
    return client_address(peer, request.headers.getlist("x-forwarded-for"), trusted=context.trusted_proxies)


def caller_network(request: Request) -> str:
    """Return what the limits of this caller are counted for."""
    return limited_network(caller_address(request))


@asynccontextmanager
async def open_context(settings: Settings, card: RateCard, *, internal_key: str | None = None) -> AsyncIterator[ControlContext]:
    """Open the stores for as long as the block runs. Neither needs to answer yet: both are asked again each time.

    Raises:
        SettingsError: the address of a store is missing.
    """
    if settings.database_url is None or settings.redis_url is None:
        raise SettingsError("LEVEL5_DATABASE_URL and LEVEL5_REDIS_URL must be set to run this role alone; `level5 up` brings stores of its own")
    redis = connect_redis(settings.redis_url.get_secret_value())
    pool = await open_pool(settings.database_url.get_secret_value())
    # No instance: the supervisor claimed the stores for this appliance before it started this role.
    balances = Balances(redis, instance="")
    accounts, deposits = Accounts(pool, balances), Deposits(pool, balances)
    rpc = RpcProviders(settings.chain.providers)
    ingest, workspaces = Ingest(pool, balances), Workspaces(pool, balances)
    budgets = BudgetWatch(workspaces)
    try:
        yield ControlContext(
            settings=settings,
            card=card,
            pool=pool,
            balances=balances,
            accounts=accounts,
            deposits=deposits,
            register_limit=MinuteLimit(redis, "register", per_minute=settings.register_.rate_per_minute),
            pay_limit=MinuteLimit(redis, "pay", per_minute=PAY_PER_MINUTE),
            claim_limit=MinuteLimit(redis, "claim", per_minute=CLAIMS_PER_MINUTE),
            trial_limit=MinuteLimit(redis, "trial", per_minute=TRIALS_PER_MINUTE),
            monitor=HealthMonitor(balances, pool, chain=deposits if settings.chain.is_on else None, forward=_forward_address(settings)),
            chain=ChainView(settings, deposits),
            codes=DepositCodes(accounts),
            rpc=rpc,
            payments=PaymentStatuses(rpc),
            keys=Keys(pool, balances),
            workspaces=workspaces,
            budgets=budgets,
            usage=make_door(settings, card, ingest=ingest, claims=Claims(pool, ingest), workspaces=workspaces, budgets=budgets.near),
            public_url=settings.origin,
            version=own_version(),
            trusted_proxies=read_networks(settings.trusted_proxies),
            internal_key=internal_key if internal_key is not None else os.environ.get(INTERNAL_KEY_VARIABLE),
        )
    finally:
        await rpc.close()
        await _close(pool, redis)


def _forward_address(settings: Settings) -> tuple[str, int] | None:
    """Return where the forward proxy listens, None where it is off or runs on another machine: its certificate is not here then."""
    here = settings.forward.enabled and settings.certificate_file.exists()
    return (reachable_host(settings.forward.host).strip("[]"), settings.forward.port) if here else None


def own_version() -> str:
    """Return the version of the installed distribution."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0.0.0"


async def _close(pool: Any, redis: Any) -> None:
    try:
        async with asyncio.timeout(CLOSE_SECONDS_MAX):
            await redis.aclose()
            await pool.close()
    except (TimeoutError, OSError):
        pool.terminate()  # a store that hangs must not keep us from stopping
