"""`level5 admin …` and what the doctor says of the console."""

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.admin_checks import check_console
from cli.admin_commands import checked_who, console_origin
from cli.main import main
from cli.options import CommandFailed
from config.settings import Settings, SettingsError, load_settings
from tests.fakes.oidc_provider import OPERATOR, running_issuer

OIDC = {"issuer": "https://accounts.google.com", "client_id": "id", "client_secret": "not-a-secret", "allowed": "@example.com"}


def settings(**changes: object) -> Settings:
    return Settings.model_validate(changes)


@pytest.mark.parametrize(
    ("changes", "origin"),
    [
        ({}, "http://127.0.0.1:8402"),
        ({"public_url": "https://llm.example.com"}, "https://llm.example.com"),
        ({"public_url": "http://localhost:8402"}, "http://localhost:8402"),
        ({"public_url": "http://10.0.0.1:8402"}, "http://127.0.0.1:8404"),
        ({"public_url": "http://10.0.0.1:8402", "control": {"host": "0.0.0.0"}}, "http://127.0.0.1:8404"),
    ],
)
def test_a_link_leads_where_nobody_listens_in(changes: dict[str, object], origin: str) -> None:
    assert console_origin(settings(**changes)) == origin


def test_where_the_console_can_be_opened_nowhere_no_link_is_made() -> None:
    with pytest.raises(CommandFailed, match="LEVEL5_PUBLIC_URL"):
        console_origin(settings(public_url="http://10.0.0.1:8402", control={"host": "10.0.0.1"}))


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb", "a\x1b[31m"])
def test_a_name_that_the_audit_cannot_bear_is_refused(name: str) -> None:
    with pytest.raises(CommandFailed):
        checked_who(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"client_secret": None}, {"allowed": ""}, {"issuer": None}, {"client_id": ""}, {"issuer": "http://issuer.example"}, {"issuer": "accounts.google.com"},
        {"allowed": "example.com"}, {"allowed": "ops@exam\u212aple.com"}, {"allowed": "*@example.com,@"}, {"issuer": "javascript:x"},
    ],
)  # fmt: skip
def test_settings_that_would_let_in_nobody_or_anybody_are_refused(changes: dict[str, object]) -> None:
    given = {f"LEVEL5_ADMIN__OIDC__{name.upper()}": str(value) for name, value in {**OIDC, **changes}.items() if value is not None}
    with pytest.raises(SettingsError):
        load_settings(environment=given)


def test_addresses_and_domains_are_read_from_one_line() -> None:
    given = {f"LEVEL5_ADMIN__OIDC__{name.upper()}": value for name, value in {**OIDC, "allowed": "Ops@Example.com, @corp.example"}.items()}

    oidc = load_settings(environment=given).admin.oidc

    assert oidc.allowed == ("ops@example.com", "@corp.example")
    assert oidc.client_secret == SecretStr("not-a-secret")


def test_the_doctor_says_how_the_console_is_opened() -> None:
    alone = check_console(settings())
    assert (alone.state, "level5 admin login" in alone.text) == ("ok", True)
    plain = check_console(settings(public_url="http://10.0.0.1:8402", admin={"oidc": OIDC}))
    assert (plain.state, "LEVEL5_PUBLIC_URL" in plain.text) == ("fault", True)
    away = check_console(settings(admin={"oidc": {**OIDC, "issuer": "http://127.0.0.1:9"}}))
    assert (away.state, "does not answer" in away.text) == ("fault", True)


def test_the_doctor_asks_the_issuer() -> None:
    with running_issuer("http://127.0.0.1:8402/admin/oidc/callback") as issuer:
        well = check_console(settings(admin={"oidc": issuer.settings(allowed=OPERATOR)}))
        other = check_console(settings(admin={"oidc": {**issuer.settings(), "issuer": f"{issuer.issuer}/"}}))

    assert (well.state, "/admin/oidc/callback" in well.text) == ("ok", True)
    assert (other.state, "calls itself" in other.text) == ("fault", True)


@pytest.fixture
def home(database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LEVEL5_DATABASE_URL", database_url)
    monkeypatch.setenv("LEVEL5_REDIS_URL", redis_url)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["admin", *arguments])
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def test_a_link_is_shown_once_and_everybody_can_be_signed_out(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ("--home", str(home))
    shown = run(capsys, "login", "--name", "ada", *at)
    made = json.loads(run(capsys, "login", "--json", *at))

    assert shown.startswith("http://127.0.0.1:8402/admin/link/")
    assert "as ada, once, until" in shown
    assert made["url"] != shown.split()[0]
    assert "nobody is signed in" in run(capsys, "sessions", *at)
    assert json.loads(run(capsys, "sessions", "--json", *at)) == []
    assert "everybody is signed out" in run(capsys, "logout", *at)
