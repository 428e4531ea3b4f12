"""Charts as SVG, made on the server. Pure.

Places are given in percent, so that a chart fills any width with text of the same size; colours are classes of the style sheet. No float
is needed: places are whole thousandths of a percent. Figures that a reader may want exactly stand in the table that belongs to each chart.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
    tone: str = "1"

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
    return _chart(identifier, buckets, lines, title=title, write=write, top=top, body=bars)


def line_chart(identifier: str, buckets: Sequence[Bucket], lines: Sequence[Line], *, title: str, write: Callable[[int], str]) -> Chart:
    """Return one line for each series, from the middle of each bucket to the next."""
    top = round_up(max((value for line in lines for value in line.values), default=0))
    body = [_polyline(line, count=len(buckets), top=top) for line in lines]
    return _chart(identifier, buckets, lines, title=title, write=write, top=top, body=body)


def sparkline(values: Sequence[int], *, title: str) -> Markup:
    """Return a small line without axes, such as stands beside a figure."""
    top = max((*values, 1))
    points = _points(values, top=top, height=100)
    return Markup(
        '<svg class="sparkline" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<polyline points="{}" fill="none" class="stroke-1" vector-effect="non-scaling-stroke"/></svg>'
    ).format(title, points)


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


def _chart(
    identifier: str, buckets: Sequence[Bucket], lines: Sequence[Line], *, title: str, write: Callable[[int], str], top: int, body: Iterable[Markup]
) -> Chart:
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
        body=Markup("").join(body),
        marks=_marks(buckets),
        hits=_hits(len(buckets)),
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


def _stack(index: int, lines: Sequence[Line], *, place: Callable[[int], tuple[int, int]], top: int) -> Markup:
    begin, width = place(index)
    parts, below = [], 0
    for line in lines:
        value = max(line.values[index], 0)
        if value:
            parts.append(_rect(line.tone, x=begin, width=width, span=(below, below + value), top=top))
            below += value
    return Markup("").join(parts)


def _rect(tone: str, *, x: int, width: int, span: tuple[int, int], top: int) -> Markup:
    low, high = (value * HEIGHT * 100 // top for value in span)
    height = max(high - low, 50)  # half a pixel of what is too small to be seen
    return Markup('<rect class="series-{}" x="{}" y="{}" width="{}" height="{}"/>').format(
        tone, percent_of(x), _pixels(HEIGHT * 100 - low - height), percent_of(width), _pixels(height)
    )


def _polyline(line: Line, *, count: int, top: int) -> Markup:
    points = _points(line.values, top=top, height=HEIGHT, inset=count)
    return Markup(
        '<svg x="0" y="0" width="100%" height="{}" viewBox="0 0 1000 {}" preserveAspectRatio="none">'
        '<polyline points="{}" fill="none" class="line stroke-{}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(HEIGHT, HEIGHT, points, line.tone)


def _points(values: Sequence[int], *, top: int, height: int, inset: int = 0) -> str:
    """Return points on a ground that is 1000 wide; with `inset` buckets each stands in the middle of its own."""
    steps = max(len(values) - 1, 1)
    across = [(2 * index + 1) * 500 // inset if inset else index * 1000 // steps for index in range(len(values))]
    return " ".join(f"{x},{_pixels(height * 100 - max(value, 0) * height * 100 // top)}" for x, value in zip(across, values, strict=True))


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


def _hits(count: int) -> Markup:
    """Return one place for each bucket that the pointer can be over; the script shows the values there."""
    places = [
        Markup('<rect class="hit" data-bucket="{}" x="{}" y="0" width="{}" height="{}"/>').format(
            index, percent_of(index * WHOLE // count), percent_of((index + 1) * WHOLE // count - index * WHOLE // count), HEIGHT
        )
        for index in range(count)
    ]
    return Markup("").join(places)


def _pixels(hundredths: int) -> str:
    return f"{max(hundredths, 0) // 100}.{max(hundredths, 0) % 100:02d}"
