"""An account's transactions, each with its receipt."""

from typing import Final

from control.web.routing import PageRoute

TRANSACTION_ROUTES: Final[tuple[PageRoute, ...]] = ()
