"""What deposits are measured on: a simulated cluster and the watcher, each in a process of its own, and real stores with durable settings."""

import asyncio
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websockets

from bench.processes import BenchError, cpu_ms, free_ports, start, stop, wait_for_port
from cli.embedded import EmbeddedPostgres, EmbeddedValkey, choose_service_user, own_folder, prepare_home
from cli.roles import post_the_rest
from ledger.accounts import Accounts, NewAccount
from ledger.balances import Balances
from ledger.deposits import Deposits
from ledger.journal import Pool, open_pool
from ledger.migrate import migrate
from ledger.poster import Poster
from ledger.reconcile import verify
from ledger.redis_client import connect_redis
from ledger.stores import claim_stores
from ledger.tokens import parse_token

ANSWER_SECONDS_MAX = 30.0
START_SECONDS_MAX = 60.0
REST_SECONDS_MAX = 2.0  # after five the server closes a connection that nothing comes on
PROVIDERS_MAX = 3


class Cluster:
    """The simulated cluster, over HTTP. One connection, so one caller at a time."""

    def __init__(self, port: int) -> None:
        self._connection, self._asked_at = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS_MAX), 0.0

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask for one of the switches below `/_sandbox`."""
        if time.monotonic() - self._asked_at > REST_SECONDS_MAX:
            self._connection.close()  # the next request opens it anew
        self._connection.request(method, f"/_sandbox/{path}", None if body is None else json.dumps(body), {"content-type": "application/json"})
        answer = self._connection.getresponse()
        told, self._asked_at = json.loads(answer.read()), time.monotonic()
        if answer.status != 200:
            raise BenchError(f"the simulated cluster answered {path} with {answer.status}: {told}")
        return told

    def pay(self, code: str, microunits: int) -> int:
        """Pay into the vault with a memo; return the slot in which it landed."""
        return int(self.ask("POST", "faucet", {"deposit_code": code, "usdc": microunits})["slot"])

    def take_calls(self, providers: int) -> Counter[str]:
        """Return what providers were asked since this was called last, by method."""
        calls: Counter[str] = Counter()
        for number in range(1, providers + 1):
            calls.update(self.ask("GET", f"calls/{number}")["calls"])
            self.ask("DELETE", f"calls/{number}")
        return calls


@dataclass
class Finality:
    """When each slot became final, as the cluster's own WebSocket told."""

    moments: list[tuple[int, float]] = field(default_factory=list)

    async def listen(self, port: int) -> None:
        """Note every root until cancelled."""
        async with websockets.connect(f"ws://127.0.0.1:{port}", proxy=None) as socket:
            await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "slotSubscribe"}))
            async for text in socket:
                told = json.loads(text)
                if told.get("method") == "slotNotification":
                    self.note(told["params"]["result"]["root"], time.monotonic())

    def note(self, root: int, at: float) -> None:
        """Take in that everything up to `root` is final."""
        if not self.moments or root > self.moments[-1][0]:
            self.moments.append((root, at))

    def of(self, slot: int) -> float | None:
        """Return when `slot` became final, None while it is not."""
        return next((at for root, at in self.moments if root >= slot), None)


@dataclass
class Stand:
    """Everything that runs, and the books it runs on."""

    folder: Path
    port: int
    ws_port: int
    providers: int
    requests_per_second: float
    environment: dict[str, str]
    pool: Pool
    balances: Balances
    deposits: Deposits
    finality: Finality
    accounts: list[NewAccount] = field(default_factory=list)
    watcher: subprocess.Popen[bytes] | None = None

    def start_watcher(self) -> None:
        urls = [f"http://127.0.0.1:{self.port}{'' if number == 1 else f'/provider/{number}'}" for number in range(1, self.providers + 1)]
        terms = {"LEVEL5_CHAIN__RPC_URLS": ",".join(urls), "LEVEL5_CHAIN__REQUESTS_PER_SECOND": str(self.requests_per_second)}
        self.watcher = start([sys.executable, "-O", "-m", "chainwatch"], self.folder / "chainwatch.log", environment=self.environment | terms)

    def stop_watcher(self) -> None:
        if self.watcher is not None:
            stop(self.watcher)
            self.watcher = None

    def watcher_cpu_ms(self) -> float:
        """Return the time that the watcher has run."""
        return cpu_ms([self.watcher.pid]) if self.watcher is not None else 0.0

    async def open_accounts(self, count: int) -> None:
        accounts = Accounts(self.pool, self.balances)
        self.accounts = [await accounts.create() for _ in range(count)]

    async def balance(self, account: NewAccount) -> int:
        """Return what an account can spend: a deposit counts as credited when it is there."""
        return (await self.balances.standing(parse_token(account.api_token))).balance

    async def wait_level(self) -> None:
        """Wait until the watcher says that it sees the whole chain."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            status = await self.deposits.status()
            if status is not None and status.state == "ok" and status.backlog == 0 and time.time() * 1000 - status.updated_at < 10_000:
                return
            await asyncio.sleep(0.1)
        raise BenchError(f"the watcher is not level in time; it said:\n{(self.folder / 'chainwatch.log').read_text(errors='replace')[-2000:]}")

    async def find_faults(self) -> list[str]:
        """Post what is still waiting, and prove the books."""
        await post_the_rest(Poster(self.pool, self.balances, retention_hours=48))
        return [finding.text for finding in (await verify(self.pool, self.balances)).findings]


@asynccontextmanager
async def run_stand(*, providers: int, requests_per_second: float) -> AsyncIterator[Stand]:
    """Run a new cluster, new stores and a watcher; nothing of them stays behind."""
    with _folder() as folder, _stores(folder) as (database_url, redis_url):
        port, ws_port = free_ports(2)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")} | {
            "LEVEL5_HOME": str(folder), "LEVEL5_MODE": "sandbox", "LEVEL5_DATABASE_URL": database_url, "LEVEL5_REDIS_URL": redis_url,
            "LEVEL5_SANDBOX__CHAIN_PORT": str(port), "LEVEL5_SANDBOX__CHAIN_WS_PORT": str(ws_port),
        }  # fmt: skip
        log, finality = folder / "chain.log", Finality()
        await migrate(database_url)
        pool, redis = await open_pool(database_url), connect_redis(redis_url, command_seconds_max=10)
        balances = Balances(redis, instance="")
        chain = start([sys.executable, "-m", "sandbox.chain"], log, environment=environment)
        made = Stand(folder, port, ws_port, providers, requests_per_second, environment, pool, balances, Deposits(pool, balances), finality)
        listening: asyncio.Task[None] | None = None
        try:
            await claim_stores(pool, balances, mode="sandbox")
            await balances.load()
            wait_for_port(ws_port, chain, log)
            listening = asyncio.create_task(finality.listen(ws_port))
            made.start_watcher()
            yield made
        finally:
            if listening is not None:
                listening.cancel()
            made.stop_watcher()
            stop(chain)
            await redis.aclose()
            pool.terminate()


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="l5deposits-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _stores(folder: Path) -> Iterator[tuple[str, str]]:
    """Run the stores as the appliance does: every commit is on disk before it is answered."""
    user = choose_service_user()
    prepare_home(folder / "pg", user)
    servers = (EmbeddedPostgres(folder / "pg", user=user), EmbeddedValkey(own_folder(folder / "vk", None, mode=0o711), user=user))
    try:
        for server in servers:
            server.start()
            server.wait_until_ready()
        yield servers[0].url, servers[1].url
    finally:
        for server in reversed(servers):
            server.stop()
