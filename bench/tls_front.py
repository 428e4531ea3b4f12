"""TLS before the mock provider, as a program: `python -m bench.tls_front PORT PROVIDER_PORT COUNTS_PORT CERTIFICATE`.

It passes bytes on both ways and counts the connections that are made to it and the handshakes that resumed a session;
whoever connects to the third port is told, as one line of JSON.
"""

import asyncio
import json
import ssl
import sys
from typing import override

import uvloop


class Counts:
    """What has come so far."""

    def __init__(self) -> None:
        self.connections = self.resumed = 0


class _Side(asyncio.Protocol):
    """One of the two connections that are joined. What comes before the other one is there is kept."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self._early: list[bytes] = []
        self._ended = False

    def join(self, other: "_Side") -> None:
        self.other = other
        for data in self._early:
            other.write(data)
        self._early = []
        if self._ended:
            other.close()

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    @override
    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self._early.append(data)
        else:
            self.other.write(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = True
        if self.other is not None:
            self.other.close()


class _Front(_Side):
    def __init__(self, provider_port: int, counts: Counts) -> None:
        super().__init__()
        self._provider_port, self._counts = provider_port, counts

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._counts.connections += 1
        self._counts.resumed += bool(transport.get_extra_info("ssl_object").session_reused)
        self._task = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        try:
            _, back = await asyncio.get_running_loop().create_connection(_Side, "127.0.0.1", self._provider_port)
        except OSError:
            self.close()
            return
        back.join(self)
        self.join(back)


async def serve(port: int, provider_port: int, counts_port: int, certificate: str) -> None:
    """Serve until the process is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    counts, loop = Counts(), asyncio.get_running_loop()

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(json.dumps({"connections": counts.connections, "resumed": counts.resumed}).encode() + b"\n")
        writer.close()

    await asyncio.start_server(tell, "127.0.0.1", counts_port)
    server = await loop.create_server(lambda: _Front(provider_port, counts), "127.0.0.1", port, ssl=context, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    port, provider_port, counts_port = map(int, sys.argv[1:4])
    uvloop.run(serve(port, provider_port, counts_port, sys.argv[4]))
