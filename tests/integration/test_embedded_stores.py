"""The embedded servers: started without rights, found again, gone when their parent is gone."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from cli import embedded, service_user
from cli.embedded import EmbeddedPostgres, EmbeddedStoreError, EmbeddedValkey, choose_service_user, prepare_home, valkey_answers
from cli.service_user import ServiceUser, is_reachable, require_reachable, socket_folder, socket_path


@pytest.fixture
def home(store_home: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="e", dir=store_home)) / "home"
    folder.parent.chmod(0o711)
    yield folder
    shutil.rmtree(folder.parent)


async def test_a_new_database_answers_queries(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)

    assert await connection.fetchval("SELECT 1 + 1") == 2

    await connection.close()


async def test_valkey_writes_every_change_to_disk_and_never_evicts(redis_url: str) -> None:
    client = Redis.from_url(redis_url, decode_responses=True)

    settings = await client.config_get("append*", "maxmemory-policy")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    await client.aclose()


async def test_a_second_start_finds_what_the_first_wrote(home: Path) -> None:
    user = choose_service_user()
    prepare_home(home, user)
    for first in (True, False):
        postgres, valkey = EmbeddedPostgres(home, user=user), EmbeddedValkey(home, user=user)
        for server in (postgres, valkey):
            server.start()
            server.wait_until_ready()
        connection = await asyncpg.connect(postgres.url)
        client = Redis.from_url(valkey.url, decode_responses=True)
        if first:
            await connection.execute("CREATE TABLE kept AS SELECT 42 AS figure")
            await client.set("kept", "42")
        else:
            assert await connection.fetchval("SELECT figure FROM kept") == 42
            assert await client.get("kept") == "42"
        await connection.close()
        await client.aclose()
        for server in (postgres, valkey):
            server.stop()
        assert list(socket_path(home).iterdir()) == []
    assert not valkey_answers(home)


def test_a_home_with_a_very_long_path_has_its_sockets_elsewhere(home: Path) -> None:
    long = home / ("l" * 60) / ("o" * 60)
    user = choose_service_user()
    prepare_home(long, user)
    server = EmbeddedValkey(long, user=user)

    server.start()
    server.wait_until_ready()

    assert valkey_answers(long)
    assert not str(socket_path(long)).startswith(str(home))
    server.stop()
    shutil.rmtree(socket_path(long))


def test_a_first_start_that_was_cut_short_is_begun_again(home: Path) -> None:
    user = choose_service_user()
    prepare_home(home, user)
    (home / "postgres.new").mkdir()
    (home / "postgres.new" / "half").touch()
    server = EmbeddedPostgres(home, user=user)

    server.start()
    server.wait_until_ready()

    server.stop()
    assert not (home / "postgres.new").exists()


def test_a_server_that_cannot_start_says_what_its_log_says(home: Path) -> None:
    user = choose_service_user()
    prepare_home(home, user)
    server = EmbeddedValkey(home, user=user, options=("--no-such-option", "1"))

    server.start()

    with pytest.raises(EmbeddedStoreError, match=r"(?s)embedded Valkey ended.*no-such-option"):
        server.wait_until_ready()


def test_a_server_that_hangs_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS_MAX", 0.3)
    user = choose_service_user()
    prepare_home(home, user)
    server = EmbeddedValkey(home, user=user)
    server.start()
    server.wait_until_ready()
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    monkeypatch.setattr(server, "answers", lambda: False)

    with pytest.raises(EmbeddedStoreError, match="did not answer in time"):
        server.wait_until_ready()

    os.kill(server.process.pid, signal.SIGCONT)
    server.stop()


def test_a_folder_that_the_service_user_cannot_enter_is_named(home: Path) -> None:
    closed = home.parent / "closed"
    closed.mkdir(mode=0o700)
    (closed / "home").mkdir()
    stranger = ServiceUser(uid=closed.stat().st_uid + 4242, gid=closed.stat().st_gid + 4242)

    assert not is_reachable(closed / "home", stranger)
    with pytest.raises(EmbeddedStoreError, match=rf"cannot enter {closed}.*LEVEL5_HOME"):
        require_reachable(closed / "home", stranger)
    assert is_reachable(closed / "home", None)


def test_a_home_that_cannot_be_made_is_refused(home: Path) -> None:
    home.parent.joinpath("file").touch()

    with pytest.raises(EmbeddedStoreError, match="cannot create"):
        prepare_home(home.parent / "file" / "home", None)
    with pytest.raises(EmbeddedStoreError, match="not a folder"):
        prepare_home(home.parent / "file", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder that belongs to somebody else")
def test_a_socket_folder_that_somebody_else_made_is_refused(home: Path) -> None:
    home.mkdir()
    (home / "run").mkdir()
    os.chown(home / "run", 4242, 4242)

    with pytest.raises(EmbeddedStoreError, match="belongs to somebody else"):
        socket_folder(home, None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user for the servers")
def test_as_root_the_servers_run_as_an_ordinary_user_from_copies_where_the_wheel_is_closed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = choose_service_user()
    assert user is not None
    prepare_home(home, user)
    monkeypatch.setattr(embedded, "is_reachable", lambda _path, _user: False)
    for server in (EmbeddedPostgres(home, user=user), EmbeddedValkey(home, user=user)):
        server.start()
        server.wait_until_ready()
        assert server.process is not None
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == user.uid
        assert Path(f"/proc/{server.process.pid}/exe").resolve().is_relative_to(home)
        server.stop()


def test_without_an_ordinary_user_root_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(service_user, "SERVICE_USERS", ("no-such-user",))

    with pytest.raises(EmbeddedStoreError, match="Postgres refuses to run as root"):
        choose_service_user()
