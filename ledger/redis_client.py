"""The client that the books use: redis-py for all that is rare, and beside it a wire for what every request needs."""

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from ledger.redis_wire import RedisWire
from ledger.replicated_wire import ReplicatedWire
from ledger.wire_address import read_address

CONNECTIONS_MAX = 32
CONNECT_SECONDS_MAX = 2.0
COMMAND_SECONDS_MAX = 2.0  # a disk that stalls for a moment must not turn paying requests away


class BooksRedis(Redis):
    """A client of redis-py with wires to the same server, for changes that wait for a replica one of their own."""

    wire: RedisWire | None = None
    replicated: ReplicatedWire | None = None

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close all connections; the wires are not opened again."""
        for wire in (self.wire, self.replicated):
            if wire is not None:
                await wire.aclose()
        await super().aclose(close_connection_pool)


def connect_redis(url: str, *, command_seconds_max: float = COMMAND_SECONDS_MAX) -> Redis:
    """Return a client with bounded waits and a bounded number of connections. It repeats nothing by itself.

    Schemes are redis, rediss and unix; redis-py refuses others with a ValueError. A cluster is not one of them.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=command_seconds_max,
        socket_connect_timeout=CONNECT_SECONDS_MAX,
        socket_timeout=command_seconds_max,
        decode_responses=False,
        retry=Retry(NoBackoff(), 0),
    )
    client = BooksRedis(connection_pool=pool)
    client.auto_close_connection_pool = True
    address = read_address(pool)
    if address is not None:
        client.wire, client.replicated = RedisWire(address), ReplicatedWire(RedisWire(address))
    return client


def wires_of(redis: Redis) -> tuple[RedisWire | None, ReplicatedWire | None]:
    """Return the wires beside a client, None where it has none: then redis-py does everything."""
    return (redis.wire, redis.replicated) if isinstance(redis, BooksRedis) else (None, None)
