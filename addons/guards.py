"""Hooks that fail closed: mitmproxy logs what a hook raises and lets the request go on, which could be free service."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Protocol

from mitmproxy import http

from addons import refusals
from addons.conduct import CONDUCT
from addons.exchange import Exchange
from telemetry.logs import log


class Ending(Protocol):
    """Whose hooks can end an exchange."""

    async def end(self, exchange: Exchange) -> None:
        """End an exchange, whoever asks first."""


# A hook that has nothing to wait for returns None and is over.
type Hook[Self] = Callable[[Self, http.HTTPFlow], Awaitable[None] | None]


def fails_closed[Self](hook: Hook[Self]) -> Hook[Self]:
    """Wrap a hook that runs before forwarding: mitmproxy would log its exception and forward the request unbilled."""

    def fail(flow: http.HTTPFlow, error: Exception) -> None:
        log.error("hook_failed", hook=hook.__name__, exc_info=error)
        exchange = exchange_of(flow)
        flow.response = exchange.refuse(refusals.unavailable()) if exchange else http.Response.make(503)
        flow.request.headers.pop("expect", None)

    async def finish(awaited: Awaitable[None], flow: http.HTTPFlow) -> None:
        try:
            await awaited
        except Exception as error:
            fail(flow, error)

    @wraps(hook)
    def guarded(self: Self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        try:
            awaited = hook(self, flow)
        except Exception as error:
            fail(flow, error)
            return None
        return None if awaited is None else finish(awaited, flow)

    return guarded


def settles_anyway[Ends: Ending](hook: Hook[Ends]) -> Hook[Ends]:
    """Wrap a hook that runs after forwarding: what it leaves undone is settled by the ending."""

    async def fail(self: Ends, flow: http.HTTPFlow, error: Exception) -> None:
        log.error("hook_failed", hook=hook.__name__, exc_info=error)
        exchange = exchange_of(flow)
        if exchange is not None and exchange.ending is None:
            exchange.failed = True
            exchange.cut(refusals.unavailable())  # a stream that is under way must not run on unwatched
            await self.end(exchange)

    async def finish(self: Ends, awaited: Awaitable[None], flow: http.HTTPFlow) -> None:
        try:
            await awaited
        except Exception as error:
            await fail(self, flow, error)

    @wraps(hook)
    def guarded(self: Ends, flow: http.HTTPFlow) -> Awaitable[None] | None:
        try:
            awaited = hook(self, flow)
        except Exception as error:
            return fail(self, flow, error)
        return None if awaited is None else finish(self, awaited, flow)

    return guarded


def exchange_of(flow: http.HTTPFlow) -> Exchange | None:
    """Return our record of the request, which the first hook has left."""
    exchange: Exchange | None = flow.metadata.get(CONDUCT)
    return exchange
