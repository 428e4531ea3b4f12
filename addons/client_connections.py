# mypy: disable-error-code="no-untyped-call"
# mitmproxy leaves parts of itself untyped.
"""The connections of one client: its own, those that mitmproxy's layers open, and those that the worker keeps open and lends."""

import asyncio
import contextlib
import logging
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Final, Protocol, cast, override

from mitmproxy.connection import Connection, ConnectionState, Server
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionIO

from addons.conduct import Drained, slow_clients
from addons.departures import Departures
from addons.hook_table import HookTable
from addons.light_objects import LightServer
from addons.provider_pool import ProviderKey, ProviderPool
from addons.wire import ClientReader, Wire

IDLE_LOOK_SECONDS_MIN: Final = 0.1
LAST_WORDS_SECONDS_MAX: Final = 30.0  # without a client taking anything of what was written to it before its connection ended


class OpenProvider(commands.OpenConnection):
    """Open a connection to a provider, or take one that the worker keeps open. TLS is the transport's affair, not a layer's."""


class ReleaseProvider(commands.ConnectionCommand):
    """A connection that `OpenProvider` gave is idle: keep it open for others."""


class AnswerRelay(Protocol):
    """The middle of a streamed answer (`relay.Relay`)."""

    provider: Connection

    def pass_on(self, data: bytes) -> bytes | events.Event:
        """Read what the provider sent; return what goes to the client at once, or an event to handle."""


class AnswerReading(Protocol):
    """A layer that reads answers without events where it can (`lane.Lane`)."""

    @property
    def relay(self) -> AnswerRelay | None:
        """What to give the pieces to that come in the middle of a stream."""

    def pass_on(self, provider: Connection, data: bytes) -> bytes | events.Event:
        """Read what comes otherwise."""


class Connections(ProxyConnectionHandler):
    """Holds connections; what arrives on them is told to `feed`."""

    def __init__(self, master: Any, wire: Wire, options: Any, mode: Any) -> None:
        self._outgoing: dict[Any, list[bytes]] = {}
        self.hooks: HookTable = master.addons
        self._short: Callable[[bytes], None] | None = None
        self._pool: ProviderPool = master.pool
        self.departures: Departures = master.departures
        self.is_at_work = False  # the layers handle events at the moment
        self._has_slow_side = self._is_braked = False
        # What mitmproxy uses of a reader and of a writer, these have.
        super().__init__(master, ClientReader(wire), wire.transport, options, mode)

    @abstractmethod
    def feed(self, event: events.Event) -> None:
        """Give the layers an event."""

    # The client

    @override
    async def handle_client(self) -> None:
        """Serve the client until it is gone: mitmproxy's own sequence, in one task where it has three."""
        self._watch_idleness(self.timeout_watchdog.timeout)
        transport = cast("asyncio.Transport", self.transports[self.client].writer)
        await self.handle_hook(server_hooks.ClientConnectedHook(self.client))
        if self.client.error:
            del self.transports[self.client]
            transport.close()
        else:
            await self._serve()
        self._idle_timer.cancel()
        while self.wakeup_timer:
            self.wakeup_timer.pop().cancel()
        self.client.timestamp_end = time.time()
        _see_off(transport)
        self._pace()  # a provider that was not read for this client's sake has perhaps to be read on
        await self.handle_hook(server_hooks.ClientDisconnectedHook(self.client))
        if left := [io.handler for io in self.transports.values() if io.handler is not None]:
            for handler in left:
                handler.cancel("client disconnected")
            await asyncio.wait(left)
        # Handler, layer and watchdog hold one another, and the garbage collector hardly ever looks at what has lived long.
        take_apart: Callable[[], bool] | None = getattr(self.layer, "take_apart", None)
        if take_apart is not None and not self.is_at_work and take_apart():
            self._short = None
            self.timeout_watchdog.__dict__.clear()

    async def _serve(self) -> None:
        """Read from the client to the end. Whoever cancels this task meanwhile closes the connection, and means no more by it."""
        self.feed(events.Start())
        self.transports[self.client].handler = asyncio.current_task()
        try:
            await self.handle_connection(self.client)
        except asyncio.CancelledError as closed:
            closed.__traceback__ = None  # mitmproxy keeps it in the very frames that it leads to
        except Exception:
            self.log("connection handler has crashed", logging.ERROR, exc_info=True)
        while (task := asyncio.current_task()) is not None and task.cancelling():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # where it comes only now
            task.uncancel()

    def _watch_idleness(self, seconds: float) -> None:
        self._idle_timer = asyncio.get_running_loop().call_later(seconds, self._look_at_idleness)

    def _look_at_idleness(self) -> None:
        """Close the connection when nothing has passed on it for long enough, or look again when that may be."""
        left = self.timeout_watchdog.last_activity + self.timeout_watchdog.timeout - time.time()
        self._watch_idleness(max(left, IDLE_LOOK_SECONDS_MIN))
        io = self.transports.get(self.client)
        if left <= 0 and io is not None and io.handler is not None:
            io.handler.cancel("timeout")

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
            if self.is_at_work:
                feed(data)
                return
            self.timeout_watchdog.register_activity()
            short(data)

        return receive

    def brake(self, *, on: bool) -> None:
        """Read no provider, or read them again: the client's layers hold enough that the client has yet to take."""
        self._is_braked = on
        self._pace()

    def _pace(self) -> None:
        """While one side does not take what we write, the others are not read, nor is a client that is slow itself: a slow reader must not fill our memory."""
        wires = {connection: reader.wire for connection, io in self.transports.items() if (reader := cast("ClientReader | None", io.reader)) is not None}
        slow = [connection for connection, wire in wires.items() if wire.is_slow and not wire.transport.is_closing()]
        self._has_slow_side = bool(slow) or self._is_braked
        for connection, wire in wires.items():
            if wire.transport.is_closing():
                continue
            waits_for_client = self._is_braked and self.client in wires and connection is not self.client
            if waits_for_client or any(other is not connection or other is self.client for other in slow):
                wire.transport.pause_reading()
            else:
                wire.transport.resume_reading()
        if self.client in slow:
            slow_clients.add(self.client.id)
        elif self.client.id in slow_clients:
            slow_clients.discard(self.client.id)
            if self.client in wires and not wires[self.client].transport.is_closing():
                self.feed(Drained())

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
        if self._has_slow_side:
            self._pace()

    def _receiver(self, provider: Connection) -> Callable[[bytes], None]:
        """Return what hears of a provider's bytes. Those in the middle of a stream go to the client by the shortest way."""
        lane: AnswerReading | None = cast("Any", self.layer) if hasattr(self.layer, "pass_on") else None
        if lane is None:  # what goes to the client has to pass other layers, such as TLS
            return self._feeder(provider)
        client, watchdog = cast("asyncio.WriteTransport | None", self.transports[self.client].writer), self.timeout_watchdog
        departures = self.departures

        def receive(data: bytes) -> None:
            if self.is_at_work:
                self.feed(events.DataReceived(provider, data))
                return
            relay = lane.relay
            passed = relay.pass_on(data) if relay is not None and relay.provider is provider else lane.pass_on(provider, data)
            if isinstance(passed, events.Event):
                self.feed(passed)
                return
            watchdog.last_activity = time.time()
            if passed and client is not None:
                departures.add(client, passed)

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
        if self._has_slow_side:
            self._pace()
        return wire

    def _close_provider(self, connection: Connection) -> None:
        self._take_back(connection).close()

    def give_back(self, connection: Connection) -> None:
        """A connection that was lent is idle."""
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


def _see_off(transport: asyncio.Transport, unsent_before: int | None = None) -> None:
    """Wait for a connection that ends to have sent its last, for as long as there is less of that each time one looks."""
    unsent = transport.get_write_buffer_size()
    if unsent and unsent_before is not None and unsent >= unsent_before:
        transport.abort()
    elif unsent:
        asyncio.get_running_loop().call_later(LAST_WORDS_SECONDS_MAX, _see_off, transport, unsent)


def _key_of(connection: Any) -> ProviderKey:
    return connection.address, connection.tls
