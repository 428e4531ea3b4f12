"""A client of the forward door on a bare socket: says exactly the bytes a test wants, outside and inside the tunnel."""

import asyncio
import base64
from dataclasses import dataclass

from ledger.accounts import NewAccount
from tests.fakes.gateway import Stage

HOST = "api.anthropic.com"


def basic(user: str, password: str = "") -> str:
    return f"Proxy-Authorization: Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}\r\n"


async def read_all(reader: asyncio.StreamReader, *, seconds: float = 10.0, until: bytes = b"") -> bytes:
    """Return what comes until the other side closes, or until `until` was among it."""
    received = b""
    try:
        async with asyncio.timeout(seconds):
            while not (until and until in received) and (piece := await reader.read(65536)):
                received += piece
    except ConnectionError:
        pass
    return received


async def ask_door(stage: Stage, data: bytes) -> bytes:
    """Write bytes to the door and return all it says; it must close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.settings.forward.port)
    writer.write(data)
    received = await read_all(reader, seconds=5)
    writer.close()
    return received


@dataclass
class Inside:
    """A tunnel with TLS."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, data: bytes, *, until: bytes = b"") -> bytes:
        self.writer.write(data)
        return await read_all(self.reader, until=until)


async def connect(stage: Stage, authority: str = f"{HOST}:443", *, headers: str = "") -> tuple[bytes, asyncio.StreamReader, asyncio.StreamWriter]:
    """CONNECT; return the head of the answer and the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.settings.forward.port)
    writer.write(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{headers}\r\n".encode())
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
    return head, reader, writer


async def open_tunnel(
    stage: Stage, account: NewAccount | None, *, authority: str = f"{HOST}:443", server_name: str | None = HOST, http2: bool = False, headers: str | None = None
) -> Inside:
    """CONNECT and agree on TLS."""
    credentials = basic(account.api_token) if account else ""
    head, reader, writer = await connect(stage, authority, headers=credentials if headers is None else headers)
    assert head.startswith(b"HTTP/1.1 200"), head
    trust = stage.trust(http2=http2)
    if http2:
        trust.set_alpn_protocols(["h2"])
    trust.check_hostname = server_name is not None
    await writer.start_tls(trust, server_hostname=server_name, ssl_handshake_timeout=5)
    return Inside(reader, writer)
