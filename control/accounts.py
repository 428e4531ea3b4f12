"""An account's own affairs: opening it, its balance, its statement."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import ControlContext, caller_network, context_of
from control.errors import ApiError
from control.paying import funding_instructions
from control.reading import read_body, read_query
from control.schemas import BalanceAnswer, FundingInstructions, RegisterAnswer, RegisterRequest, TransactionLine, TransactionsAnswer, TransactionsQuery
from ledger.accounts import NewAccount
from ledger.entries import AccountId
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
    opened = await open_account(request, name=wish.name)
    await context.chain.look()
    answer = RegisterAnswer(
        api_token=opened.api_token,
        deposit_code=opened.account.deposit_code,
        status="pending_deposit",
        instructions=funding_instructions(context, opened.api_token, opened.account.deposit_code),
    )
    return JSONResponse(answer.model_dump(exclude_unset=True))


async def open_account(request: Request, *, name: str | None) -> NewAccount:
    """Open an account for whoever asks, within the limit of their network.

    Raises:
        ApiError: 429, too many were opened from there.
        BalanceUnavailable, JournalUnavailable: a store did not answer.
    """
    context = context_of(request)
    await _admit(request, context)
    try:
        opened = await context.accounts.create(name=name)
    except LedgerError:
        metrics.registrations_total.labels("unavailable").inc()
        raise
    metrics.registrations_total.labels("created").inc()
    context.codes.remember(opened.account.id, opened.account.deposit_code)
    get_log().info("account_registered", account_id=opened.account.id, request_id=request.scope.get("level5.request_id"))
    return opened


async def balance(request: Request) -> Response:
    """Show what an account has, and how to add to it. Inactive ones may look too: what they own stays theirs."""
    context, text = context_of(request), request.path_params["api_token"]
    token = parse_token(text)
    standing = await context.balances.standing(token)
    answer = BalanceAnswer(
        api_token=text,
        usdc_balance=standing.balance,
        is_active=standing.status == "active",
        held=standing.held,
        available=standing.available,
        pending_deposits=await context.chain.still_pending(token.account),  # asked after the balance, so that nothing is in both
        **({"instructions": await _instructions(context, text, account=token.account)} if context.chain.is_on else {}),
    )
    return JSONResponse(answer.model_dump(exclude_unset=True))


async def _instructions(context: ControlContext, text: str, *, account: AccountId) -> FundingInstructions | None:
    """Return how to pay in, None where the deposit code is not known while the journal is away."""
    code = await context.codes.find(account)
    return None if code is None else funding_instructions(context, text, code)


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
