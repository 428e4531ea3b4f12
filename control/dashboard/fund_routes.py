"""How an account is paid into."""

from typing import Final

from control.web.routing import PageRoute

FUND_ROUTES: Final[tuple[PageRoute, ...]] = ()
