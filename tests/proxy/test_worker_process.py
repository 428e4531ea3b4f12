# ruff: noqa: ASYNC220, ASYNC240
"""Real worker processes: ready, shared port, drain, deadline; and the same addons in stock mitmdump."""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from addons.authority import ensure_authority
from config.settings import Settings, settings_environment
from ledger.accounts import NewAccount
from ledger.entries import ChargeRecord
from ledger.tokens import parse_token
from tests.fakes.appliance import free_ports
from tests.fakes.books import Books
from tests.fakes.gateway import stage_settings
from tests.fakes.interpreter import module_command
from tests.fakes.raw_provider import RawProvider, answer, message, message_events, says, streams

ROOT = Path(__file__).resolve().parents[2]
BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}


@pytest.fixture
async def provider() -> AsyncIterator[RawProvider]:
    made = RawProvider()
    made.script = says(answer(message()))
    await made.start()
    yield made
    await made.stop()


def environment(settings: Settings) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
    return {**kept, **settings_environment(settings), "LEVEL5_INTERNAL_KEY": "k", "PYTHONPATH": str(ROOT)}


@asynccontextmanager
async def process(command: list[str], settings: Settings, log: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        started = subprocess.Popen(command, env=environment(settings), cwd=ROOT, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        await asyncio.to_thread(started.wait)


def worker() -> list[str]:
    return module_command("addons.worker")


async def ready(log: Path, count: int = 1) -> None:
    async with asyncio.timeout(60):
        while log.read_text().count('"worker_ready"') < count:
            await asyncio.sleep(0.05)


async def charges(books: Books, account: NewAccount) -> list[ChargeRecord]:
    token = parse_token(account.api_token)
    entries = await books.balances.read_outbox(token.shard, after=0, count=1000)
    return [ChargeRecord.from_json(entry.detail) for entry in entries if entry.kind == "charge" and entry.account == token.account]


def settings_for(proxy_urls: tuple[str, str], home: Path, provider: RawProvider, **gateway: Any) -> Settings:
    *ports, control = free_ports(3)
    return stage_settings(proxy_urls, str(home), provider_port=provider.port, control_port=control, ports=ports, gateway=gateway)


async def test_two_workers_share_a_port_and_drain_without_cutting_anybody(
    books: Books, proxy_urls: tuple[str, str], tmp_path: Path, provider: RawProvider
) -> None:
    settings = settings_for(proxy_urls, tmp_path, provider, drain_seconds_max=20)
    events = message_events(words=30, output_tokens=77)
    provider.script = streams(events, pause=0.05)
    account = await books.open_account(1_000_000_000)
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{settings.gateway.port}/proxy/{account.api_token}/v1/messages"

    async def ask() -> bytes:
        async with httpx.AsyncClient(timeout=30) as client:
            return (await client.post(url, json=BODY | {"stream": True})).content

    async with process(worker(), settings, log) as one, process(worker(), settings, log) as two:
        await ready(log, 2)
        asking = [asyncio.create_task(ask()) for _ in range(12)]
        while len(provider.asked) < 12:
            await asyncio.sleep(0.02)
        for each in (one, two):
            each.send_signal(signal.SIGTERM)
        answers = await asyncio.gather(*asking)
        codes = [await asyncio.to_thread(each.wait, 20) for each in (one, two)]
        with pytest.raises(httpx.ConnectError):
            await ask()

    assert answers == [b"".join(events)] * 12
    assert codes == [0, 0]
    assert len(await charges(books, account)) == 12
    assert account.api_token not in log.read_text()
    assert all(log.read_text().count(f'"pid": {each.pid}') > 1 for each in (one, two))


async def test_a_drain_has_a_deadline_and_settles_what_it_cuts(books: Books, proxy_urls: tuple[str, str], tmp_path: Path, provider: RawProvider) -> None:
    settings = settings_for(proxy_urls, tmp_path, provider, drain_seconds_max=0.5)
    provider.script = streams(message_events(input_tokens=1000, words=3000), pause=0.05)
    account = await books.open_account(1_000_000_000)
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{settings.gateway.port}/proxy/{account.api_token}/v1/messages"

    async with process(worker(), settings, log) as one:
        await ready(log)
        async with httpx.AsyncClient(timeout=30) as client, client.stream("POST", url, json=BODY | {"stream": True}) as response:
            pieces = response.aiter_raw()
            assert b"message_start" in await anext(pieces)
            one.send_signal(signal.SIGTERM)
            began = time.monotonic()
            with pytest.raises(httpx.RemoteProtocolError):
                async for _ in pieces:
                    pass
            assert await asyncio.to_thread(one.wait, 20) == 0
            assert time.monotonic() - began < 10

    [record] = await charges(books, account)
    assert (record.estimated, record.lines[0].input_tokens) == (True, 1000)
    standing = await books.balances.standing(parse_token(account.api_token))
    assert standing.held == 0


async def test_a_worker_that_cannot_start_says_why(proxy_urls: tuple[str, str], tmp_path: Path, provider: RawProvider) -> None:
    settings = settings_for(proxy_urls, tmp_path, provider)
    log = tmp_path / "log"
    blocker = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", settings.gateway.port)
    async with process(worker(), settings, log) as one:
        assert await asyncio.to_thread(one.wait, 60) == 2
    blocker.close()

    assert json.loads(log.read_text().splitlines()[-1])["event"] == "worker_cannot_start"


async def test_stock_mitmdump_bills_with_the_same_addons(books: Books, proxy_urls: tuple[str, str], tmp_path: Path, provider: RawProvider) -> None:
    settings = settings_for(proxy_urls, tmp_path, provider)
    account = await books.open_account(1_000_000)
    log = tmp_path / "log"
    mitmdump = str(Path(sys.executable).with_name("mitmdump"))
    modes = f"--mode=reverse:http://127.0.0.1:{settings.control.port}@{settings.gateway.port}", f"--mode=regular@{settings.forward.port}"
    confdir = ensure_authority(settings).folder
    command = [mitmdump, "-s", str(ROOT / "addons/entry.py"), *modes, "--set", f"confdir={confdir}", "--listen-host", "127.0.0.1"]
    proxy = {"proxy": f"http://127.0.0.1:{settings.forward.port}", "verify": ssl.create_default_context(cafile=str(settings.certificate_file))}
    url = f"http://127.0.0.1:{settings.gateway.port}/proxy/{account.api_token}/v1/messages"

    async with process(command, settings, log), httpx.AsyncClient(timeout=30) as client:
        async with asyncio.timeout(60):
            while True:
                try:
                    response = await client.post(url, json=BODY)
                except httpx.ConnectError:
                    await asyncio.sleep(0.1)
                    continue
                if response.status_code == 200:
                    break
                await asyncio.sleep(0.1)
        async with httpx.AsyncClient(timeout=30, trust_env=False, **proxy) as agent:
            forwarded = await agent.post("https://api.anthropic.com/v1/messages", json=BODY, headers={"x-api-key": account.api_token})
            plain = await agent.get("http://api.anthropic.com/v1/models", headers={"x-api-key": account.api_token})
            with pytest.raises(httpx.ProxyError, match="403"):
                await agent.get("https://example.com/")

    assert response.headers["x-level5-charge"] == forwarded.headers["x-level5-charge"]
    assert (forwarded.status_code, plain.status_code) == (200, 403)
    assert len(await charges(books, account)) == 2
    assert account.api_token not in log.read_text()
