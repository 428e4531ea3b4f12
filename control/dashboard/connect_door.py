"""One request through the gateway's own door, as a client would send it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import httpx2

ANSWER_SECONDS_MAX: Final = 25.0
ANSWER_BYTES_MAX: Final = 256 * 1024
AGENT: Final = "level5-test-request"


class DoorClosed(Exception):
    """Nothing listens there; nothing was sent."""


class NoAnswer(Exception):
    """It was sent, or part of it, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, cut where it is too long for one to a small request."""

    status: int
    headers: Mapping[str, str]
    content: bytes


async def post_json(url: str, body: Mapping[str, object], *, token: str) -> Answered:
    """Send JSON. The token goes into a header: addresses are what programs log.

    Raises:
        DoorClosed: nothing was sent.
        NoAnswer: it may have been.
    """
    headers = {"authorization": f"Bearer {token}", "user-agent": AGENT}
    content = bytearray()
    # On this machine the gateway is reached directly, whatever proxy the environment names.
    client = httpx2.AsyncClient(timeout=ANSWER_SECONDS_MAX, follow_redirects=False, trust_env=url.startswith("https://"))
    try:
        async with client, client.stream("POST", url, json=body, headers=headers) as answer:
            async for block in answer.aiter_bytes():
                content += block
                if len(content) > ANSWER_BYTES_MAX:
                    break
    except httpx2.ConnectError as error:
        raise DoorClosed(url) from error
    except (httpx2.HTTPError, OSError) as error:
        raise NoAnswer(type(error).__name__) from error
    return Answered(answer.status_code, answer.headers, bytes(content))
