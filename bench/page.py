"""The report for people: a section of a Markdown file, between two marks, with charts in a folder beside it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.charts import Bars, draw_bars
from bench.marks import OURS, mark_cells, marks
from bench.processes import BenchError
from bench.report import Figures, describe_machine
from bench.scenarios import BLOCKS, Block

EXPLAINED: Final = (
    "CPU is in milliseconds a request, of the processes that it passes through: median and least of the rounds. Times are in milliseconds too, the "
    "added ones against the direct path of the same round. Every request of Level5 is authenticated, held for, counted, settled and on disk: "
    "the added times include two small writes, one after the other, and those to the first byte one. nginx, mitmdump and Portkey keep no "
    "account at all, and LiteLLM runs without a database."
)
CHARTED: Final = ("json-32", "json-32-new", "large-8", "stream-32", "paced-32")


def write_page(page: Path, figures: Sequence[Figures], *, absent: Mapping[str, str], faults: Sequence[str], rounds: int, seconds: float) -> None:
    """Write the section of the comparison anew, and its chart."""
    groups = list(_charted(figures))
    chart = write_chart(page, "cpu", draw_bars(groups, title="CPU of the proxying process a request", unit="ms")) if groups else None
    section = "\n".join(_section(figures, absent=absent, faults=faults, rounds=rounds, seconds=seconds, chart=chart))
    replace_section(page, "bench", section)


def write_chart(page: Path, name: str, picture: str) -> str:
    """Write a chart beside the page and return its address there."""
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.svg").write_text(picture)
    return f"{folder.name}/{name}.svg"


def replace_section(page: Path, name: str, section: str) -> None:
    """Replace what is between a page's marks of this name.

    Raises:
        BenchError: the page has no such marks.
    """
    begin, end, text = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n", page.read_text()
    before, found_begin, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise BenchError(f"{page} has no place for the section {name!r}")
    page.write_text(f"{before}{begin}{section}\n{end}{after}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _charted(figures: Sequence[Figures]) -> Iterator[Bars]:
    said = {scenario.name: scenario.says for block in BLOCKS for scenario in block.scenarios}
    for name in CHARTED:
        values = tuple((row.system, row.cpu_ms) for row in figures if row.scenario == name and row.system != "direct")
        if values:
            yield Bars(title=said[name], values=values, ours=OURS)


def _section(figures: Sequence[Figures], *, absent: Mapping[str, str], faults: Sequence[str], rounds: int, seconds: float, chart: str | None) -> Iterator[str]:
    machine = describe_machine()
    yield (
        f"{machine['day']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}, mitmproxy {machine['mitmproxy']}; "
        f"a small write is on its disk after {machine['disk']} ms. {rounds} interleaved rounds, {seconds:g} s of new requests each. {EXPLAINED}"
    )
    yield ""
    yield from table(("mark", "bound", "measured", "of the least CPU", ""), [mark_cells(mark) for mark in marks(figures)])
    if chart:
        yield ""
        yield f"![CPU of the proxying process a request]({chart})"
    for block in BLOCKS:
        rows = [row for row in figures if row.block == block.name]
        if rows:
            yield from _block(block, rows)
    yield ""
    yield from (f"Not measured: {name}: {reason}." for name, reason in absent.items())
    yield from (f"Not asked: {name} in `{scenario.name}`: {reason}." for block in BLOCKS for scenario in block.scenarios for name, reason in scenario.without)
    yield "\n".join(f"- Fault: {fault}" for fault in faults) or "No request failed, every answer was charged the same, and the books were whole afterwards."


def _block(block: Block, rows: Sequence[Figures]) -> Iterator[str]:
    said = {scenario.name: scenario.says for scenario in block.scenarios}
    yield f"\n{block.says[0].upper()}{block.says[1:]}:\n"
    head = ["load", "system", "requests a second", "CPU", "added p50", "added p99", "first byte p50", "peak MB a process"]
    yield from table(head + (["connections to the provider, resumed"] if block.tls else []), [_cells(row, said, tls=block.tls) for row in rows])


def _cells(row: Figures, said: Mapping[str, str], *, tls: bool) -> list[str]:
    if row.system == "direct":
        return [said[row.scenario], "direct" + (", without TLS" if tls else ""), f"{row.rps:,.0f}", "", "", "", f"{row.ttfb_p50_ms:.2f}", ""] + [""] * tls
    times = [f"{row.added_p50_ms:.2f}", f"{row.added_p99_ms:.1f}", f"{row.ttfb_p50_ms:.2f}"]
    connections = [f"{row.connections:,} for {row.requests:,} requests, {row.resumed:,}"] if tls else []
    return ["", row.system, f"{row.rps:,.0f}", f"{row.cpu_ms:.3f} [{row.cpu_min_ms:.3f}]", *times, f"{row.memory_mb:.0f}", *connections]
