"""The operator's pages, below /admin."""

from typing import Final

from control.web.routing import PageRoute

CONSOLE_ROUTES: Final[tuple[PageRoute, ...]] = ()
