"""An account's first page."""

from typing import Final

from control.web.routing import PageRoute

OVERVIEW_ROUTES: Final[tuple[PageRoute, ...]] = ()
