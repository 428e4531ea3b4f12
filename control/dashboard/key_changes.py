"""What the forms of the page of keys do. A secret is shown in the answer to the form that made it, and never again."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control.dashboard.key_schemas import BudgetForm, KeyForm, NothingForm, RotateForm, TokenForm
from control.dashboard.keys import Problem, require_open, show_keys, to_keys
from control.dashboard.visitor import Visitor, visit_to_change
from control.errors import ApiError
from control.reading import read_form
from control.web.rendering import render
from ledger.account_values import KeyReused, Token
from ledger.errors import UnknownKey, UnknownToken, UnknownWorkspace
from ledger.money import parse_usdc
from ledger.tokens import TokenScope
from telemetry.logs import get_log

ALREADY_MADE: Final = (
    "This form was sent before, and what it made was shown then: a secret is shown once. Revoke it if you did not keep it, and make another one."
)


async def create_token(request: Request) -> Response:
    """Make a token and show it, this once."""
    visitor = await visit_to_change(request)
    require_open(visitor)
    form = await read_form(request, TokenForm)
    try:
        text = await _make_token(visitor, form.token_name, TokenScope(form.scope), wish=form.wish)
    except ValueError as error:
        return await show_keys(request, visitor, problem=Problem(place="token", message=f"{error}.", text=form.token_name or ""))
    return _shown_token(request, visitor, text, name=form.token_name, scope=TokenScope(form.scope), old=None)


async def rotate_token(request: Request) -> Response:
    """Make a token that does what another one does, and show it with the question whether that one may go."""
    visitor = await visit_to_change(request)
    require_open(visitor)
    form = await read_form(request, RotateForm)
    old = await _token_of(visitor, request.path_params["token_id"])
    text = await _make_token(visitor, old.name, TokenScope(old.scope), wish=form.wish)
    return _shown_token(request, visitor, text, name=old.name, scope=TokenScope(old.scope), old=old)


async def revoke_token(request: Request) -> Response:
    """Refuse a token from now on; never the one that the page is open with, which would shut the door behind itself."""
    visitor = await visit_to_change(request)
    await read_form(request, NothingForm)
    token = await _token_of(visitor, request.path_params["token_id"])
    if token.digest == visitor.token.digest:
        message = "This page is open with that token. Make another one, open the page with it, and revoke this one there."
        raise ApiError(409, "token_in_use", message=message)
    await visitor.context.accounts.revoke_token(token.token_id, visitor.account, keep_one=True)
    get_log().info("token_revoked", account_id=visitor.account.id, token_id=token.token_id)
    return to_keys(visitor, "rotated" if "rotated" in request.query_params else "token_revoked")


async def create_key(request: Request) -> Response:
    """Make an ingest key and show its secret, this once."""
    visitor = await visit_to_change(request)
    require_open(visitor)
    form = await read_form(request, KeyForm)
    try:
        made = await visitor.context.keys.create(visitor.account, form.key_name, once=form.wish)
    except ValueError as error:
        return await show_keys(request, visitor, problem=Problem(place="key", message=f"{error}.", text=form.key_name or ""))
    except KeyReused:
        raise ApiError(409, "made_before", message=ALREADY_MADE) from None
    get_log().info("ingest_key_created", account_id=visitor.account.id, key_id=made.key_id)
    return render(request, "dashboard/key_made.html", title="A new ingest key", visitor=visitor, made=made, name=form.key_name)


async def revoke_key(request: Request) -> Response:
    """Refuse an ingest key from now on."""
    visitor = await visit_to_change(request)
    await read_form(request, NothingForm)
    try:
        await visitor.context.keys.revoke(request.path_params["key_id"], visitor.account)
    except UnknownKey:
        raise ApiError(404, "unknown_key", message="This account has no such key. It may have been another one's.") from None
    get_log().info("ingest_key_revoked", account_id=visitor.account.id, key_id=request.path_params["key_id"])
    return to_keys(visitor, "key_revoked")


async def set_budget(request: Request) -> Response:
    """Note what a workspace is meant to cost a month."""
    visitor = await visit_to_change(request)
    form = await read_form(request, BudgetForm)
    workspace_id = request.path_params["workspace_id"]
    try:
        amount = None if form.budget is None else parse_usdc(form.budget.replace(",", ""))
        await visitor.context.workspaces.set_budget(visitor.account, workspace_id, amount)
    except ValueError as error:
        return await show_keys(request, visitor, problem=Problem(place=workspace_id, message=f"{error}.", text=form.budget or ""), page=form.page)
    except UnknownWorkspace:
        raise ApiError(404, "unknown_workspace", message="This account has no such workspace.") from None
    return to_keys(visitor, "budget" if amount else "no_budget", form.page)


async def _make_token(visitor: Visitor, name: str | None, scope: TokenScope, *, wish: str) -> str:
    """Make a token and return its text.

    Raises:
        ApiError: 409, this very wish was granted before.
        TooManyTokens: the account has as many as it may have.
        ValueError: the name is not printable.
    """
    try:
        text, token_id = await visitor.context.accounts.create_token(visitor.account, name, scope=scope, once=wish)
    except KeyReused:
        raise ApiError(409, "made_before", message=ALREADY_MADE) from None
    get_log().info("token_created", account_id=visitor.account.id, token_id=token_id, scope=scope.value)
    return text


async def _token_of(visitor: Visitor, token_id: str) -> Token:
    """Return a token of the visitor's account that still works.

    Raises:
        ApiError: 404 for any other.
    """
    try:
        return await visitor.context.accounts.find_token(visitor.account, token_id)
    except UnknownToken:
        raise ApiError(404, "unknown_token", message="This account has no such token, or not any more.") from None


def _shown_token(request: Request, visitor: Visitor, text: str, *, name: str | None, scope: TokenScope, old: Token | None) -> Response:
    """Show a new token. A full one in the place of the one in use is asked to revoke that itself, which proves that it was kept and works."""
    in_use = old is not None and old.digest == visitor.token.digest
    return render(
        request,
        "dashboard/token_made.html",
        title="A new token",
        visitor=visitor,
        text=text,
        name=name,
        read_only=scope is TokenScope.READ_ONLY,
        old=old,
        in_use=in_use,
        revoke_from=f"/dashboard/{text}" if in_use else visitor.address,
    )
