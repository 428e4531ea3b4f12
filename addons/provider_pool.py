"""Connections to providers that a worker keeps open between requests, whoever's requests they are.

A connection is here only while nothing is under way on it. One that its provider closes, or that says anything
unasked, is closed; one that nobody needs for a while as well: a provider's own patience must not end first.
"""

import asyncio
import ssl
from collections import defaultdict, deque
from typing import Final

import certifi

from addons.wire import Wire
from telemetry import metrics
from telemetry.tallies import tallies

IDLE_SECONDS_MAX: Final = 20.0
IDLE_MAX: Final = 64  # for each provider

type ProviderKey = tuple[tuple[str, int], bool]  # its address, and whether with TLS


class ProviderPool:
    """The open connections of one worker. `trusted_ca` replaces the public authorities."""

    def __init__(self, trusted_ca: str | None = None) -> None:
        self._trusted_ca = trusted_ca
        self._context: ssl.SSLContext | None = None
        self._idle: defaultdict[ProviderKey, deque[Wire]] = defaultdict(deque)
        self._timers: dict[Wire, asyncio.TimerHandle] = {}

    def take(self, key: ProviderKey) -> Wire | None:
        """Return the connection that was used last and is still open, None where a new one is needed."""
        idle = self._idle[key]
        while idle:
            wire = idle.pop()
            self._timers.pop(wire).cancel()
            if wire.is_open:
                tallies.count(metrics.labelled(metrics.provider_connections_total, "reused"))
                return wire
        return None

    def give(self, key: ProviderKey, wire: Wire) -> None:
        """Keep a connection on which nothing is under way."""
        idle = self._idle[key]
        if not wire.is_open or len(idle) >= IDLE_MAX:
            wire.close()
            return

        def leave() -> None:
            if wire in self._timers:
                self._timers.pop(wire).cancel()
                idle.remove(wire)
            wire.close()

        wire.listen(receive=lambda _: leave(), ended=leave)
        idle.append(wire)
        self._timers[wire] = asyncio.get_running_loop().call_later(IDLE_SECONDS_MAX, leave)

    async def dial(self, key: ProviderKey) -> Wire:
        """Open a new connection, TLS verified where it has TLS.

        Raises:
            OSError: the provider cannot be reached, or its certificate is not trusted.
        """
        (host, port), with_tls = key
        loop = asyncio.get_running_loop()
        if with_tls:
            _, wire = await loop.create_connection(Wire, host, port, ssl=self._tls(), server_hostname=host)
        else:
            _, wire = await loop.create_connection(Wire, host, port)
        tallies.count(metrics.labelled(metrics.provider_connections_total, "opened"))
        return wire

    def close(self) -> None:
        """Close every connection that is kept."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        for idle in self._idle.values():
            for wire in idle:
                wire.close()
            idle.clear()

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self._trusted_ca or certifi.where())
            self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # private authorities often lack what only strictness asks for
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context
