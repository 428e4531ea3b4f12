"""Charts as SVG: bars on a logarithmic scale, and lines over time; pure. They read well on light and dark ground."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 760
LABEL_WIDTH: Final = 130
VALUE_WIDTH: Final = 90
BAR_HEIGHT: Final = 18
PANEL_GAP: Final = 34
LINE_HEIGHT: Final = 120
DECADE: Final = 10
_STYLE: Final = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600 } .note { fill: #57606a; font-size: 12px }
.bar { fill: #8c959f } .ours { fill: #0f766e } .axis { stroke: #d0d7de } .line { fill: none; stroke: #0f766e; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .note { fill: #9198a1 } .bar { fill: #6e7681 } .ours { fill: #2dd4bf }
.axis { stroke: #3d444d } .line { stroke: #2dd4bf } }
</style>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """One group of bars. `ours` names the one that stands out."""

    title: str
    values: tuple[tuple[str, float], ...]
    ours: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One figure over time, in seconds from the beginning."""

    title: str
    points: tuple[tuple[float, float], ...]


def draw_bars(groups: Sequence[Bars], *, title: str, unit: str) -> str:
    """Return groups of bars, one below the other, all on one logarithmic scale."""
    values = [value for group in groups for _, value in group.values if value > 0]
    low = DECADE ** math.floor(math.log10(min(values, default=1)))
    high = max(values, default=1)
    room = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    parts, top = [], 30
    for group in groups:
        parts.append(_text(0, top + 14, group.title, kind="title"))
        top += 22
        for name, value in group.values:
            length = room * math.log10(max(value, low) / low) / math.log10(high / low) if high > low else room
            kind = "ours" if name == group.ours else "bar"
            parts.append(_text(LABEL_WIDTH - 8, top + 13, name, anchor="end"))
            parts.append(f'<rect class="{kind}" x="{LABEL_WIDTH}" y="{top}" width="{max(length, 2):.1f}" height="{BAR_HEIGHT - 4}"/>')
            parts.append(_text(LABEL_WIDTH + max(length, 2) + 6, top + 12, f"{value:.3g} {unit}", kind="note"))
            top += BAR_HEIGHT
        top += PANEL_GAP - 22
    return _picture(parts, height=top, title=f"{title} ({unit}, logarithmic scale)")


def draw_lines(lines: Sequence[Line], *, title: str) -> str:
    """Return one panel for each line, all over the same time."""
    parts: list[str] = []
    top = 30
    end = max((seconds for line in lines for seconds, _ in line.points), default=1) or 1
    for line in lines:
        highest = max((value for _, value in line.points), default=0) * 1.1 or 1
        parts += _panel(line, top=top, end=end, highest=highest)
        top += LINE_HEIGHT + PANEL_GAP
    parts.append(_text(WIDTH - VALUE_WIDTH, top - 10, f"{end / 60:.1f} minutes", kind="note", anchor="end"))
    return _picture(parts, height=top + 4, title=title)


def _panel(line: Line, *, top: float, end: float, highest: float) -> Iterator[str]:
    bottom, room = top + 20 + LINE_HEIGHT - 20, WIDTH - VALUE_WIDTH
    places = [(room * seconds / end, bottom - (LINE_HEIGHT - 20) * value / highest) for seconds, value in line.points]
    yield _text(0, top + 14, line.title, kind="title")
    yield f'<line class="axis" x1="0" y1="{bottom}" x2="{room}" y2="{bottom}"/>'
    yield f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>'
    if places:
        yield _text(places[-1][0] + 6, places[-1][1] + 4, f"{line.points[-1][1]:,.0f}", kind="note")


def _text(x: float, y: float, text: str, *, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _picture(parts: Sequence[str], *, height: float, title: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img"><title>{escape(title)}</title>{_STYLE}'
    return "\n".join([head, _text(0, 16, title), *parts, "</svg>\n"])
