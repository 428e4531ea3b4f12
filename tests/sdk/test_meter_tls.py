"""The meter under TLS: certificates are checked, connections kept, and a proxy only carries what it cannot read."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from plutus_agent import Meter, PlutusError

from tests.fakes.usage_server import KEY, UsageServer, records_then_resets


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that only this test's own trust knows, with its key."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "meter test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture
def secure(server: UsageServer, certificate: Path) -> str:
    """The address of the server, now under TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    assert server._server is not None
    server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
    return server.url.replace("http:", "https:")


@pytest.fixture
def tunnel() -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that only knows CONNECT: its port, and the heads it was sent."""
    heads: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1)
            heads.append(head)
            host, _, port = head.split()[1].partition(b":")
            beyond = socket.create_connection((host.decode(), int(port)))
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            threading.Thread(target=pump, args=(client, beyond), daemon=True).start()
            threading.Thread(target=pump, args=(beyond, client), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield listener.getsockname()[1], heads
    listener.close()


def test_events_go_over_one_kept_connection(server: UsageServer, secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    meter = Meter(remote=secure, api_key=KEY)

    for _ in range(10):
        assert meter.track("openai").recorded

    # The first answer may come together with a session ticket, which looks like a farewell.
    assert len({asked.connection for asked in server.asked}) <= 2


def test_a_lost_answer_counts_nothing_twice(server: UsageServer, secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server.faults += [records_then_resets]

    assert Meter(remote=secure, api_key=KEY).track("openai").idempotent_replay

    assert len(server.recorded) == 1


def test_a_certificate_that_is_not_trusted_is_not_talked_to(server: UsageServer, secure: str) -> None:
    with pytest.raises(PlutusError, match=r"certificate of https://127\.0\.0\.1:\d+ is not trusted") as refusal:
        Meter(remote=secure, api_key=KEY).track("openai")

    assert not refusal.value.retryable
    assert server.asked == []


def test_a_proxy_carries_the_connection_without_seeing_the_key(
    server: UsageServer, secure: str, certificate: Path, tunnel: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, heads = tunnel
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("https_proxy", f"http://user:word@127.0.0.1:{port}")

    assert Meter(remote=secure, api_key=KEY).track("openai").recorded

    assert heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"Proxy-Authorization: Basic dXNlcjp3b3Jk" in heads[0]
    assert KEY.encode() not in heads[0]
    assert "proxy-authorization" not in server.asked[0].headers
