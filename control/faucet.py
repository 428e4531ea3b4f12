"""The faucet of sandbox mode: test USDC from the simulated chain. In real mode there is no such path."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPDefaultErrorHandler, HTTPErrorProcessor, HTTPHandler, OpenerDirector
from urllib.request import Request as Call

from pydantic import Field, StringConstraints
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import ControlContext, context_of
from control.errors import RETRY_SECONDS, ApiError
from control.openapi import Endpoint
from control.reading import read_body
from control.schemas import Answer, Microunits, Question

USDC_MAX: Final = 1_000_000_000_000  # microunits in one call; the chain itself keeps to it too
CHAIN_SECONDS_MAX: Final = 5.0
# Loopback, whatever proxy the environment names, and without the authorities of this machine, which take time to read.
OPENER: Final = OpenerDirector()
for handler in (HTTPHandler(), HTTPDefaultErrorHandler(), HTTPErrorProcessor()):
    OPENER.add_handler(handler)


class FaucetRequest(Question):
    """Test USDC for an account, paid into the vault with its deposit code, or for a wallet."""

    usdc: int = Field(strict=True, ge=1, le=USDC_MAX, description="Microunits: 5000000 is 5 USDC.")
    deposit_code: Annotated[str, StringConstraints(pattern=r"^[0-9A-Fa-f]{16}$")] | None = Field(default=None, description="The account to pay for.")
    wallet: Annotated[str, StringConstraints(min_length=32, max_length=44)] | None = Field(
        default=None, description="Public key of a wallet; it gets SOL for its fees as well."
    )


class FaucetAnswer(Answer):
    """A transfer that has landed; it is credited when it is finalized, some seconds later."""

    signature: str = Field(description="The transaction on the simulated chain.")
    slot: int = Field(description="The slot in which it landed.")
    usdc: Microunits
    mint: str = Field(description="Mint of the test USDC.")


async def give(request: Request) -> Response:
    """Let the simulated chain make a real transfer."""
    wish = await read_body(request, FaucetRequest)
    if (wish.deposit_code is None) == (wish.wallet is None):
        raise _refused("deposit_code", "Give deposit_code or wallet, and not both.")
    return JSONResponse((await ask_faucet(context_of(request), wish)).model_dump())


async def ask_faucet(context: ControlContext, wish: FaucetRequest) -> FaucetAnswer:
    """Return what the simulated chain gave.

    Raises:
        ApiError: 400 where it does not give this, 503 where it does not answer.
    """
    port = context.settings.sandbox.chain_port
    status, body = await asyncio.to_thread(_ask_chain, f"http://127.0.0.1:{port}/_sandbox/faucet", wish.model_dump(exclude_none=True))
    if status == 200:
        return FaucetAnswer.model_validate(body)
    fault = body.get("error", {})
    raise _refused(str(fault.get("field", "body")), str(fault.get("message", "The faucet did not take this.")))


def _refused(field: str, problem: str) -> ApiError:
    return ApiError(400, "invalid_request", message=problem, details={"faults": [{"field": field, "problem": problem}]})


def _ask_chain(url: str, wish: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status, 200 or 400, and the body of the chain's answer.

    Raises:
        ApiError: 503 where the chain does not answer.
    """
    call = Call(url, json.dumps(wish).encode(), {"content-type": "application/json"})  # noqa: S310  # the address is ours
    try:
        try:
            with OPENER.open(call, timeout=CHAIN_SECONDS_MAX) as answer:
                return 200, json.load(answer)
        except HTTPError as refusal:
            if refusal.code != 400:
                raise
            return 400, json.load(refusal)
    except (OSError, ValueError) as error:
        message = "The simulated chain does not answer. Try again shortly."
        raise ApiError(503, "chain_unavailable", message=message, headers={"Retry-After": RETRY_SECONDS}) from error


FAUCET_ROUTE: Final[tuple[Endpoint, Callable[[Request], Awaitable[Response]]]] = (
    Endpoint(
        path="/sandbox/faucet",
        method="POST",
        summary="Test USDC, in sandbox mode only.",
        tag="paying",
        answer=FaucetAnswer,
        body=FaucetRequest,
        errors=(400, 413, 503),
    ),
    give,
)
