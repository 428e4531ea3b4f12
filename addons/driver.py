# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""Between the sockets and mitmproxy's layers: what arrives is handled at once, what leaves is written once.

mitmproxy reads each connection in a task of its own, starts a task for every hook and writes every piece by
itself. Here a connection's bytes go to the layers from the transport's own callback, a hook that nobody hears
costs nothing, one that need not wait runs to its end in place, and the pieces that one event gave rise to leave
in one write. Order, endings and hooks are mitmproxy's own: the handler below replaces how, not what.
"""

import asyncio
import collections
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast, override

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionIO

from addons.hook_table import HookTable
from addons.light_objects import LightServer
from addons.provider_pool import ProviderKey, ProviderPool
from addons.wire import ClientReader, Wire


class OpenProvider(commands.OpenConnection):
    """Open a connection to a provider, or take one that the worker keeps open. TLS is the transport's affair, not a layer's."""


class ReleaseProvider(commands.ConnectionCommand):
    """A connection that `OpenProvider` gave is idle: keep it open for others."""


class GatewayHandler(ProxyConnectionHandler):
    """One client's connection and those to providers that it needs."""

    def __init__(self, master: Any, wire: Wire, options: Any, mode: Any) -> None:
        self._events: collections.deque[events.Event] = collections.deque()
        self._outgoing: dict[Any, list[bytes]] = {}
        self._busy = False
        self.hooks: HookTable = master.addons
        self._short: Callable[[bytes], None] | None = None
        self._pool: ProviderPool = master.pool
        # What mitmproxy uses of a reader and of a writer, these have.
        super().__init__(master, ClientReader(wire), wire.transport, options, mode)

    # The short way, where the lane reads and writes without events

    def open_short_way(self, receive: Callable[[bytes], None]) -> None:
        """Have the client's bytes heard by `receive`, unless layers are at work."""
        self._short = receive

    def borrow(self, host: str, port: int, *, tls: bool) -> tuple[Server, Wire] | None:
        """Lend a connection that the worker keeps open, if there is one."""
        wire = self._pool.take(((host, port), tls))
        if wire is None:
            return None
        connection = wire.lent_as
        if not isinstance(connection, LightServer):
            connection = wire.lent_as = LightServer(address=(host, port), tls=tls)
        self._lend(connection, wire)
        return connection, wire

    def give_back(self, connection: Connection) -> None:
        """A connection that was lent is idle."""
        self._release_provider(connection)

    def write(self, data: bytes) -> None:
        """Send something to the client."""
        io = self.transports.get(self.client)
        if io is not None and io.writer is not None and not io.writer.is_closing():
            io.writer.write(data)

    def close(self) -> None:
        """Close the client's connection, after what is still to be written."""
        self._obey(commands.CloseConnection(self.client))

    def go_on(self, awaited: Awaitable[None], then: Callable[[], None]) -> None:
        """Call `then` when a hook has ended."""
        self._run(self._wait_and_go_on(awaited, then))

    async def _wait_and_go_on(self, awaited: Awaitable[None], then: Callable[[], None]) -> None:
        await awaited
        try:
            then()
        except Exception:
            self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
            self.close()

    # Connections that mitmproxy's layers open

    @override
    async def handle_connection(self, connection: Connection) -> None:
        reader: Any = self.transports[connection].reader

        def lose() -> None:
            io = self.transports.get(connection)
            if io is not None and io.handler is not None:
                io.handler.cancel("connection lost")

        reader.listen(receive=self._client_receiver() if connection is self.client else self._feeder(connection), slowed=self._pace, lost=lose)
        await super().handle_connection(connection)

    def _feeder(self, connection: Connection) -> Callable[[bytes], None]:
        return lambda data: self.feed(events.DataReceived(connection, data))

    def _client_receiver(self) -> Callable[[bytes], None]:
        """Return what hears of the client's bytes."""
        feed, short = self._feeder(self.client), self._short
        if short is None:
            return feed

        def receive(data: bytes) -> None:
            if self._busy or self._events:
                feed(data)
                return
            self.timeout_watchdog.register_activity()
            short(data)

        return receive

    def _pace(self) -> None:
        """While one side does not take what we write, the others are not read: a slow reader must not fill our memory."""
        wires = [reader.wire for io in self.transports.values() if (reader := cast("ClientReader | None", io.reader)) is not None]
        slow = any(wire.is_slow for wire in wires)
        for wire in wires:
            if wire.transport.is_closing():
                continue
            if slow and not wire.is_slow:
                wire.transport.pause_reading()
            else:
                wire.transport.resume_reading()

    @override
    async def open_connection(self, command: commands.OpenConnection) -> None:
        connection, data = command.connection, server_hooks.ServerConnectionHookData(client=self.client, server=command.connection)
        if connection.address is None:
            self.feed(events.OpenConnectionCompleted(command, "no address"))
            return
        await self.handle_hook(server_hooks.ServerConnectHook(data))
        if connection.error:
            await self._fail_to_open(command, data, f"Connection killed: {connection.error}")
            return
        async with self.max_conns[connection.address]:
            connection.timestamp_start = time.time()
            try:
                _, wire = await asyncio.get_running_loop().create_connection(Wire, *connection.address, local_addr=connection.sockname)
            except (OSError, asyncio.CancelledError) as error:
                connection.error = str(error) or "connection cancelled"
                await self._fail_to_open(command, data, connection.error)
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            await self._use(command, data, wire)

    async def _fail_to_open(self, command: commands.OpenConnection, data: server_hooks.ServerConnectionHookData, error: str) -> None:
        await self.handle_hook(server_hooks.ServerConnectErrorHook(data))
        self.feed(events.OpenConnectionCompleted(command, error))

    async def _use(self, command: commands.OpenConnection, data: server_hooks.ServerConnectionHookData, wire: Wire) -> None:
        connection = command.connection
        self._attach(connection, wire, handler=asyncio.current_task())
        await self.handle_hook(server_hooks.ServerConnectedHook(data))
        self.feed(events.OpenConnectionCompleted(command, None))
        try:
            await self.handle_connection(connection)
        finally:
            connection.timestamp_end = time.time()
            await self.handle_hook(server_hooks.ServerDisconnectedHook(data))

    def _attach(self, connection: Connection, wire: Wire, *, handler: "asyncio.Task[None] | None") -> None:
        connection.timestamp_start = connection.timestamp_start or time.time()
        connection.state = ConnectionState.OPEN
        connection.peername, connection.sockname = wire.transport.get_extra_info("peername"), wire.transport.get_extra_info("sockname")
        self.transports[connection] = ConnectionIO(handler=handler, reader=cast("Any", ClientReader(wire)), writer=cast("Any", wire.transport))

    # Connections that the worker keeps open between requests

    def _open_provider(self, command: OpenProvider) -> None:
        wire = self._pool.take(_key_of(command.connection))
        if wire is not None:
            self._lend(command.connection, wire)
            self.feed(events.OpenConnectionCompleted(command, None))
            return
        task = asyncio.get_running_loop().create_task(self._dial_provider(command), name="provider connection")
        self.transports[command.connection] = ConnectionIO(handler=task)

    async def _dial_provider(self, command: OpenProvider) -> None:
        connection, data = command.connection, server_hooks.ServerConnectionHookData(client=self.client, server=command.connection)
        await self.handle_hook(server_hooks.ServerConnectHook(data))
        connection.timestamp_start = time.time()
        try:
            if connection.error:
                raise OSError(connection.error)
            wire = await self._pool.dial(_key_of(connection))
        except (OSError, asyncio.CancelledError) as error:
            self.transports.pop(connection, None)
            connection.error = str(error) or "connection cancelled"
            await self._fail_to_open(command, data, connection.error)
            if isinstance(error, asyncio.CancelledError):
                raise
            return
        connection.timestamp_tls_setup = time.time()
        await self.handle_hook(server_hooks.ServerConnectedHook(data))
        self._lend(connection, wire)
        self.feed(events.OpenConnectionCompleted(command, None))

    def _lend(self, connection: Connection, wire: Wire) -> None:
        self._attach(connection, wire, handler=None)
        wire.listen(receive=self._receiver(connection), ended=lambda: self._provider_ended(connection), slowed=self._pace)

    def _receiver(self, provider: Connection) -> Callable[[bytes], None]:
        """Return what hears of a provider's bytes. Those in the middle of a stream go to the client by the shortest way."""
        pass_on: Callable[[Connection, bytes], bytes | events.Event] | None = getattr(self.layer, "pass_on", None)
        if pass_on is None:  # what goes to the client has to pass other layers, such as TLS
            return self._feeder(provider)
        client, watchdog = self.transports[self.client].writer, self.timeout_watchdog

        def receive(data: bytes) -> None:
            if self._busy or self._events:
                self.feed(events.DataReceived(provider, data))
                return
            passed = pass_on(provider, data)
            if isinstance(passed, events.Event):
                self.feed(passed)
                return
            watchdog.last_activity = time.time()
            if passed and client is not None and not client.is_closing():
                client.write(passed)

        return receive

    def _provider_ended(self, connection: Connection) -> None:
        if connection in self.transports:
            self._close_provider(connection)
            self.feed(events.ConnectionClosed(connection))

    def _take_back(self, connection: Connection) -> Wire:
        """Return the wire of a connection that was lent; it is nobody's now."""
        wire = cast("ClientReader", self.transports.pop(connection).reader).wire
        connection.state = ConnectionState.CLOSED
        self._outgoing.pop(wire.transport, None)
        return wire

    def _close_provider(self, connection: Connection) -> None:
        self._take_back(connection).close()

    def _release_provider(self, connection: Connection) -> None:
        wire = self._take_back(connection)
        if not wire.transport.is_closing():
            wire.transport.resume_reading()  # it may have waited for our client
        self._pool.give(_key_of(connection), wire)

    @override
    async def handle_hook(self, hook: commands.StartHook) -> None:
        await self.hooks.handle_lifecycle(hook)
        if isinstance(hook, server_hooks.ClientDisconnectedHook):
            for connection in [connection for connection, io in self.transports.items() if io.handler is None and connection is not self.client]:
                self._close_provider(connection)

    # Events and commands

    @override
    async def server_event(self, event: events.Event) -> None:
        self.feed(event)

    def feed(self, event: events.Event) -> None:
        """Give the layers an event and do what they say. What happens meanwhile waits for its turn: layers are not re-entrant."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        self.timeout_watchdog.register_activity()
        try:
            while self._events:
                for command in self.layer.handle_event(self._events.popleft()):
                    self._obey(command)
        except Exception:
            self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
        finally:
            self._busy = False
            self._flush()
        if self._events:  # left behind by a crash
            self.feed(self._events.popleft())

    def _obey(self, command: commands.Command) -> None:
        if type(command) is commands.SendData:
            io = self.transports.get(command.connection)
            if io is not None and io.writer is not None:
                self._outgoing.setdefault(io.writer, []).append(command.data)
        elif isinstance(command, commands.StartHook):
            self._start_hook(command)
        elif isinstance(command, OpenProvider):
            self._open_provider(command)
        elif isinstance(command, ReleaseProvider):
            self._release_provider(command.connection)
        elif isinstance(command, commands.OpenConnection):
            task = asyncio.get_running_loop().create_task(self.open_connection(command), name="provider connection")
            self.transports[command.connection] = ConnectionIO(handler=task)
        elif isinstance(command, commands.RequestWakeup):
            self.wakeup_timer.add(asyncio.get_running_loop().create_task(self.wakeup(command), name="wakeup"))
        elif isinstance(command, commands.CloseConnection):
            if command.connection not in self.transports:
                return  # it is closed already
            self._flush()
            if self.transports[command.connection].handler is None and command.connection is not self.client:
                self._close_provider(command.connection)
            else:
                self.close_connection(command.connection, isinstance(command, commands.CloseTcpConnection) and command.half_close)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"unknown command {command}")

    def _flush(self) -> None:
        if self._outgoing:
            outgoing, self._outgoing = self._outgoing, {}
            for transport, pieces in outgoing.items():
                if not transport.is_closing():
                    transport.write(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _start_hook(self, hook: commands.StartHook) -> None:
        if not self.hooks.is_heard(hook):
            if hook.blocking:
                self._events.append(events.HookCompleted(hook))
            return
        # Started here and now: a hook that does not wait is over when this returns, and no turn of the loop was spent on it.
        rest = self.hooks.trigger_now(hook)
        if rest is None:
            if hook.blocking:
                self._events.append(events.HookCompleted(hook))
            return
        self._run(self._finish_hook(hook, rest))

    @staticmethod
    def _run(work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            _RUNNING.add(task)
            task.add_done_callback(_RUNNING.discard)

    async def _finish_hook(self, hook: commands.StartHook, rest: Awaitable[None]) -> None:
        await rest
        if hook.blocking:
            self.feed(events.HookCompleted(hook))


def _key_of(connection: Any) -> ProviderKey:
    return connection.address, connection.tls


_RUNNING: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks weakly
