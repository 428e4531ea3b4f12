"""`python -m control`: the control API as a process of its own, with settings from the environment."""

import asyncio
import sys

import uvicorn
from config.rate_card import RateCardError, load_rate_card

from config.settings import Settings, SettingsError, load_settings
from control.app import make_app
from control.context import open_context
from telemetry.logs import configure_logs, get_log

ROLE = "control"
CONNECTIONS_MAX = 1024
DRAIN_SECONDS_MAX = 10
KEEP_ALIVE_SECONDS = 75
HEAD_BYTES_MAX = 64 * 1024
BAD_SETTINGS = 2


class Server(uvicorn.Server):
    """Tells the log when the port is open."""

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]  # the socket type does not matter here
        """Open the port."""
        await super().startup(sockets)  # type: ignore[arg-type]
        if self.started:
            get_log().info("control_ready", host=self.config.host, port=self.config.port)


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then finish the running requests."""
    async with open_context(settings, load_rate_card(settings.rates)) as context:
        config = uvicorn.Config(
            make_app(context),
            host=settings.control.host,
            port=settings.control.port,
            log_config=None,
            access_log=False,  # paths hold api_tokens
            proxy_headers=False,  # the peer's address is found by control.peers, which believes nobody unproven
            server_header=False,
            http="httptools",
            ws="none",
            lifespan="on",
            limit_concurrency=CONNECTIONS_MAX,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=DRAIN_SECONDS_MAX,
            h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        )
        await Server(config).serve()


def main() -> int:
    """Run the role; return its exit code."""
    try:
        settings = load_settings()
        configure_logs(settings.log_level, ROLE)
        asyncio.run(serve(settings))
    except (SettingsError, RateCardError) as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
