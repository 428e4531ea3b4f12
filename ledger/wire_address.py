"""Where Redis is and how it wants to be greeted, read from a client of redis-py so that both agree."""

import ssl
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection

NAME = "level5"


@dataclass(frozen=True, slots=True, kw_only=True)
class WireAddress:
    """A server reached by TCP, with or without TLS, or by a unix socket (`path`)."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    tls: ssl.SSLContext | None = None
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    name: str = NAME
    connect_seconds_max: float
    command_seconds_max: float

    def greeting(self) -> list[tuple[str, ...]]:
        """Return what to say first on a connection. The last of it makes sure that Redis answers at all."""
        words: list[tuple[str, ...]] = []
        if self.password is not None:
            words.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.database:
            words.append(("SELECT", str(self.database)))
        return [*words, ("CLIENT", "SETNAME", self.name), ("PING",)]


def read_address(pool: ConnectionPool) -> WireAddress | None:
    """Return the address that the pool connects to; None for a way of connecting that only redis-py knows.

    That is a class of connections of its own, a provider of credentials, or a function to run on connecting;
    none of them can come from a URL.
    """
    kind, options = pool.connection_class, pool.connection_kwargs
    if kind not in {Connection, SSLConnection, UnixDomainSocketConnection} or options.get("credential_provider") or options.get("redis_connect_func"):
        return None
    limits = {
        "connect_seconds_max": float(options["socket_connect_timeout"]),
        "command_seconds_max": float(options["socket_timeout"]),
    }
    return WireAddress(
        host=options.get("host") or "localhost",
        port=int(options.get("port") or 6379),
        path=options.get("path") if kind is UnixDomainSocketConnection else None,
        tls=_tls_of(kind(**options)) if kind is SSLConnection else None,
        database=int(options.get("db") or 0),
        username=options.get("username") or None,
        password=options.get("password") or None,
        name=options.get("client_name") or NAME,
        **limits,
    )


def _tls_of(connection: Any) -> ssl.SSLContext:
    """Return the settings that redis-py has read from the URL: authorities, own certificate, checks."""
    context: ssl.SSLContext = connection.ssl_context.get()
    return context
