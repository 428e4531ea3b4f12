"""What the operator is shown: plain lines, JSON lines, and commands that can be pasted."""

import json
from pathlib import Path

import pytest

from cli.display import Display
from cli.welcome import missing_keys, show_welcome, try_it
from config.settings import load_settings


def test_the_welcome_names_every_address_and_what_to_try(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show_welcome(load_settings({"mode": "sandbox", "home": tmp_path}, environment={}), Display(), seconds=1.25)

    said = capsys.readouterr().out
    for text in ("sandbox mode", "http://127.0.0.1:8402", "http://127.0.0.1:8404", "http://127.0.0.1:9402/metrics", "http://127.0.0.1:8405", str(tmp_path)):
        assert text in said
    assert "/v1/register" in said
    assert "/proxy/$TOKEN/v1/messages" in said


def test_real_mode_says_what_is_off(capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(environment={"ANTHROPIC_API_KEY": "operator-key-anthropic"})

    show_welcome(settings, Display(), seconds=1)

    said = capsys.readouterr().out
    assert missing_keys(settings) == ["openai", "openrouter"]
    assert "openai is off: no key (LEVEL5_PROVIDERS__OPENAI__API_KEY or OPENAI_API_KEY)" in said
    assert "deposits are off" in said
    assert "operator-key-anthropic" not in said


def test_the_commands_use_the_address_that_agents_use() -> None:
    settings = load_settings({"public_url": "https://llm.example.com"}, environment={})

    assert all("https://llm.example.com/" in line for line in try_it(settings, "level5") if "curl" in line)


def test_programs_get_one_json_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(as_json=True)

    with display.step("starting Postgres"):
        display.warn("slow")
    display.say("")
    show_welcome(load_settings({"mode": "sandbox"}, environment={}), display, seconds=2)

    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["event"] for event in events] == ["message", "warning", "ready"]
    assert events[-1]["gateway"] == "http://127.0.0.1:8402"


def test_a_step_that_fails_is_not_shown_as_done(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()

    with pytest.raises(ValueError, match="broken"), display.step("preparing the books"):
        raise ValueError("broken")

    assert capsys.readouterr().out == "preparing the books …\n"
