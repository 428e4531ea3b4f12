"""The way to a shard in Redis: scripts, epochs, bounded retries, and the signs that Redis went back in time.

Every script is idempotent by its ids, so a call whose answer was lost may be repeated. What a
caller learns from a failure is never more than that the state is unknown.
"""

import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from ledger.entries import SHARDS
from ledger.errors import BalanceUnavailable, ShardClosed, WrongStore
from ledger.holds import ShardMeta
from ledger.redis_client import connect_redis, wires_of
from ledger.redis_failures import PAUSES, pause_or_raise
from ledger.replicated_wire import WAIT_MS_MAX
from ledger.shard_scripts import Script, epoch_prefix, meta_key, outbox_key, read_scripts

__all__ = ["META_FIELDS", "Answer", "Script", "ShardLink", "connect_redis", "epoch_prefix", "meta_key", "outbox_key", "read_scripts"]

log = structlog.get_logger("ledger")

MEMORY_SHARE_MAX_PERCENT = 75
MEMORY_SAMPLE_SECONDS = 1.0

META_FIELDS = ("epoch", "state", "seq", "due_seq", "posted", "instance", "mode")

Answer = list[Any]  # status, seq, posted, then what the script adds


class ShardLink:
    """Runs scripts against shards and keeps what this process knows of their epochs and numbers."""

    def __init__(self, redis: Redis, *, instance: str) -> None:
        self.redis, self.instance = redis, instance
        self._wire, self._replicated_wire = wires_of(redis)
        self._scripts = read_scripts()
        self._epochs: dict[int, int] = {}
        self._reached: dict[int, tuple[int, int]] = {}  # by shard: epoch and the highest seq seen in it
        self._replicated = False  # whether a replica has to confirm each change, since a failover could forget it
        self.memory_known_until, self.memory_short = 0.0, False  # as `under_pressure` tells, for those to whom a wait is dear

    async def load(self) -> None:
        """Load the scripts, learn the epochs of all open shards, and whether Redis has replicas.

        Raises:
            BalanceUnavailable: Redis did not answer.
            WrongStore: the shards belong to another instance.
        """
        for script in self._scripts.values():
            await self._command("SCRIPT", "LOAD", script.source)
        await self._sample_server()
        await self.read_all_meta()

    def epoch(self, shard: int) -> int:
        """Return the newest epoch known of the shard, 0 where none is."""
        return self._epochs.get(shard, 0)

    def trust_epochs(self, epochs: dict[int, int]) -> None:
        """Take the journal's epochs as lower bounds: an older one in Redis is then a restored copy, and closed."""
        for shard, epoch in epochs.items():
            self._learn_epoch(shard, epoch)

    async def read_meta(self, shard: int) -> ShardMeta | None:
        """Return what Redis knows of a shard; None where it knows nothing (lost or never opened: closed).

        Raises:
            BalanceUnavailable: Redis did not answer.
            ShardClosed: Redis went back behind what this process saw before.
            WrongStore: the shard belongs to another instance.
        """
        floor = self._reached.get(shard)
        return await self._read(shard, await self._command("HMGET", meta_key(shard), *META_FIELDS), floor)

    async def server_id(self) -> str:
        """Return what names this run of the Redis server: another one may have begun with older data."""
        return str((await self._command("INFO", "server")).get("run_id", ""))

    async def read_all_meta(self) -> dict[int, ShardMeta | None]:
        """Return what Redis knows of every shard, in one round trip. A shard that went back in time reads as None.

        Raises:
            BalanceUnavailable: Redis did not answer.
            WrongStore: a shard belongs to another instance.
        """
        floors = dict(self._reached)
        answers = await self._read_plain([("HMGET", meta_key(shard), *META_FIELDS) for shard in range(SHARDS)])
        metas: dict[int, ShardMeta | None] = {}
        for shard, answer in enumerate(answers):
            try:
                metas[shard] = await self._read(shard, answer, floors.get(shard))
            except ShardClosed:
                metas[shard] = None
        return metas

    async def run(self, name: str, shard: int, *arguments: str | int, epoch: int | None = None) -> Answer:
        """Run a script as `run_in` does, for a caller who does not need to know the epoch."""
        _, answer = await self.run_in(name, shard, *arguments, epoch=epoch)
        return answer

    async def run_in(self, name: str, shard: int, *arguments: str | int, epoch: int | None = None) -> tuple[int, Answer]:
        """Run a script in `epoch`, or in the newest one known, which is looked up again when it has passed.

        Returns the epoch it ran in and its answer.

        Raises:
            ShardClosed: the shard is missing, closed, in another epoch, or went back in time; nothing changed
                in the books that a rebuild would not find.
            BalanceUnavailable: Redis did not answer.
        """
        for _ in range(2):
            used = self._epochs.get(shard) if epoch is None else epoch
            if used is None:
                used = await self._current_epoch(shard)
            floor = self._reached.get(shard)
            script, words = self._scripts[name], (meta_key(shard), used, *arguments)
            try:
                answer = _checked(await self._begin(script, words))
            except (RedisError, OSError) as error:
                answer = await self._try_again(error, script, words)
            if answer[0] != b"closed":
                reached = (used, answer[1])
                if floor is not None and reached < floor:
                    await self._doubt(shard, reached, floor)
                if self._reached.get(shard, reached) <= reached:
                    self._reached[shard] = reached
                return used, answer
            if answer[1] and answer[2] == b"open":
                self._learn_epoch(shard, int(answer[1]))
            if epoch is not None or self.epoch(shard) <= used:
                break
        raise ShardClosed(shard)

    async def call(self, name: str, shard: int, *arguments: str | int) -> Answer:
        """Run a script with no regard for epochs, repeating it where the connection was lost.

        Raises:
            BooksUnderPressure: Redis is full and the script is not one that may run all the same.
            BalanceUnavailable: no answer; it may or may not have run.
            BrokenInvariant: the script refused its arguments.
        """
        script, words = self._scripts[name], (meta_key(shard), *arguments)
        try:
            return _checked(await self._begin(script, words))
        except (RedisError, OSError) as error:
            return await self._try_again(error, script, words)

    def _begin(self, script: Script, words: tuple[str | int, ...]) -> Awaitable[Answer]:
        """Ask for a script to be run. By the wire it is asked once, with nothing of ours between: every request does it twice."""
        if self._wire is None or (self._replicated and script.writes):
            return self._evaluate(script, "EVALSHA", script.digest, "1", *words)
        return self._wire.begin(("EVALSHA", script.digest, "1", *words))

    async def _try_again(self, error: Exception, script: Script, words: tuple[str | int, ...]) -> Answer:
        """Do what `call` promises after a first failure."""
        for pause in PAUSES:
            if isinstance(error, NoScriptError):
                return await self._evaluate(script, "EVAL", script.source, "1", *words)
            await pause_or_raise(error, pause)
            try:
                return _checked(await self._begin(script, words))
            except (RedisError, OSError) as another:
                error = another
        raise BalanceUnavailable("Redis is away") from error

    async def under_pressure(self) -> bool:
        """Tell whether Redis has used more than three quarters of its memory; asked at most once a second."""
        now = time.monotonic()
        if now >= self.memory_known_until:
            self.memory_known_until = now + MEMORY_SAMPLE_SECONDS
            await self._sample_server()
        return self.memory_short

    async def _sample_server(self) -> None:
        memory, replication = await self._pipeline([("INFO", "memory"), ("INFO", "replication")])
        limit = int(memory.get("maxmemory", 0))
        self.memory_short = limit > 0 and int(memory["used_memory"]) * 100 > limit * MEMORY_SHARE_MAX_PERCENT
        # Once seen, replicas are waited for until a restart: a Redis that has lost its last one must not be trusted more.
        self._replicated = self._replicated or int(replication.get("connected_slaves", 0)) > 0

    async def _evaluate(self, script: Script, *words: str | int) -> Answer:
        copies = None
        if not (self._replicated and script.writes):
            answer = await (self._ask(self._wire.ask, *words, pooled=False) if self._wire is not None else self._command(*words))
        elif self._replicated_wire is not None:
            answer, copies = await self._ask(self._replicated_wire.ask, *words, pooled=False)
        else:
            answer, copies = await self._pipeline([words, ("WAIT", 1, WAIT_MS_MAX)])
        if copies == 0:
            raise BalanceUnavailable("no replica has the change yet")
        return _checked(answer)

    async def _command(self, *words: str | int) -> Any:
        client: Any = self.redis  # redis-py leaves execute_command untyped
        return await self._ask(client.execute_command, *words)

    async def _pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands, each harmless to repeat, in one round trip. They do not make a transaction."""

        async def send() -> list[Any]:
            pipeline = self.redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return list(await pipeline.execute())

        return list(await self._ask(send))

    async def _read_plain(self, commands: Sequence[tuple[str | int, ...]]) -> list[Any]:
        """Send commands that change nothing, and are answered by texts, numbers and lists alone, in one round trip by the short way."""
        if self._wire is None:
            return await self._pipeline(commands)
        return list(await self._ask(self._wire.ask_each, *commands, pooled=False))

    async def _ask(self, question: Callable[..., Awaitable[Any]], *words: Any, pooled: bool = True) -> Any:
        for pause in PAUSES:
            try:
                return await question(*words)
            except (RedisError, OSError) as error:
                if pooled and pause is not None and isinstance(error, RedisConnectionError):
                    await self._drop_idle_connections()
                await pause_or_raise(error, pause)
        raise BalanceUnavailable("Redis is away")

    async def _drop_idle_connections(self) -> None:
        """Where one connection has died, the idle ones of the pool are probably as dead."""
        with contextlib.suppress(RedisError, OSError):
            await self.redis.connection_pool.disconnect(inuse_connections=False)

    async def _read(self, shard: int, answer: list[bytes | None], floor: tuple[int, int] | None) -> ShardMeta | None:
        texts = [value.decode() for value in answer if value is not None]
        if len(texts) != len(META_FIELDS):
            return None
        epoch, state, seq, due_seq, posted, instance, mode = texts
        meta = ShardMeta(epoch=int(epoch), state=state, seq=int(seq), due_seq=int(due_seq), posted=int(posted), instance=instance, mode=mode)
        if self.instance and instance != self.instance:
            raise WrongStore(f"shard {shard} in Redis belongs to instance {instance}, not to {self.instance}; point LEVEL5_REDIS_URL at the right Redis")
        if state == "open":
            self._learn_epoch(shard, meta.epoch)
            reached = (meta.epoch, meta.seq)
            if floor is not None and reached < floor:
                await self._doubt(shard, reached, floor)
            self._reached[shard] = max(self._reached.get(shard, reached), reached)
        return meta

    async def _current_epoch(self, shard: int) -> int:
        if shard not in self._epochs:
            await self.read_meta(shard)
        if shard not in self._epochs:
            raise ShardClosed(shard)
        return self._epochs[shard]

    def _learn_epoch(self, shard: int, epoch: int) -> None:
        """Epochs only grow: an older one comes from a copy of Redis that was restored."""
        if epoch > self.epoch(shard):
            self._epochs[shard] = epoch

    async def _doubt(self, shard: int, reached: tuple[int, int], floor: tuple[int, int]) -> None:
        """Close the shard when an answer shows less than was known of its epoch before it was asked; an older epoch alone shows nothing.

        `floor` was read before the call: answers of calls that ran side by side may arrive in any order.
        """
        epoch, seq = reached
        if floor[0] == epoch:
            log.error("redis_rolled_back", shard=shard, epoch=epoch, seq=seq, seen=floor[1])
            await self.call("close_shard", shard, str(epoch))
            raise ShardClosed(shard)


def _checked(answer: Any) -> Answer:
    if not isinstance(answer, list) or not answer:
        raise BalanceUnavailable("what answers is not the Redis of the books")
    return answer
