"""Accounts: found by id, code or a part of the name; one of them whole; and what an operator does to it.

No token of an account is ever shown: what is kept of it is not enough to make it, and no page here makes a new one.
"""

import re
import secrets
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from control.console.door import Form, Operator, Words, enter, note, receive, see_other, shown
from control.errors import ApiError
from control.reading import read_query
from ledger.account_values import Account, KeyReused
from ledger.console_reads import HotAccount, audit_of_account, hot_account, search_accounts
from ledger.errors import BalanceUnavailable, NotPostedYet, ShardClosed, UnknownAccount, UnknownKey, UnknownToken
from ledger.money import parse_usdc
from ledger.statements import StatementEntry, transactions

ROWS: Final = 50
LINES: Final = 20
DONE: Final = {
    "active": "The account is active.",
    "suspended": "The account is suspended: its requests are refused, its balance stays.",
    "closed": "The account is closed.",
    "credited": "The account was credited.",
    "again": "This form was sent before: nothing more was credited.",
    "line": "The line was set.",
    "tier": "The tier was set.",
    "token": "The token is revoked.",
    "key": "The key is revoked.",
}
_EXACT: Final = re.compile(r"\d{1,18}|org_[0-9a-f]{16}|[0-9A-Fa-f]{16}|l5_\S+")  # what names one account alone

Reason = Annotated[Words, Field(min_length=1, max_length=300)]
Once = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{22,64}$")]
Status = Literal["active", "suspended", "closed"]


class AccountsQuery(BaseModel):
    """What the list of accounts is asked for."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    q: Words = Field(default="", max_length=200)
    status: Literal["", "active", "suspended", "closed"] = ""
    before: int | None = Field(default=None, gt=0, lt=2**63)


class FindForm(Form):
    """What is looked for: an id, a code, a token or a part of a name."""

    q: Words = Field(default="", max_length=200)


class AccountQuery(BaseModel):
    """What was done a moment ago, one of `DONE`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    done: str = Field(default="", max_length=40)


class StatusForm(Form):
    """Suspend, activate or close."""

    status: Status
    reason: Reason


class CreditForm(Form):
    """Give money. `once` is the form's own name, so that it is given once however often it is sent."""

    usdc: str = Field(min_length=1, max_length=40)
    reason: Reason
    once: Once


class LineForm(Form):
    """How far below zero an account may go; empty for the general rule."""

    usdc: str = Field(default="", max_length=40)
    reason: Reason


class TierForm(Form):
    """What an account may report."""

    tier: str = Field(min_length=1, max_length=40)
    reason: Reason


class RevokeForm(Form):
    """Take a token or key back."""

    reason: Reason


async def list_accounts(request: Request) -> Response:
    """List accounts, the latest first."""
    operator = await enter(request)
    query = read_query(request, AccountsQuery)
    rows = await search_accounts(operator.context.pool, before=query.before, status=query.status or None, part=query.q or None, limit=ROWS + 1)
    return shown(
        request, operator, "accounts.html", title="Accounts", here="/admin/accounts", query=query, accounts=rows[:ROWS],
        older=int(rows[ROWS - 1].id) if len(rows) > ROWS else None,
    )  # fmt: skip


async def find_account(request: Request) -> Response:
    """Open the account that is named, or list those whose name contains the words. Posted, for a token belongs into no address."""
    operator, form = await receive(request, FindForm)
    if _EXACT.fullmatch(form.q):
        try:
            found = await operator.context.accounts.find(form.q)
        except UnknownAccount:
            if form.q.startswith("l5_"):
                raise ApiError(404, "unknown_account", message="No account has this api_token.") from None
        else:
            return see_other(f"/admin/accounts/{found.public_id}")
    return see_other(f"/admin/accounts?{urlencode({'q': form.q})}" if form.q else "/admin/accounts")


async def show_account(request: Request) -> Response:
    """Show one account whole."""
    operator = await enter(request)
    query, context = read_query(request, AccountQuery), operator.context
    account = await _account(request, operator)
    lines = await _lines(operator, account)
    hot, hot_problem = await _hot(operator, account)
    account = await _account(request, operator)  # as it is now that its lines are there
    return shown(
        request, operator, "account.html", title=f"Account {account.id}", here="/admin/accounts", account=account, hot=hot, hot_problem=hot_problem,
        tokens=await context.accounts.list_tokens(account), keys=await context.keys.list(account), lines=lines,
        tiers=[(name, name) for name in context.settings.tiers.names], audit=await audit_of_account(context.pool, account.public_id),
        done=DONE.get(query.done, ""), once=secrets.token_urlsafe(24), pending=context.chain.pending(account.id),
    )  # fmt: skip


async def set_status(request: Request) -> Response:
    """Suspend, activate or close an account."""
    operator, form = await receive(request, StatusForm)
    account = await _account(request, operator)
    await note(request, operator, "account_status", account=account.public_id, before=account.status, status=form.status, reason=form.reason)
    await operator.context.accounts.set_status(account, form.status, form.reason)
    return _back(account, form.status)


async def credit(request: Request) -> Response:
    """Credit an account, once for each form that was shown."""
    operator, form = await receive(request, CreditForm)
    account, amount = await _account(request, operator), _amount(form.usdc)
    if amount <= 0:
        raise ApiError(400, "invalid_amount", message="A credit is more than 0 USDC.")
    await note(request, operator, "account_credit", account=account.public_id, amount=amount, reason=form.reason, key=f"console:{form.once}")
    try:
        made = await operator.context.accounts.credit(account, amount, reason=form.reason, actor=operator.actor, key=f"console:{form.once}")
    except KeyReused:
        message = "This form was sent before with something else in it. Nothing was credited now; open the account again and repeat it there."
        raise ApiError(409, "form_reused", message=message) from None
    except ValueError as error:
        raise ApiError(400, "invalid_amount", message=f"{error}.") from None
    return _back(account, "again" if made.balance_after is None else "credited")


async def set_line(request: Request) -> Response:
    """Set how far below zero an account may go, or give it back to the rule."""
    operator, form = await receive(request, LineForm)
    account, amount = await _account(request, operator), _amount(form.usdc) if form.usdc else None
    if amount is not None and amount < 0:
        raise ApiError(400, "invalid_amount", message="A line is 0 or more USDC; leave it empty for the general rule.")
    await note(request, operator, "account_line", account=account.public_id, before=account.line, line=amount, reason=form.reason)
    await operator.context.accounts.set_line(account, amount)
    return _back(account, "line")


async def set_tier(request: Request) -> Response:
    """Put an account into another tier."""
    operator, form = await receive(request, TierForm)
    account = await _account(request, operator)
    if form.tier not in operator.context.settings.tiers.names:
        raise ApiError(400, "unknown_tier", message="There is no such tier.")
    await note(request, operator, "account_tier", account=account.public_id, before=account.tier, tier=form.tier, reason=form.reason)
    await operator.context.accounts.set_tier(account, form.tier, form.reason)
    return _back(account, "tier")


async def revoke_token(request: Request) -> Response:
    """Take an api_token of the account back."""
    operator, form = await receive(request, RevokeForm)
    account, token_id = await _account(request, operator), request.path_params["token_id"]
    if token_id not in {token.token_id for token in await operator.context.accounts.list_tokens(account)}:
        raise ApiError(404, "unknown_token", message="This account has no such token.")
    await note(request, operator, "token_revoke", account=account.public_id, token=token_id, reason=form.reason)
    try:
        await operator.context.accounts.revoke_token(token_id)
    except UnknownToken:
        raise ApiError(404, "unknown_token", message="This account has no such token.") from None
    return _back(account, "token")


async def revoke_key(request: Request) -> Response:
    """Take an ingest key of the account back."""
    operator, form = await receive(request, RevokeForm)
    account, key_id = await _account(request, operator), request.path_params["key_id"]
    try:
        if not re.fullmatch(r"key_[0-9a-f]{1,32}", key_id):
            raise UnknownKey(key_id)
        await note(request, operator, "ingest_key_revoke", account=account.public_id, key=key_id, reason=form.reason)
        await operator.context.keys.revoke(key_id, account)
    except UnknownKey:
        raise ApiError(404, "unknown_key", message="This account has no such key.") from None
    return _back(account, "key")


async def _account(request: Request, operator: Operator) -> Account:
    public_id = request.path_params["public_id"]
    if not re.fullmatch(r"org_[0-9a-f]{1,32}", public_id):
        raise ApiError(404, "unknown_account", message="There is no such account.")
    return await operator.context.accounts.find(public_id)


async def _hot(operator: Operator, account: Account) -> tuple[HotAccount | None, str]:
    """Return what Redis has, or why it is not known: the rest of the page is the journal's and stands by itself."""
    try:
        return await hot_account(operator.context.balances, account.id, account.shard), ""
    except ShardClosed:
        return None, "Its shard is being rebuilt."
    except BalanceUnavailable:
        return None, "Redis does not answer."


async def _lines(operator: Operator, account: Account) -> list[StatementEntry]:
    """Return the last lines of the statement, with what was charged a moment ago if the journal has it in time."""
    pool, balances = operator.context.pool, operator.context.balances
    try:
        return await transactions(pool, balances, account, limit=LINES)
    except (NotPostedYet, BalanceUnavailable, ShardClosed):
        return await transactions(pool, None, account, limit=LINES)


def _amount(text: str) -> int:
    try:
        return parse_usdc(text)
    except ValueError as error:
        raise ApiError(400, "invalid_amount", message=f"{error}.") from None


def _back(account: Account, done: str) -> Response:
    return see_other(f"/admin/accounts/{account.public_id}?done={done}")
