"""Providers over TLS: verified, named, and on the fast lane shared by all clients."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.fakes.certificates import make_authority
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import RawProvider, answer, message, message_events, says, streams


@asynccontextmanager
async def tls_stage(make_stage: Callable[..., Any], folder: Path, *, trusted: bool) -> AsyncIterator[tuple[Stage, RawProvider]]:
    authority, provider = make_authority(folder), RawProvider()
    provider.script = says(answer(message()))
    await provider.start(authority.server)
    section = {"base_url": f"https://127.0.0.1:{provider.port}", "api_key": "k"} | ({"ca_file": str(authority.ca_file)} if trusted else {})
    yield await make_stage(providers={"anthropic": section}), provider
    await provider.stop()


async def ask(stage: Stage, token: str, **body: Any) -> httpx.Response:
    """Ask on a connection of its own."""
    async with httpx.AsyncClient(timeout=20) as client:
        request = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]} | body
        return await client.post(f"{stage.url}/proxy/{token}/v1/messages", json=request)


async def test_a_verified_provider_serves_and_is_charged(make_stage: Callable[..., Any], tmp_path: Path, data_path: str) -> None:
    async with tls_stage(make_stage, tmp_path, trusted=True) as (stage, provider):
        account = await stage.open_account()

        answers = [await ask(stage, account.api_token) for _ in range(3)]

        assert [response.status_code for response in answers] == [200, 200, 200]
        assert provider.connections == (1 if data_path == "lane" else 3)
        assert provider.asked[0].header("host") == f"127.0.0.1:{provider.port}"
        await stage.settled(account, charges=3)


async def test_a_stream_comes_through_tls_as_it_is(make_stage: Callable[..., Any], tmp_path: Path) -> None:
    async with tls_stage(make_stage, tmp_path, trusted=True) as (stage, provider):
        account, events = await stage.open_account(), message_events(words=30)
        provider.script = streams(events)

        response = await ask(stage, account.api_token, stream=True)

        assert response.content == b"".join(events)
        await stage.settled(account, charges=1)


async def test_a_provider_that_nobody_vouches_for_is_a_502_and_costs_nothing(make_stage: Callable[..., Any], tmp_path: Path) -> None:
    async with tls_stage(make_stage, tmp_path, trusted=False) as (stage, provider):
        account = await stage.open_account()

        response = await ask(stage, account.api_token)

        assert response.status_code == 502
        assert provider.asked == []
        await stage.settled(account, charges=0)
