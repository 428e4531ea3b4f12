"""`level5 connect` as it is typed, on files of a home of its own."""

import json
import os
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.fakes.terminal import Terminal

TOKEN = "l5_1_" + "a" * 64
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n-----END CERTIFICATE-----\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    moved = {"CODEX_HOME", "CLAUDE_CONFIG_DIR", "LLM_USER_PATH", "XDG_CONFIG_HOME"}
    for name in [name for name in os.environ if name.startswith("LEVEL5_") or name in moved]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def terminal(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(monkeypatch, capsys)


@pytest.fixture
def gateway() -> Iterator[str]:
    """A server that has the certificate, and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = CERTIFICATE.encode() if self.path == "/ca.pem" else b"no"
            self.send_response(200 if self.path == "/ca.pem" else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_without_a_token_a_placeholder_stands_where_it_goes(terminal: Terminal) -> None:
    shown = terminal.run("connect", "claude-code")

    assert '"ANTHROPIC_AUTH_TOKEN": "YOUR_API_TOKEN"' in shown
    assert "/v1/register gives one" in shown


def test_a_token_and_an_address_are_put_in(terminal: Terminal) -> None:
    shown = terminal.run("connect", "codex", "--token", TOKEN, "--url", "https://llm.example.com/")

    assert 'base_url = "https://llm.example.com/v1"' in shown
    assert f'Authorization = "Bearer {TOKEN}"' in shown
    assert "YOUR_API_TOKEN" not in shown


def test_an_account_named_by_its_token_needs_no_appliance(terminal: Terminal) -> None:
    assert terminal.ask("connect", "aider", TOKEN)["api_token"] == TOKEN


def test_programs_read_everything_as_json(terminal: Terminal, home: Path) -> None:
    said = terminal.ask("connect", "llm", TOKEN, "--door", "forward", "--model", "gpt-4o", "--url", "https://llm.example.com")

    assert said["environment"]["HTTPS_PROXY"] == f"http://level5:{TOKEN}@llm.example.com:8403"
    assert said["certificate"] == {"url": "https://llm.example.com/ca.pem", "path": str(home / ".config/level5/ca.pem")}
    assert said["model"] == "gpt-4o"
    assert said["written"] == []


def test_a_file_is_written_once_with_a_backup_and_closed_to_others(terminal: Terminal, home: Path) -> None:
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('# mine\nmodel = "o3"\n')
    path.chmod(0o640)

    first = terminal.ask("connect", "codex", TOKEN, "--write")["written"]
    again = terminal.ask("connect", "codex", TOKEN, "--write")["written"]

    assert [one["changed"] for one in (*first, *again)] == [True, False]
    assert Path(first[0]["backup"]).read_text() == '# mine\nmodel = "o3"\n'
    assert tomllib.loads(path.read_text())["model_providers"]["level5"]["http_headers"] == {"Authorization": f"Bearer {TOKEN}"}
    assert path.read_text().startswith("# mine\n")
    assert path.stat().st_mode & 0o777 == 0o640
    assert "chmod 600" in terminal.run("connect", "codex", TOKEN, "--write")
    assert sorted(one.name for one in path.parent.iterdir()) == ["config.toml", Path(first[0]["backup"]).name]


def test_new_files_are_for_their_owner_alone(terminal: Terminal, home: Path) -> None:
    terminal.run("connect", "llm", TOKEN, "--write")

    keys = home / ".config/io.datasette.llm/keys.json"
    assert json.loads(keys.read_text()) == {"level5": TOKEN}
    assert keys.stat().st_mode & 0o777 == 0o600


def test_two_changes_in_one_second_have_two_backups(terminal: Terminal, home: Path) -> None:
    path = home / ".claude" / "settings.json"
    path.parent.mkdir()
    path.write_text('{"theme": "dark"}')

    for model in ("claude-opus-4-6", "claude-sonnet-4-6"):
        terminal.run("connect", "claude-code", TOKEN, "--model", model, "--write")

    assert len(list(path.parent.glob("settings.json.backup-*"))) == 2
    assert json.loads(path.read_text())["theme"] == "dark"
    assert json.loads(path.read_text())["model"] == "claude-sonnet-4-6"


def test_the_clients_own_variables_and_links_are_followed(terminal: Terminal, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = home / "dotfiles" / "config.toml"
    kept.parent.mkdir()
    kept.write_text('model = "o3"\n')
    (home / "elsewhere").mkdir()
    (home / "elsewhere" / "config.toml").symlink_to(kept)
    monkeypatch.setenv("CODEX_HOME", str(home / "elsewhere"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "settings"))

    terminal.run("connect", "codex", TOKEN, "--write")
    terminal.run("connect", "opencode", TOKEN, "--write")

    assert (home / "elsewhere" / "config.toml").is_symlink()
    assert "level5" in kept.read_text()
    assert (home / "settings" / "opencode" / "opencode.json").exists()


def test_a_library_gets_its_variables_in_a_file_for_the_shell(terminal: Terminal, home: Path) -> None:
    said = terminal.run("connect", "openai-python", TOKEN, "--write")

    path = home / ".config/level5/openai-python.sh"
    assert path.read_text() == f"export OPENAI_BASE_URL=http://127.0.0.1:8402/v1\nexport OPENAI_API_KEY={TOKEN}\n"
    assert f". {path}" in said


def test_a_file_that_cannot_be_changed_safely_stays(terminal: Terminal, home: Path) -> None:
    path = home / ".config" / "opencode" / "opencode.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"theme": "dark"} // mine\n')

    assert "was left as it is" in terminal.failure("connect", "opencode", TOKEN, "--write")
    assert path.read_text() == '{"theme": "dark"} // mine\n'
    assert [one.name for one in path.parent.iterdir()] == ["opencode.json"]


def test_the_certificate_is_fetched_from_the_gateway_whatever_proxy_is_set(
    terminal: Terminal, home: Path, gateway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    terminal.run("connect", "claude-code", TOKEN, "--door", "forward", "--write", "--url", gateway)

    assert (home / ".config/level5/ca.pem").read_text() == CERTIFICATE
    settings = json.loads((home / ".claude/settings.json").read_text())
    assert settings["env"]["NODE_EXTRA_CA_CERTS"] == str(home / ".config/level5/ca.pem")


def test_without_the_forward_door_nothing_is_written(terminal: Terminal, home: Path, gateway: str) -> None:
    said = terminal.failure("connect", "claude-code", TOKEN, "--door", "forward", "--write", "--url", f"{gateway}/nothing")

    assert "cannot be fetched" in said
    assert not (home / ".claude").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("emacs",), "choose one of claude-code"),
        (("codex", "--write"), "needs an ACCOUNT"),
        (("cursor", TOKEN, "--write"), "set up by hand"),
        (("codex", "--token", "sk-something"), "no api_token"),
        (("codex", "12", "--token", TOKEN), "not both"),
        (("codex", "--model", "gpt-5.3-codx"), "did you mean gpt-5.3-codex"),
        (("codex", "--model", "claude-sonnet-4-6"), "choose another model"),
    ],
)
def test_what_cannot_be_done_is_one_line(terminal: Terminal, arguments: tuple[str, ...], told: str) -> None:
    assert told in terminal.failure("connect", *arguments)
