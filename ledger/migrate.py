"""Migrations: numbered SQL files, forward only, each applied once, safe under two starters."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from ledger.errors import WrongStore
from ledger.journal import CONNECT_SECONDS_MAX, Connection, driver, journal_answers

_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
_LOCK: Final = 0x6C35_0001  # of this database alone; any number that nothing else takes
_LOCK_WAIT: Final = "120s"
_STATEMENT_SECONDS_MAX: Final = 3600.0  # a migration of a large table takes its time

_CREATE_VERSIONS: Final = """
CREATE TABLE IF NOT EXISTS schema_versions (
    version integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file: its number, name, text and the checksum of the text."""

    version: int
    name: str
    text: str
    checksum: str


def read_migrations() -> list[Migration]:
    """Return the shipped migrations in order.

    Raises:
        ValueError: the numbers do not run from 1 without a gap.
    """
    found = []
    for file in (files("ledger") / "migrations").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            text = file.read_text(encoding="utf-8")
            found.append(Migration(version=int(match[1]), name=file.name, text=text, checksum=hashlib.sha256(text.encode()).hexdigest()))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError("the numbers of the migrations have a gap or a double")
    return found


async def migrate(url: str) -> list[str]:
    """Bring the database up to date and return the names of what was applied, oldest first.

    A second starter waits for the first and then finds nothing left to do. Each file is one transaction.

    Raises:
        WrongStore: an applied file was changed afterwards, or the database is newer than this program.
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers():
        connection = await driver.connect(url, timeout=CONNECT_SECONDS_MAX, command_timeout=_STATEMENT_SECONDS_MAX)
        try:
            await connection.execute(f"SET lock_timeout = '{_LOCK_WAIT}'")
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            await connection.execute(_CREATE_VERSIONS)
            applied = {row["version"]: row for row in await connection.fetch("SELECT version, name, checksum FROM schema_versions")}
            pending = _pending(read_migrations(), {version: (row["name"], row["checksum"]) for version, row in applied.items()})
            for migration in pending:
                await _apply(connection, migration)
            return [migration.name for migration in pending]
        finally:
            await connection.close(timeout=CONNECT_SECONDS_MAX)  # releases the lock


def _pending(shipped: list[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    for version, (name, checksum) in sorted(applied.items()):
        if version > len(shipped):
            raise WrongStore(f"the database has migration {name}, which this program does not know: run the newer program")
        if shipped[version - 1].checksum != checksum:
            raise WrongStore(f"migration {name} was changed after it had been applied: restore the file, and put the change into a new one")
    return [migration for migration in shipped if migration.version not in applied]


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.text)
        await connection.execute(
            "INSERT INTO schema_versions (version, name, checksum) VALUES ($1, $2, $3)", migration.version, migration.name, migration.checksum
        )
