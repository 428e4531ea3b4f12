"""How clients are connected."""

from typing import Final

from control.dashboard import connect
from control.openapi import Endpoint
from control.web.routing import PageRoute


def _page(path: str, summary: str, method: str) -> Endpoint:
    return Endpoint(path=f"/dashboard/{{api_token}}/connect{path}", method=method, summary=summary, tag="pages", media_type="text/html", described=False)


CONNECT_ROUTES: Final[tuple[PageRoute, ...]] = (
    (_page("", "How clients are connected.", "GET"), connect.connect_page),
    (_page("/test", "Sends a test request.", "POST"), connect.send_test),
)
