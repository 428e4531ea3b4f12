"""A control API over real stores, with a poster at work, for tests."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from pydantic import SecretStr

from cli.embedded import EmbeddedPostgres, EmbeddedValkey
from cli.service_user import choose_service_user, own_folder
from config.settings import Settings
from control.app import make_app
from control.context import ControlContext, open_context
from ledger.accounts import Account
from ledger.base58 import encode_base58
from ledger.deposit_values import ChainStatus, Cursor, Deposit, Move, Naming, Vault
from ledger.migrate import migrate
from ledger.poster import run_poster
from ledger.stores import claim_stores
from metering.rate_cards import RateCard
from metering.rates import Prices, Rate, Tier

INTERNAL_KEY = "internal-key-of-a-test"


def control_settings(database_url: str, redis_url: str, **changes: Any) -> Settings:
    """Return settings for these stores, reading no environment."""
    return Settings.model_validate({"database_url": SecretStr(database_url), "redis_url": SecretStr(redis_url), **changes})


def a_card() -> RateCard:
    """Return a rate card of two models, one of which has an expensive tier."""
    prices = Prices(
        input=3_000_000,
        output=15_000_000,
        cache_write_5m=3_750_000,
        cache_write_1h=6_000_000,
        cache_read=300_000,
        input_audio=3_000_000,
        output_audio=15_000_000,
    )  # fmt: skip
    long = replace(prices, input=6_000_000, output=22_500_000, output_audio=22_500_000)
    sonnet = Rate(
        provider="anthropic", model="claude-sonnet-4-6", provider_model="claude-sonnet-4-6", prices=prices, markup_bps=1000,
        context=1_000_000, output_max=64_000, tiers=(Tier(above=200_000, prices=long),), fees={"web_search": 10_000},
    )  # fmt: skip
    other = replace(sonnet, provider="openrouter", model="glm-5", provider_model="z-ai/glm-5", tiers=(), fees={}, service_tiers={"flex": 5_000})
    return RateCard([sonnet, other], card_hash="0" * 64)


@dataclass
class Control:
    """A running control API: its context and a client without a network between."""

    context: ControlContext
    client: httpx.AsyncClient

    async def register(self) -> dict[str, Any]:
        """Open an account from an address of its own, so that no limit is met."""
        answer = await self.client.post("/v1/register")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def account(self, registered: dict[str, Any]) -> Account:
        return await self.context.accounts.find(registered["deposit_code"])

    async def watcher_says(self, state: str) -> None:
        """Do what a watcher does that is in this state, and let the API see it."""
        status = ChainStatus(
            state=state, reasons=(), finalized_slot=1, lag_seconds=0.5, backlog=0, oldest_pending_seconds=0.0, vault_on_chain=0, updated_at=1_700_000_000_000
        )
        await self.context.deposits.report(status)
        await self.context.chain.refresh()

    async def arrive(self, vault: Vault, amount: int, *, senders: tuple[str, ...], code: str | None = None) -> Deposit:
        """Record one arrival as the watcher does, and credit what is due."""
        before = (await self.context.deposits.figures()).cursor
        assert before is not None
        signature = encode_base58(sha256(f"transaction {before.slot + 1}".encode()).digest() * 2)
        naming = Naming(deposit_code=code, source="memo") if code else Naming(aside="no_code")
        slot, after = before.slot + 1, before.balance + amount
        move = Move(signature=signature, slot=slot, block_time=1_700_000_000, pre=before.balance, post=after, senders=senders, naming=naming)
        await self.context.deposits.record_page(vault, [move], cursor=Cursor(signature=signature, slot=move.slot, balance=move.post), set_aside_min=0)
        await self.context.deposits.credit_due()
        return await self.context.deposits.find(signature)


@asynccontextmanager
async def own_stores(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[tuple[str, str]]:
    """Yield the addresses of an empty database and Valkey for the tests of one module."""
    valkey = EmbeddedValkey(own_folder(Path(tempfile.mkdtemp(prefix="vk-", dir=store_home)), None, mode=0o711), user=choose_service_user())
    valkey.start()
    valkey.wait_until_ready()
    name = "control_" + os.urandom(6).hex()
    connection = await asyncpg.connect(postgres_server.url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    try:
        yield postgres_server.url.replace("/level5?", f"/{name}?"), valkey.url
    finally:
        valkey.stop()


async def prepare_stores(settings: Settings) -> None:
    """Do what the supervisor does before it starts the roles."""
    assert settings.database_url is not None
    await migrate(settings.database_url.get_secret_value())
    async with open_context(settings, a_card()) as context:
        await claim_stores(context.pool, context.balances, mode=settings.mode)


@asynccontextmanager
async def running_control(settings: Settings, *, card: RateCard | None = None, poster: bool = True, peer: str = "127.0.0.1") -> AsyncIterator[Control]:
    """Yield a control API over prepared stores."""
    stop = asyncio.Event()
    async with open_context(settings, card or a_card(), internal_key=INTERNAL_KEY) as context, asyncio.TaskGroup() as group:
        if poster:
            group.create_task(run_poster(context.pool, context.balances, retention_hours=48, stop=stop))
        transport = httpx.ASGITransport(make_app(context), client=(peer, 50000))
        async with httpx.AsyncClient(transport=transport, base_url="http://level5.test", timeout=30) as client:
            try:
                yield Control(context, client)
            finally:
                stop.set()
