"""A running cluster: its clock, its HTTP port and its WebSocket port in one event loop."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvicorn
from websockets.asyncio.server import ServerConnection, serve

from sandbox.chain.clock import Pace
from sandbox.chain.cluster import Cluster, Event
from sandbox.chain.controls import Controls
from sandbox.chain.genesis import found
from sandbox.chain.http import CuttableProtocol, make_app
from sandbox.chain.provider import Provider
from sandbox.chain.records import Record
from sandbox.chain.sockets import SocketSession

LOOPBACK: Final = "127.0.0.1"
PROVIDERS: Final = 3
STOP_SECONDS_MAX: Final = 2
PROVIDER_PATH: Final = "/provider/"
CATCH_UP_SLOTS: Final = 25  # of a clock that was held up, as by a machine that slept
PAUSE_SECONDS_MAX: Final = 0.1  # between two looks at whether the clock is to run


class Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process, or the test, decides when to stop."""

    async def run_in(self, listener: socket.socket) -> None:
        """Serve on an open socket until `should_exit`."""
        await self._serve([listener])


@dataclass(slots=True, kw_only=True)
class RunningChain:
    """A cluster that can be reached. Everything is to be used in the event loop it runs in."""

    cluster: Cluster
    controls: Controls
    port: int
    ws_port: int

    def rpc_url(self, provider: int = 1) -> str:
        """Return the HTTP address of a provider."""
        return f"http://{LOOPBACK}:{self.port}{'' if provider == 1 else f'{PROVIDER_PATH}{provider}'}"

    def ws_url(self, provider: int = 1) -> str:
        """Return the WebSocket address of a provider."""
        return f"ws://{LOOPBACK}:{self.ws_port}{'' if provider == 1 else f'{PROVIDER_PATH}{provider}'}"

    def provider(self, number: int = 1) -> Provider:
        """Return a provider, whose `faults` can be switched."""
        return self.controls.provider(number)


@asynccontextmanager
async def run_chain(
    folder: Path | None, *, port: int = 0, ws_port: int = 0, pace: Pace | None = None, ticking: bool = True, providers: int = PROVIDERS
) -> AsyncIterator[RunningChain]:
    """Run the cluster that is in `folder`, or a new one; port 0 takes any free one.

    Raises:
        DamagedLog: the folder's log cannot be read.
        OSError: a port is taken.
    """
    cluster = Cluster(folder, pace=pace)
    try:
        found(cluster)
        controls = Controls(cluster, providers=providers, ticking=ticking)
        with _listen(port) as listener, _listen(ws_port) as ws_listener:
            made = RunningChain(cluster=cluster, controls=controls, port=listener.getsockname()[1], ws_port=ws_listener.getsockname()[1])
            async with _serving(controls, listener, ws_listener=ws_listener):
                yield made
    finally:
        cluster.close()


def _listen(port: int) -> socket.socket:
    return socket.create_server((LOOPBACK, port), backlog=1024)


@asynccontextmanager
async def _serving(controls: Controls, listener: socket.socket, *, ws_listener: socket.socket) -> AsyncIterator[None]:
    server = Server(
        uvicorn.Config(
            make_app(controls),
            log_config=None,
            access_log=False,
            server_header=False,
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=STOP_SECONDS_MAX,
        )
    )
    sessions: set[SocketSession] = set()

    async def talk(connection: ServerConnection) -> None:
        provider = _asked_provider(controls, connection)
        if provider is None or provider.faults.socket_refused:
            await connection.close()
            return
        session = SocketSession(provider, connection)
        sessions.add(session)
        try:
            await session.run()
        finally:
            sessions.discard(session)

    def tell(_: Event, landed: Record | None) -> None:
        for session in list(sessions):
            session.tell(landed)

    controls.cluster.listeners.append(tell)
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group, serve(talk, sock=ws_listener, close_timeout=STOP_SECONDS_MAX):
        serving = group.create_task(server.run_in(listener))
        ticking = group.create_task(_tick(controls))
        while not server.started:
            await asyncio.sleep(0.005)
        try:
            yield
        except BaseException as error:  # raised below, so that the group does not wrap what is not its own
            failure = error
        controls.cluster.listeners.remove(tell)
        ticking.cancel()
        server.should_exit = True
        await serving
    if failure is not None:
        raise failure


def _asked_provider(controls: Controls, connection: ServerConnection) -> Provider | None:
    path = connection.request.path if connection.request is not None else "/"
    number = path.removeprefix(PROVIDER_PATH)
    if number == path:
        return controls.provider(1)
    return controls.provider(int(number)) if number.isdecimal() and controls.has(int(number)) else None


async def _tick(controls: Controls) -> None:
    """Let slots follow one another at the pace, by the clock, so that a late turn is made up for."""
    loop, cluster = asyncio.get_running_loop(), controls.cluster
    due = loop.time()
    while True:
        seconds = cluster.pace.slot_milliseconds / 1000
        if not controls.ticking or not seconds:
            await asyncio.sleep(PAUSE_SECONDS_MAX)
            due = loop.time()
            continue
        due = max(due + seconds, loop.time() - CATCH_UP_SLOTS * seconds)
        await asyncio.sleep(max(0.0, due - loop.time()))
        cluster.tick()
