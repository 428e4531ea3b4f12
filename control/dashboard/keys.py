"""The page of what opens an account: its api_tokens, the ingest keys of those who report to it, and the workspaces they report for."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from control.dashboard.key_schemas import WISH_CHARACTERS, KeysQuery
from control.dashboard.visitor import Visitor, visit
from control.errors import ApiError
from control.reading import read_query
from control.web.rendering import render
from ledger.account_values import Token
from ledger.ingest_values import KeyRow, WorkspaceUse

TITLE: Final = "Keys and tokens"
WORKSPACES_SHOWN: Final = 50
SEE_OTHER: Final = 303
TOKENS, INGEST_KEYS, WORKSPACES = "tokens", "ingest-keys", "workspaces"  # the parts of the page


@dataclass(frozen=True, slots=True)
class Done:
    """What was done, said in the part of the page where it was: a form leads back there."""

    place: str
    text: str


DONE: Final[Mapping[str, Done]] = {
    "token_revoked": Done(TOKENS, "The token is revoked: whoever has it is refused from now on."),
    "rotated": Done(TOKENS, "The old token is revoked, and this page is open with the new one. Keep its address."),
    "key_revoked": Done(INGEST_KEYS, "The key is revoked: whoever has it is refused from now on."),
    "budget": Done(WORKSPACES, "The budget is set."),
    "no_budget": Done(WORKSPACES, "The workspace has no budget any more."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the page lists. `before` and `after` are addresses of other pages of workspaces."""

    tokens: tuple[Token, ...]
    revoked_tokens: tuple[Token, ...]
    keys: tuple[KeyRow, ...]
    revoked_keys: tuple[KeyRow, ...]
    workspaces: tuple[WorkspaceUse, ...]
    month: datetime
    page: int
    before: str | None
    after: str | None

    @property
    def spenders(self) -> int:
        """How many tokens could spend."""
        return sum(token.scope == "full" for token in self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What was wrong with a form: `place` says with which, `text` what was typed."""

    place: str
    message: str
    text: str = ""


async def keys_page(request: Request) -> Response:
    """Show what opens the account."""
    visitor = await visit(request)
    return await show_keys(request, visitor)


async def show_keys(request: Request, visitor: Visitor, *, problem: Problem | None = None, page: int = 1) -> Response:
    """Return the page, with what was wrong with a form of it."""
    query = KeysQuery(page=page) if problem is not None else read_query(request, KeysQuery)
    return render(
        request,
        "dashboard/keys.html",
        title=TITLE,
        status=200 if problem is None else 422,
        visitor=visitor,
        opened=await _opened(visitor, query.page),
        wish=new_wish(),
        done=DONE.get(query.done or "", Done("", "")),
        problem=problem or Problem(place="", message=""),
    )


def require_open(visitor: Visitor) -> None:
    """Let nothing new be made for an account that is closed.

    Raises:
        ApiError: 409.
    """
    if visitor.standing.status == "closed":
        raise ApiError(409, "account_closed", message="This account is closed: nothing new can be made for it.")


def to_keys(visitor: Visitor, done: str, page: int = 1) -> Response:
    """Lead back to the page, to the part of it that changed."""
    listed = f"&page={page}" if page > 1 else ""
    return RedirectResponse(f"{visitor.address}/keys?done={done}{listed}#{DONE[done].place}", SEE_OTHER)


def new_wish() -> str:
    """Return the name of what a form may do once."""
    return secrets.token_hex(WISH_CHARACTERS // 2)


def month_began() -> datetime:
    """Return when the present month began (UTC)."""
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


async def _opened(visitor: Visitor, page: int) -> Opened:
    context, account, month = visitor.context, visitor.account, month_began()
    tokens, keys = await context.accounts.recent_tokens(account), await context.keys.recent(account)
    offset = (page - 1) * WORKSPACES_SHOWN
    workspaces = await context.workspaces.list_with_use(account, since=month, limit=WORKSPACES_SHOWN + 1, offset=offset)
    return Opened(
        tokens=tuple(token for token in tokens if token.revoked_at is None),
        revoked_tokens=tuple(token for token in tokens if token.revoked_at is not None),
        keys=tuple(key for key in keys if key.revoked_at is None),
        revoked_keys=tuple(key for key in keys if key.revoked_at is not None),
        workspaces=tuple(workspaces[:WORKSPACES_SHOWN]),
        month=month,
        page=page,
        before=f"{visitor.address}/keys?page={page - 1}#workspaces" if page > 1 else None,
        after=f"{visitor.address}/keys?page={page + 1}#workspaces" if len(workspaces) > WORKSPACES_SHOWN else None,
    )
