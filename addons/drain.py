"""Stopping without cutting anybody off: close the listeners, let answers finish, cut what is left at the deadline."""

import asyncio
import time

from mitmproxy.proxy.layer import Layer
from mitmproxy.proxy.layers.http import HttpLayer
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler

from addons.forward_door import ForwardDoor
from addons.lane import Lane
from addons.links import Links
from addons.mitmproxy_addons import Proxyserver
from telemetry.logs import log

STEP_SECONDS = 0.05
LAST_SECONDS_MAX = 10.0


async def drain(proxyserver: Proxyserver, links: Links, *, seconds_max: float) -> None:
    """Return when no connection is left. New ones are refused from the first moment on."""
    for server in proxyserver.servers:
        if server.is_running:
            await server.stop()
    log.info("drain_begun", connections=len(proxyserver.connections), running=len(links.running))
    links.stop_endless()
    if not await _until_idle(proxyserver, links, seconds_max):
        log.warning("drain_deadline", running=len(links.running))
        links.stop_all()
        for handler in list(proxyserver.connections.values()):
            _cancel(handler, "drain deadline")
        await _until_idle(proxyserver, links, LAST_SECONDS_MAX)


async def _until_idle(proxyserver: Proxyserver, links: Links, seconds_max: float) -> bool:
    deadline = time.monotonic() + seconds_max
    while True:
        for handler in list(proxyserver.connections.values()):
            if not _has_streams(handler):
                _cancel(handler, "drain")
        if not proxyserver.connections and not links.running:
            return True
        if time.monotonic() >= deadline:
            return False
        await asyncio.sleep(STEP_SECONDS)


def _has_streams(handler: ProxyConnectionHandler) -> bool:
    return any(_is_busy(one) for one in handler.layer.context.layers)


def _is_busy(one: Layer) -> bool:
    if isinstance(one, HttpLayer):
        return bool(one.streams)
    return (isinstance(one, Lane) and one.is_busy) or (isinstance(one, ForwardDoor) and one.is_unread)


def _cancel(handler: ProxyConnectionHandler, why: str) -> None:
    transport = handler.transports.get(handler.client)
    if transport is not None and transport.handler is not None:
        transport.handler.cancel(why)
