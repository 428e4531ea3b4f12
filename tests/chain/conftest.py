"""Fixtures of the tests on the simulated chain."""

from collections.abc import AsyncIterator

import pytest_asyncio
from solana.rpc.async_api import AsyncClient

from tests.fakes.chain import Chain, open_chain


@pytest_asyncio.fixture
async def chain() -> AsyncIterator[Chain]:
    """A cluster whose clock stands still, on free ports, with nothing on disk."""
    async with open_chain() as running:
        yield running


@pytest_asyncio.fixture
async def client(chain: Chain) -> AsyncIterator[AsyncClient]:
    """solana-py's client of the first provider, as it is."""
    async with AsyncClient(chain.rpc_url()) as made:
        yield made
