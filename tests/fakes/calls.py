"""Requests as an agent sends them to an appliance in sandbox mode, and what they must cost by hand.

The figures are computed from the specification's prices, mark-up included, and not by the code under test:
claude-sonnet-4-6 costs 3.3 microunits a token read and 16.5 a token written.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.fakes.appliance import CLIENT, Account, Appliance

MODEL = "claude-sonnet-4-6"


def charge_by_hand(input_tokens: int, output_tokens: int) -> int:
    """Return microunits: 33 and 165 tenths a token, rounded up once."""
    return -(-(33 * input_tokens + 165 * output_tokens) // 10)


def body(*, stream: bool = False, max_tokens: int = 200, text: str = "hello") -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": max_tokens, "stream": stream, "messages": [{"role": "user", "content": text}]}


def address(appliance: Appliance, account: Account) -> str:
    return f"{appliance.url}/proxy/{account.api_token}/v1/messages"


def call(appliance: Appliance, account: Account, script: str = "", *, seconds_max: float = 30.0, **fields: Any) -> httpx.Response:
    """Send one Anthropic request; `script` tells the simulated provider what to answer."""
    headers = {"x-sandbox-script": script} if script else {}
    return CLIENT.post(address(appliance, account), json=body(**fields), headers=headers, timeout=seconds_max)


@contextmanager
def streamed(appliance: Appliance, account: Account, script: str) -> Iterator[Iterator[str]]:
    """Begin one Anthropic stream and yield its pieces as they come."""
    with httpx.stream("POST", address(appliance, account), json=body(stream=True), headers={"x-sandbox-script": script}, timeout=60) as answer:
        yield answer.iter_text()


async def call_async(client: httpx.AsyncClient, appliance: Appliance, account: Account, script: str = "", **fields: Any) -> httpx.Response:
    headers = {"x-sandbox-script": script} if script else {}
    return await client.post(address(appliance, account), json=body(**fields), headers=headers)
