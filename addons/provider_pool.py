"""Connections to providers that a worker keeps open between requests, whoever's requests they are.

A connection is here only while nothing is under way on it. One that its provider closes, or that says anything
unasked, is closed; one that nobody needs for a while as well: a provider's own patience must not end first.
"""

import asyncio
import ssl
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Final

import certifi

from addons.circuit import Circuit
from addons.resumption import ResumingContext, make_context
from addons.wire import Wire
from config.sections import is_loopback_host
from telemetry import metrics
from telemetry.tallies import tallies

IDLE_SECONDS_MAX: Final = 20.0
SWEEP_SECONDS: Final = 2.0  # between two looks for what has been idle too long
IDLE_MAX: Final = 512  # for each provider
WARM_SECONDS_MAX: Final = 5.0
SLOW_SECONDS: Final = 3.0  # a dial that is given up later than this has failed

type ProviderKey = tuple[tuple[str, int], bool]  # its address, and whether with TLS


class CircuitOpen(OSError):
    """The provider could not be reached several times in a row a moment ago; it was not tried."""


class ProviderPool:
    """The open connections of one worker."""

    def __init__(self, trusted_ca: str | None = None, *, spares: Callable[[str], bool] = is_loopback_host) -> None:
        """`trusted_ca` replaces the public authorities. Hosts that `spares` knows are dialled each time: on this machine a refusal costs nothing."""
        self._trusted_ca, self._spares = trusted_ca, spares
        self._context: ResumingContext | None = None
        self._idle: defaultdict[ProviderKey, deque[Wire]] = defaultdict(deque)
        self._idle_count = 0
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._circuits: defaultdict[ProviderKey, Circuit] = defaultdict(Circuit)
        self._fresh: weakref.WeakSet[Wire] = weakref.WeakSet()  # with TLS, whose session is not kept yet

    def take(self, key: ProviderKey) -> Wire | None:
        """Return the connection that was used last and is still open, None where a new one is needed."""
        idle = self._idle[key]
        while idle:
            wire = idle.pop()
            self._count_idle(-1)
            if wire.is_open:
                tallies.count(metrics.labelled(metrics.provider_connections_total, "reused"))
                return wire
        return None

    def give(self, key: ProviderKey, wire: Wire) -> None:
        """Keep a connection on which nothing is under way."""
        if wire in self._fresh:
            self._fresh.discard(wire)
            self._tls().remember(key[0][0], wire.transport.get_extra_info("ssl_object"))
        idle = self._idle[key]
        if not wire.is_open or len(idle) >= IDLE_MAX:
            wire.close()
            return

        def leave() -> None:
            if wire in idle:
                idle.remove(wire)
                self._count_idle(-1)
            wire.close()

        loop = asyncio.get_running_loop()
        wire.idle_since = loop.time()
        idle.append(wire)
        self._count_idle(1)
        wire.listen(receive=lambda _: leave(), ended=leave)
        if self._sweep_timer is None:
            self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep)

    def _count_idle(self, more: int) -> None:
        self._idle_count += more
        tallies.show(metrics.provider_connections_idle, self._idle_count)

    def _sweep(self) -> None:
        """Close what nobody has needed for a while. Those at the left have been idle longest: the one that was used last is lent first."""
        loop = asyncio.get_running_loop()
        for idle in self._idle.values():
            while idle and idle[0].idle_since + IDLE_SECONDS_MAX <= loop.time():
                wire = idle.popleft()
                self._count_idle(-1)
                wire.close()
        self._sweep_timer = loop.call_later(SWEEP_SECONDS, self._sweep) if self._idle_count else None

    async def dial(self, key: ProviderKey) -> Wire:
        """Open a new connection, TLS verified where it has TLS.

        Raises:
            CircuitOpen: the provider was away a moment ago, and was not tried.
            OSError: the provider cannot be reached, or its certificate is not trusted.
        """
        (host, port), _ = key
        if self._spares(host):
            return await self._connect(key)
        circuit, began = self._circuits[key], time.monotonic()
        if not circuit.lets_through(began):
            raise CircuitOpen(f"{host} could not be reached a moment ago")
        try:
            wire = await self._connect(key)
        except asyncio.CancelledError:
            # Who gives up sooner has left; later, the provider was too slow.
            now = time.monotonic()
            circuit.failed(now) if now - began > SLOW_SECONDS else circuit.abandoned()
            raise
        except OSError:
            circuit.failed(time.monotonic())
            raise
        else:
            circuit.succeeded()
            return wire
        finally:
            tallies.show(metrics.labelled(metrics.provider_circuits_open, f"{host}:{port}"), circuit.is_open)

    async def _connect(self, key: ProviderKey) -> Wire:
        (host, port), with_tls = key
        loop = asyncio.get_running_loop()
        if with_tls:
            try:
                _, wire = await loop.create_connection(Wire, host, port, ssl=self._tls(), server_hostname=host)
            except ssl.SSLError:
                self._tls().forget(host)
                raise
            self._fresh.add(wire)
            is_resumed = wire.transport.get_extra_info("ssl_object").session_reused
            tallies.count(metrics.labelled(metrics.provider_handshakes_total, "resumed" if is_resumed else "full"))
        else:
            _, wire = await loop.create_connection(Wire, host, port)
        tallies.count(metrics.labelled(metrics.provider_connections_total, "opened"))
        return wire

    async def warm_up(self, keys: Iterable[ProviderKey]) -> None:
        """Open a connection to each provider, so that the first request after a start waits for no handshake. One that is away is left."""
        for key in keys:
            try:
                async with asyncio.timeout(WARM_SECONDS_MAX):
                    self.give(key, await self.dial(key))
            except (OSError, TimeoutError):
                continue

    def close(self) -> None:
        """Close every connection that is kept."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
            self._sweep_timer = None
        for idle in self._idle.values():
            for wire in idle:
                wire.close()
            idle.clear()

    def _tls(self) -> ResumingContext:
        if self._context is None:
            self._context = make_context(self._trusted_ca or certifi.where())
        return self._context
