"""Test money for an account, on its page: in sandbox mode, where no real wallet can pay."""

from typing import Annotated, Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.chain_view import SANDBOX_CLUSTER
from control.dashboard.fund_offer import read_asked
from control.dashboard.funds import show_funds
from control.dashboard.visitor import visit_to_change
from control.errors import ApiError
from control.faucet import USDC_MAX, FaucetRequest, ask_faucet
from control.reading import read_form
from control.schemas import Question
from ledger.money import MICROUNITS_PER_USDC

MOST: Final = USDC_MAX // MICROUNITS_PER_USDC


class TestMoneyForm(Question):
    """How much."""

    amount: Annotated[str, Field(max_length=40)] | None = None


async def give_test_money(request: Request) -> Response:
    """Have the simulated chain pay into the account, and lead to where the payment is followed."""
    visitor = await visit_to_change(request)
    if visitor.context.settings.mode != SANDBOX_CLUSTER:
        raise ApiError(404, "not_found", message="There is test money in the sandbox only.")
    asked = read_asked((await read_form(request, TestMoneyForm)).amount)
    try:
        if asked.amount is None or asked.amount > USDC_MAX:
            raise ApiError(400, "invalid_request", message=asked.fault or f"The faucet gives {MOST:,} test USDC at most.")
        given = await ask_faucet(visitor.context, FaucetRequest(usdc=asked.amount, deposit_code=visitor.account.deposit_code))
    except ApiError as error:
        return await show_funds(request, visitor, refusal=error, refused="No test money came")
    return RedirectResponse(f"{visitor.address}/funds?payment={given.signature}#payment", 303)
