"""The control API as an ASGI app: the list of its paths, and what surrounds them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from control import accounts, certificate, deposit_claims, descriptions, pages, pay_pages, service, wallet_requests
from control.console.routes import CONSOLE_ROUTES
from control.context import ControlContext
from control.dashboard.connect_routes import CONNECT_ROUTES
from control.dashboard.fund_routes import FUND_ROUTES
from control.dashboard.key_routes import KEY_ROUTES
from control.dashboard.live import Followers
from control.dashboard.overview_routes import OVERVIEW_ROUTES
from control.dashboard.transaction_routes import TRANSACTION_ROUTES
from control.errors import ApiError
from control.faucet import FAUCET_ROUTE
from control.middleware import Envelope
from control.openapi import Endpoint, openapi
from control.paying_schemas import ClaimOpened, ClaimProof, ClaimRequest, ClaimSettled, PayQuery, WalletLabel, WalletRequest, WalletTransaction
from control.schemas import (
    BalanceAnswer,
    HealthAnswer,
    LimitsAnswer,
    PricingAnswer,
    RegisterAnswer,
    RegisterRequest,
    StateAnswer,
    TransactionsAnswer,
    TransactionsQuery,
)
from control.usage_routes import USAGE_ROUTES
from control.web.asset_routes import ASSET_ROUTES
from control.web.error_pages import answer_api_error, answer_http_exception, answer_ledger_error
from ledger.errors import LedgerError

Handler = Callable[[Request], Awaitable[Response]]

ROUTES: Final[tuple[tuple[Endpoint, Handler], ...]] = (
    (Endpoint(path="/health", summary="State of the service.", tag="service", answer=HealthAnswer, extra_answers={503: HealthAnswer}), service.health),
    (Endpoint(path="/healthz", summary="The process lives.", tag="service", answer=StateAnswer), service.alive),
    (Endpoint(path="/readyz", summary="Traffic can be served.", tag="service", answer=StateAnswer, extra_answers={503: StateAnswer}), service.ready),
    (
        Endpoint(path="/ca.pem", summary="What clients of the forward proxy are to trust.", tag="service", media_type="application/x-pem-file", errors=(404,)),
        certificate.certificate,
    ),
    (Endpoint(path="/v1/pricing", summary="Live prices, mark-up included.", tag="service", answer=PricingAnswer), service.pricing),
    (
        Endpoint(path="/v1/limits", summary="How far an account can go; with a token, yours.", tag="service", answer=LimitsAnswer, errors=(401, 503)),
        service.limits,
    ),
    (
        Endpoint(
            path="/v1/register",
            method="POST",
            summary="Open an account. No body is needed.",
            tag="account",
            answer=RegisterAnswer,
            body=RegisterRequest,
            errors=(400, 413, 429, 503),
        ),
        accounts.register,
    ),
    (
        Endpoint(path="/proxy/{api_token}/balance", summary="What the account has.", tag="account", answer=BalanceAnswer, errors=(401, 503)),
        accounts.balance,
    ),
    (
        Endpoint(
            path="/proxy/{api_token}/transactions",
            summary="The account's transactions, newest first.",
            tag="account",
            answer=TransactionsAnswer,
            query=TransactionsQuery,
            errors=(400, 401, 503),
        ),
        accounts.statement,
    ),
    (
        Endpoint(
            path="/proxy/{api_token}/claims",
            method="POST",
            summary="Claim a deposit that named nobody: gives the text to sign with the wallet that sent it.",
            tag="account",
            answer=ClaimOpened,
            body=ClaimRequest,
            errors=(400, 401, 403, 404, 409, 413, 422, 429, 503),
        ),
        deposit_claims.open_claim,
    ),
    (
        Endpoint(
            path="/proxy/{api_token}/claims/{claim_id}",
            method="POST",
            summary="Prove a claim with the wallet's signature: the deposit is credited.",
            tag="account",
            answer=ClaimSettled,
            body=ClaimProof,
            errors=(400, 401, 403, 404, 409, 410, 413, 422, 429, 503),
        ),
        deposit_claims.prove_claim,
    ),
    (
        Endpoint(path="/v1/pay/{deposit_code}", summary="Solana Pay transaction request: who is paid.", tag="paying", answer=WalletLabel, errors=(404, 503)),
        wallet_requests.label,
    ),
    (
        Endpoint(
            path="/v1/pay/{deposit_code}",
            method="POST",
            summary="Solana Pay transaction request: the transaction to sign.",
            tag="paying",
            answer=WalletTransaction,
            query=PayQuery,
            body=WalletRequest,
            errors=(400, 404, 413, 422, 429, 503),
        ),
        wallet_requests.transaction,
    ),
    (
        Endpoint(path="/v1/pay/{deposit_code}", method="OPTIONS", summary="Lets pages of others ask.", tag="paying", media_type="text/plain"),
        wallet_requests.preflight,
    ),
    (
        Endpoint(
            path="/pay/{deposit_code}.svg",
            summary="The Solana Pay link as a QR code.",
            tag="paying",
            media_type="image/svg+xml",
            query=PayQuery,
            errors=(400, 404, 503),
        ),
        pay_pages.qr_code,
    ),
    (
        Endpoint(path="/pay/{deposit_code}", summary="How to pay, for people.", tag="pages", media_type="text/html", query=PayQuery),
        pay_pages.pay_page,
    ),
    (Endpoint(path="/icon.svg", summary="What wallets show beside our name.", tag="paying", media_type="image/svg+xml"), pay_pages.icon),
    *USAGE_ROUTES,
    *ASSET_ROUTES,
    *OVERVIEW_ROUTES,
    *TRANSACTION_ROUTES,
    *FUND_ROUTES,
    *CONNECT_ROUTES,
    *KEY_ROUTES,
    *CONSOLE_ROUTES,
    (Endpoint(path="/dashboard", summary="Where the accounts' pages are.", tag="pages", media_type="text/html"), pages.dashboard_door),
    (Endpoint(path="/dashboard", method="POST", summary="Leads to an account's page.", tag="pages", media_type="text/html", described=False), pages.enter),
    (Endpoint(path="/open", method="POST", summary="Opens an account for a person.", tag="pages", media_type="text/html", described=False), pages.begin),
    (Endpoint(path="/pricing", summary="Prices for people.", tag="pages", media_type="text/html"), pages.price_page),
    (Endpoint(path="/.well-known/agent-service.json", summary="Service descriptor.", tag="descriptions"), descriptions.agent_service),
    (Endpoint(path="/SKILL.md", summary="Skill for agents.", tag="descriptions", media_type="text/markdown"), descriptions.skill),
    (Endpoint(path="/llms.txt", summary="Overview for language models.", tag="descriptions", media_type="text/plain"), descriptions.llms),
    (Endpoint(path="/openapi.json", summary="This description.", tag="descriptions"), openapi),
    (Endpoint(path="/", summary="What this is.", tag="pages", media_type="text/html"), pages.landing),
)


def make_app(context: ControlContext) -> Starlette:
    """Return the app. The caller keeps the context's stores open while it runs."""
    routes = (*ROUTES, FAUCET_ROUTE) if context.settings.mode == "sandbox" else ROUTES
    app = Starlette(
        routes=[Route(endpoint.path, _named(endpoint, handler), methods=[endpoint.method]) for endpoint, handler in routes],
        middleware=[Middleware(Envelope, https=context.public_url.startswith("https://"))],
        exception_handlers={ApiError: answer_api_error, LedgerError: answer_ledger_error, HTTPException: answer_http_exception},
        lifespan=_watch,
    )
    app.router.redirect_slashes = False
    app.state.context = context
    app.state.followers = Followers()
    app.state.endpoints = [endpoint for endpoint, _ in routes]
    return app


def _named(endpoint: Endpoint, handler: Handler) -> Handler:
    """Let the envelope know the route's pattern, which unlike the path holds no token."""

    async def serve(request: Request) -> Response:
        request.scope["level5.route"] = endpoint.path
        return await handler(request)

    return serve


@asynccontextmanager
async def _watch(app: Starlette) -> AsyncIterator[None]:
    """Look after health and chain in the background for as long as the app runs."""
    context: ControlContext = app.state.context
    async with asyncio.TaskGroup() as group:
        watching = [group.create_task(work) for work in (context.monitor.watch(), context.chain.watch(), context.budgets.watch())]
        yield
        for task in watching:
            task.cancel()
        for task in watching:
            with suppress(asyncio.CancelledError):
                await task
