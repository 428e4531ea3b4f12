"""What surrounds every endpoint: faults, slowness and callers that leave."""

import asyncio

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from control import middleware
from control.errors import ApiError, answer_api_error, answer_ledger_error, from_ledger
from control.middleware import Envelope
from ledger.errors import (
    BalanceUnavailable,
    BooksUnderPressure,
    BrokenInvariant,
    InactiveAccount,
    JournalUnavailable,
    LedgerError,
    NotPostedYet,
    ShardClosed,
    UnknownAccount,
    UnknownToken,
)


async def answer_of(error: BaseException | None = None, *, pause: float = 0.0, https: bool = False) -> httpx.Response:
    async def endpoint(_request: Request) -> Response:
        await asyncio.sleep(pause)
        if error is not None:
            raise error
        return PlainTextResponse("fine", headers={"Cache-Control": "no-cache"})

    handlers = {ApiError: answer_api_error, LedgerError: answer_ledger_error}
    app = Starlette(routes=[Route("/", endpoint)], middleware=[Middleware(Envelope, https=https)], exception_handlers=handlers)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return await client.get("/")


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (UnknownToken("x"), 401, "invalid_token"),
        (InactiveAccount("closed"), 401, "inactive_account"),
        (UnknownAccount("x"), 404, "unknown_account"),
        (NotPostedYet("x"), 503, "not_posted_yet"),
        (JournalUnavailable("postgres://user:secret@host"), 503, "journal_unavailable"),
        (BalanceUnavailable("redis://user:secret@host"), 503, "balances_unavailable"),
        (ShardClosed(5), 503, "balances_unavailable"),
        (BooksUnderPressure("x"), 503, "balances_unavailable"),
        (BrokenInvariant("secret"), 500, "internal_error"),
    ],
)
async def test_every_failure_of_the_books_has_its_answer(error: LedgerError, status: int, code: str) -> None:
    answer = await answer_of(error)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert (status == 503) == ("retry-after" in answer.headers)
    assert "secret" not in answer.text
    assert from_ledger(error).status == status


async def test_a_fault_is_a_500_without_its_cause() -> None:
    answer = await answer_of(ValueError("a secret cause"))

    assert answer.status_code == 500
    assert "cause" not in answer.text.replace("because", "")
    assert answer.headers["x-request-id"]


async def test_an_endpoint_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "ENDPOINT_SECONDS_MAX", 0.01)

    answer = await answer_of(pause=30.0)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_slow")


async def test_a_caller_that_leaves_is_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError):  # the transport misses an answer that nobody waits for
        await answer_of(ClientDisconnect())

    assert "request_failed" not in capsys.readouterr().out


async def test_headers_that_an_endpoint_set_are_kept() -> None:
    answer = await answer_of(https=True)

    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["strict-transport-security"].startswith("max-age=")
    assert "strict-transport-security" not in (await answer_of()).headers
