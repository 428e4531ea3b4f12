"""The HTTP side: JSON-RPC on the paths of the providers, with faults of transport, and the switches under /_sandbox."""

import asyncio
import json
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sandbox.chain.arguments import INTERNAL_ERROR, RpcError
from sandbox.chain.controls import Controls, control_routes
from sandbox.chain.methods import answer, error_answer, methods_of, read_body
from sandbox.chain.provider import Provider

BODY_BYTES_MAX: Final = 1024 * 1024
TRANSPORT: Final = "level5.transport"
WORDS_OF_STATUS: Final = {429: "Too many requests for a specific RPC call"}


class CuttableProtocol(HttpToolsProtocol):
    """Lets the app reach the connection, so that it can end it as a real failure would."""

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]  # a key of our own


class CutAnswer(Response):
    """Half an answer, or none at all; then the connection is gone."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__(b'{"jsonrpc": "2.0", "res')
        self._begun = begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # the signature is ASGI's
        """Send what there is to send, then end the connection."""
        if self._begun:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json"), (b"content-length", b"1000")]})
            await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
            scope[TRANSPORT].close()
        else:
            scope[TRANSPORT].abort()


def make_app(controls: Controls) -> Starlette:
    """Return the app of one cluster: `/` is the first provider, `/provider/2` the second, and so on."""

    async def first(request: Request) -> Response:
        return await _answer(controls.provider(1), request)

    async def numbered(request: Request) -> Response:
        number = request.path_params["number"]
        return await _answer(controls.provider(number), request) if controls.has(number) else PlainTextResponse("no such provider", 404)

    app = Starlette(routes=[*control_routes(controls), Route("/", first, methods=["POST"]), Route("/provider/{number:int}", numbered, methods=["POST"])])
    app.router.redirect_slashes = False
    return app


async def _answer(provider: Provider, request: Request) -> Response:
    body = await request.body()
    if len(body) > BODY_BYTES_MAX:
        return PlainTextResponse("request body is too large", 413)
    try:
        asked = read_body(body)
    except RpcError as error:
        return _json(error_answer(None, error))
    word = provider.faults.next_word(methods_of(asked))
    return _json(answer(provider, asked)) if not word else await _fail(provider, asked, word)


async def _fail(provider: Provider, asked: Any, word: str) -> Response:
    """Answer as `word` says, see `Faults`."""
    for method in sorted(methods_of(asked)):
        provider.asked(method)
    if word.startswith("error:"):
        name = asked.get("id") if isinstance(asked, dict) else None
        return _json(error_answer(name, RpcError(int(word.removeprefix("error:")), "Simulated error")))
    if word in ("cut", "reset"):
        return CutAnswer(begun=word == "cut")
    if word == "hang":
        await asyncio.sleep(provider.faults.hang_seconds)
        return _json(answer(provider, asked))
    if word == "bad_json":
        return Response(b'{"jsonrpc": "2.0", "result": [1, 2', media_type="application/json")
    if word == "empty":
        return Response(b"", media_type="application/json")
    status = int(word) if word.isdecimal() else INTERNAL_ERROR
    wait = {"retry-after": str(provider.faults.retry_after)} if provider.faults.retry_after is not None and status in (429, 503) else {}
    return _json(error_answer(None, RpcError(status, WORDS_OF_STATUS.get(status, "Simulated error"))), status=status, headers=wait)


def _json(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(value, separators=(",", ":")), status, headers, media_type="application/json")
