"""A gateway on real stores for every test of the data plane."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.fakes.books import Books, open_books
from tests.fakes.gateway import Stage, open_stage


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    """Claimed, empty books."""
    async with open_books(database_url, redis_url, mode="real") as opened:
        yield opened


@pytest.fixture
async def make_stage(books: Books, database_url: str, redis_url: str) -> AsyncIterator[Callable[..., Any]]:
    """Start a gateway with changed settings."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Stage:
            return await stack.enter_async_context(open_stage(books, (database_url, redis_url), **changes))

        yield make


@pytest.fixture
async def stage(make_stage: Callable[..., Any]) -> Stage:
    """A gateway with default settings."""
    return await make_stage()
