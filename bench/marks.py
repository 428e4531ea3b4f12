"""The marks that the gateway is to meet, as ratios within one interleaved run; pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.report import Figures, align

OURS: Final = "level5"
SCALED: Final = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One goal: `value` is None where what it needs was not measured."""

    says: str
    bound: float
    at_least: bool
    value: float | None
    least: float | None = None  # the same from the least CPU of all rounds
    unit: str = "x"

    @property
    def is_met(self) -> bool:
        """Whether the goal is reached."""
        return self.value is not None and (self.value >= self.bound if self.at_least else self.value <= self.bound)


# Who, in which scenario, how many times our CPU: at least for those we must be cheaper than, at most for the floor.
_CHEAPER: Final = (
    ("mitmdump", "json-32", 10.0, "bare mitmdump, JSON"),
    ("mitmdump", "paced-32", 5.0, "bare mitmdump, paced streams"),
    ("mitmdump", "json-32-new", 9.0, "bare mitmdump, a new connection each"),
    ("portkey", "json-32", 8.0, "Portkey, JSON"),
    ("portkey", "paced-32", 4.0, "Portkey, paced streams"),
    ("litellm", "json-32", 60.0, "LiteLLM, JSON"),
    ("litellm", "paced-32", 8.0, "LiteLLM, paced streams"),
)
_DEARER: Final = (("nginx", "json-32", 12.0, "nginx, JSON"), ("nginx", "paced-32", 2.0, "nginx, paced streams"))


type Found = Mapping[tuple[str, str], Figures]


def marks(figures: Sequence[Figures]) -> list[Mark]:
    """Return every mark with what was measured for it."""
    found = {(row.scenario, row.system): row for row in figures}
    return [*_ratios(found), *_ours(found)]


def _ratios(found: Found) -> Iterator[Mark]:
    for peer, scenario, bound, name in _CHEAPER:
        value, least = _compare(found, (scenario, peer), (scenario, OURS))
        yield Mark(says=f"CPU of {name}, to ours", bound=bound, at_least=True, value=value, least=least)
    for peer, scenario, bound, name in _DEARER:
        value, least = _compare(found, (scenario, OURS), (scenario, peer))
        yield Mark(says=f"our CPU, to that of {name}", bound=bound, at_least=False, value=value, least=least)


def _ours(found: Found) -> Iterator[Mark]:
    new = found.get(("tls-json-32-new", OURS))
    reused = 100 * (1 - new.connections / new.requests) if new and new.requests else None
    yield Mark(says="connections to a TLS provider reused, each client on a new one", bound=95, at_least=True, value=reused, unit="%")
    one, spread, at_once = (found.get((scenario, OURS)) for scenario in ("json-1", "paced-32-spread", "paced-32"))
    yield _time("added p50, JSON, 1 connection", 0.75, one.added_p50_ms if one else None)
    yield _time("added time to the first byte, p50, streams begun one by one", 1, spread.added_ttfb_p50_ms if spread else None)
    yield _time("added time to the first byte, p50, 32 streams begun at once", 10, at_once.added_ttfb_p50_ms if at_once else None)
    ratio, least = _compare(found, ("json-512", OURS), ("json-32", OURS))
    yield Mark(says="CPU a request with 512 connections, to that with 32", bound=SCALED, at_least=False, value=ratio, least=least)
    memory = max((row.memory_mb for (_, system), row in found.items() if system == OURS), default=None)
    yield Mark(says="memory of a worker at its peak", bound=120, at_least=False, value=memory, unit="MB")


def _time(says: str, bound: float, value: float | None) -> Mark:
    return Mark(says=says, bound=bound, at_least=False, value=value, unit="ms")


def _compare(found: Found, one: tuple[str, str], other: tuple[str, str]) -> tuple[float | None, float | None]:
    """Return the ratio of the CPU a request, of the medians and of the least, None where there is none."""
    above, below = found.get(one), found.get(other)
    if above is None or below is None or not below.cpu_ms or not below.cpu_min_ms:
        return None, None
    return above.cpu_ms / below.cpu_ms, above.cpu_min_ms / below.cpu_min_ms


def marks_table(found: Sequence[Mark]) -> str:
    """Lay the marks out for people."""
    return align([("mark", "bound", "measured", "least", ""), *map(mark_cells, found)])


def mark_cells(mark: Mark) -> tuple[str, str, str, str, str]:
    """Return a mark as text: what, its bound, what was measured, the same from the least CPU, and whether it is met."""
    bound = f"{'>=' if mark.at_least else '<='} {mark.bound:g} {mark.unit}"
    if mark.value is None:
        return mark.says, bound, "not measured", "", ""
    least = f"[{mark.least:.1f}]" if mark.least is not None else ""
    return mark.says, bound, f"{mark.value:.{2 if mark.unit == 'ms' else 1}f} {mark.unit}", least, "met" if mark.is_met else "missed"
