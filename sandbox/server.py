"""The sandbox's HTTP server: raw sockets, because it has to misbehave on the level of bytes."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import httptools

from sandbox.providers import Providers, Request
from sandbox.recordings import list_recordings
from sandbox.replies import Reply, json_reply
from sandbox.script import Script, WireScript, parse_script
from sandbox.visits import Visit, Visits
from sandbox.wire import ClientLeft, Hangup, Wire, send_reply

READ_BYTES = 256 * 1024
BODY_BYTES_MAX = 64 * 1024 * 1024
WAITING_MAX = 64  # requests of one connection that were sent ahead
STOP_SECONDS_MAX = 5.0
CONTROL_PREFIX = "/_sandbox"


class BadRequest(Exception):
    """Bytes that are no request we serve."""


class RequestParser:
    """Turns bytes into requests; httptools calls its `on_` methods."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[Request | None] = asyncio.Queue(WAITING_MAX)
        self.expects_continue = False
        self._parser = httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            BadRequest: this is no HTTP, an upgrade, or too much.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, asyncio.QueueFull) as error:
            raise BadRequest from error

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = b"", dict[str, str](), bytearray()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.expects_continue = self._headers.get("expect", "").lower() == "100-continue"

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > BODY_BYTES_MAX:
            raise BadRequest

    def on_message_complete(self) -> None:
        path, _, query = self._target.decode("latin-1").partition("?")
        method, keep_alive = self._parser.get_method().decode(), self._parser.should_keep_alive()
        request = Request(method=method, path=path, query=query, headers=self._headers, body=bytes(self._body), keep_alive=keep_alive)
        self.requests.put_nowait(request)


@dataclass(slots=True)
class Sandbox:
    """A running sandbox: what it answers and what it has seen."""

    providers: Providers
    visits: Visits = field(default_factory=Visits)
    port: int = 0
    connections: int = 0
    open_connections: set[asyncio.Task[object]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends; ours and the client's errors end with it."""
        self.connections += 1
        parser, left = RequestParser(), asyncio.Event()
        wire, how = Wire(writer, left), "close"
        reading = asyncio.create_task(_read_requests(reader, parser, wire, left))
        serving = asyncio.current_task()
        if serving is not None:
            self.open_connections.add(serving)
            serving.add_done_callback(self.open_connections.discard)
        try:
            how = await self._serve(parser, wire, connection=self.connections)
        except asyncio.CancelledError:
            pass  # the sandbox ends
        finally:
            reading.cancel()
            wire.close(how)

    async def _serve(self, parser: RequestParser, wire: Wire, *, connection: int) -> str:
        """Answer the requests of a connection in turn; return how it is to be closed."""
        while (request := await parser.requests.get()) is not None:
            if request.path.startswith(CONTROL_PREFIX):
                visit = Visits().add(connection=connection, method=request.method, path="", query="", headers={}, body=b"")
                reply, script = self._control(request), Script()
            else:
                seen = {"method": request.method, "path": request.path, "query": request.query, "headers": request.headers, "body": request.body}
                visit = self.visits.add(connection=connection, **seen)  # type: ignore[arg-type]  # one keyword each
                reply, script, visit.script = self.providers.answer(request)
                visit.model, visit.billed = reply.model, dict(reply.billed)
            if not await _answer(reply, script.wire, wire, visit=visit, request=request):
                return script.wire.cut
        return "close"

    def _control(self, request: Request) -> Reply:
        action, query = (request.method, request.path.removeprefix(CONTROL_PREFIX)), parse_qs(request.query)
        if action == ("GET", "/health"):
            return json_reply({"status": "ok"})
        if action == ("GET", "/recordings"):
            folder = self.providers.recordings
            return json_reply({"recordings": list_recordings(folder) if folder else []})
        if action == ("GET", "/requests"):
            return json_reply(self.visits.report(bodies="bodies" in query))
        if action == ("DELETE", "/requests"):
            self.visits.reset()
            self.providers.queued.clear()
            return json_reply({"count": 0})
        if action == ("POST", "/script"):
            return self._queue_script(request.body)
        return json_reply({"error": "GET health, recordings or requests; DELETE requests; POST script"}, status=404)

    def _queue_script(self, body: bytes) -> Reply:
        """Keep `{"script": "...", "times": 1}` for the next requests, whatever they say themselves."""
        try:
            wanted = json.loads(body)
            line, times = str(wanted["script"]), int(wanted.get("times", 1))
            parse_script(line)
        except Exception as error:  # any fault of the body is the caller's
            return json_reply({"error": str(error)}, status=400)
        self.providers.queued.extend([line] * min(max(times, 0), 1000))
        return json_reply({"queued": len(self.providers.queued)})


async def _answer(reply: Reply, script: WireScript, wire: Wire, *, visit: Visit, request: Request) -> bool:
    try:
        again = await send_reply(reply, script, wire, visit=visit, keep_alive=request.keep_alive, head_only=request.method == "HEAD")
    except ClientLeft:
        visit.ended = "client_left"
        return False
    except Hangup:
        visit.ended = "cut"
        return False
    visit.ended = "complete"
    return again


async def _read_requests(reader: asyncio.StreamReader, parser: RequestParser, wire: Wire, left: asyncio.Event) -> None:
    """Read until the client leaves, also while an answer is being sent: so that we notice when it does."""
    try:
        while data := await reader.read(READ_BYTES):
            parser.feed(data)
            if parser.expects_continue:
                parser.expects_continue = False
                await wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    except (OSError, BadRequest, ClientLeft):
        pass
    left.set()
    with contextlib.suppress(asyncio.QueueFull):
        parser.requests.put_nowait(None)


@contextlib.asynccontextmanager
async def run_sandbox(port: int = 0, *, host: str = "127.0.0.1", recordings: Path | None = None) -> AsyncIterator[Sandbox]:
    """Run a sandbox while the block runs; port 0 takes a free one."""
    sandbox = Sandbox(Providers(nonce=os.urandom(6).hex(), recordings=recordings))
    server = await asyncio.start_server(sandbox.handle, host, port, backlog=1024)
    sandbox.port = server.sockets[0].getsockname()[1]
    try:
        yield sandbox
    finally:
        server.close()
        for serving in sandbox.open_connections:
            serving.cancel()
        if sandbox.open_connections:
            await asyncio.wait(sandbox.open_connections, timeout=STOP_SECONDS_MAX)
