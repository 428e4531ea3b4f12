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
from collections.abc import Callable
from typing import Any, override

from mitmproxy.connection import Connection, ConnectionState
from mitmproxy.proxy import commands, events, server_hooks
from mitmproxy.proxy.mode_servers import ProxyConnectionHandler
from mitmproxy.proxy.server import ConnectionIO

from addons.hook_table import HookTable


class Wire(asyncio.Protocol):
    """One connection's bytes. It stands where mitmproxy expects a stream reader, whose `read` it has."""

    def __init__(self, accept: Callable[["Wire", asyncio.Transport], None] | None = None) -> None:
        self._accept = accept
        self._early: list[bytes] = []  # what came before anybody listened
        self._receive: Callable[[bytes], None] | None = None
        self._slowed: Callable[[], None] | None = None
        self._lose: Callable[[], None] | None = None
        self._ended = asyncio.get_running_loop().create_future()
        self._lost = False
        self.transport: asyncio.Transport
        self.is_slow = False

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # TCP gives both directions
        if self._accept is not None:
            self._accept(self, self.transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._receive is not None:
            self._receive(data)
        else:
            self._early.append(data)
            self.transport.pause_reading()

    @override
    def eof_received(self) -> bool:
        self._end()
        return True  # the other side may still read: who closes is decided by the layers

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = exc is not None
        self._end()
        if self._lost and self._lose is not None:
            self._lose()

    @override
    def pause_writing(self) -> None:
        self.is_slow = True
        if self._slowed is not None:
            self._slowed()

    @override
    def resume_writing(self) -> None:
        self.is_slow = False
        if self._slowed is not None:
            self._slowed()

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def listen(self, receive: Callable[[bytes], None], *, slowed: Callable[[], None], lose: Callable[[], None]) -> None:
        """Hand what arrives to `receive` from now on; tell when the other side reads too slowly, or is gone."""
        self._receive, self._slowed, self._lose = receive, slowed, lose

    async def read(self, size: int) -> bytes:  # noqa: ARG002  # mitmproxy's signature
        """Let the bytes flow until the other side has sent its last; then return nothing, as a reader does at the end."""
        if self._lost and self._lose is not None:
            self._lose()  # before anybody listened
        early, self._early = self._early, []
        for data in early:
            self._receive(data)  # type: ignore[misc]  # `listen` came before
        if early and not self.transport.is_closing():
            self.transport.resume_reading()
        try:
            await self._ended
        finally:
            self._receive = None
        return b""


class GatewayHandler(ProxyConnectionHandler):
    """One client's connection and those to providers that it needs."""

    def __init__(self, master: Any, wire: Wire, transport: asyncio.Transport, options: Any, mode: Any) -> None:
        self._events: collections.deque[events.Event] = collections.deque()
        self._outgoing: dict[Any, list[bytes]] = {}
        self._busy = False
        self._addons: HookTable = master.addons
        super().__init__(master, wire, transport, options, mode)

    # Connections

    @override
    async def handle_connection(self, connection: Connection) -> None:
        wire: Any = self.transports[connection].reader

        def lose() -> None:
            io = self.transports.get(connection)
            if io is not None and io.handler is not None:
                io.handler.cancel("connection lost")

        wire.listen(lambda data: self.feed(events.DataReceived(connection, data)), slowed=self._pace, lose=lose)
        await super().handle_connection(connection)

    def _pace(self) -> None:
        """While one side does not take what we write, the others are not read: a slow reader must not fill our memory."""
        wires: list[Any] = [io.reader for io in self.transports.values() if io.reader is not None]
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
                transport, wire = await asyncio.get_running_loop().create_connection(Wire, *connection.address, local_addr=connection.sockname)
            except (OSError, asyncio.CancelledError) as error:
                connection.error = str(error) or "connection cancelled"
                await self._fail_to_open(command, data, connection.error)
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
            await self._use(command, data, transport, wire)

    async def _fail_to_open(self, command: commands.OpenConnection, data: server_hooks.ServerConnectionHookData, error: str) -> None:
        await self.handle_hook(server_hooks.ServerConnectErrorHook(data))
        self.feed(events.OpenConnectionCompleted(command, error))

    async def _use(self, command: commands.OpenConnection, data: server_hooks.ServerConnectionHookData, transport: asyncio.Transport, wire: Wire) -> None:
        connection = command.connection
        connection.timestamp_tcp_setup = time.time()
        connection.state = ConnectionState.OPEN
        connection.peername, connection.sockname = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        io: Any = ConnectionIO(handler=asyncio.current_task(), reader=wire, writer=transport)  # type: ignore[arg-type]  # what is used of them, they have
        self.transports[connection] = io
        await self.handle_hook(server_hooks.ServerConnectedHook(data))
        self.feed(events.OpenConnectionCompleted(command, None))
        try:
            await self.handle_connection(connection)
        finally:
            connection.timestamp_end = time.time()
            await self.handle_hook(server_hooks.ServerDisconnectedHook(data))

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
        elif isinstance(command, commands.OpenConnection):
            task = asyncio.get_running_loop().create_task(self.open_connection(command), name="provider connection")
            self.transports[command.connection] = ConnectionIO(handler=task)
        elif isinstance(command, commands.RequestWakeup):
            self.wakeup_timer.add(asyncio.get_running_loop().create_task(self.wakeup(command), name="wakeup"))
        elif isinstance(command, commands.CloseConnection):
            if command.connection in self.transports:
                self._flush()
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
        if not self._addons.is_heard(hook):
            if hook.blocking:
                self._events.append(events.HookCompleted(hook))
            return
        # Started here and now: a hook that does not wait is over when this returns, and no turn of the loop was spent on it.
        task = asyncio.Task(self.hook_task(hook), loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            _RUNNING.add(task)
            task.add_done_callback(_RUNNING.discard)


_RUNNING: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks weakly
