"""The operator's pages, below /admin."""

from typing import Final

from control.console import accounts, audit, money, overview, prices, sign_in, traffic
from control.console.door import Handler, page
from control.openapi import Endpoint
from control.web.routing import PageRoute


def _page(path: str, handler: Handler, summary: str) -> PageRoute:
    return Endpoint(path=path, summary=summary, tag="pages", media_type="text/html", described=False), page(handler)


def _act(path: str, handler: Handler, summary: str) -> PageRoute:
    return Endpoint(path=path, method="POST", summary=summary, tag="pages", media_type="text/html", described=False), page(handler)


CONSOLE_ROUTES: Final[tuple[PageRoute, ...]] = (
    _page("/admin", overview.show_overview, "The console."),
    _page("/admin/sign-in", sign_in.door, "How to sign in."),
    _page("/admin/oidc/start", sign_in.begin, "Leads to the issuer."),
    _page("/admin/oidc/callback", sign_in.come_back, "Where the issuer leads back to."),
    _page("/admin/link/{link}", sign_in.show_link, "A one-time link."),
    _act("/admin/link/{link}", sign_in.use_link, "Signs in by a link."),
    _act("/admin/sign-out", sign_in.sign_out, "Ends this session."),
    _act("/admin/sign-out-everywhere", sign_in.sign_out_everywhere, "Ends all sessions of this operator."),
    _act("/admin/sessions/{session_id}/end", sign_in.end_session, "Ends a session."),
    _page("/admin/accounts", accounts.list_accounts, "Accounts."),
    _act("/admin/accounts/find", accounts.find_account, "Opens the account that is named."),
    _page("/admin/accounts/{public_id}", accounts.show_account, "One account."),
    _act("/admin/accounts/{public_id}/status", accounts.set_status, "Suspends, activates or closes an account."),
    _act("/admin/accounts/{public_id}/credit", accounts.credit, "Credits an account."),
    _act("/admin/accounts/{public_id}/line", accounts.set_line, "Sets an account's line."),
    _act("/admin/accounts/{public_id}/tier", accounts.set_tier, "Sets an account's tier."),
    _act("/admin/accounts/{public_id}/tokens/{token_id}/revoke", accounts.revoke_token, "Revokes an api_token."),
    _act("/admin/accounts/{public_id}/keys/{key_id}/revoke", accounts.revoke_key, "Revokes an ingest key."),
    _page("/admin/money", money.show_money, "What the house owns and owes, and deposits."),
    _act("/admin/deposits/{signature}/assign", money.assign, "Credits a deposit to an account."),
    _act("/admin/money/resume", money.resume, "Credits deposits again."),
    _page("/admin/traffic", traffic.show_traffic, "What was asked for and earned."),
    _page("/admin/errors", traffic.show_errors, "What went wrong."),
    _page("/admin/prices", prices.show_prices, "The rate card in force."),
    _page("/admin/rate-cards", prices.list_cards, "All rate cards."),
    _page("/admin/rate-cards/{card}", prices.show_card, "One rate card, and what it changed."),
    _page("/admin/audit", audit.show_audit, "Who did what."),
    _page("/admin/audit.csv", audit.export_audit, "The same for a spreadsheet."),
    _page("/admin/sessions", audit.show_sessions, "Who is signed in."),
)
