"""Connections that a worker keeps: resumed sessions, providers that are away, warm starts."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from addons.circuit import FAILURES_MAX
from addons.provider_pool import CircuitOpen, ProviderKey, ProviderPool
from addons.resumption import make_context
from addons.wire import Wire
from tests.fakes.appliance import free_ports
from tests.fakes.certificates import Authority, make_authority


class Greeter:
    """A TLS server that says something first, so that its client reads what came after the handshake."""

    def __init__(self) -> None:
        self.resumed: list[bool] = []

    @asynccontextmanager
    async def served(self, context: ssl.SSLContext) -> AsyncIterator[ProviderKey]:
        server = await asyncio.start_server(self._greet, "127.0.0.1", 0, ssl=context)
        yield (server.sockets[0].getsockname()[:2], True)
        server.close()

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.resumed.append(writer.get_extra_info("ssl_object").session_reused)
        writer.write(b"hello")
        await reader.read()
        writer.close()


async def use(pool: ProviderPool, key: ProviderKey) -> Wire:
    """Dial, hear the greeting, and give the connection back."""
    wire, heard = await pool.dial(key), asyncio.Event()
    wire.listen(receive=lambda _: heard.set())
    async with asyncio.timeout(10):
        await heard.wait()
    pool.give(key, wire)
    return wire


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return make_authority(tmp_path)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_second_connection_takes_up_where_the_first_left(authority: Authority, version: ssl.TLSVersion) -> None:
    authority.server.maximum_version = version
    pool, greeter = ProviderPool(str(authority.ca_file)), Greeter()
    async with greeter.served(authority.server) as key:
        for _ in range(3):
            wire = await use(pool, key)
            assert pool.take(key) is wire
            wire.close()

    assert greeter.resumed == [False, True, True]
    pool.close()


async def test_a_server_that_forgot_its_sessions_is_verified_anew(authority: Authority, tmp_path: Path) -> None:
    pool, first, second = ProviderPool(str(authority.ca_file)), Greeter(), Greeter()
    async with first.served(authority.server) as key:
        (await use(pool, key)).close()
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        async with second.served(make_authority(stranger).server) as other:
            with pytest.raises(ssl.SSLCertVerificationError):
                await pool.dial(other)  # the same host by another certificate

    assert second.resumed == []
    pool.close()


async def test_nothing_is_sent_to_a_host_whose_certificate_names_another(authority: Authority) -> None:
    pool, greeter = ProviderPool(str(authority.ca_file)), Greeter()
    async with greeter.served(authority.server) as ((_, port), _):
        with pytest.raises(ssl.SSLCertVerificationError):
            await pool.dial((("localhost", port), True))
    pool.close()


def test_a_context_requires_a_certificate_and_its_name() -> None:
    authorities = ssl.get_default_verify_paths().cafile
    if authorities is None:
        pytest.skip("this Python knows no authorities")
    context = make_context(authorities)

    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


async def test_a_provider_that_cannot_be_reached_is_left_alone_for_a_moment() -> None:
    pool, (port,) = ProviderPool(spares=lambda _: False), free_ports(1)
    key = (("127.0.0.1", port), False)
    for _ in range(FAILURES_MAX):
        with pytest.raises(ConnectionRefusedError):
            await pool.dial(key)

    with pytest.raises(CircuitOpen):
        await pool.dial(key)

    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    async with asyncio.timeout(20):
        while True:
            try:
                wire = await pool.dial(key)
                break
            except CircuitOpen:
                await asyncio.sleep(0.05)
    wire.close()
    server.close()


async def test_what_runs_on_this_machine_is_asked_each_time() -> None:
    pool, (port,) = ProviderPool(), free_ports(1)
    for _ in range(2 * FAILURES_MAX):
        with pytest.raises(ConnectionRefusedError):
            await pool.dial((("127.0.0.1", port), False))


async def test_a_warm_start_opens_one_connection_to_each_provider_and_leaves_those_that_are_away(authority: Authority) -> None:
    pool, greeter, (port,) = ProviderPool(str(authority.ca_file)), Greeter(), free_ports(1)
    quiet = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=authority.server)
    key = (quiet.sockets[0].getsockname()[:2], True)

    await pool.warm_up([(("127.0.0.1", port), True), key])

    wire = pool.take(key)
    assert wire is not None
    assert wire.is_open
    assert greeter.resumed == []
    wire.close()
    quiet.close()
