"""Fixtures every test may use: real stores of our own, started once and handed out empty."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import structlog

from cli.embedded import EmbeddedPostgres, EmbeddedValkey, choose_service_user, own_folder, prepare_home
from ledger.migrate import migrate
from telemetry import logs
from tests.fakes.appliance import Appliance, appliance
from tests.fakes.authorities import read_authorities_once
from tests.fakes.commands import start_commands

pytest_plugins = ["tests.parallel"]

# Whatever survives the run is of no use to anybody, so nothing waits for the disk; and hundreds of databases are not worth a vacuum. To copy
# one costs a third where the log is only what a restart needs and there are few buffers to look through.
HASTY = tuple(
    word
    for setting in ("fsync=off", "full_page_writes=off", "autovacuum=off", "wal_level=minimal", "max_wal_senders=0", "shared_buffers=32MB")
    for word in ("-c", setting)
)

# As structlog has it by itself, but for tracebacks: to set one with colours and variables takes half a second, and tests log many.
PLAIN_LOGS = [*structlog.get_config()["processors"][:-1], structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]

MEMORY_BYTES_MIN = 8 * 1024**3

read_authorities_once()
structlog.configure(processors=PLAIN_LOGS)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where several processes are about to be forked, let one server run the commands of all."""
    option = session.config.option
    if option.processes > 1 and not option.collectonly and any(not item.nodeid.startswith("tests/unit/") for item in session.items):
        start_commands()


@pytest.fixture(autouse=True)
def logs_of_one_test() -> Iterator[None]:
    """A command that ran within a test has sent the logs to that test's terminal, which is closed afterwards."""
    yield
    structlog.reset_defaults()
    structlog.configure(processors=PLAIN_LOGS)
    logs._figure_lines = None


def memory_folder() -> Path | None:
    """Return a folder that is held in memory and has room for many stores, if there is one: what dies with the tests need not wait for a disk."""
    folder = Path("/dev/shm")
    try:
        system = os.statvfs(folder)
    except OSError:
        return None
    fits = system.f_bavail * system.f_frsize >= MEMORY_BYTES_MIN and not system.f_flag & os.ST_NOEXEC
    return folder if fits and os.access(folder, os.W_OK) else None


@pytest.fixture(scope="session")
def store_home() -> Iterator[Path]:
    """A short-named home that the database's user can reach; pytest's own folders are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="l5-", dir=memory_folder() or "/tmp"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_server(store_home: Path) -> Iterator[EmbeddedPostgres]:
    """One real Postgres for all tests of a process."""
    home = store_home / "pg"
    user = choose_service_user()
    prepare_home(home, user)
    server = EmbeddedPostgres(home, user=user, options=HASTY)
    server.start()
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def tables(postgres_server: EmbeddedPostgres) -> str:
    """The name of a database that has been migrated and that nobody uses: to copy it costs half of making the tables anew."""

    async def make() -> None:
        await _create_database(postgres_server, "tables")
        await migrate(_url_of(postgres_server, "tables"))

    asyncio.run(make())
    return "tables"


@pytest.fixture
async def database_url(postgres_server: EmbeddedPostgres, tables: str) -> str:
    """The URL of a new database with the tables of the books, all empty."""
    name = "test_" + os.urandom(6).hex()
    await _create_database(postgres_server, f"{name} TEMPLATE {tables} STRATEGY FILE_COPY")
    return _url_of(postgres_server, name)


@pytest.fixture
async def bare_database_url(postgres_server: EmbeddedPostgres) -> str:
    """The URL of a new database without a table."""
    name = "test_" + os.urandom(6).hex()
    await _create_database(postgres_server, name)
    return _url_of(postgres_server, name)


async def _create_database(server: EmbeddedPostgres, what: str) -> None:
    connection = await asyncpg.connect(server.url)
    try:
        await connection.execute(f"CREATE DATABASE {what}")
    finally:
        await connection.close()


def _url_of(server: EmbeddedPostgres, name: str) -> str:
    return server.url.replace("/level5?", f"/{name}?")


@pytest.fixture
def valkey_server(store_home: Path) -> Iterator[EmbeddedValkey]:
    """A real, empty Valkey of this test alone, durable as in production. It is not asked to stop: that takes it a tenth of a second."""
    user = choose_service_user()
    home = own_folder(Path(tempfile.mkdtemp(prefix="vk-", dir=store_home)), None, mode=0o711)
    server = EmbeddedValkey(home, user=user)
    server.start()
    server.wait_until_ready()
    yield server
    if server.process is not None:
        server.process.kill()
    server.stop()


@pytest.fixture
def redis_url(valkey_server: EmbeddedValkey) -> str:
    """The URL of this test's Valkey."""
    return valkey_server.url


@pytest.fixture(scope="session")
def running(store_home: Path) -> Iterator[Appliance]:
    """One appliance for all tests that do it no harm, each with accounts of its own. Their files are named in `tests.distribution`."""
    with appliance(store_home, workers=1, LEVEL5_INGEST__RATE_PER_MINUTE="0") as made:
        yield made
        made.verify()
