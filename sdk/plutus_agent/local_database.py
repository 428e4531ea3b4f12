"""The file of local mode: one connection for all threads of a process, opened anew in a forked child."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plutus_agent.errors import PlutusError

SCHEMA = Path(__file__).parent / "local_schema.sql"


class Database:
    """A SQLite file with a schema. Every use is one transaction."""

    def __init__(self, path: Path, *, schema: Path = SCHEMA, wait_seconds: float = 10.0) -> None:
        """Open the file, made for this user alone if need be.

        Raises:
            PlutusError: it cannot be opened, or is no such file.
        """
        self.path, self._schema, self._wait_seconds = path, schema, wait_seconds
        self._mutex = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._inherited: sqlite3.Connection | None = None
        with self.transaction():
            pass

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection within a transaction that is alone in writing; it is rolled back when the block raises.

        Raises:
            PlutusError: the file cannot be read or written, or others did not let go of it in time.
        """
        if self._pid != os.getpid():
            # A lock that another thread of the parent held would never be released here. The old connection is
            # kept from being closed: that would drop the parent's locks on the file.
            self._mutex, self._pid, self._inherited, self._connection = threading.RLock(), os.getpid(), self._connection, None
        try:
            with self._mutex:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
        except (sqlite3.Error, OSError) as error:
            raise PlutusError(f"the local database {self.path} cannot be used: {error}") from error

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._mutex:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self.path.exists():
                self.path.touch(mode=0o600)
            connection = sqlite3.connect(self.path, timeout=self._wait_seconds, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(self._schema.read_text(encoding="utf-8"))
            self._connection = connection
        return self._connection
