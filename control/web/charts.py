"""Charts as SVG, made on the server. Pure.

Places are given in percent, so that a chart fills any width with text of the same size; colours are classes of the style sheet. No float
is needed: places are whole thousandths of a percent. Figures that a reader may want exactly stand in the table that belongs to each chart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from markupsafe import Markup

TONES: Final = 8  # colours that can be told apart
HEIGHT: Final = 220
FOOT: Final = 24  # below the bars, for the marks of time
MARKS_WIDE: Final = 8
MARKS_NARROW: Final = 3
WHOLE: Final = 100_000  # thousandths of a percent
_STEPS: Final = (1, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """One place on the axis of time: `label` in full, `mark` as short as it stands below the axis."""

    label: str
    mark: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One series: a value for each bucket; `tone` is its colour: 1 to 8, `other` or `bad`."""

    label: str
    values: tuple[int, ...]
    tone: str = "1"  # a word of ours: it is written as it is

    @property
    def total(self) -> int:
        """Return the sum of its values."""
        return sum(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing with what its legend, scale and table say. `write` makes text of a value."""

    identifier: str
    title: str
    buckets: tuple[Bucket, ...]
    lines: tuple[Line, ...]
    scale: tuple[int, ...]
    drawing: Markup
    write: Callable[[int], str]

    def sum_at(self, index: int) -> int:
        """Return what all series come to in one bucket."""
        return sum(line.values[index] for line in self.lines)


def bar_chart(identifier: str, buckets: Sequence[Bucket], lines: Sequence[Line], *, title: str, write: Callable[[int], str]) -> Chart:
    """Return bars that are stacked of `lines`, the first at the bottom. Values below zero are drawn as nothing."""
    top = round_up(max((sum(max(line.values[index], 0) for line in lines) for index in range(len(buckets))), default=0))
    place = _places(len(buckets))
    bars = [_stack(index, lines, place=place, top=top) for index in range(len(buckets))]
    return _chart(identifier, buckets, lines, title=title, write=write, top=top, body="".join(bars))


def share_bar(part: int, whole: int, tone: str = "1") -> Markup:
    """Return a horizontal bar as long as `part` is of `whole`; it says nothing to a screen reader, since the figure stands beside it."""
    length = 0 if whole <= 0 else min(max(part, 0) * WHOLE // whole, WHOLE)
    return Markup(
        '<svg class="share" width="100%" height="6" aria-hidden="true"><rect class="share-ground" width="100%" height="6"/>'
        '<rect class="series-{}" width="{}" height="6"/></svg>'
    ).format(tone, percent_of(length))


def round_up(value: int) -> int:
    """Return the end of a scale: the next even step above `value`, so that its half is whole."""
    if value <= 2:
        return 2
    size: int = 10 ** (len(str(value)) - 1)
    steps = [step * size for step in _STEPS]
    return min(step for step in steps if step >= value and step % 2 == 0)


def percent_of(thousandths: int) -> str:
    """Write thousandths of a percent as SVG reads them: `12.345%`."""
    return f"{thousandths // 1000}.{thousandths % 1000:03d}%"


def _chart(identifier: str, buckets: Sequence[Bucket], lines: Sequence[Line], *, title: str, write: Callable[[int], str], top: int, body: str) -> Chart:
    described = f"{title}: {len(buckets)} bars from {buckets[0].label} to {buckets[-1].label}. The table below has all figures." if buckets else title
    drawing = Markup(
        '<svg class="chart-drawing" width="100%" height="{height}" role="img" aria-labelledby="{id}-title {id}-description">'
        '<title id="{id}-title">{title}</title><desc id="{id}-description">{described}</desc>{rules}{body}{marks}{hits}</svg>'
    ).format(
        height=HEIGHT + FOOT,
        id=identifier,
        title=title,
        described=described,
        rules=_rules(),
        body=Markup(body),  # noqa: S704  # figures and words of ours, made at once: a chart may have a thousand bars
        marks=_marks(buckets),
        hits=Markup(_hits(len(buckets))),  # noqa: S704  # figures only
    )
    return Chart(
        identifier=identifier, title=title, buckets=tuple(buckets), lines=tuple(lines), scale=(top, top // 2, 0), drawing=drawing, write=write
    )  # fmt: skip


def _places(count: int) -> Callable[[int], tuple[int, int]]:
    """Return where bar `index` begins and how wide it is; the gaps between bars are narrower the more there are."""
    gap = 10 if count > 40 else 20 if count > 14 else 45  # percent of the bar's own place

    def place(index: int) -> tuple[int, int]:
        begin, end = index * WHOLE // count, (index + 1) * WHOLE // count
        space = (end - begin) * gap // 200
        return begin + space, end - begin - 2 * space

    return place


def _stack(index: int, lines: Sequence[Line], *, place: Callable[[int], tuple[int, int]], top: int) -> str:
    begin, width = place(index)
    parts, below = list[str](), 0
    for line in lines:
        value = max(line.values[index], 0)
        if value:
            parts.append(_rect(line.tone, x=begin, width=width, span=(below, below + value), top=top))
            below += value
    return "".join(parts)


def _rect(tone: str, *, x: int, width: int, span: tuple[int, int], top: int) -> str:
    low, high = (value * HEIGHT * 100 // top for value in span)
    height = max(high - low, 50)  # half a pixel of what is too small to be seen
    y = _pixels(HEIGHT * 100 - low - height)
    return f'<rect class="series-{tone}" x="{percent_of(x)}" y="{y}" width="{percent_of(width)}" height="{_pixels(height)}"/>'


def _rules() -> Markup:
    lines = [
        Markup('<line class="{}" x1="0" x2="100%" y1="{}" y2="{}"/>').format("axis" if y == HEIGHT else "rule", f"{y}.5", f"{y}.5")
        for y in (0, HEIGHT // 2, HEIGHT)
    ]
    return Markup("").join(lines)


def _marks(buckets: Sequence[Bucket]) -> Markup:
    """Return the words below the axis: as many as fit on a wide page, of which a narrow one shows every second or so."""
    count = len(buckets)
    wide, narrow = _spread(count, MARKS_WIDE), _spread(count, MARKS_NARROW)
    texts = [
        Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
            " ".join(name for name, among in (("mark-wide", wide), ("mark-narrow", narrow)) if index in among),
            percent_of((2 * index + 1) * WHOLE // (2 * count)),
            HEIGHT + 17,
            "start" if index == 0 and count > MARKS_WIDE else "end" if index == count - 1 and count > MARKS_WIDE else "middle",
            buckets[index].mark,
        )
        for index in sorted(wide | narrow)
    ]
    return Markup("").join(texts)


def _spread(count: int, most: int) -> set[int]:
    """Return evenly spaced places, the last one always among them."""
    step = -(-count // most) if count else 1
    return set(range(count - 1, -1, -step))


def _hits(count: int) -> str:
    """Return one place for each bucket that the pointer can be over; the script shows the values there."""
    edges = [index * WHOLE // count for index in range(count + 1)] if count else []
    places = (
        f'<rect class="hit" data-bucket="{index}" x="{percent_of(begin)}" y="0" width="{percent_of(end - begin)}" height="{HEIGHT}"/>'
        for index, (begin, end) in enumerate(pairwise(edges))
    )
    return "".join(places)


def _pixels(hundredths: int) -> str:
    return f"{max(hundredths, 0) // 100}.{max(hundredths, 0) % 100:02d}"
