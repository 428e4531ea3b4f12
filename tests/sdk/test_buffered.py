"""A buffered meter loses nothing: not to a server that is away, not to an exit, not to a kill, not to a fork."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plutus_agent import Meter, PlutusError
from plutus_agent.file_locks import try_lock
from plutus_agent.spool import Spool

from tests.fakes.appliance import free_ports
from tests.fakes.usage_server import KEY, UsageServer, records_then_hangs, records_then_resets, says

Eventually = Callable[[Callable[[], bool]], None]


def buffered(server: UsageServer, **options: Any) -> Meter:
    return Meter(remote=server.url, api_key=KEY, buffered=True, **{"interval": 0.05, "timeout": 5.0, **options})


def run_program(text: str, server_url: str, *, wait: bool = True) -> "subprocess.Popen[str]":
    """Run a program that has a buffered meter called `meter`."""
    program = f"import os, sys\nfrom plutus_agent import Meter\nmeter = Meter(buffered=True, exit_seconds=3, timeout=2)\n{text}"
    environment = {**os.environ, "PLUTUS_REMOTE_URL": server_url, "PLUTUS_API_KEY": KEY}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if wait:
        output, errors = process.communicate(timeout=60)
        assert (output, errors) == ("", "")
    return process


def counts(server: UsageServer) -> list[int]:
    return sorted(event["input_tokens"] for event in server.recorded.values())


def left_behind(home: Path) -> list[Path]:
    return [path for path in (home / "plutus" / "spool").rglob("*") if path.is_file()]


def test_events_are_taken_at_once_and_sent_in_batches(server: UsageServer, own_home: Path) -> None:
    meter = buffered(server, interval=30.0)

    results = [meter.track("openai", input_tokens=number) for number in range(2500)]
    assert meter.flush(30)

    assert all(result.queued and result.recorded and result.event_id == "" for result in results)
    assert counts(server) == list(range(2500))
    assert max(len(asked.events) for asked in server.asked) == 1000
    assert len(server.asked) <= 5
    state = meter.delivery()
    assert (state.waiting, state.recorded, state.blocked, state.refused, state.dropped, state.last_error) == (0, 2500, 0, 0, 0, None)
    assert state.balance_after_microunits == 49_980_000
    assert meter.close()
    assert left_behind(own_home) == []


def test_events_go_out_by_themselves(server: UsageServer, eventually: Eventually) -> None:
    meter = buffered(server)

    meter.track("openai", input_tokens=1)
    eventually(lambda: counts(server) == [1])
    meter.track("openai", input_tokens=2)
    eventually(lambda: counts(server) == [1, 2])

    event = server.asked[0].events[0]
    assert event["occurred_at"].endswith("Z")
    meter.close()


def test_threads_share_a_buffer(server: UsageServer) -> None:
    with buffered(server) as meter:

        def work(first: int) -> None:
            for number in range(first, first + 500):
                meter.track("openai", input_tokens=number)

        threads = [threading.Thread(target=work, args=(part * 500,)) for part in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert meter.flush(30)

    assert counts(server) == list(range(4000))


def test_a_server_that_is_away_delays_events_and_loses_none(server: UsageServer, eventually: Eventually) -> None:
    meter = buffered(server)
    server.stop()

    for number in range(50):
        assert meter.track("openai", input_tokens=number).queued
    assert not meter.flush(0.3)
    eventually(lambda: meter.delivery().last_error is not None)
    assert "could not reach" in (meter.delivery().last_error or "")
    server.start()

    assert meter.flush(30)
    assert counts(server) == list(range(50))
    meter.close()


def test_an_answer_that_was_lost_does_not_count_events_twice(server: UsageServer) -> None:
    server.faults += [records_then_resets, records_then_resets]
    with buffered(server) as meter:
        for number in range(10):
            meter.track("openai", input_tokens=number)
        assert meter.flush(30)

    assert counts(server) == list(range(10))
    assert len(server.asked) >= 3


def test_the_wait_that_the_server_asks_for_is_kept_to(server: UsageServer) -> None:
    server.faults.append(says(429, Retry_After="1"))
    meter = buffered(server)
    started = time.monotonic()

    meter.track("openai", input_tokens=1)

    assert meter.flush(30)
    assert time.monotonic() - started >= 1
    assert len(server.asked) == 2
    meter.close()


def test_one_bad_event_does_not_stop_the_others(server: UsageServer, own_home: Path) -> None:
    server.is_bad = lambda event: event["input_tokens"] == 7
    meter = buffered(server, interval=30.0)

    for number in range(20):
        meter.track("openai", input_tokens=number)
    assert meter.flush(30)

    assert counts(server) == [number for number in range(20) if number != 7]
    state = meter.delivery()
    assert (state.recorded, state.refused, state.waiting) == (19, 1, 0)
    assert "HTTP 400" in (state.last_error or "")
    refused = next((own_home / "plutus" / "spool").rglob("refused.jsonl"))
    assert '"input_tokens":7' in refused.read_text()
    meter.close()


def test_events_that_a_hard_stop_refused_are_told(server: UsageServer) -> None:
    blocked = {"recorded": False, "event_id": None, "over_balance": True}
    server.faults.append(says(402, {"error": "prepaid credit exhausted", "results": [blocked, blocked], "recorded": 0, "blocked": 2, "balance_after": 0}))
    meter = buffered(server, interval=30.0)

    meter.track("openai", input_tokens=1)
    meter.track("openai", input_tokens=2)

    assert meter.flush(30)
    assert (meter.delivery().blocked, meter.delivery().recorded) == (2, 0)
    meter.close()


def test_a_batch_that_is_refused_as_a_whole_is_told_event_by_event(server: UsageServer) -> None:
    server.faults.append(says(402, {"error": "the account is too far below zero"}))
    meter = buffered(server, interval=30.0)

    meter.track("openai", input_tokens=1)
    meter.track("openai", input_tokens=2)

    assert meter.flush(30)
    assert (meter.delivery().blocked, len(server.asked)) == (2, 1)
    meter.close()


def test_a_key_that_is_not_taken_keeps_the_events(server: UsageServer, own_home: Path) -> None:
    server.key = "plutus_sk_other"
    meter = buffered(server)
    meter.track("openai", input_tokens=1)

    assert not meter.close(1)
    assert "API key" in (meter.delivery().last_error or "")
    server.key = KEY
    with buffered(server) as again:
        assert again.flush(30)

    assert counts(server) == [1]


def test_an_event_that_is_still_being_recorded_is_waited_for(server: UsageServer) -> None:
    server.faults += [says(409, {"error": "the same event is being recorded"})] * 2
    meter = buffered(server)

    meter.track("openai", input_tokens=1)

    assert meter.flush(30)
    assert (counts(server), meter.delivery().refused) == ([1], 0)
    meter.close()


def test_a_full_spool_says_so_instead_of_growing(server: UsageServer) -> None:
    server.stop()
    meter = buffered(server, spool_events_max=5)

    results = [meter.track("openai") for _ in range(7)]

    assert [result.recorded for result in results] == [True] * 5 + [False] * 2
    assert (meter.delivery().dropped, meter.delivery().waiting) == (2, 5)
    server.start()
    assert meter.close(30)


def test_a_spool_that_cannot_be_written_is_told_when_the_meter_is_made(server: UsageServer, own_home: Path) -> None:
    (own_home / "file").touch()

    with pytest.raises(PlutusError, match="spool folder"):
        buffered(server, spool=own_home / "file")


def test_a_closed_meter_takes_no_more(server: UsageServer) -> None:
    meter = buffered(server)
    meter.close()

    with pytest.raises(PlutusError, match="closed"):
        meter.track("openai")
    assert meter.close()


def test_two_meters_of_one_process_share_the_folder(server: UsageServer, own_home: Path) -> None:
    first, second = buffered(server), buffered(server)

    first.track("openai", input_tokens=1)
    second.track("openai", input_tokens=2)

    assert first.close(30)
    assert second.close(30)
    assert counts(server) == [1, 2]
    assert left_behind(own_home) == []


def test_the_spool_is_closed_to_others_and_holds_no_key(server: UsageServer, own_home: Path) -> None:
    server.stop()
    meter = buffered(server)
    meter.track("openai", input_tokens=1)

    files = left_behind(own_home)
    assert files
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    assert all(path.parent.stat().st_mode & 0o077 == 0 for path in files)
    assert all(KEY not in path.read_text() + str(path) for path in files)
    server.start()
    meter.close(30)


def test_what_is_buffered_goes_out_at_exit(server: UsageServer, own_home: Path) -> None:
    run_program("for n in range(10): meter.track('openai', input_tokens=n)", server.url)

    assert counts(server) == list(range(10))
    assert left_behind(own_home) == []


def test_a_program_that_ends_in_an_error_sends_as_well(server: UsageServer) -> None:
    process = run_program("meter.track('openai', input_tokens=1)\nraise SystemExit(3)", server.url)

    assert process.returncode == 3
    assert counts(server) == [1]


def test_what_the_server_was_not_there_for_at_exit_goes_out_at_the_next_start(own_home: Path) -> None:
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    started = time.monotonic()
    run_program("for n in range(10): meter.track('openai', input_tokens=n)", url)
    assert time.monotonic() - started < 30
    assert left_behind(own_home)
    server = UsageServer(port=port)
    server.start()

    run_program("assert meter.flush(20)", url)

    assert counts(server) == list(range(10))
    assert left_behind(own_home) == []
    server.stop()


def test_a_killed_process_loses_nothing_it_was_told_is_safe(own_home: Path) -> None:
    port = free_ports(1)[0]
    url = f"http://127.0.0.1:{port}"
    process = run_program("for n in range(1200): meter.track('openai', input_tokens=n)\nos.kill(os.getpid(), 9)", url)
    assert process.returncode == -signal.SIGKILL
    server = UsageServer(port=port)
    server.start()

    with buffered(server) as meter:
        assert meter.flush(20)

    assert counts(server) == list(range(1200))
    assert left_behind(own_home) == []
    server.stop()


def test_a_process_killed_while_it_sends_counts_nothing_twice(server: UsageServer) -> None:
    server.faults.append(records_then_hangs)
    process = run_program("meter.track('openai', input_tokens=1)\nimport time; time.sleep(60)", server.url, wait=False)
    deadline = time.monotonic() + 30
    while not server.recorded:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.communicate()

    with buffered(server) as meter:
        assert meter.flush(20)

    assert counts(server) == [1]
    assert len(server.asked) == 2


def test_the_events_of_a_living_process_are_left_to_it(server: UsageServer, own_home: Path) -> None:
    folder = own_home / "shared"
    living = Spool(folder, events_max=10)
    living.append('{"n":1}')

    other = Spool(folder, events_max=10)

    assert other.adopt() == 0
    assert len(living) == 1
    living.close()
    assert other.adopt() == 1
    assert len(other) == 1
    other.close()


def test_a_line_that_was_cut_off_by_the_end_of_its_process_is_dropped(own_home: Path) -> None:
    folder = own_home / "shared"
    dead = Spool(folder, events_max=10)
    dead.append('{"n":1}')
    segment = dead.take()
    assert segment is not None
    dead.close()
    with segment.path.open("a") as unfinished:
        unfinished.write('{"n":2')

    heir = Spool(folder, events_max=10)
    heir.adopt()

    taken = heir.take()
    assert taken is not None
    assert taken.read() == ['{"n":1}']
    heir.close()


def test_segments_whose_owner_left_no_lock_are_taken_over(own_home: Path) -> None:
    folder = own_home / "shared"
    folder.mkdir()
    (folder / "0-1-abc.000000001.events").write_text('{"n":1}\n{"n":2}\n')
    (folder / "0-1-abc.000000002.events").write_text("")

    heir = Spool(folder, events_max=10)

    assert heir.adopt() == 2
    heir.close()


def test_a_lock_is_held_by_one_alone(own_home: Path) -> None:
    path = own_home / "lock"
    held = try_lock(path, create=True)
    assert held is not None

    assert try_lock(path, create=False) is None
    os.close(held)
    again = try_lock(path, create=False)
    assert again is not None
    os.close(again)
    assert try_lock(own_home / "none", create=False) is None


def test_a_forked_child_sends_its_own_events_and_not_its_parents(server: UsageServer, own_home: Path) -> None:
    program = """
meter.track('openai', input_tokens=1)
child = os.fork()
meter.track('openai', input_tokens=3 if child else 2)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    run_program(program, server.url)

    assert counts(server) == [1, 2, 3]
    assert sum(len(asked.events) for asked in server.asked) == 3
    assert left_behind(own_home) == []


def test_a_child_that_leaves_without_an_exit_loses_nothing(server: UsageServer, own_home: Path) -> None:
    program = """
if os.fork() == 0:
    meter.track('openai', input_tokens=2)
    os._exit(0)
os.wait()
meter.track('openai', input_tokens=1)
"""
    run_program(program, server.url)

    with buffered(server) as meter:
        assert meter.flush(20)

    assert counts(server) == [1, 2]
    assert left_behind(own_home) == []


def test_a_direct_meter_survives_a_fork_too(server: UsageServer) -> None:
    program = """
import sys; sys.stdout.flush()
direct = Meter()
direct.track('openai', input_tokens=1)
child = os.fork()
for n in range(5):
    direct.track('openai', input_tokens=(100 if child else 200) + n)
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    run_program(program, server.url)

    assert counts(server) == [1, *range(100, 105), *range(200, 205)]


def test_an_unbuffered_meter_has_nothing_to_flush(server: UsageServer) -> None:
    meter = Meter(remote=server.url, api_key=KEY)

    assert meter.flush()
    with pytest.raises(PlutusError, match="buffered"):
        meter.delivery()
