"""The forward door against those who would like to go elsewhere, for nothing, or as somebody else."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.fakes.gateway import Stage
from tests.fakes.tunnels import HOST, Inside, ask_door, basic, connect, open_tunnel

BODY = b'{"model":"claude-sonnet-4-6","max_tokens":500,"messages":[{"role":"user","content":"Say hi"}]}'
LENGTH = b"content-length: %d\r\n" % len(BODY)
POST = b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n"


@pytest.fixture
def data_path() -> str:
    """The lane hands over what is not plain, so that both paths are behind it."""
    return "lane"


ELSEWHERE = [
    "example.com:443",
    "api.anthropic.com:80",
    "api.anthropic.com:8443",
    "api.anthropic.com.:443",
    "api.anthropic.com.example.com:443",
    "xapi.anthropic.com:443",
    "127.0.0.1:443",
    "127.0.0.1:6379",
    "127.1:443",
    "0x7f.0.0.1:443",
    "2130706433:443",
    "0:443",
    "localhost:8404",
    "[::1]:443",
    "[::ffff:127.0.0.1]:443",
    "[::ffff:a9fe:a9fe]:80",
    "169.254.169.254:80",
    "metadata.google.internal:80",
    "10.0.0.1:443",
    "api.anthropic.com",
    "api.anthropic.com:0443",
    "api.anthropic.com:443/",
    "api.anthropic.com:65536",
    "user@api.anthropic.com:443",
    "https://api.anthropic.com:443",
    "api.anthropic.com:443:443",
    "api%2eanthropic.com:443",
    "*",
    "/",
]


async def test_no_other_host_is_reached_in_whatever_spelling(stage: Stage) -> None:
    account = await stage.open_account()

    answers = [(await connect(stage, authority, headers=basic(account.api_token)))[0] for authority in ELSEWHERE]

    assert {authority: answer[:12] for authority, answer in zip(ELSEWHERE, answers, strict=True) if answer[9:12] not in {b"403", b"400"}} == {}
    refused = await ask_door(stage, b"CONNECT example.com:443 HTTP/1.1\r\n\r\n")
    assert b"api.anthropic.com, " in refused
    assert b"forward.tunnel" in refused
    assert stage.provider.connections == stage.control.connections == 0


NO_CONNECT = [
    (b"GET http://api.anthropic.com/v1/models HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", 403),
    (b"POST http://169.254.169.254/latest HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 403),
    (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 403),
    (b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", 403),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 403),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"connect api.anthropic.com:443 HTTP/1.1\r\n\r\n", 403),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\nHost: x\n\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nX: a\x00b\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nX: a\rProxy-Authorization: y\r\n\r\n", 400),
    (b"CONNECT  api.anthropic.com:443 HTTP/1.1\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.2\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nContent-Length: 4\r\n\r\nabcd", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nProxy-Authorization: Basic x\r\nProxy-Authorization: Basic y\r\n\r\n", 400),
    (b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
    (b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03", 400),
]


async def test_what_is_no_plain_connect_is_refused_once_and_the_connection_closed(stage: Stage) -> None:
    answers = await asyncio.gather(*(ask_door(stage, data) for data, _ in NO_CONNECT))

    assert [answer.count(b"HTTP/1.1 ") for answer in answers] == [1] * len(NO_CONNECT)
    assert {data[:80]: answer[:12] for (data, status), answer in zip(NO_CONNECT, answers, strict=True) if not answer.startswith(b"HTTP/1.1 %d" % status)} == {}
    assert stage.provider.connections == stage.control.connections == 0


async def test_the_name_in_the_handshake_must_be_the_tunnels(stage: Stage) -> None:
    account = await stage.open_account()

    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        await open_tunnel(stage, account, server_name="api.openai.com")

    nameless = await open_tunnel(stage, account, server_name=None)
    assert (await nameless.ask(POST + LENGTH + b"\r\n" + BODY, until=b"}]")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01\xff\xff" + b"\x01\xff\xff\xff" * 40_000]
)
async def test_nothing_but_tls_is_spoken_in_a_tunnel(stage: Stage, noise: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    account = await stage.open_account()
    head, reader, writer = await connect(stage, headers=basic(account.api_token))
    assert head.startswith(b"HTTP/1.1 200")

    writer.write(noise)
    async with asyncio.timeout(5):
        try:
            said = await reader.read()
        except ConnectionError:
            said = b""

    assert said == b""
    assert account.api_token not in capsys.readouterr().out


SMUGGLING = [
    POST + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    POST + LENGTH + LENGTH + b"\r\n" + BODY,
    POST + b"Content-Length: +5\r\n\r\nabcde",
    POST + b"Content-Length: 5, 5\r\n\r\nabcde",
    POST + b"X: a\r\n b\r\n" + LENGTH + b"\r\n" + BODY,
    POST + b"X: a\rContent-Length: 0\r\n" + LENGTH + b"\r\n" + BODY,
    POST + b"X: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST https://api.anthropic.com/v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST http://169.254.169.254/v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n" + LENGTH + b"\r\n" + BODY,
    b"CONNECT 127.0.0.1:443 HTTP/1.1\r\nHost: 127.0.0.1:443\r\n\r\n",
    b"CONNECT api.anthropic.com:443 HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\nHost: api.openai.com\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com:8443\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST /v1/messages HTTP/1.1\r\nHost: 169.254.169.254\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\nHost: api.openai.com\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST /v1/messages HTTP/1.1\r\n" + LENGTH + b"\r\n" + BODY,
    b"POST /proxy/x/v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\n" + LENGTH + b"\r\n" + BODY,
    b"GET /health HTTP/1.1\r\nHost: api.anthropic.com\r\n\r\n",
]


async def test_what_could_be_read_in_two_ways_is_not_sent_on(stage: Stage) -> None:
    account = await stage.open_account()

    async def ask(data: bytes) -> bytes:
        inside = await open_tunnel(stage, account)
        return await inside.ask(data.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n", 1))

    answers = await asyncio.gather(*(ask(data) for data in SMUGGLING))

    assert {data: answer for data, answer in zip(SMUGGLING, answers, strict=True) if answer and not answer.startswith(b"HTTP/1.1 4")} == {}
    assert stage.provider.asked == []
    assert stage.control.asked == []
    assert await stage.standing(account) == (10_000_000, 0)


async def test_bare_line_feeds_mean_what_they_meant_to_us(stage: Stage) -> None:
    account = await stage.open_account()
    inside = await open_tunnel(stage, account)
    smuggled = b"POST /v1/messages HTTP/1.1\nHost: api.anthropic.com\nX: y\nConnection: close\n" + LENGTH.replace(b"\r", b"") + b"\n" + BODY

    answer = await inside.ask(smuggled)

    assert answer.startswith(b"HTTP/1.1 200")
    [asked] = stage.provider.asked
    assert asked.body == BODY
    await stage.settled(account, charges=1)


async def test_another_host_inside_a_tunnel_is_421_in_the_dialect(stage: Stage) -> None:
    inside = await open_tunnel(stage, await stage.open_account())

    answer = await inside.ask(POST.replace(b"anthropic", b"openai") + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY)

    assert answer.startswith(b"HTTP/1.1 421")
    assert b'"type":"error"' in answer
    assert b"api.anthropic.com" in answer


async def test_a_websocket_is_426_so_that_clients_fall_back_at_once(stage: Stage) -> None:
    account = await stage.open_account()
    inside = await open_tunnel(stage, account, authority="api.openai.com:443", server_name="api.openai.com")
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n\r\n"

    answer = await inside.ask(b"GET /v1/responses HTTP/1.1\r\nHost: api.openai.com\r\n" + upgrade, until=b"}")

    assert answer.startswith(b"HTTP/1.1 426")
    assert stage.provider.asked == []


# HTTP/2


async def exchange_h2(inside: Inside, headers: list[tuple[bytes, bytes]], body: bytes = BODY) -> tuple[dict[bytes, bytes], bytes, bool]:
    """Send one request as it is written, without the checks of a good client; return headers, body and whether it was broken off."""
    config = h2.config.H2Configuration(
        client_side=True, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False, validate_inbound_headers=False
    )
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    client.send_headers(1, headers, end_stream=not body)
    if body:
        client.send_data(1, body, end_stream=True)
    inside.writer.write(client.data_to_send())
    found: dict[bytes, bytes] = {}
    received = b""
    async with asyncio.timeout(10):
        while data := await inside.reader.read(65536):
            for event in client.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived):
                    found = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    received += event.data
                elif isinstance(event, h2.events.StreamEnded):
                    return found, received, False
                elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                    return found, received, True
    return found, received, True


def head(*more: tuple[bytes, bytes], authority: bytes = HOST.encode(), path: bytes = b"/v1/messages", method: bytes = b"POST") -> list[tuple[bytes, bytes]]:
    return [(b":method", method), (b":scheme", b"https"), (b":authority", authority), (b":path", path), *more]


async def test_a_plain_request_over_http2_is_served(stage: Stage) -> None:
    account = await stage.open_account()

    answer, body, broken = await exchange_h2(await open_tunnel(stage, account, http2=True), head((b"content-type", b"application/json")))

    assert (answer[b":status"], broken) == (b"200", False)
    assert b'"usage"' in body
    await stage.settled(account, charges=1)


DOWNGRADES = [
    head((b"x", b"a\r\nx-api-key: stolen")),
    head((b"x", b"a\nb")),
    head((b"x", b"a\x00b")),
    head((b"x\r\nhost", b"y")),
    head((b"X-Upper", b"y")),
    head((b"transfer-encoding", b"chunked")),
    head((b"connection", b"upgrade"), (b"upgrade", b"websocket")),
    head((b"content-length", b"5")),
    head((b"content-length", b"5"), (b"content-length", b"6")),
    head((b"content-length", b"+94")),
    head((b"host", b"api.openai.com")),
    head((b"host", b"api.anthropic.com"), (b"host", b"api.anthropic.com")),
    head(authority=b"api.openai.com"),
    head(authority=b"api.anthropic.com:8443"),
    head(authority=b"user@api.anthropic.com"),
    head(authority=b""),
    head(path=b"/v1/messages HTTP/1.1\r\nhost: x"),
    head(path=b"http://169.254.169.254/"),
    head(path=b"/v1/../v1/messages"),
    head(path=b"//api.openai.com/v1/messages"),
    head(path=b""),
    head(method=b"POST /v1/messages"),
    head(method=b"POST\r\nx: y"),
    [(b":method", b"CONNECT"), (b":authority", b"127.0.0.1:443")],
    [(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":path", b"/v1/responses"), (b":authority", HOST.encode())],
    [(b":method", b"POST"), (b":scheme", b"https"), (b":path", b"/v1/messages")],
    [*head(), (b":path", b"/v1/models")],
]


async def test_http2_cannot_smuggle_into_http1(stage: Stage) -> None:
    account = await stage.open_account()

    async def ask(headers: list[tuple[bytes, bytes]]) -> str:
        answer, _, broken = await exchange_h2(await open_tunnel(stage, account, http2=True), headers)
        return "broken off" if broken else answer[b":status"].decode()

    answers = await asyncio.gather(*(ask(headers) for headers in DOWNGRADES))

    assert [headers for headers, answer in zip(DOWNGRADES, answers, strict=True) if not answer.startswith(("4", "broken off"))] == []
    assert stage.provider.asked == []
    assert stage.control.asked == []
    assert await stage.standing(account) == (10_000_000, 0)


async def test_a_configured_address_may_be_named_and_nothing_else_on_that_machine(make_stage: Callable[..., Any]) -> None:
    stage = await make_stage()
    account, port = await stage.open_account(), stage.provider.port

    inside = await open_tunnel(stage, account, authority=f"127.0.0.1:{port}", server_name="127.0.0.1")
    answer = await inside.ask(POST.replace(b"api.anthropic.com", b"127.0.0.1:%d" % port) + LENGTH + b"\r\n" + BODY, until=b"}]")
    control, _, _ = await connect(stage, f"127.0.0.1:{stage.control.port}", headers=basic(account.api_token))

    assert answer.startswith(b"HTTP/1.1 200")
    assert control.startswith(b"HTTP/1.1 403")
    await stage.settled(account, charges=1)


async def test_nothing_is_dialled_that_is_not_configured_whatever_a_request_says(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    account = await stage.open_account()
    monkeypatch.setattr(stage.assembly.links, "_known", frozenset())

    answer = await (await open_tunnel(stage, account)).ask(POST + b"Connection: close\r\n" + LENGTH + b"\r\n" + BODY)

    assert answer.startswith(b"HTTP/1.1 502")
    assert stage.provider.connections == 0
    await stage.settled(account, charges=0)


async def test_a_client_that_was_not_given_the_certificate_is_named_in_the_log(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    def trust_nobody() -> None:
        with socket.create_connection(("127.0.0.1", stage.settings.forward.port), timeout=5) as plain:
            plain.sendall(f"CONNECT {HOST}:443 HTTP/1.1\r\n\r\n".encode())
            assert plain.recv(1000).startswith(b"HTTP/1.1 200")
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(plain, server_hostname=HOST)

    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.to_thread(trust_nobody)

    said = ""
    async with asyncio.timeout(5):
        while "client_does_not_trust_us" not in said:
            said += capsys.readouterr().out
            await asyncio.sleep(0.01)
    assert HOST in said
