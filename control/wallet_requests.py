"""Solana Pay transaction requests: a wallet asks who is paid, then for the transaction to sign.

Wallets also run in browsers, on pages of others, so these answers may be read from everywhere; they hold no secret and need none.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import caller_network, context_of
from control.errors import ApiError, from_ledger
from control.paying import label_of, require_payable
from control.paying_schemas import PayQuery, WalletLabel, WalletRequest, WalletTransaction
from control.reading import read_body, read_query
from control.solana_pay import read_amount, write_amount
from ledger.errors import LedgerError

Handler = Callable[[Request], Awaitable[Response]]

FROM_EVERYWHERE: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "Content-Type, Authorization, Content-Encoding, Accept-Encoding",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


def for_wallets(handler: Handler) -> Handler:
    """Let pages of others read the answers of `handler`, errors included, which carry their text where wallets look for it."""

    async def serve(request: Request) -> Response:
        try:
            response = await handler(request)
        except (ApiError, LedgerError) as error:
            response = _refusal(error if isinstance(error, ApiError) else from_ledger(error))
        response.headers.update(FROM_EVERYWHERE)
        return response

    return serve


@for_wallets
async def preflight(_request: Request) -> Response:
    """Answer a browser that asks whether a page of others may ask."""
    return Response()


@for_wallets
async def label(request: Request) -> Response:
    """Tell a wallet who is paid."""
    context = context_of(request)
    await require_payable(context, request.path_params["deposit_code"])
    return JSONResponse(WalletLabel(label=label_of(context), icon=f"{context.public_url}/icon.svg").model_dump())


@for_wallets
async def transaction(request: Request) -> Response:
    """Give a wallet the transaction that pays into an account."""
    from control.wallet_transactions import build_transaction

    context = context_of(request)
    await context.pay_limit.require(caller_network(request), "too_many_payments", what="transactions … for one address")
    account, pay_to = await require_payable(context, request.path_params["deposit_code"])
    wish, asked = await read_body(request, WalletRequest), read_query(request, PayQuery)
    text = asked.amount or wish.amount
    if text is None:
        raise ApiError(400, "amount_missing", message="Say how much in the address: ?amount=<USDC>, such as ?amount=5.")
    if pay_to.vault is None:
        raise ApiError(503, "deposits_closed", message="The vault has not been checked yet. Ask again in a minute.", headers={"Retry-After": "60"})
    amount = read_amount(text)
    written = await build_transaction(context.rpc, pay_to.vault, payer=wish.account, deposit_code=account.deposit_code, amount=amount)
    message = f"Deposit {write_amount(amount)} USDC to the {label_of(context)} account {account.deposit_code}"
    return JSONResponse(WalletTransaction(transaction=written, message=message).model_dump())


def _refusal(error: ApiError) -> Response:
    body = {"error": {"code": error.code, "message": error.message, "details": error.details}, "message": error.message}
    return JSONResponse(body, error.status, headers=error.headers)
