"""`level5 up` when things go wrong while it starts: it says so, and leaves nothing behind."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli.home_lock import is_running
from tests.fakes.appliance import Appliance, appliance, descendants
from tests.fakes.interpreter import level5_command


def start(made: Appliance, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        level5_command("up", "--sandbox"),
        env=made.environment | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def gone(pids: dict[int, str]) -> bool:
    return not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids)


@pytest.mark.parametrize("moment", ["starting Postgres", "starting the roles"])
def test_a_start_that_is_interrupted_leaves_nothing_behind(store_home: Path, moment: str) -> None:
    with appliance(store_home, start=False) as made:
        process = start(made)
        assert process.stdout is not None
        for line in process.stdout:
            if moment in line:
                break
        time.sleep(0.3)
        below = descendants(process.pid)

        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=90)

        assert process.returncode == 0, output + errors
        assert "stopp" in output
        assert gone(below)
        assert not is_running(made.home / "sandbox")


def test_books_that_cannot_be_prepared_end_the_start_with_one_line(store_home: Path, tmp_path: Path) -> None:
    card = tmp_path / "rates.toml"
    card.write_text("markup_bps = -1\n")
    with appliance(store_home, start=False) as made:
        process = start(made, LEVEL5_RATES=str(card))
        _, errors = process.communicate(timeout=90)

        assert process.returncode == 1
        assert errors.startswith("level5: ")
        assert "markup_bps" in errors
        assert "Traceback" not in errors
        assert not is_running(made.home / "sandbox")
        assert not list(made.home.rglob("valkey.sock"))


def test_a_home_that_cannot_be_used_is_refused_with_what_to_do(store_home: Path) -> None:
    with appliance(store_home, start=False) as made:
        (made.home / "file").touch()
        process = start(made, LEVEL5_HOME=str(made.home / "file"))
        _, errors = process.communicate(timeout=90)

        assert process.returncode == 1
        assert "LEVEL5_HOME" in errors
        assert "Traceback" not in errors


def test_a_flag_reaches_every_process(store_home: Path) -> None:
    with appliance(store_home, start=False) as made:
        process = subprocess.Popen(
            level5_command("up", "--sandbox", "--workers", "3", "--home", str(made.home / "else")),
            env=made.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        made.process = process  # so that it is stopped with the test

        made.wait_ready()

        workers = [pid for pid, command in made.processes().items() if "addons.worker" in command]
        assert len(workers) == 3
        for pid in workers:
            names = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            assert f"LEVEL5_HOME={made.home}/else/sandbox".encode() in names
            assert b"LEVEL5_MODE=sandbox" in names
