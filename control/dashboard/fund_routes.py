"""How an account is paid into."""

from typing import Final

from control.dashboard import fund_claims, fund_faucet, funds
from control.openapi import Endpoint
from control.web.routing import PageRoute


def _page(path: str, summary: str, method: str = "GET") -> Endpoint:
    return Endpoint(path=f"/dashboard/{{api_token}}/funds{path}", method=method, summary=summary, tag="pages", media_type="text/html", described=False)


FUND_ROUTES: Final[tuple[PageRoute, ...]] = (
    (_page("", "How to pay in, and what came."), funds.funds_page),
    (_page("/pay", "The part that depends on the amount."), funds.pay_part),
    (_page("/now", "The part that changes by itself."), funds.now_part),
    (_page("/claimable", "What a wallet sent without a name."), funds.claimable_part),
    (_page("/claims", "Leads to the form."), fund_claims.claims_door),
    (_page("/claims", "Opens a claim.", "POST"), fund_claims.open_claim),
    (_page("/claims/{claim_id}", "An open claim."), fund_claims.claim_page),
    (_page("/claims/{claim_id}", "Proves a claim.", "POST"), fund_claims.prove_claim),
    (_page("/test-money", "Test money, in the sandbox.", "POST"), fund_faucet.give_test_money),
)
