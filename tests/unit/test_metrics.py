"""The metrics page: merged over processes, steady when one dies."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from telemetry import metrics

COUNT = """
import sys
from telemetry import metrics
metrics.requests_total.labels("anthropic", "claude-sonnet-4-6", "200").inc(int(sys.argv[1]))
metrics.request_seconds.labels("anthropic").observe(0.3)
metrics.holds_open.set(2)
metrics.outbox_depth.set(5)
if sys.argv[2:] == ["stay"]:
    print("ready", flush=True)
    sys.stdin.read()
"""


def count_in_a_process(folder: Path, amount: int) -> None:
    environment = {**os.environ, metrics.FOLDER_VARIABLE: str(folder)}
    subprocess.run([sys.executable, "-c", COUNT, str(amount)], env=environment, check=True, timeout=30)


def scrape(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return answer.read().decode()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "metrics"
    metrics.prepare_metrics_folder(place)
    monkeypatch.setenv(metrics.FOLDER_VARIABLE, str(place))
    return place


def test_the_page_adds_up_the_processes_living_and_dead(folder: Path) -> None:
    environment = {**os.environ, metrics.FOLDER_VARIABLE: str(folder)}
    living = subprocess.Popen([sys.executable, "-c", COUNT, "3", "stay"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    page = metrics.run_metrics_server("127.0.0.1", 0)
    try:
        assert living.stdout is not None
        assert living.stdout.readline() == b"ready\n"
        count_in_a_process(folder, 4)
        text = scrape(page.port)
    finally:
        page.close()
        living.communicate(timeout=10)

    assert 'level5_requests_total{model="claude-sonnet-4-6",provider="anthropic",status="200"} 7.0' in text
    assert 'level5_request_seconds_count{provider="anthropic"} 2.0' in text
    assert "level5_holds_open 2.0" in text  # the dead process keeps no hold open
    assert "level5_outbox_depth 5.0" in text


def test_counters_do_not_fall_and_files_do_not_pile_up_when_processes_are_replaced(folder: Path) -> None:
    for _ in range(3):
        count_in_a_process(folder, 2)
        metrics.fold_dead_processes(folder)

    page = metrics.run_metrics_server("127.0.0.1", 0)
    try:
        text = scrape(page.port)
    finally:
        page.close()

    assert 'level5_requests_total{model="claude-sonnet-4-6",provider="anthropic",status="200"} 6.0' in text
    assert 'level5_request_seconds_bucket{le="0.5",provider="anthropic"} 3.0' in text
    assert {figures.name for figures in folder.iterdir()} == {"counter_0.db", "histogram_0.db"}


def test_figures_of_an_earlier_run_are_removed_before_a_start(folder: Path) -> None:
    count_in_a_process(folder, 1)

    metrics.prepare_metrics_folder(folder)

    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_a_shared_folder_the_page_shows_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(metrics.FOLDER_VARIABLE, raising=False)
    page = metrics.run_metrics_server("127.0.0.1", 0)
    try:
        text = scrape(page.port)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            scrape(page.port, "/elsewhere")
    finally:
        page.close()

    assert "level5_shards_closed" in text
    assert refusal.value.code == 404


def test_a_taken_port_is_an_error_at_once() -> None:
    page = metrics.run_metrics_server("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="in use"):
            metrics.run_metrics_server("127.0.0.1", page.port)
    finally:
        page.close()
