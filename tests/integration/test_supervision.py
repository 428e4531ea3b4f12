"""The parts of the supervisor: locks that leave nothing behind, children that come back, ports that are asked first."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.appliance import role_environment
from cli.children import LOG_BYTES_MAX, PAUSE_SECONDS_MAX, Child, describe_ending, rotate_log, stop_together, tend
from cli.home_lock import HomeInUse, HomeLock, is_running
from cli.ports import PortInUse, require_free_ports
from cli.spawning import spawn
from config.settings import load_settings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


def take(home: Path) -> HomeLock:
    return HomeLock.take(home, home / "run", say_waiting=lambda: None)


def sleeper(log: Path, *, program: str = "import time; time.sleep(60)", keep_open: tuple[int, ...] = ()) -> Callable[[], subprocess.Popen[bytes]]:
    return lambda: spawn([sys.executable, "-c", program], log, death_signal=signal.SIGTERM, pass_fds=keep_open)


def never() -> bool:
    return False


def test_a_home_belongs_to_one_appliance_at_a_time(home: Path) -> None:
    assert not is_running(home)
    lock = take(home)

    assert is_running(home)
    with pytest.raises(HomeInUse, match="already running"):
        take(home)

    lock.release()
    assert not is_running(home)
    take(home).release()


def test_a_home_that_does_not_exist_has_no_appliance(tmp_path: Path) -> None:
    assert not is_running(tmp_path / "absent")


def test_a_start_waits_for_the_children_of_a_supervisor_that_is_gone(home: Path) -> None:
    lock = take(home)
    orphan = sleeper(home / "log", program="import time; time.sleep(1)", keep_open=(lock.children_fd,))()
    lock.release()
    waited = []

    begun = time.monotonic()
    HomeLock.take(home, home / "run", say_waiting=lambda: waited.append(True)).release()

    assert waited
    assert time.monotonic() - begun > 0.5
    orphan.wait()


def test_children_that_never_end_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.home_lock.LEFTOVER_SECONDS_MAX", 0.2)
    lock = take(home)
    orphan = sleeper(home / "log", keep_open=(lock.children_fd,))()
    lock.release()

    with pytest.raises(HomeInUse, match="earlier appliance"):
        take(home)

    orphan.kill()
    orphan.wait()


def test_locks_leave_no_file_behind(home: Path) -> None:
    before = set(home.rglob("*"))

    take(home).release()

    assert set(home.rglob("*")) == before


def test_a_child_dies_with_its_parent_however_that_ends(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"""
import pathlib, signal, sys, time
from cli.spawning import spawn
child = spawn([sys.executable, "-c", "import time; time.sleep(60)"], pathlib.Path({str(tmp_path / "log")!r}), death_signal=signal.SIGKILL)
pathlib.Path({str(pid_file)!r}).write_text(str(child.pid))
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program])
    while not pid_file.exists() or not pid_file.read_text():
        time.sleep(0.02)
    child = int(pid_file.read_text())

    parent.kill()
    parent.wait()

    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_child_that_ended_is_started_again_after_a_pause(tmp_path: Path) -> None:
    child = Child("poster", sleeper(tmp_path / "log"), tmp_path / "log")
    said: list[str] = []
    tend([child], 100.0, say=said.append)
    assert child.process is not None
    first = child.process
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    tend([child], 101.0, say=said.append)
    assert not child.is_alive
    tend([child], 101.3, say=said.append)

    assert child.is_alive
    assert child.process is not first
    assert "poster was killed by SIGKILL; starting it again in 0.2 s" in said[0]
    assert stop_together([child], is_urgent=never) == []


def test_pauses_grow_for_a_child_that_keeps_failing_and_begin_again_for_one_that_lived(tmp_path: Path) -> None:
    child = Child("control", sleeper(tmp_path / "log", program="raise SystemExit(3)"), tmp_path / "log")
    now, pauses = 0.0, []
    for _ in range(12):
        child.run(now)
        assert child.process is not None
        child.process.wait()
        assert child.notice_ending(now) == "ended with code 3"
        pauses.append(child.next_start_at - now)

    assert pauses[:3] == [0.2, 0.4, 0.8]
    assert max(pauses) == pauses[-1] == PAUSE_SECONDS_MAX
    child.run(now)
    child.notice_ending(now + 100)
    assert child.failures == 1


def test_a_child_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    child = Child("gone", lambda: spawn(["/nonexistent"], tmp_path / "log", death_signal=signal.SIGTERM), tmp_path / "log")
    said: list[str] = []

    tend([child], 0.0, say=said.append)

    assert "could not be started" in said[0]
    assert child.next_start_at == pytest.approx(0.2)


def test_a_child_that_does_not_stop_is_killed_when_its_time_is_over_or_the_operator_insists(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    for seconds, urgent in ((0.1, never), (60.0, lambda: True)):
        log = tmp_path / f"log{seconds}"
        child = Child("deaf", sleeper(log, program=stubborn), log, stop_seconds_max=seconds)
        child.run(0.0)
        while "deaf" not in child.log_tail():
            time.sleep(0.02)
        assert stop_together([child], is_urgent=urgent) == ["deaf"]
        assert not child.is_alive


def test_an_ending_is_told_in_words() -> None:
    assert describe_ending(0) == "ended with code 0"
    assert describe_ending(-9) == "was killed by SIGKILL"
    assert describe_ending(None) == "could not be started"


def test_a_log_that_grew_too_long_begins_again(tmp_path: Path) -> None:
    log = tmp_path / "control.log"
    log.write_bytes(b"x" * (LOG_BYTES_MAX + 1))

    rotate_log(log)
    rotate_log(tmp_path / "absent.log")

    assert log.stat().st_size == 0
    assert (tmp_path / "control.log.1").stat().st_size == LOG_BYTES_MAX + 1


def test_a_port_in_use_is_named_with_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(PortInUse, match=rf"port {port} \(gateway\.port\) is in use.*LEVEL5_GATEWAY__PORT"):
            require_free_ports(load_settings({"gateway.port": port}, environment={}))


def test_a_port_given_twice_is_refused() -> None:
    with pytest.raises(PortInUse, match=r"control\.port and gateway\.port are both 1234"):
        require_free_ports(load_settings({"gateway.port": 1234, "control.port": 1234}, environment={}))


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(PortInUse, match=r"cannot listen on 192\.0\.2\.1"):
        require_free_ports(load_settings({"gateway.host": "192.0.2.1"}, environment={}))


def test_a_role_has_one_heap_unless_the_operator_says_otherwise() -> None:
    settings = load_settings({"mode": "sandbox"})

    usual = role_environment(settings, {}, metrics=None, internal_key="k")
    told = role_environment(settings, {"MALLOC_ARENA_MAX": "4"}, metrics=None, internal_key="k")

    assert (usual["MALLOC_ARENA_MAX"], told["MALLOC_ARENA_MAX"]) == ("1", "4")
