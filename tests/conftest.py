"""Fixtures every test may use: real stores of our own, started once and handed out empty."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from cli.embedded import EmbeddedPostgres, EmbeddedValkey, choose_service_user, own_folder, prepare_home


@pytest.fixture(autouse=True)
def logs_of_one_test() -> Iterator[None]:
    """A command that ran within a test has sent the logs to that test's terminal, which is closed afterwards."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def store_home() -> Iterator[Path]:
    """A short-named home that the database's user can reach; pytest's own folders are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="l5-", dir="/tmp"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(store_home: Path) -> Iterator[EmbeddedPostgres]:
    """One real Postgres for the whole run; nothing is expected to survive it, so it skips the disk."""
    home = store_home / "pg"
    user = choose_service_user()
    prepare_home(home, user)
    server = EmbeddedPostgres(home, user=user, options=("-c", "fsync=off", "-c", "full_page_writes=off"))
    server.start()
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres) -> str:
    """The URL of a new empty database."""
    import asyncpg

    name = "test_" + os.urandom(6).hex()
    connection = await asyncpg.connect(postgres_server.url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return postgres_server.url.replace("/level5?", f"/{name}?")


@pytest.fixture
def valkey_server(store_home: Path) -> Iterator[EmbeddedValkey]:
    """A real, empty Valkey of this test alone, durable as in production."""
    user = choose_service_user()
    home = own_folder(Path(tempfile.mkdtemp(prefix="vk-", dir=store_home)), None, mode=0o711)
    server = EmbeddedValkey(home, user=user)
    server.start()
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture
def redis_url(valkey_server: EmbeddedValkey) -> str:
    """The URL of this test's Valkey."""
    return valkey_server.url
