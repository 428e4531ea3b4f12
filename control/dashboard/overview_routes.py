"""An account's first page."""

from typing import Final

from control.dashboard.live import events
from control.dashboard.overview import kept_file, overview
from control.openapi import Endpoint
from control.web.routing import PageRoute

OVERVIEW_ROUTES: Final[tuple[PageRoute, ...]] = (
    (Endpoint(path="/dashboard/{api_token}", summary="The account's page.", tag="pages", media_type="text/html"), overview),
    (
        Endpoint(path="/dashboard/{api_token}/keep", summary="The account's address as a file.", tag="pages", media_type="text/plain", described=False),
        kept_file,
    ),
    (
        Endpoint(path="/dashboard/{api_token}/events", summary="What happens to the account.", tag="pages", media_type="text/event-stream", described=False),
        events,
    ),
)
