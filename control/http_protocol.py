"""HTTP as the control API speaks it: reports of usage take the short way, and what is no HTTP at all is answered as JSON."""

import asyncio
from typing import Any, Final, cast

from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from control.context import ControlContext
from control.usage_lane import USAGE_PATH, UsageCycle

NO_HTTP: Final = b'{"error":"This is not a request that HTTP/1.1 allows: look at its head, and at its content-length."}'
ANSWER: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\r\n%b"
    % (len(NO_HTTP), NO_HTTP)
)
USAGE_TARGETS: Final = frozenset({USAGE_PATH.encode(), USAGE_PATH.encode() + b"/"})


class ControlProtocol(HttpToolsProtocol):
    """uvicorn's own, but for these two."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        context = cast("ControlContext", cast("Starlette", self.config.app).state.context)
        self._door, self._https = context.usage, context.public_url.startswith("https://")

    def on_headers_complete(self) -> None:
        """Begin a request; one that reports usage without the framework."""
        if self.url not in USAGE_TARGETS or self.parser.get_method() != b"POST" or self.parser.should_upgrade() or self._is_crowded():
            super().on_headers_complete()
            return
        previous = self.cycle
        self.cycle = cycle = UsageCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        cycle.door, cycle.https = self._door, self._https
        if previous is None or previous.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            # It came before the answer to the one before it had left.
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def _is_crowded(self) -> bool:
        """Tell whether uvicorn would refuse the request, which it shall then do."""
        return self.limit_concurrency is not None and max(len(self.connections), len(self.tasks)) >= self.limit_concurrency

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # the parser's own words tell a client little
        """Refuse what cannot be read as a request, and close the connection: nobody knows where the next one would begin."""
        self.transport.write(ANSWER)
        self.transport.close()
