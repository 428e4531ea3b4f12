"""What happens to an account, told to its open pages as it happens: server-sent events.

Redis is asked for the account's figures at short intervals, which is one command, and the journal only when they have changed. The number
of pages that are followed is bounded, for one account and in all; who finds no place asks for the page itself now and then.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from control.accounts import owner_standing
from control.dashboard.overview import last_lines
from control.dashboard.visitor import Visitor, visit
from control.errors import ApiError
from control.middleware import take_time
from control.web.filters import usdc, usdc_column
from control.web.rendering import render_part
from ledger.entries import AccountId
from ledger.errors import BalanceUnavailable, InactiveAccount, UnknownToken

LOOK_SECONDS: Final = 0.7
HEARTBEAT_SECONDS: Final = 10.0
LIFE_SECONDS_MAX: Final = 600.0  # the page then asks again, and is checked anew
RETRY_MS: Final = 2000
ACCOUNT_MAX: Final = 8
ALL_MAX: Final = 300
BREATH: Final = b": still here\n\n"
GONE: Final = b"event: gone\ndata: {}\n\n"


class Followers:
    """The pages that are followed by this process."""

    def __init__(self) -> None:
        self._by_account: Counter[AccountId] = Counter()
        self._closing = asyncio.Event()

    @contextmanager
    def place(self, account: AccountId) -> Iterator[None]:
        """Take a place for as long as the block runs."""
        self._by_account[account] += 1
        try:
            yield
        finally:
            self._by_account[account] -= 1
            if not self._by_account[account]:
                del self._by_account[account]

    def require_place(self, account: AccountId) -> None:
        """Let nobody in for whom there is no place.

        Raises:
            ApiError: 429.
        """
        if self._by_account[account] >= ACCOUNT_MAX or self._by_account.total() >= ALL_MAX:
            message = "Too many pages are followed at the moment; this one asks now and then instead."
            raise ApiError(429, "too_many_pages", message=message, headers={"Retry-After": "60"})

    def close(self) -> None:
        """Let all of them end: the process is about to."""
        self._closing.set()

    async def pause(self, seconds: float) -> bool:
        """Wait, and tell whether to go on afterwards."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)
        return not self._closing.is_set()


def followers_of(request: Request) -> Followers:
    """Return those of the app that serves `request`."""
    return cast("Followers", request.app.state.followers)


async def events(request: Request) -> Response:
    """Follow the account for as long as the page is open and its token good."""
    visitor, followers = await visit(request), followers_of(request)
    followers.require_place(visitor.account.id)
    take_time(request.scope)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_follow(visitor, followers), media_type="text/event-stream", headers=headers)


async def _follow(visitor: Visitor, followers: Followers) -> AsyncIterator[bytes]:
    """Yield events until the page is closed, the token revoked or the time over."""
    with followers.place(visitor.account.id):
        over, breath = time.monotonic() + LIFE_SECONDS_MAX, 0.0
        told: dict[str, str] = {}
        charged_to, last = (0, 0), -1
        yield f"retry: {RETRY_MS}\n\n".encode()
        while time.monotonic() < over:
            try:
                visitor = replace(visitor, standing=await owner_standing(visitor.context, visitor.token))
            except (UnknownToken, InactiveAccount):
                yield GONE
                return
            except BalanceUnavailable:
                pass  # what was told last still stands
            figures = await _figures(visitor)
            if figures != told:
                told = figures
                breath = time.monotonic()
                yield _event("position", figures)
            moved = (visitor.standing.balance, visitor.standing.charged)
            if moved != charged_to or last < 0:
                html, newest = await _new_lines(visitor, last)
                if newest is not None:
                    charged_to, last = moved, newest
                    if html:
                        yield _event("lines", {"html": html})
            if time.monotonic() - breath >= HEARTBEAT_SECONDS:
                breath = time.monotonic()
                yield BREATH
            if not await followers.pause(LOOK_SECONDS):
                return


async def _figures(visitor: Visitor) -> dict[str, str]:
    """Return what stands in the page's places of these names, as markup."""
    standing = visitor.standing
    pending = await visitor.context.chain.still_pending(visitor.account.id)
    columns = {"available": standing.available, "held": standing.held, "pending": pending}
    return {"balance": usdc(standing.balance), **{name: str(usdc_column(amount)) for name, amount in columns.items()}}


async def _new_lines(visitor: Visitor, after: int) -> tuple[str, int | None]:
    """Return the lines after that one as rows of a table, and the newest one's number; None where they cannot be told yet."""
    lines = await last_lines(visitor)
    if lines is None:
        return "", None
    fresh = [line for line in lines if line.id > after]
    html = render_part("dashboard/lines.html", lines=fresh, visitor=visitor) if fresh else ""
    return html, max((line.id for line in lines), default=0)


def _event(name: str, content: dict[str, str]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(content)}\n\n".encode()
