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
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast, override

from mitmproxy.proxy import commands, events
from mitmproxy.proxy.server import ConnectionIO

from addons.client_connections import Connections, OpenProvider, ReleaseProvider
from addons.connections import Brake
from addons.wire import Wire


class GatewayHandler(Connections):
    """One client's connection and those to providers that it needs."""

    def __init__(self, master: Any, wire: Wire, options: Any, mode: Any) -> None:
        self._events: collections.deque[events.Event] = collections.deque()
        super().__init__(master, wire, options, mode)

    # The short way, where the lane reads and writes without events

    def open_short_way(self, receive: Callable[[bytes], None]) -> None:
        """Have the client's bytes heard by `receive`, unless layers are at work."""
        self._short = receive

    def write(self, data: bytes) -> None:
        """Send something to the client."""
        io = self.transports.get(self.client)
        if io is not None and io.writer is not None:
            self.departures.add(cast("asyncio.WriteTransport", io.writer), data)

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

    # Events and commands

    @override
    async def server_event(self, event: events.Event) -> None:
        self.feed(event)

    def feed(self, event: events.Event) -> None:
        """Give the layers an event and do what they say. What happens meanwhile waits for its turn: layers are not re-entrant."""
        self._events.append(event)
        if self.is_at_work:
            return
        self.is_at_work = True
        self.timeout_watchdog.register_activity()
        try:
            while self._events:
                for command in self.layer.handle_event(self._events.popleft()):
                    self._obey(command)
        except Exception:
            self.log("mitmproxy has crashed!", logging.ERROR, exc_info=True)
        finally:
            self.is_at_work = False
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
            self.give_back(command.connection)
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
        elif isinstance(command, Brake):
            self.brake(on=command.on)
        elif isinstance(command, commands.Log):
            self.log(command.message, command.level)
        else:
            raise TypeError(f"unknown command {command}")

    def _flush(self) -> None:
        self.departures.leave()
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
        asyncio.Task(_held(work), loop=asyncio.get_running_loop(), eager_start=True)

    async def _finish_hook(self, hook: commands.StartHook, rest: Awaitable[None]) -> None:
        await rest
        if hook.blocking:
            self.feed(events.HookCompleted(hook))


async def _held(work: Coroutine[Any, Any, None]) -> None:
    """Do `work` in a task that is held until it is done. To be told by the loop that it is would cost a turn of it."""
    task = asyncio.current_task()
    _RUNNING.add(task)
    try:
        await work
    finally:
        _RUNNING.discard(task)


_RUNNING: set[asyncio.Task[None] | None] = set()  # the loop itself holds its tasks weakly
