"""Kept-alive connections to one server, shared by all threads of a process."""

import base64
import http.client
import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from plutus_agent.timed_sockets import TimedSocket

IDLE_MAX = 8
# Servers commonly close an idle connection after five seconds.
IDLE_SECONDS_MAX = 4.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server is, and the proxy on the way there if the environment names one.

    `base` is what every request's path begins with: the whole origin where a proxy is asked in the clear.
    """

    secure: bool
    host: str
    port: int
    base: str
    origin: str
    proxy: tuple[str, int] | None = None
    proxy_headers: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def read(url: str) -> "Address":
        """Read an http(s) address; `origin`, what errors show, has no user information.

        Raises:
            ValueError: it is no such address.
        """
        parts = urlsplit(url.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("remote must be an address such as https://plutus.example.org")
        secure = parts.scheme == "https"
        port, path = parts.port or (443 if secure else 80), parts.path.rstrip("/")
        place = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        origin = f"{parts.scheme}://{place}" + (f":{parts.port}" if parts.port else "")
        proxy = _proxy_for(parts)
        if proxy is None:
            return Address(secure, parts.hostname, port, path, origin + path)
        where = (proxy.hostname or "", proxy.port or 80)
        return Address(secure, parts.hostname, port, path if secure else origin + path, origin + path, where, _proxy_headers(proxy))


def _proxy_for(parts: SplitResult) -> SplitResult | None:
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass

    found = getproxies_environment().get(parts.scheme)
    if not found or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    return proxy if proxy.hostname and proxy.scheme == "http" else None


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode("ascii")}


class _Timed:
    """Puts the whole exchange of a connection under one deadline."""

    sock: TimedSocket | None
    used = False
    idle_since = 0.0

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # mixed into the connections of http.client below
        self.sock = TimedSocket(self.sock)  # type: ignore[arg-type]  # what they made is a plain socket


class PlainConnection(_Timed, http.client.HTTPConnection):  # type: ignore[misc]  # http.client expects a socket; ours does all it asks of one
    """A connection in the clear."""


class SecureConnection(_Timed, http.client.HTTPSConnection):  # type: ignore[misc]  # as above
    """A connection under TLS."""


Connection = PlainConnection | SecureConnection
_all_pools: "weakref.WeakSet[ConnectionPool]" = weakref.WeakSet()


class ConnectionPool:
    """Idle connections to one address. After a fork the child begins with none."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._idle: list[Connection] = []
        _all_pools.add(self)

    def take(self, deadline: float, *, fresh: bool = False) -> Connection:
        """Return an idle connection that still lives, or a new one that connects on its first request."""
        while not fresh:
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            if kept is None:
                break
            if kept.sock is not None and time.monotonic() - kept.idle_since < IDLE_SECONDS_MAX and kept.sock.is_quiet():
                kept.sock.deadline = deadline
                return kept
            kept.close()
        return self._new(max(0.001, deadline - time.monotonic()))

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        connection.used, connection.idle_since = True, time.monotonic()
        with self._lock:
            if connection.sock is not None and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def forget(self) -> None:
        """Begin anew in the child of a fork: the connections are the parent's."""
        idle, self._idle, self._lock = self._idle, [], threading.Lock()
        for connection in idle:
            if connection.sock is not None:
                connection.sock.abandon()

    def _new(self, seconds: float) -> Connection:
        address = self.address
        host, port = address.proxy or (address.host, address.port)
        if not address.secure:
            return PlainConnection(host, port, timeout=seconds)
        connection = SecureConnection(host, port, timeout=seconds)
        if address.proxy is not None:
            connection.set_tunnel(address.host, address.port, headers=dict(address.proxy_headers))
        return connection


def _forget_all() -> None:
    for pool in list(_all_pools):
        pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
