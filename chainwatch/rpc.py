"""One provider over HTTP: a JSON-RPC call with a strict time, a bounded answer, and every failure as one of our own.

solana-py sends the request and reads the envelope. Its typed calls are left alone: they return some errors as bare numbers and
end in panics on others. The address of a provider may hold a key, so no text of ours says more than its host.
"""

import asyncio
import re
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2
from solana.exceptions import SolanaRpcException
from solana.rpc.async_http_provider import AsyncHTTPProvider
from solana.rpc.jsonrpc import JsonRpcRequest, JsonRpcResponseEnvelope, SolanaJsonRpcError
from solana.rpc.types import URI

from chainwatch.errors import BadAnswer, BehindSlot, HistoryMissing, ProviderFailure, RefusedCall, SlotSkipped, Throttled, Unavailable, UnknownBefore
from telemetry import metrics

CALL_SECONDS_MAX: Final = 10.0
ANSWER_BYTES_MAX: Final = 32 * 1024 * 1024  # a full block of mainnet in its short form is a few megabytes
CONNECTIONS_MAX: Final = 16
ERROR_LENGTH_MAX: Final = 200
KEY_LENGTH_MIN: Final = 8  # shorter parts of an address are names
RETRY_AFTER_SECONDS_MAX: Final = 300.0
TOO_MANY_REQUESTS: Final = 429

REFUSALS: Final[dict[int, type[RefusedCall]]] = {
    -32001: HistoryMissing,  # block cleaned up
    -32004: SlotSkipped,  # block not available for this slot
    -32007: SlotSkipped,
    -32009: SlotSkipped,  # skipped, or missing in long-term storage
    -32011: HistoryMissing,
    -32016: BehindSlot,
    -32019: HistoryMissing,  # long-term storage unreachable
    -32020: UnknownBefore,
}
NODE_UNHEALTHY: Final = -32005
THROTTLE_CODES: Final = (-32429, TOO_MANY_REQUESTS)


class AnswerTooLong(Exception):
    """The answer is longer than any answer may be."""


class BoundedTransport(AsyncHTTPProvider):
    """solana-py's transport, which stops reading an answer that grows too long and leaves repeating to us."""

    def __init__(self, url: str, *, seconds_max: float, bytes_max: int) -> None:
        # Its own beginning would open a client with all authorities of this machine, which takes a twentieth of a second, only for us to replace it.
        self.endpoint_uri, self.timeout, self.extra_headers = URI(url), seconds_max, None
        self._max_transport_retries, self._limiter = 0, None
        self._bytes_max = bytes_max
        # A provider on this machine is reached directly, whatever proxy the environment names.
        self.session = httpx2.AsyncClient(
            timeout=seconds_max, limits=httpx2.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=CONNECTIONS_MAX),
            trust_env=not is_of_this_machine(url), verify=True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )  # fmt: skip

    async def _post_request_once(self, content: str, headers: dict[str, str]) -> httpx2.Response:
        async with self.session.stream("POST", str(self.endpoint_uri), content=content, headers=headers) as response:
            if response.is_success:
                body = bytearray()
                async for block in response.aiter_bytes():
                    body += block
                    if len(body) > self._bytes_max:
                        raise AnswerTooLong
                return httpx2.Response(response.status_code, content=bytes(body), request=response.request)
            return httpx2.Response(response.status_code, headers=response.headers, request=response.request)


class RpcClient:
    """Calls of one provider. `host` is the name by which people are told of it."""

    def __init__(self, url: str, *, host: str = "", seconds_max: float = CALL_SECONDS_MAX, bytes_max: int = ANSWER_BYTES_MAX) -> None:
        self.host = host or host_of(url)
        self._keys = [part for part in re.split(r"[/?&=@:]", url.partition("://")[2]) if len(part) >= KEY_LENGTH_MIN and part not in self.host]
        self._seconds_max, self._bytes_max = seconds_max, bytes_max
        self._transport = BoundedTransport(url, seconds_max=seconds_max, bytes_max=bytes_max)

    async def call(self, method: str, *params: object) -> Any:
        """Return the result of one call; what it holds is for the caller to check.

        Raises:
            ProviderFailure: there is none; which kind says why.
        """
        try:
            result = await self._ask(method, params)
        except ProviderFailure as failure:
            metrics.chain_requests_total.labels(method, type(failure).__name__).inc()
            if isinstance(failure, Throttled):
                metrics.chain_throttled_total.labels(self.host).inc()
            raise
        metrics.chain_requests_total.labels(method, "ok").inc()
        return result

    async def _ask(self, method: str, params: tuple[object, ...]) -> Any:
        request = JsonRpcRequest(method=method, params=list(params))
        try:
            async with asyncio.timeout(self._seconds_max):
                text = await self._transport.make_request_unparsed(request)
        except TimeoutError:
            raise Unavailable(f"{self.host} did not answer {method} within {self._seconds_max:g} s") from None
        except SolanaRpcException as error:
            raise self._transport_failure(method, error.__cause__) from None
        except AnswerTooLong:
            raise BadAnswer(f"{self.host} answered {method} with more than {self._bytes_max} bytes") from None
        except Exception as error:  # whatever else a transport comes up with; its text may hold the address
            raise Unavailable(f"{self.host} could not be asked for {method}: {type(error).__name__}") from None
        return self._unwrap(method, text)

    def _unwrap(self, method: str, text: str) -> Any:
        try:
            return JsonRpcResponseEnvelope.model_validate_json(text).unwrap_result(method=method)
        except SolanaJsonRpcError as error:
            raise self._refusal(method, error.code, error.message) from None
        except (ValueError, RecursionError):
            raise BadAnswer(f"{self.host} answered {method} with something that is not JSON-RPC") from None

    def _refusal(self, method: str, code: int, message: str) -> ProviderFailure:
        for key in self._keys:  # some providers repeat what they were called with
            message = message.replace(key, "…")
        text = f"{self.host} refused {method} ({code}): {message[:ERROR_LENGTH_MAX]}"
        if code in THROTTLE_CODES:
            return Throttled(text)
        if code == NODE_UNHEALTHY:
            return Unavailable(text)
        return REFUSALS.get(code, RefusedCall)(text, code=code)

    def _transport_failure(self, method: str, cause: BaseException | None) -> ProviderFailure:
        if not isinstance(cause, httpx2.HTTPStatusError):
            return Unavailable(f"{self.host} did not answer {method}: {type(cause).__name__}")
        status = cause.response.status_code
        text = f"{self.host} answered {method} with HTTP {status}"
        if status == TOO_MANY_REQUESTS:
            return Throttled(text, retry_after=read_retry_after(cause.response.headers.get("retry-after", "")))
        return Unavailable(text)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def read_retry_after(value: str) -> float | None:
    """Return the seconds that a Retry-After header asks for, a number or a date; None where it says nothing of use."""
    try:
        seconds = float(value) if value.replace(".", "", 1).isdigit() else (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS_MAX)


def host_of(url: str) -> str:
    """Return the host of an address, with its port where one is named, and nothing that could be a key."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def is_of_this_machine(url: str) -> bool:
    """Whether an address leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
