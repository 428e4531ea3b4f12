"""The journal in Postgres: the pool, the locks, and the one writer through which every row goes."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
import asyncpg.exceptions

from ledger.entries import AccountId
from ledger.errors import JournalUnavailable
from ledger.made_rows import MadeRows
from ledger.moments import milliseconds, moment
from ledger.postings import CUSTOMER, Transaction, body_digest, chain, key_digest
from ledger.queries import SQL
from ledger.reported_rows import ReportedRows
from ledger.statement_lines import RollupKey, StatementLine

CONNECT_SECONDS_MAX: Final = 5.0
ACQUIRE_SECONDS_MAX: Final = 5.0
COMMAND_SECONDS_MAX: Final = 15.0
LONG_READ_SECONDS_MAX: Final = 600.0  # a whole shard, for an audit or a rebuild
POOL_SIZE_MAX: Final = 12  # four rebuilds take two each

# The driver ships no types, so a connection, a pool and the module itself are typed here, once.
type Connection = Any
type Pool = Any
driver: Final[Any] = asyncpg

# What a Postgres that is away, going away, full or overrun says. A repeat is safe: every writer is idempotent by key.
JOURNAL_FAILURES: Final = (
    OSError,  # with TimeoutError
    driver.PostgresConnectionError,
    driver.InterfaceError,
    driver.InternalClientError,  # a pooled connection that was cut in mid-answer
    driver.OperatorInterventionError,
    driver.InsufficientResourcesError,
    driver.TransactionRollbackError,
    driver.LockNotAvailableError,
    driver.InvalidCatalogNameError,  # the database is being restored
    driver.ReadOnlySQLTransactionError,
    driver.InvalidCachedStatementError,  # the tables changed under a prepared statement
)


def now_ms() -> int:
    """Return the time of this machine in milliseconds since the epoch."""
    return milliseconds(datetime.now(UTC))


class JournalConnection(driver.Connection):  # type: ignore[misc]  # the driver has no types
    """A connection that knows for which shards it was seen that the journal has all of the shard's claims.

    It dies with its database: where one is restored from a backup, other connections come, which have to see for themselves.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.shards_with_claims: set[int] = set()


@asynccontextmanager
async def journal_answers() -> AsyncIterator[None]:
    """Turn the failures of a Postgres that does not answer into JournalUnavailable.

    Raises:
        JournalUnavailable: whatever was not committed did not happen; a commit without an answer may have.
    """
    try:
        yield
    except driver.exceptions._base.DataError:
        raise  # a value of ours that Postgres cannot hold is a fault, not an absence
    except JOURNAL_FAILURES as error:
        raise JournalUnavailable(str(error) or type(error).__name__) from error


async def open_pool(url: str) -> Pool:
    """Open the connections of one process.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers():
        return await driver.create_pool(
            url,
            min_size=0,  # a process must be able to start, and to live on, while Postgres is away
            max_size=POOL_SIZE_MAX,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=COMMAND_SECONDS_MAX,
            connection_class=JournalConnection,
            server_settings={"application_name": "level5", "timezone": "UTC"},
        )


def shards_with_claims(connection: Connection) -> set[int]:
    """Return what a pooled connection knows of claims.

    Raises:
        JournalUnavailable: it was cut just now.
    """
    try:
        known: set[int] = connection.shards_with_claims
    except AttributeError as error:
        raise JournalUnavailable("the connection to Postgres was cut") from error
    return known


@asynccontextmanager
async def journal_transaction(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection with a transaction that commits at the end of the block.

    Raises:
        JournalUnavailable: Postgres did not answer; the commit itself may have been done.
    """
    async with journal_answers(), pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection, connection.transaction():
        yield connection


@dataclass(slots=True, kw_only=True)
class ShardPosition:
    """A locked row of `shards`; the writer moves it on and writes it back."""

    shard: int
    epoch: int
    state: str
    posted_seq: int
    due_seq: int
    chain_seq: int
    chain_head: bytes


@dataclass(slots=True, kw_only=True)
class AccountFigures:
    """An account's running figures, kept exact by the lock of its shard."""

    id: int
    balance: int
    n: int
    statement_balance: int
    charged: int
    active_at: datetime


async def lock_shards(connection: Connection, shards: Iterable[int]) -> dict[int, ShardPosition]:
    """Lock rows of `shards` in ascending order until the transaction ends."""
    rows = await connection.fetch(SQL["lock_shards"], sorted(set(shards)))
    return {row["shard"]: ShardPosition(**dict(row)) for row in rows}


async def read_shards(connection: Connection) -> dict[int, ShardPosition]:
    """Read all positions without locking them. `connection` may be a pool."""
    return {row["shard"]: ShardPosition(**dict(row)) for row in await connection.fetch(SQL["read_shards"])}


async def read_figures(connection: Connection, accounts: Iterable[int]) -> dict[int, AccountFigures]:
    """Read the running figures of `accounts`; their shards must be locked."""
    rows = await connection.fetch(SQL["account_figures"], list(set(accounts)))
    return {row["id"]: AccountFigures(**dict(row)) for row in rows}


async def record_rate_card(pool: Pool, card_hash: str, body: str) -> None:
    """Keep the text of a rate card, so that every charge made with it can be computed again for ever.

    Raises:
        JournalUnavailable: Postgres did not answer.
    """
    async with journal_answers():
        await pool.execute(SQL["insert_rate_card"], card_hash, body, timeout=COMMAND_SECONDS_MAX)


@dataclass(slots=True)
class JournalWriter:
    """Collects the rows of one transaction and writes them together, a statement a table.

    The shards of all rows must be locked in `positions`, and the figures of all customers be in `figures`.
    Nothing is written before `flush`.
    """

    connection: Connection
    positions: Mapping[int, ShardPosition]
    figures: dict[int, AccountFigures]
    reported: ReportedRows = field(default_factory=ReportedRows)
    made: MadeRows = field(default_factory=MadeRows)
    _journal: list[tuple[Any, ...]] = field(default_factory=list)
    _keys: list[tuple[Any, ...]] = field(default_factory=list)
    _lines: list[tuple[Any, ...]] = field(default_factory=list)
    _usage: list[tuple[Any, ...]] = field(default_factory=list)
    _house: dict[tuple[int, str], int] = field(default_factory=dict)
    _rollups: dict[RollupKey, list[int]] = field(default_factory=dict)
    _superseded: list[tuple[str, int]] = field(default_factory=list)
    _applied: list[tuple[int, int, int | None, int]] = field(default_factory=list)

    def add_transaction(self, shard: int, transaction: Transaction) -> int:
        """Add a journal row, move every balance it touches, and return its number in the shard."""
        position = self.positions[shard]
        position.chain_seq += 1
        position.chain_head = chain(position.chain_head, shard, seq=position.chain_seq, transaction=transaction)
        seq = position.chain_seq
        self._journal.append(
            (
                shard, seq, moment(transaction.settled_at), moment(transaction.occurred_at), transaction.kind, transaction.key, transaction.account,
                [account for account, _ in transaction.legs], [amount for _, amount in transaction.legs],
                transaction.numerator, transaction.rate_card, transaction.detail, position.chain_head,
            )
        )  # fmt: skip
        self._keys.append((key_digest(transaction.key), body_digest(transaction), shard, seq))
        for account, amount in transaction.legs:
            if account.startswith(CUSTOMER):
                self.figures[int(account[len(CUSTOMER) :])].balance -= amount
            else:
                self._house[shard, account] = self._house.get((shard, account), 0) + amount
        return seq

    def add_line(self, account: AccountId, line: StatementLine) -> int:
        """Add the account's next statement line and return its number."""
        figures = self.figures[account]
        figures.n += 1
        figures.statement_balance += line.amount
        figures.active_at = max(figures.active_at, line.created_at)
        self._lines.append(line.row(account, figures.n, balance_after=figures.statement_balance))
        return figures.n

    def add_usage(self, rows: Iterable[tuple[Any, ...]], rollups: Iterable[tuple[RollupKey, tuple[int, ...]]]) -> None:
        """Add the usage events of one charge and what they add to the hourly figures."""
        self._usage.extend(rows)
        for key, counts in rollups:
            self._rollups[key] = [old + new for old, new in zip(self._rollups.get(key, [0] * len(counts)), counts, strict=True)]

    def supersede_usage(self, request_id: str, seq: int) -> None:
        """Mark the usage events of `request_id` that are older than row `seq` of its shard."""
        self._superseded.append((request_id, seq))

    def mark_applied(self, shard: int, due_seq: int, *, n: int | None, epoch: int) -> None:
        """Note that Redis has a change that was due, and which statement line it became."""
        self._applied.append((shard, due_seq, n, epoch))

    async def flush(self) -> None:
        """Write everything. The caller's transaction makes it one."""
        connection = self.connection
        if self._journal:
            await connection.execute(SQL["ensure_months"], list({row[2].replace(day=1, hour=0, minute=0, second=0, microsecond=0) for row in self._journal}))
            await connection.copy_records_to_table("journal", records=self._journal, columns=_JOURNAL_COLUMNS)
            await connection.copy_records_to_table("journal_keys", records=self._keys, columns=_KEY_COLUMNS)
        if self._lines:
            await connection.copy_records_to_table("statement", records=self._lines, columns=StatementLine.COLUMNS)
        if self._usage:
            await connection.copy_records_to_table("usage_events", records=self._usage, columns=_USAGE_COLUMNS)
        await self.reported.flush(connection)
        await self.made.flush(connection)
        if self._superseded:
            await connection.execute(SQL["supersede_usage"], *_columns(self._superseded))
        if self._house:
            await connection.execute(SQL["add_house_balances"], *_columns([(*key, amount) for key, amount in sorted(self._house.items())]))
        if self._rollups:
            await connection.execute(SQL["add_rollups"], *_columns([(*key, *counts) for key, counts in sorted(self._rollups.items())]))
        if self._applied:
            await connection.execute(SQL["mark_dues"], *_columns(self._applied))
        await self._flush_positions()

    async def _flush_positions(self) -> None:
        if self.figures:
            rows = [(item.id, item.balance, item.n, item.statement_balance, item.charged, item.active_at) for item in self.figures.values()]
            await self.connection.execute(SQL["update_accounts"], *_columns(rows))
        if self.positions:
            places = [(item.shard, item.posted_seq, item.due_seq, item.chain_seq, item.chain_head) for item in self.positions.values()]
            await self.connection.execute(SQL["update_shards"], *_columns(places))


async def insert_audit(connection: Connection, *, actor: str, action: str, detail: Mapping[str, object]) -> None:
    """Note who did what to the books, beside the journal."""
    await connection.execute(SQL["insert_audit"], actor, action, json.dumps(detail))


def _columns(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


_JOURNAL_COLUMNS: Final = (
    "shard", "seq", "settled_at", "occurred_at", "kind", "key", "account_id", "accounts", "amounts", "numerator", "rate_card", "detail", "hash",
)  # fmt: skip
_KEY_COLUMNS: Final = ("key_sha256", "body_sha256", "shard", "seq")
_USAGE_COLUMNS: Final = (
    "shard", "account_id", "request_id", "line", "provider", "model", "operation", "input_tokens", "output_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "amount", "estimated", "occurred_at", "settled_at", "seq",
)  # fmt: skip
