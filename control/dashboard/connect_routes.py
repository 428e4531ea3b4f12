"""How clients are connected."""

from typing import Final

from control.web.routing import PageRoute

CONNECT_ROUTES: Final[tuple[PageRoute, ...]] = ()
