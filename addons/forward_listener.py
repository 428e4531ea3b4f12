# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The forward door's listener: the same sockets, driver and streams as the gateway's, behind a CONNECT and TLS."""

from typing import Any, cast

from mitmproxy import ctx
from mitmproxy.proxy import layer, mode_servers, mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.proxy.layers.http import HTTPMode

from addons.assembly import control_host
from addons.forward_door import ForwardDoor
from addons.lane import Lane
from addons.layers import GatewayLayer
from addons.listener import GatewayMaster, listen_on
from config.settings import Settings


def modes_of(settings: Settings) -> list[str]:
    """Return the doors that a worker opens, as mitmproxy writes them."""
    gateway, forward = settings.gateway, settings.forward
    doors = [f"gateway:http://{control_host(settings)}:{settings.control.port}@{gateway.host}:{gateway.port}"]
    return [*doors, f"forward@{forward.host}:{forward.port}"] if forward.enabled else doors


class ForwardMode(mode_specs.RegularMode):
    """`forward@HOST:PORT`: the forward door."""


class ForwardServer(mode_servers.AsyncioServerInstance[ForwardMode]):
    """The listener of one worker."""

    def make_top_layer(self, context: Context) -> layer.Layer:
        fast_lane = cast("GatewayMaster", ctx.master).fast_lane
        return ForwardDoor(context, inside=_lane_or_layers if fast_lane else _layers)

    async def listen(self, host: str, port: int) -> list[Any]:
        return await listen_on(self, host, port)


def _lane_or_layers(context: Context) -> layer.Layer:
    """Return what serves a tunnel: the lane for HTTP/1.1, mitmproxy's layers for HTTP/2."""
    return _layers(context) if context.client.alpn == b"h2" else Lane(context, otherwise=_layers)


def _layers(context: Context) -> layer.Layer:
    return GatewayLayer(context, HTTPMode.transparent)
