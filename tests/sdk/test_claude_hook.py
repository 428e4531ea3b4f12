"""The Claude Code hook counts every message once, says nothing, and is over in time."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from plutus_agent import Meter

from tests.fakes.appliance import free_ports
from tests.fakes.usage_server import KEY, UsageServer, hangs, records_then_resets, says


def run_hook(payload: Any, url: str | None, *, module: str = "plutus_agent.hook", **environment: str) -> None:
    """Run the hook as Claude Code does; it must be silent and succeed whatever it is given."""
    settings = {**os.environ, **({"PLUTUS_REMOTE_URL": url, "PLUTUS_API_KEY": KEY} if url else {}), **environment}
    text = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    done = subprocess.run([sys.executable, "-m", module], input=text, capture_output=True, env=settings, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def line(message_id: str, *, output: int = 5, kind: str = "assistant", model: str = "claude-sonnet-4-6", **usage: int) -> str:
    """Return a line of a transcript as Claude Code writes them, one for each block of a message."""
    counts = {"input_tokens": 10, "cache_creation_input_tokens": 4, "cache_read_input_tokens": 3, "output_tokens": output, "service_tier": "standard", **usage}
    message = {"id": message_id, "type": "message", "role": "assistant", "model": model, "content": [{"type": "text", "text": '"usage"'}], "usage": counts}
    return json.dumps({"type": kind, "uuid": os.urandom(4).hex(), "sessionId": "s", "timestamp": "2026-01-02T03:04:05.678Z", "message": message}) + "\n"


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    path = tmp_path / "session.jsonl"
    path.write_text(
        json.dumps({"type": "summary", "summary": 'they said "usage"'})
        + "\n"
        + json.dumps({"type": "user", "message": {"role": "user", "content": '"usage" {"input_tokens": 99}'}})
        + "\n"
        + line("msg_1", output=1)
        + line("msg_1", output=7)
        + "{broken\n"
        + line("msg_2", output=20)
    )
    return path


def stop(transcript: Path, **more: Any) -> dict[str, Any]:
    return {"session_id": "s", "transcript_path": str(transcript), "cwd": "/home/me/my-project/", "hook_event_name": "Stop", "stop_hook_active": False, **more}


def outputs(server: UsageServer) -> list[int]:
    return [event["output_tokens"] for event in server.recorded.values()]


def test_a_usage_in_the_payload_is_counted(server: UsageServer) -> None:
    usage = {"input_tokens": 100, "output_tokens": 50, "cache_read_input_tokens": 25}
    run_hook({"hook_event_name": "Stop", "cwd": "/home/me/my-project", "model": "claude-sonnet-4-6", "usage": usage}, server.url)

    event = next(iter(server.recorded.values()))
    assert {name: event[name] for name in ("provider", "model", "task_type", "workspace", "source", "input_tokens", "output_tokens", "cache_read_tokens")} == {
        "provider": "anthropic",
        "model": "claude-sonnet-4-6",
        "task_type": "coding",
        "workspace": "my-project",
        "source": "claude-code",
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_tokens": 25,
    }


def test_the_name_that_older_settings_have_still_works(server: UsageServer) -> None:
    payload = {"cwd": "C:\\Users\\me\\My Project", "message": {"id": "msg_7", "model": "claude-x", "usage": {"output_tokens": 5, "cache_read_tokens": 2}}}

    for _ in range(2):
        run_hook(payload, server.url, module="plutus_agent.integrations.claude_code_hook")

    event = next(iter(server.recorded.values()))
    assert len(server.recorded) == 1
    assert (event["workspace"], event["model"], event["cache_read_tokens"]) == ("My Project", "claude-x", 2)


def test_a_transcript_is_counted_by_message_and_only_once(server: UsageServer, transcript: Path) -> None:
    run_hook(stop(transcript), server.url)
    run_hook(stop(transcript), server.url)

    assert outputs(server) == [7, 20]
    assert sum(len(asked.events) for asked in server.asked) == 2
    event = next(iter(server.recorded.values()))
    assert (event["input_tokens"], event["cache_read_tokens"], event["cache_write_tokens"], event["workspace"]) == (10, 3, 4, "my-project")
    assert "occurred_at" not in event or event["occurred_at"] == "2026-01-02T03:04:05.678Z"


def test_what_comes_later_is_counted_later(server: UsageServer, transcript: Path) -> None:
    run_hook(stop(transcript), server.url)
    with transcript.open("a") as session:
        session.write(line("msg_2", output=26) + line("msg_3", output=1) + line("msg_4", output=9)[:-20])
    run_hook(stop(transcript), server.url)
    with transcript.open("a") as session:
        session.write("x" * 0)
    run_hook(stop(transcript), server.url)

    # The six tokens are what the second message had more when it was whole.
    assert outputs(server) == [7, 20, 6, 1]
    assert [event["input_tokens"] for event in server.recorded.values()] == [10, 10, 0, 10]


def test_a_resumed_session_does_not_count_its_past_again(server: UsageServer, transcript: Path, tmp_path: Path) -> None:
    run_hook(stop(transcript), server.url)
    resumed = tmp_path / "resumed.jsonl"
    resumed.write_text(transcript.read_text() + line("msg_9", output=2))

    run_hook(stop(resumed), server.url)

    assert outputs(server) == [7, 20, 2]


def test_a_subagent_is_counted_from_its_own_transcript_too(server: UsageServer, transcript: Path, tmp_path: Path) -> None:
    own = tmp_path / "agent-1.jsonl"
    own.write_text(line("msg_agent", output=3, model="claude-haiku-4-5"))

    run_hook(stop(transcript, hook_event_name="SubagentStop", agent_id="1", agent_transcript_path=str(own)), server.url)

    assert sorted(outputs(server)) == [3, 7, 20]


def test_writes_for_an_hour_and_messages_without_usage_are_told_apart(server: UsageServer, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    split = json.loads(line("msg_1"))
    split["message"]["usage"]["cache_creation"] = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 3}
    none = line("msg_2", output=0, input_tokens=0, cache_creation_input_tokens=0, cache_read_input_tokens=0, model="<synthetic>")
    path.write_text(json.dumps(split) + "\n" + none + line("msg_3", kind="user"))

    run_hook(stop(path), server.url)

    assert [(event["cache_write_tokens"], event["cache_write_1h_tokens"]) for event in server.recorded.values()] == [(4, 3)]


def test_a_server_that_is_away_gets_it_the_next_time(transcript: Path) -> None:
    port = free_ports(1)[0]
    run_hook(stop(transcript), f"http://127.0.0.1:{port}", PLUTUS_HOOK_SECONDS="2")
    server = UsageServer(port=port)
    server.start()

    run_hook(stop(transcript), server.url)

    assert outputs(server) == [7, 20]
    server.stop()


def test_an_answer_that_was_lost_counts_nothing_twice(server: UsageServer, transcript: Path) -> None:
    server.faults += [records_then_resets] * 3
    run_hook(stop(transcript), server.url)
    run_hook(stop(transcript), server.url)

    assert outputs(server) == [7, 20]


def test_an_event_that_the_server_never_takes_does_not_stop_the_others(server: UsageServer, transcript: Path) -> None:
    server.is_bad = lambda event: event["output_tokens"] == 7

    run_hook(stop(transcript), server.url)
    run_hook(stop(transcript), server.url)

    assert outputs(server) == [20]
    assert len(server.asked) == 3


def test_a_busy_server_is_asked_again_another_time(server: UsageServer, transcript: Path) -> None:
    server.faults.append(says(429, Retry_After="300"))
    run_hook(stop(transcript), server.url)
    assert server.recorded == {}

    run_hook(stop(transcript), server.url)

    assert outputs(server) == [7, 20]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'{"transcript_path": 5}',
        b'{"transcript_path": "/nowhere/at/all"}',
        b'{"usage": []}',
        b'{"usage": {"input_tokens": "x"}}',
        b"\xff" * 9,
    ],
)
def test_whatever_it_is_given_it_is_silent_and_succeeds(server: UsageServer, payload: bytes) -> None:
    run_hook(payload, server.url)

    assert server.recorded == {}


@pytest.mark.parametrize(
    "environment", [{"PLUTUS_REMOTE_URL": "nonsense", "PLUTUS_API_KEY": "k"}, {"PLUTUS_REMOTE_URL": "http://127.0.0.1:1"}, {"PLUTUS_HOME": "/dev/null/x"}]
)
def test_wrong_settings_do_not_disturb_the_session_either(transcript: Path, environment: dict[str, str]) -> None:
    run_hook(stop(transcript), None, **environment)


def test_a_server_that_hangs_holds_the_session_up_for_a_bounded_time(server: UsageServer, transcript: Path) -> None:
    server.faults += [hangs] * 5
    started = time.monotonic()

    run_hook(stop(transcript), server.url, PLUTUS_HOOK_SECONDS="1")

    assert time.monotonic() - started < 15
    server.faults.clear()
    run_hook(stop(transcript), server.url)
    assert outputs(server) == [7, 20]


def test_an_input_that_never_ends_does_not_either() -> None:
    environment = {**os.environ, "PLUTUS_HOOK_SECONDS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "plutus_agent.hook"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )

    assert process.wait(30) == 0

    assert process.communicate() == (b"", b"")


def test_a_long_history_is_read_over_several_runs_and_every_message_once(server: UsageServer, tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_text("".join(line(f"msg_{number}", output=number) for number in range(1, 3001)))

    for _ in range(20):
        run_hook(stop(path), server.url)
        if len(server.recorded) == 3000:
            break

    assert sorted(outputs(server)) == list(range(1, 3001))


def test_sessions_that_stop_at_once_do_not_get_into_each_others_way(server: UsageServer, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jsonl").write_text(line(f"msg_{number}", output=number + 1))

    threads = [threading.Thread(target=run_hook, args=(stop(tmp_path / f"{number}.jsonl"), server.url)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    run_hook(stop(tmp_path / "0.jsonl"), server.url)

    assert sorted(outputs(server)) == [1, 2, 3, 4]


def test_without_a_server_it_counts_locally(transcript: Path) -> None:
    for _ in range(2):
        run_hook(stop(transcript), None, PLUTUS_ORG="My Team")

    summary = Meter("My Team", create=False).summary()
    assert (summary["windows"]["all"]["events"], summary["tier"]["key"]) == (2, "pro")
    assert [row["key"] for row in summary["by_workspace"]] == ["my-project"]
