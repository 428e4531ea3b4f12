"""An account's own affairs: opening it, its balance, its statement."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import ControlContext, caller_network, context_of
from control.errors import ApiError
from control.reading import read_body, read_query
from control.schemas import BalanceAnswer, FundingInstructions, RegisterAnswer, RegisterRequest, TransactionLine, TransactionsAnswer, TransactionsQuery
from ledger.errors import InactiveAccount, LedgerError
from ledger.holds import Standing
from ledger.statements import transactions
from ledger.tokens import ApiToken, parse_token
from telemetry import metrics
from telemetry.logs import get_log

REVOKED = "revoked"


async def register(request: Request) -> Response:
    """Open an account with an api_token, and say how to fund it."""
    context = context_of(request)
    wish = await read_body(request, RegisterRequest)
    await _admit(request, context)
    try:
        opened = await context.accounts.create(name=wish.name)
    except LedgerError:
        metrics.registrations_total.labels("unavailable").inc()
        raise
    metrics.registrations_total.labels("created").inc()
    get_log().info("account_registered", account_id=opened.account.id, request_id=request.scope.get("level5.request_id"))
    answer = RegisterAnswer(
        api_token=opened.api_token,
        deposit_code=opened.account.deposit_code,
        status="pending_deposit",
        instructions=funding_instructions(context.public_url, opened.api_token, opened.account.deposit_code),
    )
    return JSONResponse(answer.model_dump())


async def balance(request: Request) -> Response:
    """Show what an account has. Inactive ones may look too: what they own stays theirs."""
    text = request.path_params["api_token"]
    standing = await context_of(request).balances.standing(parse_token(text))
    answer = BalanceAnswer(
        api_token=text,
        usdc_balance=standing.balance,
        is_active=standing.status == "active",
        held=standing.held,
        available=standing.available,
        pending_deposits=0,
    )
    return JSONResponse(answer.model_dump())


async def statement(request: Request) -> Response:
    """Show an account's transactions, those of the caller's last request included."""
    context, text = context_of(request), request.path_params["api_token"]
    token = parse_token(text)
    query = read_query(request, TransactionsQuery)
    await owner_standing(context, token)
    lines = await find_lines(context, token, query)
    answer = TransactionsAnswer(api_token=text, page=query.page, limit=query.limit, transactions=lines)
    return JSONResponse(answer.model_dump(mode="json"))


async def owner_standing(context: ControlContext, token: ApiToken) -> Standing:
    """Return the figures of an account to the bearer of one of its tokens, suspended and closed accounts included.

    Raises:
        InactiveAccount: the token was revoked, so whoever has it is not the owner any more.
    """
    standing = await context.balances.standing(token)
    if standing.status == REVOKED:
        raise InactiveAccount(REVOKED)
    return standing


async def find_lines(context: ControlContext, token: ApiToken, query: TransactionsQuery) -> list[TransactionLine]:
    """Return the lines of the statement that `query` asks for."""
    account = await context.accounts.find(str(token.account))
    found = await transactions(
        context.pool,
        context.balances,
        account,
        page=query.page,
        limit=query.limit,
        order=query.order,
        before=query.before,
        type=query.type,
        model=query.model,
        since=query.since,
        until=query.until,
    )
    return [TransactionLine.model_validate(line, from_attributes=True) for line in found]


def funding_instructions(public_url: str, api_token: str, deposit_code: str) -> FundingInstructions:
    """Return how to pay in. Deposits on chain are off, so the operator credits accounts by hand."""
    return FundingInstructions(
        contract_address=None,
        dashboard_url=f"{public_url}/dashboard/{api_token}",
        deposit_address=None,
        usdc_mint=None,
        memo=deposit_code,
        solana_pay_url=None,
        how_to_fund=how_to_fund(deposit_code),
    )


def how_to_fund(deposit_code: str) -> str:
    """Say in words how money gets onto an account."""
    return (
        f"On-chain deposits are off here. Pay the operator as agreed and give the deposit code {deposit_code}; "
        f"the operator credits it with: level5 credit {deposit_code} <usdc> --reason <why>"
    )


async def _admit(request: Request, context: ControlContext) -> None:
    """Count this registration against its network's limit.

    Raises:
        ApiError: 429 with Retry-After.
    """
    try:
        await context.register_limit.require(caller_network(request), "too_many_registrations", what="registrations … from one address")
    except ApiError:
        metrics.registrations_total.labels("limited").inc()
        raise
