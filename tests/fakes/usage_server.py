"""A small real server of `POST /v1/usage` that can be told to misbehave in every way a network does."""

import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "plutus_sk_" + "k" * 32


@dataclass
class Asked:
    """One request as it came: `text` is its body, `connection` tells connections apart."""

    headers: dict[str, str]
    text: str
    connection: int

    @property
    def events(self) -> list[dict[str, Any]]:
        content = json.loads(self.text, parse_float=Decimal)
        return content if isinstance(content, list) else [content]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        asked = Asked({name.lower(): value for name, value in self.headers.items()}, body.decode(), id(self.connection))
        owner = self.server.owner
        with owner.lock:
            owner.asked.append(asked)
            fault = owner.faults.popleft() if owner.faults else None
        if fault is not None:
            fault(self, asked)
        else:
            self.answer(*owner.respond(asked))

    def answer(self, status: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def reset(self) -> None:
        """Close the connection with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_arguments: Any) -> None:
        return


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    owner: "UsageServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        return

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.owner.lock:
            self.owner.sockets.append(request)
        super().process_request(request, client_address)


Fault = Callable[[_Handler, Asked], None]


@dataclass
class UsageServer:
    """Records events, each key once. `faults` are used up by the next requests, one each; `refuse_above` and `bad` mark what gets a 400."""

    port: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: list[Asked] = field(default_factory=list)
    recorded: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: deque[Fault] = field(default_factory=deque)
    sockets: list[socket.socket] = field(default_factory=list)
    is_bad: Callable[[dict[str, Any]], bool] = lambda event: False
    key: str = KEY
    _server: _Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        return len(self.sockets)

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.owner = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Vanish as a killed process does: open connections end too."""
        if self._server is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self.lock:
            gone, self.sockets = self.sockets, []
        for one in gone:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def respond(self, asked: Asked) -> tuple[int, Any]:
        """Do what a server in good health does."""
        if asked.headers.get("authorization") != f"Bearer {self.key}":
            return 401, {"error": "invalid or missing API key"}
        if any(self.is_bad(event) for event in asked.events):
            return 400, {"error": "event 0: input_tokens must be an integer"}
        with self.lock:
            results = [self._record(event) for event in asked.events]
        quota = {"org_id": "org_0123456789abcdef", "tracked_tokens_mtd": 20, "tracked_limit": None, "tier": "pro"}
        if asked.text.startswith("["):
            return 200, {**quota, "results": results, "recorded": len(results), "blocked": 0}
        return 200, {**quota, **results[0]}

    def _record(self, event: dict[str, Any]) -> dict[str, Any]:
        key = event["idempotency_key"]
        replay = key in self.recorded
        self.recorded.setdefault(key, event)
        flags = {"over_free_limit": False, "over_balance": False, "unpriced": False, "workspace_folded": False, "idempotent_replay": replay}
        return {"recorded": True, "event_id": f"evt_{len(self.recorded):016x}", "cost_usd": 0.0156, "estimated": True, "balance_after": 49.98, **flags}


def says(status: int, content: Any = None, **headers: str) -> Fault:
    """Answer so, and record nothing."""

    def fault(handler: _Handler, asked: Asked) -> None:
        handler.answer(status, {"error": f"said {status}"} if content is None else content, **headers)

    return fault


def resets(handler: _Handler, asked: Asked) -> None:
    """Reset the connection without an answer."""
    handler.reset()


def records_then_resets(handler: _Handler, asked: Asked) -> None:
    """Record the events, and lose the answer."""
    handler.server.owner.respond(asked)
    handler.reset()


def records_then_hangs(handler: _Handler, asked: Asked) -> None:
    """Record the events, and say nothing until the client goes."""
    handler.server.owner.respond(asked)
    hangs(handler, asked)


def hangs(handler: _Handler, asked: Asked) -> None:
    """Say nothing until the client goes."""
    handler.connection.settimeout(20)
    handler.rfile.read(1)
    handler.close_connection = True


def drips(handler: _Handler, asked: Asked) -> None:
    """Answer one byte at a time, for ever."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(2000):
        handler.wfile.write(b" ")
        time.sleep(0.01)


def cuts(handler: _Handler, asked: Asked) -> None:
    """Promise a body and leave in the middle of it."""
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"recorded": true')
    handler.close_connection = True


def closes_after(handler: _Handler, asked: Asked) -> None:
    """Answer well, and close the connection without having said so."""
    handler.answer(*handler.server.owner.respond(asked))
    handler.close_connection = True


@contextmanager
def usage_server() -> Iterator[UsageServer]:
    """Yield a running server."""
    server = UsageServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
