"""`python -m control`: the control API as a process of its own, with settings from the environment."""

import telemetry.lean_start  # noqa: F401  # before anything else is imported

# isort: split

import asyncio
import signal
import sys
from types import FrameType
from typing import cast

import uvicorn
import uvloop
from starlette.applications import Starlette

from config.rate_card import RateCardError, load_rate_card
from config.settings import Settings, SettingsError, load_settings
from control.app import make_app
from control.claim import claim_when_they_answer
from control.context import ControlContext, open_context
from control.http_protocol import ControlProtocol
from ledger.errors import WrongStore
from telemetry.lean_end import leave
from telemetry.logs import configure_logs, get_log

ROLE = "control"
CONNECTIONS_MAX = 1024
DRAIN_SECONDS_MAX = 10
TICK_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 75
HEAD_BYTES_MAX = 64 * 1024
BAD_SETTINGS = 2


class Server(uvicorn.Server):
    """Tells the log when the port is open. `wrong_store` is why it had to stop, if it had."""

    wrong_store: WrongStore | None = None

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that a signal asks us to stop."""
        super().handle_exit(sig, frame)
        self._loop.call_soon_threadsafe(self._told.set)

    def stop(self) -> None:
        """Stop as for a signal."""
        self.should_exit = True
        self._told.set()

    async def main_loop(self) -> None:
        """Do uvicorn's chore of every second until we are told to stop. It would look ten times a second, all day."""
        while not await self.on_tick(0):
            try:
                async with asyncio.timeout(TICK_SECONDS):
                    await self._told.wait()
            except TimeoutError:
                continue

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # the socket type does not matter here
        """Open the port."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            get_log().info("control_ready", host=self.config.host, port=self.config.port)

    async def shutdown(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # as above
        """Let open pages go, which would not leave by themselves, and then the rest."""
        cast("Starlette", self.config.app).state.followers.close()
        await super().shutdown(sockets)  # type: ignore[arg-type]


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests.

    Raises:
        WrongStore: the stores belong to another instance or mode.
    """
    async with open_context(settings, load_rate_card(settings.rates)) as context:
        config = uvicorn.Config(
            make_app(context),
            host=settings.control.host,
            port=settings.control.port,
            log_config=None,
            access_log=False,  # paths hold api_tokens
            proxy_headers=False,  # the peer's address is found by control.peers, which believes nobody unproven
            server_header=False,
            http=ControlProtocol,
            ws="none",
            lifespan="on",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        )
        server = Server(config)
        # uvicorn raises the signal that stopped it once more afterwards, which would kill us before the stores are closed.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ignore)
        async with asyncio.TaskGroup() as group:
            claiming = group.create_task(_claim(context, server))
            await server.serve()
            claiming.cancel()
        if server.wrong_store is not None:
            raise server.wrong_store


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the server has stopped already."""


async def _claim(context: ControlContext, server: Server) -> None:
    try:
        await claim_when_they_answer(context)
    except WrongStore as error:
        get_log().error("wrong_store", reason=str(error))
        server.wrong_store = error
        server.stop()


def main() -> int:
    """Run the role; return its exit code."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level, ROLE)
        uvloop.run(serve(settings))
    except (SettingsError, RateCardError, WrongStore) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    leave(main)
