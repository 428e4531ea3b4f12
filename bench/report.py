"""The figures of a measurement: per system and scenario over all rounds, as a table and as JSON."""

import json
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

SYNCS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run of the load generator against one system."""

    block: str
    system: str
    scenario: str
    round: int
    asked: int
    done: int  # the rest was given up when the time was over
    errors: int
    not_200: int
    last_refusal: int  # the status of the latest answer that was not 200
    rps: float
    p50_ms: float
    p99_ms: float
    ttfb_p50_ms: float
    ttfb_p99_ms: float
    cpu_ms: float  # per request, of the processes it passes through
    cpu_all_ms: float  # the same with stores and the other roles
    memory_mb: float  # of one process, at its peak so far
    connections: int  # made to the provider, counted where it has TLS
    resumed: int  # of these, those whose TLS session was resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One system in one scenario: medians over the rounds, and the least CPU (other load can only add to it)."""

    block: str
    system: str
    scenario: str
    requests: int
    rps: float
    added_p50_ms: float
    added_p99_ms: float
    added_ttfb_p50_ms: float
    ttfb_p50_ms: float
    ttfb_p99_ms: float
    cpu_ms: float
    cpu_min_ms: float
    cpu_all_ms: float
    memory_mb: float
    failures: int
    connections: int
    resumed: int


def sum_up(samples: Sequence[Sample]) -> list[Figures]:
    """Sum up all rounds; what a system adds is taken against the direct path of the same round."""
    direct = {(sample.scenario, sample.round): sample for sample in samples if sample.system == "direct"}
    places = dict.fromkeys((sample.scenario, sample.system) for sample in samples)
    return [_figures([sample for sample in samples if (sample.scenario, sample.system) == place], direct) for place in places]


def _figures(rounds: Sequence[Sample], direct: dict[tuple[str, int], Sample]) -> Figures:
    floors = [direct[sample.scenario, sample.round] for sample in rounds]
    return Figures(
        block=rounds[0].block,
        system=rounds[0].system,
        scenario=rounds[0].scenario,
        requests=sum(sample.done for sample in rounds),
        rps=statistics.median(sample.rps for sample in rounds),
        added_p50_ms=statistics.median(sample.p50_ms - floor.p50_ms for sample, floor in zip(rounds, floors, strict=True)),
        added_p99_ms=statistics.median(sample.p99_ms - floor.p99_ms for sample, floor in zip(rounds, floors, strict=True)),
        added_ttfb_p50_ms=statistics.median(sample.ttfb_p50_ms - floor.ttfb_p50_ms for sample, floor in zip(rounds, floors, strict=True)),
        ttfb_p50_ms=statistics.median(sample.ttfb_p50_ms for sample in rounds),
        ttfb_p99_ms=statistics.median(sample.ttfb_p99_ms for sample in rounds),
        cpu_ms=statistics.median(sample.cpu_ms for sample in rounds),
        cpu_min_ms=min(sample.cpu_ms for sample in rounds),
        cpu_all_ms=statistics.median(sample.cpu_all_ms for sample in rounds),
        memory_mb=max(sample.memory_mb for sample in rounds),
        failures=sum(sample.errors + sample.not_200 for sample in rounds),
        connections=sum(sample.connections for sample in rounds),
        resumed=sum(sample.resumed for sample in rounds),
    )


def as_table(figures: Sequence[Figures]) -> str:
    """Lay the figures out for people."""
    head = ("scenario", "system", "req/s", "+p50 ms", "+p99 ms", "TTFB p50", "TTFB p99", "CPU ms [min]", "all CPU", "peak MB", "failed")
    return align([head, *(_row(row) for row in figures)])


def align(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows of cells in columns, a line below the first row; the first two columns begin at the left, the others end at the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) if column < 2 else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _row(row: Figures) -> tuple[str, ...]:
    latency = (f"{row.added_p50_ms:.2f}", f"{row.added_p99_ms:.2f}") if row.system != "direct" else ("", "")
    cost = (f"{row.cpu_ms:.3f} [{row.cpu_min_ms:.3f}]", f"{row.cpu_all_ms:.3f}", f"{row.memory_mb:.0f}") if row.system != "direct" else ("", "", "")
    return (row.scenario, row.system, f"{row.rps:.0f}", *latency, f"{row.ttfb_p50_ms:.2f}", f"{row.ttfb_p99_ms:.2f}", *cost, str(row.failures))


def write_results(folder: Path, samples: Sequence[Sample], faults: Sequence[str], absent: Mapping[str, str]) -> Path:
    """Write everything as JSON, named by the moment."""
    result = {
        "machine": describe_machine(),
        "faults": list(faults),
        "absent": dict(absent),
        "figures": list(map(asdict, sum_up(samples))),
        "samples": list(map(asdict, samples)),
    }
    path = folder / time.strftime("%Y%m%d-%H%M%S.json")
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def describe_machine() -> dict[str, str]:
    """Return what the figures depend on."""
    optimised = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    return {
        "cores": str(os.cpu_count()),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": f"{sys.version.split()[0]} ({'' if optimised else 'not '}built with optimisations)",
        "mitmproxy": version("mitmproxy"),
        "disk": f"{sync_ms():.2f}",
        "day": time.strftime("%Y-%m-%d"),
    }


def sync_ms() -> float:
    """Return how many ms it takes until a small write is on the disk of the measured stores: a billed request waits twice for that, one after the other."""
    times = []
    with tempfile.NamedTemporaryFile(prefix="l5bench-", buffering=0) as file:
        for _ in range(SYNCS):
            begun = time.perf_counter()
            file.write(bytes(200))
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)
