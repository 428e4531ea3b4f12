"""The figures of a measurement are worked out as they are described."""

from bench.report import Sample, as_table, ratios, sum_up


def sample(system: str, number: int, *, p50: float, cpu: float = 0.0, rps: float = 100.0, errors: int = 0) -> Sample:
    return Sample(
        system=system, scenario="json-1", round=number, asked=10, done=10, errors=errors, not_200=0, last_refusal=0, rps=rps, p50_ms=p50, p99_ms=p50 * 2,
        ttfb_p50_ms=p50, ttfb_p99_ms=p50, cpu_ms=cpu, cpu_all_ms=cpu * 2, memory_mb=50.0 + number,
    )  # fmt: skip


SAMPLES = [
    sample("direct", 0, p50=1.0), sample("mitmdump", 0, p50=5.0, cpu=4.0), sample("level5", 0, p50=1.5, cpu=0.5, rps=800.0),
    sample("direct", 1, p50=2.0), sample("mitmdump", 1, p50=7.0, cpu=6.0), sample("level5", 1, p50=2.7, cpu=0.4, rps=1000.0),
    sample("direct", 2, p50=1.0), sample("mitmdump", 2, p50=6.0, cpu=5.0, errors=2), sample("level5", 2, p50=1.6, cpu=0.6, rps=900.0),
]  # fmt: skip


def test_added_latency_is_taken_against_the_direct_path_of_the_same_round() -> None:
    figures = {row.system: row for row in sum_up(SAMPLES)}

    assert figures["mitmdump"].added_p50_ms == 5.0  # of 4, 5 and 5
    assert round(figures["level5"].added_p50_ms, 6) == 0.6  # of 0.5, 0.7 and 0.6


def test_cpu_is_the_median_and_the_least_of_all_rounds() -> None:
    ours = next(row for row in sum_up(SAMPLES) if row.system == "level5")

    assert (ours.cpu_ms, ours.cpu_min_ms, ours.cpu_all_ms, ours.memory_mb) == (0.5, 0.4, 1.0, 52.0)


def test_ratios_compare_the_gateway_with_mitmdump() -> None:
    assert ratios(sum_up(SAMPLES)) == {"json-1": {"cpu": 10.0, "cpu_min": 10.0, "rps": 9.0}}


def test_without_a_peer_there_are_no_ratios() -> None:
    assert ratios(sum_up([row for row in SAMPLES if row.system != "mitmdump"])) == {}


def test_the_table_has_a_line_for_every_system_and_shows_failures() -> None:
    table = as_table(sum_up(SAMPLES)).splitlines()

    assert [line.split()[1] for line in table[2:5]] == ["direct", "mitmdump", "level5"]
    assert table[3].split()[-1] == "2"
    assert "10.0x less CPU" in table[-1]
