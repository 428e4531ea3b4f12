"""Who looks at an account's page: whoever has one of its tokens."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from starlette.requests import Request

from control.accounts import owner_standing
from control.context import ControlContext, context_of
from control.errors import ApiError
from control.web.origin import require_same_origin
from ledger.accounts import Account
from ledger.holds import Standing
from ledger.tokens import ApiToken, parse_token


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """The bearer of a token that was good a moment ago. `token_text` is the secret: for addresses on the account's own pages only."""

    context: ControlContext
    token: ApiToken
    token_text: str = field(repr=False)
    account: Account
    standing: Standing

    @property
    def read_only(self) -> bool:
        """Whether this token is for looking only."""
        return self.standing.read_only

    @property
    def address(self) -> str:
        """Return where the account's pages begin."""
        return f"/dashboard/{self.token_text}"


async def visit(request: Request) -> Visitor:
    """Return who asks. Suspended and closed accounts may look too: what they own stays theirs.

    Raises:
        UnknownToken, InactiveAccount: the token is nobody's, or was revoked: 401.
        BalanceUnavailable, JournalUnavailable: a store did not answer: 503.
    """
    return await _visitor(request, find=lambda context, token, _: context.accounts.find(str(token.account)))


async def visit_to_change(request: Request) -> Visitor:
    """Return who asks to change something: with the account's own token, from a page of ours.

    Raises:
        UnknownToken, InactiveAccount, BalanceUnavailable, JournalUnavailable: as in `visit`.
        ApiError: 403 from a page of others, or with a token that is made for looking.
    """
    visitor = await visit(request)
    require_same_origin(request)
    _require_owner(visitor)
    return visitor


async def visit_without_journal(request: Request) -> Visitor:
    """Return who asks as far as Redis knows: the account has no name then, and its own figures are all zero; those of `standing` are exact.

    Raises:
        UnknownToken, InactiveAccount, BalanceUnavailable: as in `visit`.
    """
    return await _visitor(request, find=_what_is_known)


async def _visitor(request: Request, *, find: Callable[[ControlContext, ApiToken, Standing], Awaitable[Account]]) -> Visitor:
    context, text = context_of(request), request.path_params["api_token"]
    token = parse_token(text)
    standing = await owner_standing(context, token)
    return Visitor(context=context, token=token, token_text=text, account=await find(context, token, standing), standing=standing)


async def _what_is_known(context: ControlContext, token: ApiToken, standing: Standing) -> Account:
    return Account(
        id=token.account,
        public_id="",
        shard=token.shard,
        name=None,
        tier="",
        deposit_code=await context.codes.find(token.account) or "not known at the moment",
        status=standing.status,
        line=standing.line,
        balance=0,
        n=0,
        charged=0,
        created_at=datetime.fromtimestamp(0, UTC),
    )


def _require_owner(visitor: Visitor) -> None:
    """Let only those change something who may spend.

    Raises:
        ApiError: 403 for a token that is made for looking.
    """
    if visitor.read_only:
        raise ApiError(403, "read_only_token", message="This token is for looking only. Open the page with the account's own token to change something.")
