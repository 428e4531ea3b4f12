"""A gateway on real stores for every test of the data plane.

The stores are started once: each test opens accounts of its own. A test that harms a store takes
`lone_stage`, which has stores to itself.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cli.embedded import EmbeddedPostgres, EmbeddedValkey, choose_service_user, own_folder
from tests.fakes.books import Books, open_books
from tests.fakes.gateway import Stage, open_stage

Urls = tuple[str, str]
MakeStage = Callable[..., Any]


@pytest.fixture(scope="session")
def proxy_urls(store_home: Path, postgres_server: EmbeddedPostgres) -> Iterator[Urls]:
    """A database and a Valkey that all tests of the proxy share."""
    home = own_folder(Path(tempfile.mkdtemp(prefix="px-", dir=store_home)), None, mode=0o711)
    server = EmbeddedValkey(home, user=choose_service_user())
    server.start()
    server.wait_until_ready()

    async def create() -> None:
        connection = await asyncpg.connect(postgres_server.url)
        await connection.execute("CREATE DATABASE proxy_tests")
        await connection.close()

    asyncio.run(create())
    yield postgres_server.url.replace("/level5?", "/proxy_tests?"), server.url
    server.stop()


@pytest.fixture
async def books(proxy_urls: Urls) -> AsyncIterator[Books]:
    """The shared books, opened for this test."""
    async with open_books(*proxy_urls, mode="real") as opened:
        yield opened


@pytest.fixture(params=["lane", "stock"])
def data_path(request: pytest.FixtureRequest) -> str:
    """The way that plain requests take: the fast lane, or mitmproxy's own layers. What a test expects holds for both."""
    return str(request.param)


@pytest.fixture
async def make_stage(books: Books, proxy_urls: Urls, data_path: str) -> AsyncIterator[MakeStage]:
    """Start a gateway with changed settings."""
    async with AsyncExitStack() as stack:

        async def make(**changes: Any) -> Stage:
            changes["gateway"] = {"fast_lane": data_path == "lane"} | changes.get("gateway", {})
            return await stack.enter_async_context(open_stage(books, proxy_urls, **changes))

        yield make


@pytest.fixture
async def stage(make_stage: MakeStage) -> Stage:
    """A gateway with default settings."""
    made: Stage = await make_stage()
    return made


@pytest.fixture
async def lone_stage(database_url: str, redis_url: str) -> AsyncIterator[Stage]:
    """A gateway whose stores nobody else needs."""
    async with open_books(database_url, redis_url, mode="real") as books, open_stage(books, (database_url, redis_url)) as made:
        yield made
