"""The operator's RPC providers as the control API asks them: seldom, for what a payer is about to sign.

solana-py sends the request; it is loaded when it is needed first. The address of a provider may hold a key, so no text of
ours names more than which one of them it was.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from telemetry.logs import get_log

if TYPE_CHECKING:
    from solana.rpc.async_http_provider import AsyncHTTPProvider

ASK_SECONDS_MAX: Final = 4.0


class NoProvider(Exception):
    """No RPC provider answered."""


class RpcProviders:
    """Asks one provider after another, beginning with the one that answered last."""

    def __init__(self, addresses: Sequence[str], *, seconds_max: float = ASK_SECONDS_MAX) -> None:
        self._addresses, self._seconds_max = tuple(addresses), seconds_max
        self._clients: dict[int, AsyncHTTPProvider] = {}
        self._first = 0

    async def ask(self, method: str, *params: object) -> Any:
        """Return the result of one call; what it holds is for the caller to check.

        Raises:
            NoProvider: none gave a result.
        """
        count = len(self._addresses)
        for index in [(self._first + step) % count for step in range(count)]:
            try:
                async with asyncio.timeout(self._seconds_max):
                    result = await self._ask(index, method, params)
            except Exception as error:  # whatever a transport or a strange answer raises; its text may hold the address
                get_log().warning("rpc_provider_failed", provider=index + 1, method=method, error=type(error).__name__)
            else:
                self._first = index
                return result
        raise NoProvider(method)

    async def _ask(self, index: int, method: str, params: tuple[object, ...]) -> Any:
        from solana.rpc.jsonrpc import JsonRpcRequest, JsonRpcResponseEnvelope

        text = await self._client(index).make_request_unparsed(JsonRpcRequest(method=method, params=list(params)))
        return JsonRpcResponseEnvelope.model_validate_json(text).unwrap_result(method=method)

    def _client(self, index: int) -> "AsyncHTTPProvider":
        from solana.rpc.async_http_provider import AsyncHTTPProvider

        if index not in self._clients:
            self._clients[index] = AsyncHTTPProvider(self._addresses[index], timeout=self._seconds_max, http2=False, max_transport_retries=0)
        return self._clients[index]

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients.values():
            await client.close()
