"""The page by which an account is paid into: how, what is on its way, what came, and what came without a name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Final

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from control.chain_view import SANDBOX_CLUSTER
from control.dashboard.fund_lines import STEPS, DepositLine, Progress, deposit_lines, progress_of
from control.dashboard.fund_offer import AMOUNTS_OFFERED, Asked, Offer, closed_words, explorer_link, find_offer, read_asked
from control.dashboard.visitor import Visitor, visit
from control.errors import ApiError
from control.paying_schemas import PublicKey, TransactionSignature
from control.reading import read_query
from control.schemas import Question
from control.web.rendering import render

DEPOSITS_SHOWN: Final = 20
TITLE: Final = "Add funds"
DEPOSIT_ID_MAX: Final = 2**63 - 1


class FundsQuery(Question):
    """What the address of the page may say. The amount is read later: what is wrong with it is said beside its field."""

    amount: Annotated[str, Field(max_length=40)] | None = None
    payment: TransactionSignature | None = None
    before: Annotated[int, Field(ge=1, le=DEPOSIT_ID_MAX)] | None = None


class WalletQuery(Question):
    """Whose payments without a name are looked for."""

    wallet: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """What changes while somebody watches: figures, the payment that is followed, the list of deposits."""

    balance: int
    available: int
    pending: int
    progress: Progress | None
    lines: list[DepositLine]
    older: str | None
    is_on: bool
    is_waiting: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Paying:
    """How the account is paid into, or why it is not: `closed` then says it; `is_on` tells whether it ever is on chain."""

    asked: Asked
    offer: Offer | None
    closed: str
    is_on: bool
    has_faucet: bool


async def funds_page(request: Request) -> Response:
    """Show how to pay in, and what came of it."""
    return await show_funds(request, await visit(request))


async def show_funds(request: Request, visitor: Visitor, *, refusal: ApiError | None = None, refused: str = "", claimed: str = "") -> Response:
    """Return the page; with the `refusal` of what was asked on it: `refused` is its title, `claimed` what was typed in."""
    query = FundsQuery() if refusal is not None else read_query(request, FundsQuery)
    return render(
        request,
        "dashboard/funds.html",
        title=TITLE,
        status=200 if refusal is None else refusal.status,
        headers={} if refusal is None else refusal.headers,
        visitor=visitor,
        paying=await _paying(visitor, query),
        now=await _now(visitor, query),
        refusal=refusal,
        refused=refused,
        claimed=claimed,
        amounts=AMOUNTS_OFFERED,
        steps=STEPS,
        explorer_link=_explorer(visitor),
    )


async def pay_part(request: Request) -> Response:
    """Return the part of the page that depends on the amount, for its script."""
    visitor = await visit(request)
    paying = await _paying(visitor, read_query(request, FundsQuery))
    return render(request, "dashboard/fund_pay.html", title=TITLE, visitor=visitor, paying=paying)


async def now_part(request: Request) -> Response:
    """Return the part of the page that changes by itself, for its script."""
    visitor = await visit(request)
    now = await _now(visitor, read_query(request, FundsQuery))
    return render(request, "dashboard/fund_now.html", title=TITLE, visitor=visitor, now=now, steps=STEPS, explorer_link=_explorer(visitor))


async def claimable_part(request: Request) -> Response:
    """Return what a wallet sent without naming an account, for the page's script. All of it can be read on the chain too."""
    visitor = await visit(request)
    wallet = read_query(request, WalletQuery).wallet
    found = await visitor.context.deposits.set_aside_from(wallet, limit=DEPOSITS_SHOWN)
    return render(request, "dashboard/fund_claimable.html", title=TITLE, visitor=visitor, found=found, wallet=wallet)


async def _now(visitor: Visitor, query: FundsQuery) -> Now:
    """Gather what changes. The balance is read last, so that it has what is shown as credited."""
    deposits, account = visitor.context.deposits, visitor.account
    progress = await follow(visitor, query.payment) if query.payment else None
    waiting = await deposits.on_their_way(account.id) if query.before is None else []
    found = await deposits.of_account(account.id, before=query.before, limit=DEPOSITS_SHOWN + 1)
    standing = await visitor.context.balances.standing(visitor.token)
    shown, known = found[:DEPOSITS_SHOWN], {one.signature for one in found}
    pending = [one for one in waiting if one.signature not in known]  # what was recorded between the two questions is in the list
    is_due = any(one.state == "due" for one in shown)
    return Now(
        balance=standing.balance,
        available=standing.available,
        pending=sum(one.amount for one in pending),
        progress=progress,
        lines=deposit_lines(pending, shown),
        older=f"{visitor.address}/funds?before={shown[-1].id}#deposits" if len(found) > len(shown) else None,
        is_on=visitor.context.chain.is_on,
        is_waiting=bool(pending) or is_due or (progress is not None and not progress.is_over),
    )


async def follow(visitor: Visitor, signature: str) -> Progress:
    """Say how far a payment has come. A provider is asked only while the books do not know the end."""
    context = visitor.context
    trace = await context.deposits.trace(signature)
    look = await context.payments.look(signature) if trace.deposit is None and trace.move is None and context.chain.is_on else None
    return progress_of(signature, trace, look, account=visitor.account.id, deposit_code=visitor.account.deposit_code)


async def _paying(visitor: Visitor, query: FundsQuery) -> Paying:
    context, account, asked = visitor.context, visitor.account, read_asked(query.amount)
    await context.chain.look()
    return Paying(
        asked=asked,
        offer=find_offer(context, account, amount=asked.amount),
        closed=closed_words(context, account),
        is_on=context.chain.is_on,
        has_faucet=context.settings.mode == SANDBOX_CLUSTER,
    )


def _explorer(visitor: Visitor) -> Callable[[str], str | None]:
    return partial(explorer_link, visitor.context.chain.cluster)
