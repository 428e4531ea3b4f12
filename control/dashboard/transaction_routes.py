"""An account's transactions, each with its receipt."""

from typing import Final

from control.dashboard.receipt import receipt_page
from control.dashboard.transactions import export, transactions_page
from control.openapi import Endpoint
from control.web.routing import PageRoute


def _endpoint(path: str, summary: str, media_type: str = "text/html") -> Endpoint:
    return Endpoint(path=f"/dashboard/{{api_token}}/{path}", summary=summary, tag="pages", media_type=media_type, described=False)


TRANSACTION_ROUTES: Final[tuple[PageRoute, ...]] = (
    (_endpoint("transactions", "The account's transactions."), transactions_page),
    (_endpoint("transactions.csv", "The account's transactions as a file.", "text/csv"), export),
    (_endpoint("transactions/{n}", "One transaction with its receipt."), receipt_page),
)
