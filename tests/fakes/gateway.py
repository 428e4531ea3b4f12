"""A gateway in the test's own process, on real stores, with a bare socket for its provider and another for control."""

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from addons.assembly import Assembly, assemble, combined_trust
from addons.authority import Authority, ensure_authority
from addons.forward_listener import modes_of
from addons.listener import GatewayMaster, make_master
from config.rate_card import load_rate_card
from config.settings import Settings
from ledger.accounts import NewAccount
from ledger.entries import ChargeRecord
from ledger.tokens import parse_token
from metering.pricing import price_record
from tests.fakes.appliance import free_ports
from tests.fakes.books import Books
from tests.fakes.raw_provider import RawProvider, answer, message, says

KEY = "operator-key-anthropic"
PROVIDERS = ("anthropic", "openai", "openrouter")
CARD = load_rate_card(None)


class Http2Only(ssl.SSLContext):
    """Offers HTTP/2 alone, whatever the client library would offer first."""

    def set_alpn_protocols(self, alpn_protocols: Iterable[str]) -> None:
        super().set_alpn_protocols(["h2"])


@dataclass
class Stage:
    """One gateway with everything around it."""

    settings: Settings
    assembly: Assembly
    master: GatewayMaster
    books: Books
    provider: RawProvider
    control: RawProvider
    client: httpx.AsyncClient
    authority: Authority
    logs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.settings.gateway.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def proxy_url(self, account: NewAccount | None = None) -> str:
        """What an agent writes into HTTPS_PROXY."""
        credentials = f"{account.api_token}:@" if account else ""
        return f"http://{credentials}127.0.0.1:{self.settings.forward.port}"

    def trust(self, *, http2: bool = False) -> ssl.SSLContext:
        """What a client that was given our certificate, and no other, verifies by; with `http2` it speaks nothing else."""
        context = Http2Only(ssl.PROTOCOL_TLS_CLIENT) if http2 else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(str(self.settings.certificate_file))
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def through(self, account: NewAccount | None, *, http2: bool = False, **options: Any) -> httpx.AsyncClient:
        """A client that only knows HTTPS_PROXY and our certificate."""
        return httpx.AsyncClient(proxy=self.proxy_url(account), verify=self.trust(http2=http2), http2=http2, timeout=20, trust_env=False, **options)

    async def open_account(self, balance: int = 10_000_000) -> NewAccount:
        return await self.books.open_account(balance)

    async def messages(self, account: NewAccount, *, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
        """Ask for a message in the plainest way."""
        return await self.client.post(
            f"{self.url}/proxy/{account.api_token}/v1/messages",
            json={"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]} | body,
            headers=headers,
        )

    def raw_request(self, account: NewAccount, body: bytes, *, path: str = "/v1/messages", headers: str = "") -> bytes:
        head = f"POST /proxy/{account.api_token}{path} HTTP/1.1\r\nHost: x\r\ncontent-type: application/json\r\n{headers}content-length: {len(body)}\r\n\r\n"
        return head.encode() + body

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange_raw(self, data: bytes, *, seconds: float = 5.0) -> bytes:
        """Write bytes, return all that comes until the gateway closes or is silent."""
        reader, writer = await self.connect()
        writer.write(data)
        received = b""
        try:
            async with asyncio.timeout(seconds):
                while piece := await reader.read(65536):
                    received += piece
        except (TimeoutError, ConnectionError):
            pass
        writer.close()
        return received

    async def charges(self, account: NewAccount) -> list[ChargeRecord]:
        """What the outbox says was charged, in order."""
        token = parse_token(account.api_token)
        entries = await self.books.balances.read_outbox(token.shard, after=0, count=1000)
        return [ChargeRecord.from_json(entry.detail) for entry in entries if entry.kind in {"charge", "adjust"} and entry.account == token.account]

    async def standing(self, account: NewAccount) -> tuple[int, int]:
        """Balance and held."""
        standing = await self.books.balances.standing(parse_token(account.api_token))
        return standing.balance, standing.held

    async def settled(self, account: NewAccount, *, charges: int, seconds: float = 5.0) -> list[ChargeRecord]:
        """Wait until nothing is held any more; exactly so many charges must have been made, each at its right price."""
        async with asyncio.timeout(seconds):
            while (await self.standing(account))[1] or self.assembly.links.running:
                await asyncio.sleep(0.01)
        found = await self.charges(account)
        assert len(found) == charges, found
        assert all(price_record(record, CARD).amount == record.amount for record in found)
        return found


def stage_settings(books_urls: tuple[str, str], home: str, *, provider_port: int, control_port: int, ports: list[int], **changes: Any) -> Settings:
    database_url, redis_url = books_urls
    section = {"base_url": f"http://127.0.0.1:{provider_port}", "api_key": KEY}
    providers = {name: {**section, "api_key": f"operator-key-{name}"} for name in PROVIDERS} | changes.pop("providers", {})
    gateway_changes = {"port": ports[0], "drain_seconds_max": 2.0} | changes.pop("gateway", {})
    forward_changes = {"port": ports[1]} | changes.pop("forward", {})
    return Settings.model_validate(
        {
            "database_url": database_url, "redis_url": redis_url, "home": home, "providers": providers, "gateway": gateway_changes,
            "control": {"port": control_port}, "forward": forward_changes, **changes,
        }
    )  # fmt: skip


@asynccontextmanager
async def open_stage(books: Books, urls: tuple[str, str], **changes: Any) -> AsyncIterator[Stage]:
    """Run a gateway until the end of the block."""
    provider, control = RawProvider(), RawProvider()
    provider.script = says(answer(message()))
    control.script = says(answer({"from": "control"}))
    await provider.start()
    await control.start()
    with tempfile.TemporaryDirectory(prefix="l5-") as home:
        settings = stage_settings(urls, home, provider_port=provider.port, control_port=control.port, ports=free_ports(2), **changes)
        async with assemble(settings, CARD) as assembly:
            authority = ensure_authority(settings)
            master = make_master(
                modes=modes_of(settings), confdir=str(authority.folder), idle_seconds_max=60, trusted_ca=combined_trust(settings, Path(home)),
                addons=assembly.addons, fast_lane=settings.gateway.fast_lane,
            )  # fmt: skip
            assembly.links.attach(master.proxyserver, assembly.gateway.end)
            running = asyncio.create_task(master.run())
            await asyncio.wait_for(master.started.wait(), 10)
            async with httpx.AsyncClient(timeout=20) as client:
                try:
                    yield Stage(settings, assembly, master, books, provider, control, client, authority)
                finally:
                    await _stop(master, running)
    await provider.stop()
    await control.stop()


async def _stop(master: GatewayMaster, running: "asyncio.Task[None]") -> None:
    for server in master.proxyserver.servers:
        if server.is_running:
            await server.stop()
    for handler in list(master.proxyserver.connections.values()):
        io = handler.transports.get(handler.client)
        if io is not None and io.handler is not None:
            io.handler.cancel("over")
    async with asyncio.timeout(5):
        while master.proxyserver.connections:
            await asyncio.sleep(0.01)
    master.should_exit.set()
    await running
