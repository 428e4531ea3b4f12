"""The doctor: every fault is found, and said with what to do."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli import doctor, stores
from cli.books import open_stores
from cli.doctor import ask_provider, check_home, check_machine, check_prices, check_providers, check_stores, clock_finding, collect
from cli.main import main
from cli.stores import NoStores, command_settings
from config.settings import ProviderSettings, Settings, load_settings
from ledger.migrate import migrate


@pytest.fixture
def provider() -> Iterator[HTTPServer]:
    """A provider that takes one key only, and is out of order for another."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key = self.headers.get("x-api-key") or self.headers.get("authorization", "").removeprefix("Bearer ")
            self.send_response({"good": 200, "ill": 500}.get(key, 401))
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def settings_with(**flags: object) -> Settings:
    return load_settings({name.replace("__", "."): value for name, value in flags.items()}, environment={})


@pytest.mark.parametrize(("key", "state"), [("good", "ok"), ("bad", "fault"), ("ill", "warning")])
@pytest.mark.parametrize("name", ["anthropic", "openai", "openrouter"])
def test_a_provider_is_asked_whether_it_takes_the_key(provider: HTTPServer, name: str, key: str, state: str) -> None:
    finding = ask_provider(name, ProviderSettings(base_url=f"http://127.0.0.1:{provider.server_port}", api_key=SecretStr(key)), key)

    assert finding.state == state
    assert key not in finding.text.replace("key", "")


def test_each_of_several_keys_is_asked_about_by_its_position(provider: HTTPServer) -> None:
    settings = settings_with(
        providers__openai__base_url=f"http://127.0.0.1:{provider.server_port}", providers__openai__api_key="bad", providers__openai__api_keys="good,ill"
    )

    found = {one.what: one.state for one in check_providers(settings)}

    assert [found[f"openai key {position}"] for position in (1, 2, 3)] == ["fault", "ok", "warning"]


def test_a_fallback_without_a_key_is_a_fault(provider: HTTPServer) -> None:
    settings = settings_with(
        providers__openai__base_url=f"http://127.0.0.1:{provider.server_port}", providers__openai__api_key="good", providers__openai__fallback="openrouter"
    )

    assert [one.state for one in check_providers(settings) if one.what == "openai"] == ["ok", "fault"]


def test_a_provider_that_cannot_be_reached_is_a_fault() -> None:
    settings = settings_with(providers__openai__base_url="http://127.0.0.1:9", providers__openai__api_key="operator-key-openai")

    found = {one.what: one for one in check_providers(settings)}

    assert found["openai"].state == "fault"
    assert "cannot be reached" in found["openai"].text
    assert found["anthropic"].state == "warning"


def test_a_rate_card_with_a_mistake_is_a_fault(tmp_path: Path) -> None:
    card = tmp_path / "rates.toml"
    card.write_text("markup_bps = 'much'\n")

    [finding] = check_prices(settings_with(rates=card))

    assert finding.state == "fault"


def test_a_clock_that_differs_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.time, "time", lambda: 1000.0)

    assert clock_finding("clock", 1000.5).state == "ok"
    assert clock_finding("clock", 1003.0).state == "fault"
    assert "-3.000 s" in clock_finding("clock", 997.0).text


def test_a_taken_port_and_a_small_disk_are_said(provider: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "FREE_BYTES_MIN", 2**80)
    found = {one.what: one for one in check_machine(settings_with(home=tmp_path, gateway__port=provider.server_port, database_url="x", redis_url="x"))}

    assert found["ports"].state == "warning"
    assert found["home"].state == "warning"
    assert found["python"].state == "ok"


def test_a_home_that_the_servers_cannot_reach_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = doctor.choose_service_user.__globals__["ServiceUser"](uid=tmp_path.stat().st_uid + 4242, gid=tmp_path.stat().st_gid + 4242)
    monkeypatch.setattr(doctor, "choose_service_user", lambda: stranger)
    (tmp_path / "closed").mkdir(mode=0o700)
    (tmp_path / "closed/home").mkdir()

    assert check_home(settings_with(home=tmp_path / "closed/home")).state == "fault"


async def test_a_database_that_is_not_up_to_date_or_of_another_mode_is_a_fault(bare_database_url: str, redis_url: str, tmp_path: Path) -> None:
    settings = settings_with(home=tmp_path, database_url=bare_database_url, redis_url=redis_url)
    found = {one.what: one for one in await collect(check_stores(settings))}
    assert found["schema"].state == "fault"
    assert "level5 migrate" in found["schema"].text
    assert found["shards"].state == "fault"

    await migrate(bare_database_url)
    async with open_stores(settings) as (pool, _):
        await pool.execute("INSERT INTO instance (instance_id, mode, genesis) VALUES ('x', 'sandbox', '')")
    found = {one.what: one for one in await collect(check_stores(settings))}
    assert found["schema"].state == "ok"
    assert "sandbox books" in found["instance"].text


async def test_a_store_that_is_away_does_not_hide_the_other(redis_url: str, tmp_path: Path) -> None:
    settings = settings_with(home=tmp_path, database_url=f"postgresql://level5@/level5?host={tmp_path}", redis_url=redis_url)

    found = {one.what: one for one in await collect(check_stores(settings))}

    assert "does not answer" in found["postgres"].text
    assert found["clock of redis"].state == "ok"


async def test_a_redis_that_may_evict_is_a_fault(database_url: str, redis_url: str, tmp_path: Path) -> None:
    await migrate(database_url)
    settings = settings_with(home=tmp_path, database_url=database_url, redis_url=redis_url)
    async with open_stores(settings) as (_, balances):
        await balances.redis.config_set("maxmemory-policy", "allkeys-lru")

    found = [one for one in await collect(check_stores(settings)) if one.what == "redis"]

    assert any(one.state == "fault" and "evict" in one.text for one in found)


def test_without_an_appliance_the_rest_is_checked_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("LEVEL5_DATABASE_URL", "LEVEL5_REDIS_URL", "DATABASE_URL", "REDIS_URL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(SystemExit):
        main(["doctor", "--home", str(tmp_path)])

    assert "no appliance runs on" in capsys.readouterr().out


def test_a_command_works_on_the_appliance_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, object] = {"home": tmp_path}
    monkeypatch.setattr(stores, "load_settings", lambda flags, config: load_settings(flags, config, environment={}))
    running: set[Path] = set()
    monkeypatch.setattr(stores, "is_running", lambda home: home in running)

    with pytest.raises(NoStores, match="no appliance runs"):
        command_settings(flags, None)
    running.add(tmp_path / "sandbox")
    found = command_settings(flags, None)
    assert (found.mode, found.home) == ("sandbox", tmp_path / "sandbox")
    assert found.redis_url is not None
    assert found.redis_url.get_secret_value().startswith("unix:///")

    running.add(tmp_path)
    with pytest.raises(NoStores, match="--sandbox or --real"):
        command_settings(flags, None)
    assert command_settings({**flags, "mode": "real"}, None).mode == "real"
