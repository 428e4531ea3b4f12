"""Log lines: their shape, and that no secret reaches one."""

import asyncio
import json
import logging
import secrets
import sys
from collections.abc import Iterator

import pytest

from telemetry import logs

TOKEN = f"l5_1ab2_{secrets.token_hex(32)}"


@pytest.fixture(autouse=True)
def _fresh_logging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root, hook = logging.getLogger(), sys.excepthook
    handlers, level = list(root.handlers), root.level
    logs.configure_logs("info", "control")
    monkeypatch.setattr(logs, "log", logs.get_log())  # the module's own would keep these settings for the tests that follow
    yield
    sys.excepthook = hook
    root.handlers[:] = handlers
    root.setLevel(level)


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1
    line: dict[str, object] = json.loads(lines[0])
    return line


def test_a_line_is_json_with_time_level_event_role_and_pid(capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().info("request_settled", charge=330, model="claude-sonnet-4-6")

    line = last_line(capsys)

    assert {"timestamp", "level", "event", "role", "pid"} <= set(line)
    assert (line["event"], line["level"], line["role"], line["charge"]) == ("request_settled", "info", "control", 330)
    assert str(line["timestamp"]).endswith("Z")


def test_lines_below_the_level_are_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().debug("detail")

    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "fields",
    [
        {"path": f"/proxy/{TOKEN}/v1/messages"},
        {"path": f"/dashboard/{TOKEN}?x=1"},
        {"error": ValueError(f"bad token {TOKEN}")},
        {"header": f"Authorization: Bearer {TOKEN}"},
        {"headers": {"Authorization": TOKEN, "Accept": "x"}},
        {"headers": [(b"x-api-key", TOKEN.encode()), (b"accept", b"*/*")]},
        {"raw": f"x-api-key: {TOKEN}\r\n".encode()},
        {"deep": {"a": [{"b": (TOKEN,)}]}},
        {"deep": [[[[[[[[[TOKEN]]]]]]]]]},
        {"url": TOKEN.replace("_", "%5F")},
        {"upper": TOKEN.upper()},
        {TOKEN: 1},
        {"mapping": {TOKEN: 1}},
        {"cut": TOKEN[:40]},
    ],
    ids=lambda fields: str(next(iter(fields)))[:6],
)
def test_a_token_never_reaches_a_line(fields: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().warning("something", **fields)

    text = capsys.readouterr().out

    assert TOKEN[10:40] not in text.lower()
    assert json.loads(text)["event"] == "something"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer operator-key-anthropic",
        "authorization=operator-key-anthropic",
        "{'x-api-key': 'operator-key-anthropic'}",
        '{"api_key": "operator-key-anthropic"}',
        "[(b'x-api-key', b'operator-key-anthropic')]",
        "postgresql://level5:operator-key-anthropic@db/level5",
    ],
)
def test_the_value_of_a_credential_is_not_shown_in_any_writing(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().error("refused", text=text, headers={"X-Api-Key": "operator-key-anthropic"}, event_text=text)

    line = capsys.readouterr().out

    assert "operator-key" not in line
    json.loads(line)


def test_the_text_of_an_event_and_its_traceback_are_redacted_too(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise RuntimeError(f"no such token: {TOKEN}")
    except RuntimeError:
        logs.get_log().exception(f"failed for {TOKEN}")

    text = capsys.readouterr().out

    assert "RuntimeError" in text
    assert TOKEN not in text


def test_a_library_that_uses_logging_writes_the_same_lines_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("some.library").error("GET /proxy/%s/balance failed", TOKEN)

    line = last_line(capsys)

    assert line["logger"] == "some.library"
    assert line["event"] == f"GET /proxy/{logs.REDACTED}/balance failed"
    assert line["role"] == "control"


def test_a_crash_is_one_line_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError(TOKEN)

    sys.excepthook(RuntimeError, error, None)

    text = capsys.readouterr().out
    assert json.loads(text)["event"] == "process_crashed"
    assert TOKEN not in text


def test_a_log_whose_reader_has_gone_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, _text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())

    logs.get_log().info("request_settled")


def test_a_very_long_text_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().info("long", text="x" * 1_000_000)

    assert len(capsys.readouterr().out) < logs.TEXT_LENGTH_MAX + 500


def test_numbers_and_nothing_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().info("figures", charge=1, ratio=0.5, ok=True, none=None)

    line = last_line(capsys)

    assert (line["charge"], line["ratio"], line["ok"], line["none"]) == (1, 0.5, True, None)


def test_a_line_of_figures_has_the_same_shape_as_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    logs.get_log().info("request_settled", charge=330, usage=[{"input": 1}])
    told = last_line(capsys)

    logs.log_figures("request_settled", '"charge": 330, "usage": [{"input": 1}]')

    line = last_line(capsys)
    assert line | {"timestamp": told["timestamp"]} == told
    assert len(str(line["timestamp"])) == len(str(told["timestamp"]))


def test_no_token_reaches_a_line_of_figures_either(capsys: pytest.CaptureFixture[str]) -> None:
    logs.log_figures("request_settled", f'"model": {logs.quoted(TOKEN)}, "doubts": {logs.quoted_list([TOKEN])}')

    line = last_line(capsys)
    assert line["model"] == logs.REDACTED
    assert line["doubts"] == [logs.REDACTED]


@pytest.mark.parametrize("text", ["claude-sonnet-4-5", 'a "word" of\nothers', "Grüße", "", None])
def test_a_text_among_figures_is_read_as_it_was(text: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    logs.log_figures("request_settled", f'"model": {logs.quoted(text)}')

    assert last_line(capsys)["model"] == text


def test_figures_are_logged_also_where_no_lines_of_them_were_set_up(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(logs, "_figure_lines", None)

    logs.log_figures("request_settled", '"charge": 330')

    line = last_line(capsys)
    assert (line["event"], line["charge"]) == ("request_settled", 330)


def test_lines_of_figures_keep_to_the_level(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logs("warning", "control")

    logs.log_figures("request_settled", '"charge": 330')

    assert capsys.readouterr().out == ""


async def test_lines_of_a_moment_are_written_together_and_before_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logs("info", "gateway")
    logs.log_figures("request_settled", '"charge": 1')
    logs.log_figures("request_settled", '"charge": 2')
    assert capsys.readouterr().out == ""

    logs.get_log().warning("settlement_is_slow")

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("charge") for line in lines] == [1, 2, None]


async def test_a_line_that_stays_alone_is_written_a_moment_later(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure_logs("info", "gateway")
    logs.log_figures("request_settled", '"charge": 1')

    written = ""
    async with asyncio.timeout(10):
        while not written:
            await asyncio.sleep(0.01)
            written = capsys.readouterr().out

    assert json.loads(written)["charge"] == 1
