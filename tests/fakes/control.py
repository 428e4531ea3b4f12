"""A control API over real stores, with a poster at work, for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
from pydantic import SecretStr

from config.settings import Settings
from control.app import make_app
from control.context import ControlContext, open_context
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
