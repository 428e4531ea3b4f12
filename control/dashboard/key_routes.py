"""An account's keys, tokens and workspaces."""

from typing import Final

from control.web.routing import PageRoute

KEY_ROUTES: Final[tuple[PageRoute, ...]] = ()
