"""The control role as a process: started without its stores, recovering by itself, stopped, and silent about tokens."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx
import pytest

from cli.embedded import EmbeddedPostgres, EmbeddedValkey
from ledger.migrate import migrate
from tests.fakes.appliance import free_ports
from tests.fakes.control import control_settings, prepare_stores
from tests.fakes.interpreter import module_command

SOCKET = ".s.PGSQL.5432"


@dataclass
class Role:
    """A running `python -m control`."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> httpx.Response:
        return self.ask("GET", path, headers=headers)

    def ask(self, method: str, path: str, *, headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.request(method, self.url + path, headers=headers, timeout=20)

    def register(self) -> str:
        token: str = self.ask("POST", "/v1/register").raise_for_status().json()["api_token"]
        return token

    def wait_for(self, fits: Callable[[httpx.Response], bool], path: str = "/health", seconds_max: float = 30.0) -> httpx.Response:
        deadline = time.monotonic() + seconds_max
        while True:
            try:
                answer = self.get(path)
                if fits(answer):
                    return answer
            except httpx.HTTPError:
                answer = None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, (answer and answer.text, self.log.read_text()[-3000:])
            time.sleep(0.1)


@contextmanager
def running_role(folder: Path, database_url: str, redis_url: str, **environment: str) -> Iterator[Role]:
    (port,) = free_ports(1)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("LEVEL5_")}
    mine = {
        "LEVEL5_HOME": str(folder),
        "LEVEL5_DATABASE_URL": database_url,
        "LEVEL5_REDIS_URL": redis_url,
        "LEVEL5_CONTROL__PORT": str(port),
        "LEVEL5_REGISTER__RATE_PER_MINUTE": "0",
        "LEVEL5_INTERNAL_KEY": "internal-key-of-a-test",
        **environment,
    }
    log = folder / "control.log"
    with log.open("wb") as output:
        process = subprocess.Popen(module_command("control"), env=inherited | mine, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield Role(f"http://127.0.0.1:{port}", process, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


async def test_it_starts_without_its_stores_and_recovers_by_itself(tmp_path: Path, postgres_server: EmbeddedPostgres, valkey_server: EmbeddedValkey) -> None:
    name = "late_" + os.urandom(6).hex()
    database_url = postgres_server.url.replace("/level5?", f"/{name}?")
    valkey_server.stop()
    with running_role(tmp_path, database_url, valkey_server.url) as role:
        without_both = role.wait_for(lambda answer: answer.status_code == 503)
        assert without_both.json()["components"] == {"redis": "error", "postgres": "error"}
        assert role.get("/healthz").status_code == 200
        assert role.get("/readyz").status_code == 503
        assert role.get("/v1/pricing").status_code == 200
        refused = role.ask("POST", "/v1/register")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "journal_unavailable")
        assert refused.headers["retry-after"]

        connection = await asyncpg.connect(postgres_server.url)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()
        await migrate(database_url)
        valkey_server.start()
        valkey_server.wait_until_ready()

        role.wait_for(lambda answer: answer.status_code == 200)
        token = role.register()
        assert role.get(f"/proxy/{token}/balance").json()["usdc_balance"] == 0

        valkey_server.stop()
        role.wait_for(lambda answer: answer.status_code == 503)
        gone = role.get(f"/proxy/{token}/balance")
        assert (gone.status_code, gone.json()["error"]["code"]) == (503, "balances_unavailable")  # never 401, never zero
        assert role.get("/readyz").status_code == 503
        valkey_server.start()
        valkey_server.wait_until_ready()
        role.wait_for(lambda answer: answer.status_code == 200)
        assert role.get(f"/proxy/{token}/balance").status_code == 200


async def end_connections(server: EmbeddedPostgres, database_url: str) -> None:
    connection = await asyncpg.connect(server.url)
    name = database_url.split("@/")[1].partition("?")[0]
    await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    await connection.close()


async def test_without_postgres_balances_are_still_told(tmp_path: Path, database_url: str, redis_url: str, postgres_server: EmbeddedPostgres) -> None:
    await prepare_stores(control_settings(database_url, redis_url))
    with tempfile.TemporaryDirectory(prefix="l5s-") as folder, running_role(tmp_path, database_url.partition("?")[0] + f"?host={folder}", redis_url) as role:
        link = Path(folder) / SOCKET
        link.symlink_to(postgres_server.sockets / SOCKET)
        role.wait_for(lambda answer: answer.status_code == 200)
        token = role.register()
        link.unlink()
        await end_connections(postgres_server, database_url)

        degraded = role.wait_for(lambda answer: answer.status_code == 503).json()
        assert degraded["components"]["postgres"] == "error"
        assert degraded["components"]["redis"] == "ok"
        assert role.get("/readyz").status_code == 200
        assert role.get(f"/proxy/{token}/balance").status_code == 200
        statement = role.get(f"/proxy/{token}/transactions")
        assert (statement.status_code, statement.json()["error"]["code"]) == (503, "journal_unavailable")
        page = role.get(f"/dashboard/{token}")
        assert page.status_code == 200
        assert "cannot be shown at the moment" in page.text
        assert role.ask("POST", "/v1/register").status_code == 503

        link.symlink_to(postgres_server.sockets / SOCKET)
        role.wait_for(lambda answer: answer.status_code == 200)


async def test_no_token_reaches_the_log_and_a_stop_is_clean(tmp_path: Path, database_url: str, redis_url: str) -> None:
    await prepare_stores(control_settings(database_url, redis_url))
    with running_role(tmp_path, database_url, redis_url, LEVEL5_LOG_LEVEL="debug") as role:
        role.wait_for(lambda answer: answer.status_code == 200)
        token = role.register()
        for path in ("balance", "transactions", "transactions?limit=0", "nowhere", "v1/messages"):
            role.get(f"/proxy/{token}/{path}")
        role.get(f"/dashboard/{token}")
        role.get("/v1/limits", headers={"Authorization": f"Bearer {token}"})
        head = role.ask("HEAD", f"/proxy/{token}/balance")
        role.process.send_signal(signal.SIGTERM)
        assert role.process.wait(20) == 0
        text = role.log.read_text()

    assert head.status_code == 200
    assert token.rsplit("_", 1)[1][:16] not in text
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"control_ready", "stores_claimed", "account_registered"} <= {line["event"] for line in lines}
    assert all({"timestamp", "level", "role", "pid"} <= set(line) for line in lines)


async def test_the_stores_of_another_mode_are_refused(tmp_path: Path, database_url: str, redis_url: str) -> None:
    await prepare_stores(control_settings(database_url, redis_url))
    with running_role(tmp_path, database_url, redis_url, LEVEL5_MODE="sandbox") as role:
        assert role.process.wait(30) == 2
        assert "sandbox" in role.log.read_text()


def test_settings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with running_role(tmp_path, "", "") as role:
        assert role.process.wait(30) == 2
        assert "LEVEL5_DATABASE_URL" in role.log.read_text()


@pytest.mark.parametrize("request_head", [b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"nonsense\r\n\r\n"])
def test_what_is_not_http_gets_an_answer_and_harms_nobody(tmp_path: Path, request_head: bytes) -> None:
    with running_role(tmp_path, "postgresql://level5@/level5?host=/nowhere", "unix:///nowhere/valkey.sock") as role:
        role.wait_for(lambda answer: answer.status_code == 200, "/healthz")
        with socket.create_connection(("127.0.0.1", int(role.url.rsplit(":", 1)[1])), timeout=5) as client:
            client.sendall(request_head)
            client.settimeout(5)
            assert client.recv(100).startswith(b"HTTP/1.1 4")
        assert role.get("/healthz").status_code == 200
