"""Claiming the two stores: both must belong to the same instance, mode and chain, and Redis must not lose data by design."""

import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from ledger.balances import Balances
from ledger.durability import durability_findings
from ledger.entries import HOUSE_SHARD
from ledger.errors import BalanceUnavailable, WrongStore
from ledger.holds import ShardMeta
from ledger.journal import Pool, journal_answers, journal_transaction
from ledger.queries import SQL

log = structlog.get_logger("ledger")

IDENTITY_KEY: Final = f"l5:{{{HOUSE_SHARD}}}:identity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who a store belongs to; `genesis` names the chain its deposits come from, empty where no vault was opened yet."""

    instance_id: str
    mode: str
    genesis: str


@asynccontextmanager
async def redis_answers() -> AsyncIterator[None]:
    """Turn a Redis that does not answer into BalanceUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise BalanceUnavailable(f"Redis did not answer: {error}") from error


async def redis_command(balances: Balances, *words: str | int) -> Any:
    """Run one plain command.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    client: Any = balances.redis  # its method has no types
    async with redis_answers():
        return await client.execute_command(*words)


async def redis_pipeline(balances: Balances, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
    """Run plain commands of one shard in one round trip.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    client: Any = balances.redis
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    async with redis_answers():
        return list(await pipeline.execute())


async def claim_stores(pool: Pool, balances: Balances, *, mode: str, genesis: str = "") -> str:
    """Check that both stores belong together, initialise them where both are new, and return the instance id.

    A Redis that is empty beside a journal is taken as lost: its shards are rebuilt by the poster (a new one's at once).
    Without `genesis` any chain will do: only who watches one knows it.

    Raises:
        WrongStore: they do not belong together, or Redis may lose data; the text says what to do.
        BalanceUnavailable, JournalUnavailable: a store did not answer.
    """
    await check_redis(balances)
    hot = await read_redis(balances)
    metas = await _read_metas(balances)
    journal = await _read_journal(pool)  # last, as it is written first: a starter beside us never leaves a Redis without a journal here
    if journal is None:
        journal = await _found(pool, hot, metas, Identity(instance_id=uuid.uuid4().hex, mode=mode, genesis=genesis))
    require_match(journal, hot, mode=mode, genesis=genesis)
    _require_own_shards(journal, metas)
    await remember(balances, journal)
    balances.instance = journal.instance_id
    await _open_untouched(pool, balances, journal, metas)
    return journal.instance_id


async def remember(balances: Balances, identity: Identity) -> None:
    """Tell Redis who it belongs to. One who does not know the chain yet never takes its name away.

    Raises:
        BalanceUnavailable: Redis did not answer; the next start tells it.
    """
    await redis_command(balances, "HSET", IDENTITY_KEY, "instance", identity.instance_id, "mode", identity.mode)
    await redis_command(balances, "HSET" if identity.genesis else "HSETNX", IDENTITY_KEY, "genesis", identity.genesis)


async def check_redis(balances: Balances) -> None:
    """Refuse a Redis that may forget balances by itself, and warn where a crash of it may.

    Raises:
        WrongStore: its `maxmemory-policy` evicts.
        BalanceUnavailable: it did not answer.
    """
    for finding in await durability_findings(balances.redis):
        if finding.refuse:
            raise WrongStore(f"Redis: {finding.setting} {finding.text}")
        log.warning("redis_setting", setting=finding.setting, advice=finding.text)


async def _read_journal(pool: Pool) -> Identity | None:
    async with journal_answers():
        row = await pool.fetchrow(SQL["read_instance"])
    return Identity(**dict(row)) if row else None


async def read_redis(balances: Balances) -> Identity | None:
    """Return who Redis says it belongs to, None where it is new or lost all it had.

    Raises:
        BalanceUnavailable: Redis did not answer.
    """
    found: Mapping[bytes, bytes] | list[bytes] = await redis_command(balances, "HGETALL", IDENTITY_KEY)
    pairs = found.items() if isinstance(found, Mapping) else zip(found[::2], found[1::2], strict=True)
    texts = {name.decode(): value.decode() for name, value in pairs}
    return Identity(instance_id=texts["instance"], mode=texts["mode"], genesis=texts.get("genesis", "")) if texts else None


async def _read_metas(balances: Balances) -> dict[int, ShardMeta | None]:
    """Read all shards without a check of their instance: the caller compares, and says more."""
    unnamed = Balances(balances.redis, instance="")
    return await unnamed.read_all_meta()


async def _found(pool: Pool, hot: Identity | None, metas: Mapping[int, ShardMeta | None], new: Identity) -> Identity:
    """Begin a new instance in an empty database. Two starters end up with the same one."""
    foreign = hot.instance_id if hot else next((meta.instance for meta in metas.values() if meta), None)
    if foreign is not None:
        raise WrongStore(
            f"the database is empty, but Redis holds the balances of instance {foreign}: restore the backup of its database "
            "(it then replays what it lacks by itself), or point LEVEL5_REDIS_URL at an empty Redis to begin anew"
        )
    async with journal_transaction(pool) as connection:
        await connection.execute(SQL["insert_instance"], new.instance_id, new.mode, new.genesis)
        await connection.execute(SQL["open_fresh_shards"])
        return Identity(**dict(await connection.fetchrow(SQL["read_instance"])))


def require_match(journal: Identity, hot: Identity | None, *, mode: str, genesis: str) -> None:
    """Refuse stores that do not belong together, or not to this mode and chain.

    Raises:
        WrongStore: the text says what to do.
    """
    if journal.mode != mode:
        raise WrongStore(f"the database holds {journal.mode} books, and this is {mode} mode: point LEVEL5_DATABASE_URL and LEVEL5_HOME at another place")
    _require_chain(journal.genesis, genesis, store="database")
    if hot is not None:
        _require_chain(hot.genesis, genesis or journal.genesis, store="Redis")
    if hot is not None and (hot.instance_id, hot.mode) != (journal.instance_id, journal.mode):
        raise WrongStore(
            f"Redis belongs to instance {hot.instance_id} ({hot.mode}), the database to {journal.instance_id} ({journal.mode}): "
            "point LEVEL5_REDIS_URL at the right Redis, or at an empty one, which is then rebuilt from the journal"
        )


def _require_chain(known: str, wanted: str, *, store: str) -> None:
    """Stores opened without a chain learn it with their first vault, so either side may not know it yet."""
    if known and wanted and known != wanted:
        raise WrongStore(f"the {store} belongs to chain {known}, not to {wanted}: use the stores of that chain, or the RPC providers of this one")


def _require_own_shards(journal: Identity, metas: Mapping[int, ShardMeta | None]) -> None:
    for shard, meta in metas.items():
        if meta is not None and meta.instance != journal.instance_id:
            raise WrongStore(
                f"shard {shard} in Redis belongs to instance {meta.instance}, the database to {journal.instance_id}: point LEVEL5_REDIS_URL at the right Redis"
            )


async def _open_untouched(pool: Pool, balances: Balances, journal: Identity, metas: Mapping[int, ShardMeta | None]) -> None:
    """Open the shards that have no history in either store; one with a history needs a rebuild."""
    async with journal_answers():
        rows = await pool.fetch(SQL["read_shards"])
    for row in rows:
        shard, fresh = row["shard"], row["chain_seq"] == row["due_seq"] == row["posted_seq"] == 0 and row["epoch"] == 1
        if shard != HOUSE_SHARD and fresh and metas.get(shard) is None:
            await balances.open_shard(shard, epoch=1, seq=0, due_seq=0, posted=0, instance=journal.instance_id, mode=journal.mode)
