"""The first page of an account: what it has, how long that lasts, what was spent on what, and its last lines."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from control.accounts import find_lines
from control.dashboard.overview_figures import Figures, read_figures
from control.dashboard.visitor import Visitor, visit, visit_without_journal
from control.schemas import TransactionLine, TransactionsQuery
from control.web.chosen_period import DIMENSIONS, RANGES, Chosen, read_chosen
from control.web.rendering import render
from ledger.errors import BalanceUnavailable, JournalUnavailable, NotPostedYet

LINES_SHOWN: Final = 10
KEPT_NAME: Final = "level5-account.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What the account has at one instant, in microunits, and how long that lasts at its pace."""

    balance: int
    available: int
    held: int
    pending: int
    per_day: int
    runway_ms: int | None


async def overview(request: Request) -> Response:
    """Show the account."""
    now = datetime.now(UTC)
    chosen = read_chosen(request.query_params, now)
    figures: Figures | None = None
    lines: list[TransactionLine] | None = None
    try:
        visitor = await visit(request)
        figures, lines = await _figures(visitor, chosen, now), await last_lines(visitor)
    except JournalUnavailable:  # what the account has is known without it
        visitor = await visit_without_journal(request)
    position = await position_of(visitor, figures)
    return render(
        request,
        "dashboard/overview.html",
        title="Overview",
        visitor=visitor,
        position=position,
        chosen=chosen,
        ranges=[(name, words) for name, (words, _) in RANGES.items()],
        dimensions=[(dimension.value, words) for dimension, words in DIMENSIONS.items()],
        figures=figures,
        lines=lines,
        is_new=lines == [] and not visitor.standing.charged and not visitor.standing.balance,
    )


async def kept_file(request: Request) -> Response:
    """Give the account's address as a small text file, for whoever keeps such things."""
    visitor = await visit(request)
    context = visitor.context
    text = (
        f"Level5 account{' (sandbox)' if context.settings.mode == 'sandbox' else ''}\n\n"
        f"Page:          {context.public_url}{visitor.address}\n"
        f"api_token:     {visitor.token_text}\n"
        f"Deposit code:  {visitor.account.deposit_code}\n\n"
        "Whoever has this api_token can spend what is on the account. Nobody can recover it. The deposit code is no secret.\n"
    )
    return PlainTextResponse(text, headers={"Content-Disposition": f'attachment; filename="{KEPT_NAME}"'})


async def position_of(visitor: Visitor, figures: Figures | None) -> Position:
    """Return what the account has; the pace is that of `figures`."""
    standing = visitor.standing
    seconds = figures.burn.runway_seconds(standing.available) if figures else None
    return Position(
        balance=standing.balance,
        available=standing.available,
        held=standing.held,
        pending=await visitor.context.chain.still_pending(visitor.account.id),  # asked after the balance, so that nothing is in both
        per_day=figures.burn.per_day if figures else 0,
        runway_ms=None if seconds is None else seconds * 1000,
    )


async def last_lines(visitor: Visitor) -> list[TransactionLine] | None:
    """Return the last lines of the statement, None where they cannot be told at the moment."""
    try:
        return await find_lines(visitor.context, visitor.token, TransactionsQuery(limit=LINES_SHOWN))
    except (JournalUnavailable, NotPostedYet, BalanceUnavailable):
        return None


async def _figures(visitor: Visitor, chosen: Chosen, now: datetime) -> Figures | None:
    """Return the figures, None where the journal does not answer: what the account has is known without it."""
    try:
        return await read_figures(visitor, chosen, now)
    except JournalUnavailable:
        return None
