# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""mitmproxy as a library: our own listener mode on a port that several workers share, and a `run` that works on uvloop."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

from mitmproxy import ctx
from mitmproxy.master import Master
from mitmproxy.options import Options
from mitmproxy.optmanager import unset
from mitmproxy.proxy import layer, layers, mode_servers, mode_specs
from mitmproxy.proxy.context import Context

from addons.departures import Departures
from addons.driver import GatewayHandler
from addons.forward_tls import GatewayTls
from addons.hook_table import HookTable
from addons.lane import Lane
from addons.mitmproxy_addons import core, next_layer, proxyserver
from addons.provider_pool import ProviderPool
from addons.wire import Wire

BACKLOG = 1024


class ListenError(Exception):
    """The gateway cannot listen on its address; the text says why."""


class GatewayMode(mode_specs.ReverseMode):
    """`gateway:http://CONTROL@HOST:PORT`: a reverse proxy whose default destination is the control API."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.transport_protocol = "tcp"  # stock would bind UDP too for https


class GatewayServer(mode_servers.AsyncioServerInstance[GatewayMode]):
    """The listener of one worker; the kernel spreads connections over all that share the port."""

    def make_top_layer(self, context: Context) -> layer.Layer:
        return Lane(context) if cast("GatewayMaster", ctx.master).fast_lane else layers.modes.ReverseProxy(context)

    async def listen(self, host: str, port: int) -> list[Any]:
        return await listen_on(self, host, port)


async def listen_on(server: mode_servers.AsyncioServerInstance[Any], host: str, port: int) -> list[Any]:
    """Serve what connects to an address, on our own driver; other workers may listen there too."""
    loop, clients = asyncio.get_running_loop(), set[asyncio.Task[None]]()

    async def serve(wire: Wire) -> None:
        handler = GatewayHandler(ctx.master, wire, ctx.options, server.mode)
        handler.layer = server.make_top_layer(handler.layer.context)
        if isinstance(handler.layer, Lane):
            handler.open_short_way(handler.layer.open_short_way(handler).receive)
        with server.manager.register_connection(handler.client.id, handler):
            await handler.handle_client()

    def accept(wire: Wire) -> None:
        client = loop.create_task(serve(wire), name="client")
        clients.add(client)  # the loop itself holds its tasks weakly
        client.add_done_callback(clients.discard)

    return [await loop.create_server(lambda: Wire(accept), host, port, reuse_port=True, backlog=BACKLOG)]


_UNCHANGEABLE = frozenset({bool, int, str})


class WorkerOptions(Options):
    """mitmproxy copies an option deeply each time one is read, several times a request. What cannot be changed needs no copy."""

    def __getattr__(self, name: str) -> Any:
        option = self.__dict__["_options"].get(name)
        if option is not None:
            value = option._default if option.value is unset else option.value
            if value is None or type(value) in _UNCHANGEABLE:
                return value
        return super().__getattr__(name)


class GatewayMaster(Master):
    """A master that runs without the eager task factory, which uvloop does not know on every Python.

    Its addons are called by table.
    """

    def __init__(self, options: Options, *, pool: ProviderPool, fast_lane: bool) -> None:
        super().__init__(options)
        self.addons = HookTable(self)
        self.pool, self.fast_lane = pool, fast_lane
        self.departures = Departures()
        self.started = asyncio.Event()

    async def run(self) -> None:
        """Serve until `shutdown`.

        Raises:
            ListenError: the address is taken or not ours.
        """
        self.should_exit.clear()
        servers = self.proxyserver.servers
        await self.proxyserver.setup_servers()
        failed = [server for server in servers if not server.is_running]
        if failed:
            await self.done()
            raise ListenError("; ".join(str(server.last_exception) for server in failed))
        try:
            await self.running()
            self.started.set()
            await self.should_exit.wait()
        finally:
            self.pool.close()
            await self.done()

    @property
    def proxyserver(self) -> proxyserver.Proxyserver:
        """The addon that holds listeners and connections."""
        addon: proxyserver.Proxyserver = self.addons.get("proxyserver")
        return addon


OPTIONS: Mapping[str, Any] = {
    "connection_strategy": "lazy",  # the default would dial the control API for every client connection
    "keep_host_header": True,
    "rawtcp": False,
    "websocket": False,
    "validate_inbound_headers": True,
}


def make_master(
    *, modes: Sequence[str], confdir: str, idle_seconds_max: int, trusted_ca: str | None, addons: Sequence[object], fast_lane: bool = True
) -> GatewayMaster:
    """Put mitmproxy together: its own addons that we need, then ours, which must come after NextLayer."""
    master = GatewayMaster(WorkerOptions(), pool=ProviderPool(trusted_ca), fast_lane=fast_lane)
    master.addons.add(core.Core(), proxyserver.Proxyserver(), next_layer.NextLayer(), GatewayTls(), *addons)
    master.options.update(**OPTIONS, mode=list(modes), confdir=confdir, tcp_timeout=idle_seconds_max, ssl_verify_upstream_trusted_ca=trusted_ca)
    return master
