"""The operator's commands in a second terminal, beside a running sandbox."""

import json
import os
import pwd
from pathlib import Path

import httpx
import pytest
import redis

from cli.options import on_books, settings_of
from ledger.console_reads import AuditLine, audit_of_account
from ledger.errors import JournalUnavailable
from tests.fakes.appliance import Appliance, appliance
from tests.fakes.terminal import Terminal


@pytest.fixture
def terminal(running: Appliance, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    for name in set(os.environ) - set(running.environment):
        monkeypatch.delenv(name)
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    return Terminal(monkeypatch, capsys)


def test_an_account_is_opened_credited_and_named_in_every_way(running: Appliance, terminal: Terminal) -> None:
    made = terminal.ask("accounts", "create", "--name", "prod agent", "--tier", "pro")
    assert made["name"] == "prod agent"
    assert made["tier"] == "pro"

    credited = terminal.ask("credit", made["deposit_code"], "12.50", "--reason", "wire of 3 March")

    assert credited["amount"] == credited["balance_after"] == 12_500_000
    assert credited["applied"] is True
    for name in (str(made["id"]), made["deposit_code"], made["deposit_code"].lower(), made["api_token"], made["public_id"]):
        shown = terminal.ask("accounts", "show", name)
        assert (shown["id"], shown["balance"]) == (made["id"], 12_500_000)
    balance = httpx.get(f"{running.url}/proxy/{made['api_token']}/balance", timeout=30).json()
    assert balance["usdc_balance"] == 12_500_000
    assert made["id"] in [one["id"] for one in terminal.ask("accounts", "list")]


def test_people_read_usdc_and_not_microunits(terminal: Terminal) -> None:
    made = terminal.ask("accounts", "create")

    said = terminal.run("credit", str(made["id"]), "0.000001", "--reason", "the least there is")

    assert said == f"0.000001 USDC credited to account {made['id']}; its balance is 0.000001 USDC\n"
    assert "0.000001 USDC" in terminal.run("accounts", "show", str(made["id"]))
    assert made["deposit_code"] in terminal.run("accounts", "list")


def test_a_credit_with_a_key_is_given_once(terminal: Terminal) -> None:
    made = terminal.ask("accounts", "create")

    first = terminal.ask("credit", str(made["id"]), "1", "--reason", "wire", "--key", f"wire-{made['id']}")
    again = terminal.ask("credit", str(made["id"]), "1", "--reason", "wire", "--key", f"wire-{made['id']}")

    assert first["balance_after"] == 1_000_000
    assert again["balance_after"] is None
    assert terminal.ask("accounts", "show", str(made["id"]))["balance"] == 1_000_000
    assert "for something else" in terminal.failure("credit", str(made["id"]), "2", "--reason", "wire", "--key", f"wire-{made['id']}")


def test_a_suspended_account_is_refused_and_serves_again_when_resumed(running: Appliance, terminal: Terminal) -> None:
    account = running.register("1")
    body = {"model": "claude-sonnet-4-6", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}

    def status() -> int:
        return httpx.post(f"{running.url}/proxy/{account.api_token}/v1/messages", json=body, timeout=30).status_code

    assert terminal.ask("accounts", "suspend", account.deposit_code, "--reason", "unpaid")["status"] == "suspended"
    assert status() == 401
    assert "is active" in terminal.run("accounts", "resume", account.deposit_code, "--reason", "paid")
    assert status() == 200
    assert terminal.ask("accounts", "close", account.deposit_code, "--reason", "asked for")["status"] == "closed"
    assert status() == 401


def test_a_line_is_set_and_given_back_to_the_rule(terminal: Terminal) -> None:
    made = terminal.ask("accounts", "create")

    assert terminal.ask("accounts", "line", str(made["id"]), "2.5")["line"] == 2_500_000
    assert "0.000000 USDC" in terminal.run("accounts", "line", str(made["id"]), "0")
    assert terminal.ask("accounts", "line", str(made["id"]), "rule")["line"] is None


def test_a_token_is_made_listed_without_its_secret_and_revoked(running: Appliance, terminal: Terminal) -> None:
    made = terminal.ask("accounts", "create")

    second = terminal.ask("tokens", "create", str(made["id"]), "--name", "ci")
    assert httpx.get(f"{running.url}/proxy/{second['api_token']}/balance", timeout=30).status_code == 200
    listed = terminal.ask("tokens", "list", str(made["id"]))
    assert [one["token_id"] for one in listed] == [made["token_id"], second["token_id"]]
    assert second["api_token"].rpartition("_")[2] not in json.dumps(listed)
    terminal.run("tokens", "revoke", second["token_id"])

    assert terminal.ask("tokens", "list", str(made["id"]))[1]["revoked_at"] is not None

    to_look = terminal.ask("tokens", "create", str(made["id"]), "--read-only")
    assert terminal.ask("tokens", "list", str(made["id"]))[2]["scope"] == to_look["scope"] == "read_only"
    answer = httpx.post(f"{running.url}/proxy/{second['api_token']}/v1/messages", json={}, timeout=30)
    assert answer.status_code == 401
    assert httpx.get(f"{running.url}/proxy/{made['api_token']}/balance", timeout=30).json()["is_active"] is True


def test_the_doctor_finds_a_healthy_sandbox_healthy(terminal: Terminal) -> None:
    report = terminal.ask("doctor")

    assert report["ok"] is True
    assert {"python", "home", "prices", "postgres", "redis", "shards", "anthropic"} <= {one["what"] for one in report["findings"]}
    assert "64 of 64 shards are open" in terminal.run("doctor")


def test_the_books_are_proved_whole_and_a_checkpoint_kept(running: Appliance, terminal: Terminal, tmp_path: Path) -> None:
    running.register("1")
    checkpoint = tmp_path / "heads"

    assert "the books are whole" in terminal.run("verify", "--checkpoint", str(checkpoint))
    again = terminal.ask("verify", "--checkpoint", str(checkpoint))

    assert again["whole"] is True
    assert again["checked"]
    checkpoint.write_text("garbage")
    assert "the checkpoint" in terminal.failure("verify", "--checkpoint", str(checkpoint))


UNDO_TAMPERING = "if redis.call('HGET', KEYS[1], 'balance') == ARGV[1] then redis.call('HINCRBY', KEYS[1], 'balance', -1) end"


def test_books_that_were_tampered_with_are_found_out(running: Appliance, terminal: Terminal) -> None:
    """Twice if need be: the reconciler, which mends a hot balance every minute, may come between the deed and the look."""
    store = redis.Redis(unix_socket_path=str(next(running.home.rglob("valkey.sock"))))
    for _ in range(2):
        account = running.register("1")
        found = terminal.ask("accounts", "show", account.deposit_code)
        (key,) = store.keys(f"l5:{{{found['shard']}}}:e*:a:{found['id']}")
        tampered = store.hincrby(key, "balance", 1)
        try:
            code, output, _ = terminal.call("verify")
        finally:
            store.eval(UNDO_TAMPERING, 1, key, str(tampered))
        if code == 1:
            break

    assert code == 1
    assert "the books are NOT whole" in output


def test_migrating_what_is_up_to_date_changes_nothing(terminal: Terminal) -> None:
    assert terminal.ask("migrate") == {"applied": []}
    assert terminal.run("migrate") == "the database is up to date\n"


def test_the_version_is_told(terminal: Terminal) -> None:
    assert set(terminal.ask("version")) == {"version", "python"}
    assert terminal.run("version").startswith("level5 ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("accounts", "show", "999999"), "no account has this id"),
        (("accounts", "show", "nobody"), "name an account by its id"),
        (("credit", "1", "many", "--reason", "x"), "is not an amount of USDC"),
        (("credit", "1", "0.0000001", "--reason", "x"), "finer than a microunit"),
        (("credit", "1", "--reason", "x", "--", "-5"), "more than 0 USDC"),
        (("accounts", "line", "1", "--", "-5"), "a line is 0 or more"),
        (("tokens", "revoke", "tok_0000000000000000"), "no token 'tok_0000000000000000'; `tokens list` shows them"),
        (("credit", "1", "1", "--reason", "  "), "say why"),
        (("accounts", "list", "--real"), "no appliance runs on"),
        (("accounts", "list", "--config", "/nonexistent.toml"), "cannot read the configuration"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(terminal: Terminal, arguments: tuple[str, ...], text: str) -> None:
    assert text in terminal.failure(*arguments)


def test_a_misspelt_setting_is_said_in_one_line(terminal: Terminal) -> None:
    terminal.monkeypatch.setenv("LEVEL5_GATWAY__PORT", "1")

    assert "LEVEL5_GATWAY__PORT in the environment is not a setting; did you mean LEVEL5_GATEWAY__PORT" in terminal.failure("accounts", "list")


def test_a_port_in_use_is_named_before_anything_is_started(running: Appliance, store_home: Path) -> None:
    with appliance(store_home, start=False, LEVEL5_GATEWAY__PORT=str(running.gateway_port)) as second:
        done = second.run("up", "--sandbox", check=False)

        assert done.returncode == 1
        assert f"port {running.gateway_port} (gateway.port) is in use" in done.stderr
        assert list(second.home.rglob("PG_VERSION")) == []


def test_a_shard_is_rebuilt_when_told_to(terminal: Terminal, running: Appliance) -> None:
    account = running.register("1")

    assert terminal.ask("rebuild", "7") == {"shard": 7, "rebuilt": True}

    assert running.balance(account)["usdc_balance"] == 1_000_000
    assert terminal.ask("verify")["whole"] is True


def lines_of(public_id: str) -> list[AuditLine]:
    """Return what the audit has of an account, the oldest first."""
    lines = on_books(settings_of(None, None, sandbox=None), lambda books: audit_of_account(books.pool, public_id))
    return lines[::-1]


def test_what_is_done_by_command_is_noted_with_who_typed_it_before_it_is_done(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "somebody-else")
    monkeypatch.setenv("SUDO_USER", "ada")
    made = terminal.ask("accounts", "create", "--name", "noted")
    name, public_id = made["deposit_code"], made["public_id"]
    terminal.ask("credit", name, "2", "--reason", "wire", "--key", f"noted-{made['id']}")
    terminal.ask("accounts", "suspend", name, "--reason", "odd traffic")
    terminal.ask("accounts", "resume", name, "--reason", "explained")
    terminal.ask("accounts", "tier", name, "pro", "--reason", "bought")
    terminal.ask("accounts", "line", name, "1.50")
    token = terminal.ask("tokens", "create", name, "--name", "ci", "--read-only")
    terminal.ask("tokens", "revoke", token["token_id"])
    key = terminal.ask("keys", "create", "--org", public_id, "--name", "agent")
    terminal.ask("keys", "revoke", key["id"])
    terminal.ask("accounts", "close", name, "--reason", "gone")

    lines = lines_of(public_id)
    assert [line.action for line in lines] == [
        "account_credit", "account_status", "account_status", "account_tier", "account_line", "token_create", "token_revoke", "ingest_key_create",
        "ingest_key_revoke", "account_status",
    ]  # fmt: skip
    assert {(line.actor, line.detail["user"], line.detail["sudo_user"]) for line in lines} == {("command line", pwd.getpwuid(os.getuid()).pw_name, "ada")}
    assert (lines[0].detail["amount"], lines[0].detail["reason"], lines[0].detail["key"]) == (2_000_000, "wire", f"noted-{made['id']}")
    assert [(line.detail["before"], line.detail["status"]) for line in (lines[1], lines[2], lines[-1])] == [
        ("active", "suspended"), ("suspended", "active"), ("active", "closed"),
    ]  # fmt: skip
    assert not [line for line in lines if token["api_token"] in str(line.detail) or key["secret"] in str(line.detail)]


def test_what_cannot_be_noted_is_not_done(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    made = terminal.ask("accounts", "create")

    async def fail(*_: object, **__: object) -> None:
        raise JournalUnavailable("the audit cannot be written")

    with monkeypatch.context() as broken:
        broken.setattr("cli.acts.note_action", fail)
        said = terminal.failure("credit", made["deposit_code"], "1", "--reason", "wire")

    assert "the audit cannot be written" in said
    assert terminal.ask("accounts", "show", made["deposit_code"])["balance"] == 0


def test_every_command_has_help(terminal: Terminal) -> None:
    top = terminal.run("--help")
    commands = ("up", "gateway", "control", "poster", "chainwatch", "migrate", "doctor", "accounts", "tokens", "credit", "deposits", "prices", "verify")
    for command in (*commands, "rebuild", "version"):
        assert command in top
        assert "Usage" in terminal.run(command, "--help")
