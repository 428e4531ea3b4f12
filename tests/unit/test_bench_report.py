"""What the measurement makes of its samples: figures, marks, and the page for people."""

from pathlib import Path

import pytest

import bench
from bench.charts import Line, draw_lines
from bench.hot_spots import own_and_inclusive, read_stacks
from bench.marks import marks, marks_table
from bench.page import replace_section, write_page
from bench.processes import BenchError
from bench.report import Figures, Sample, as_table, sum_up
from bench.soak import TRACKED, Look, find_faults, write_section

PLAIN = {"asked": 10, "done": 10, "not_200": 0, "last_refusal": 0, "rps": 100.0}


def sample(system: str, number: int, *, p50: float, cpu: float = 0.0, scenario: str = "json-32", errors: int = 0, connections: int = 0) -> Sample:
    return Sample(
        **PLAIN, block="tls" if scenario.startswith("tls") else "plain", system=system, scenario=scenario, round=number, errors=errors,
        p50_ms=p50, p99_ms=p50 * 2, ttfb_p50_ms=p50, ttfb_p99_ms=p50, cpu_ms=cpu, cpu_all_ms=cpu * 2,
        memory_mb=50.0 + number, connections=connections, resumed=0,
    )  # fmt: skip


SAMPLES = [
    sample("direct", 0, p50=1.0), sample("mitmdump", 0, p50=5.0, cpu=4.0), sample("level5", 0, p50=1.5, cpu=0.5),
    sample("direct", 1, p50=2.0), sample("mitmdump", 1, p50=7.0, cpu=6.0), sample("level5", 1, p50=2.7, cpu=0.4),
    sample("direct", 2, p50=1.0), sample("mitmdump", 2, p50=6.0, cpu=5.0, errors=2), sample("level5", 2, p50=1.6, cpu=0.6),
    sample("direct", 0, p50=1.0, scenario="tls-json-32-new"), sample("level5", 0, p50=1.0, cpu=0.4, scenario="tls-json-32-new", connections=1),
]  # fmt: skip


def figures() -> list[Figures]:
    return sum_up(SAMPLES)


def test_added_latency_is_taken_against_the_direct_path_of_the_same_round() -> None:
    by_system = {row.system: row for row in figures() if row.scenario == "json-32"}

    assert by_system["mitmdump"].added_p50_ms == 5.0  # of 4, 5 and 5
    assert round(by_system["level5"].added_p50_ms, 6) == 0.6  # of 0.5, 0.7 and 0.6


def test_cpu_is_the_median_and_the_least_of_all_rounds() -> None:
    ours = next(row for row in figures() if row.system == "level5")

    assert (ours.cpu_ms, ours.cpu_min_ms, ours.cpu_all_ms, ours.memory_mb) == (0.5, 0.4, 1.0, 52.0)


def test_the_table_has_a_line_for_every_system_and_shows_failures() -> None:
    table = as_table(figures()).splitlines()

    assert [line.split()[1] for line in table[2:5]] == ["direct", "mitmdump", "level5"]
    assert table[3].split()[-1] == "2"


def test_a_mark_compares_within_one_scenario_and_tells_what_was_not_measured() -> None:
    by_name = {mark.says: mark for mark in marks(figures())}

    cheaper = by_name["CPU of bare mitmdump, JSON, to ours"]
    assert (cheaper.value, cheaper.least, cheaper.is_met) == (10.0, 10.0, True)
    reused = by_name["connections to a TLS provider reused, each client on a new one"]
    assert (reused.value, reused.is_met) == (90.0, False)
    absent = by_name["CPU of Portkey, JSON, to ours"]
    assert (absent.value, absent.is_met) == (None, False)
    assert "not measured" in marks_table(marks(figures()))


def test_the_page_keeps_all_but_its_section_and_names_who_was_absent(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("above\n<!-- bench: begin -->\nwhat was there\n<!-- bench: end -->\nbelow\n")

    write_page(page, figures(), absent={"nginx": "nginx is not installed"}, faults=[], rounds=3, seconds=1)

    text = page.read_text()
    assert text.startswith("above\n")
    assert text.endswith("below\n")
    assert "what was there" not in text
    assert "Not measured: nginx: nginx is not installed." in text
    assert "(performance/cpu.svg)" in text
    assert "<rect" in (tmp_path / "performance" / "cpu.svg").read_text()


def test_a_page_without_a_place_for_the_section_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing\n")

    with pytest.raises(BenchError, match="no place"):
        replace_section(page, "bench", "new")
    assert page.read_text() == "nothing\n"


def test_a_line_may_be_flat_at_zero_or_have_no_point() -> None:
    picture = draw_lines([Line(title="holds", points=((0, 0), (60, 0))), Line(title="none", points=())], title="a soak")

    assert picture.count("<polyline") == 2


def look(seconds: float, *, worker_mb: float, keys: float = 10) -> Look:
    return Look(
        seconds=seconds, requests=seconds, worker_mb=worker_mb, open_files=9, tasks=5, holds=1, provider_connections=2, keys=keys, remembered=seconds,
        valkey_mb=seconds, others_mb=100,
    )  # fmt: skip


def test_what_grows_from_the_second_quarter_to_the_last_is_a_fault_and_what_is_to_be_kept_is_none() -> None:
    flat = [look(second, worker_mb=100 + second % 3) for second in range(100)]
    leaking = [look(second, worker_mb=100 + second / 2) for second in range(100)]

    assert find_faults(flat) == []
    assert find_faults(leaking) == ["memory of the worker, MB: grew from 118.5 to 143.5"]


def test_the_soaks_section_shows_every_figure_with_its_chart(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("<!-- soak: begin -->\n<!-- soak: end -->\n")

    write_section(page, [look(second, worker_mb=100) for second in range(100)], answered=1000, faults=[])

    assert "| tasks of the worker | 5.0 | 5.0 |" in page.read_text()
    assert (tmp_path / "performance" / "soak.svg").read_text().count("<polyline") == len(TRACKED)


def test_collapsed_stacks_become_shares_of_functions_without_their_machine() -> None:
    ours = Path(bench.__file__).parent.parent / "addons" / "driver.py"
    stacks = read_stacks(f"run (/x/lib/python3.13/asyncio/events.py);feed ({ours}) 3\nrun (/x/lib/python3.13/asyncio/events.py) 1\n")

    assert own_and_inclusive(stacks) == [("feed (addons/driver.py)", 75.0, 75.0), ("run (asyncio/events.py)", 25.0, 100.0)]
