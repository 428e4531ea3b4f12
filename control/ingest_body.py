"""Reading the body of `POST /v1/usage` off the wire: bounded in bytes, packed and unpacked."""

from dataclasses import dataclass
from typing import Final

from starlette.types import Receive

from metering.classify import RequestRefused
from metering.encodings import decode_body

TOO_LARGE: Final = "request body too large"
TOO_SLOW: Final = "the request body did not arrive in time"


@dataclass(slots=True)
class Arrival:
    """Whether a body has arrived, for the one who watches the time."""

    complete: bool = False


class BodyRefused(Exception):
    """The body cannot be had; `status` and `text` say why. `is_cut` tells that more of it may be on its way."""

    def __init__(self, status: int, text: str, *, is_cut: bool = False) -> None:
        super().__init__(text)
        self.status, self.text, self.is_cut = status, text, is_cut


class ClientGone(Exception):
    """The client left before its body was complete; nobody is left to answer."""


async def read_usage_body(receive: Receive, *, length: bytes | None, encoding: bytes | None, bytes_max: int) -> bytes:
    """Return the plain body, of at most `bytes_max`.

    Raises:
        BodyRefused: 413 when it is longer, 415 or 400 when it cannot be unpacked.
        ClientGone: the client left.
    """
    if length is not None and length.isdigit() and int(length[:20]) > bytes_max:
        raise BodyRefused(413, TOO_LARGE, is_cut=True)
    body = await _read(receive, bytes_max=bytes_max)
    if encoding is None:
        return body
    try:
        return decode_body(body, encoding.decode("latin-1"), bytes_max=bytes_max)
    except RequestRefused as refusal:
        raise BodyRefused(refusal.status, TOO_LARGE if refusal.status == 413 else str(refusal.message)) from None


async def _read(receive: Receive, *, bytes_max: int) -> bytes:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if not message.get("more_body") and len(body) <= bytes_max:
        return body  # nearly always all of it
    pieces, total = [body], len(body)
    while message.get("more_body") and total <= bytes_max:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        pieces.append(message.get("body", b""))
        total += len(pieces[-1])
    if total > bytes_max:
        raise BodyRefused(413, TOO_LARGE, is_cut=True)
    return b"".join(pieces)
