"""What the gateway saw of its traffic, as values: outcomes, how long answers took, and which clients asked. Pure; never money.

A `Tally` is counters in one fixed order; its text form is what Redis keeps, short enough for its compact hashes. The order and the
bounds never change: what is stored for ninety days was written by them.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from string import ascii_letters
from typing import Final, Self

KEPT_DAYS: Final = 90
MODELS_MAX: Final = 40  # of one account that are told apart on one day
CLIENTS_MAX: Final = 40  # of one account
MODEL_LENGTH_MAX: Final = 80
OTHER_MODEL: Final = "*"  # a model beyond those that are told apart
NO_MODEL: Final = ""  # a request that ended before its model was known
LATENCY_BOUNDS_MS: Final = (50, 100, 200, 400, 800, 1_500, 3_000, 6_000, 12_000, 25_000, 50_000, 100_000, 300_000)


class Outcome(IntEnum):
    """How a request ended, for whoever asks why things fail."""

    OK = 0
    BALANCE = 1  # refused for lack of money
    CLIENT_ERROR = 2  # what was asked for could not be served, by us or by the provider: 4xx
    PROVIDER_ERROR = 3  # the provider failed: 5xx, or no answer at all
    TIMEOUT = 4
    CUT = 5  # an answer that broke off before its end
    RATE_LIMITED = 6  # 429, ours or the provider's
    UNAVAILABLE = 7  # the gateway itself could not: 503
    CLIENT_LEFT = 8  # the client did not wait for the end


_BUCKETS: Final = len(LATENCY_BOUNDS_MS) + 1
LATENCY_PLACE: Final = len(Outcome)  # where the counters of whole answers' times begin
FIRST_BYTE_PLACE: Final = LATENCY_PLACE + _BUCKETS
SIZE: Final = FIRST_BYTE_PLACE + _BUCKETS
_PLACES: Final = {letter: place for place, letter in enumerate(ascii_letters)}
_ENTRY: Final = re.compile(r"[A-Za-z]\d{1,15}")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many took how long: `counts` has one entry for each of `LATENCY_BOUNDS_MS` (up to and including it), and one for all above."""

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many were measured."""
        return sum(self.counts)

    def quantile_ms(self, percent: int) -> int | None:
        """Return in how many milliseconds this share was done, evenly spread within a bucket; None where nothing was measured.

        What lies above the last bound is given as that bound.
        """
        wanted, before, low = self.total * percent, 0, 0
        if wanted == 0:
            return None if self.total == 0 else 0
        for count, high in zip(self.counts, (*LATENCY_BOUNDS_MS, LATENCY_BOUNDS_MS[-1]), strict=True):
            if count and (before + count) * 100 >= wanted:
                return low + (high - low) * (wanted - before * 100) // (count * 100)
            before, low = before + count, high
        return LATENCY_BOUNDS_MS[-1]


@dataclass(frozen=True, slots=True)
class Tally:
    """Counters of a number of requests."""

    counters: tuple[int, ...] = (0,) * SIZE

    def of(self, outcome: Outcome) -> int:
        """Return how many ended so."""
        return self.counters[outcome]

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return sum(self.counters[:LATENCY_PLACE])

    @property
    def errors(self) -> int:
        """How many failed: everything but what ended well and what its client did not wait for."""
        return self.requests - self.of(Outcome.OK) - self.of(Outcome.CLIENT_LEFT)

    @property
    def latency(self) -> Histogram:
        """From the request's head to the end of its answer, of those that a provider answered."""
        return Histogram(self.counters[LATENCY_PLACE:FIRST_BYTE_PLACE])

    @property
    def first_byte(self) -> Histogram:
        """From the request's head to the head of its answer."""
        return Histogram(self.counters[FIRST_BYTE_PLACE:])

    def __add__(self, other: "Tally") -> "Tally":
        """Return both together."""
        return Tally(tuple(map(int.__add__, self.counters, other.counters)))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read the text form, or several one behind the other: their sum. What is none of it is left out, for these are no books."""
        counters = [0] * len(ascii_letters)
        for entry, often in Counter(_ENTRY.findall(text)).items():  # a month is thousands of entries, most of them alike
            counters[_PLACES[entry[0]]] += int(entry[1:]) * often
        return cls(tuple(counters[:SIZE]))


def text_of(counters: Sequence[int]) -> str:
    """Return the text form of counters: a letter for its place before each that is not 0."""
    return "".join(f"{letter}{count}" for letter, count in zip(ascii_letters, counters, strict=False) if count)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSeen:
    """A family of clients by their User-Agent, such as `claude-code` or `openai-python`; `other` for what is not known."""

    family: str
    requests: int
    last_seen: datetime


@dataclass(frozen=True, slots=True)
class Activity:
    """What was seen in a period. Never exact: what a worker had in memory when it was killed is lost.

    `hours` has each hour (UTC) in which something was seen, oldest first, and in it the text of each model's tally as it is kept; `NO_MODEL` or
    `OTHER_MODEL` where it is not one of those that are told apart. Months are thousands of texts: they are put together first, and read once.
    """

    hours: Mapping[datetime, Mapping[bytes, bytes]]

    @property
    def total(self) -> Tally:
        """All of it."""
        return _tally(text for models in self.hours.values() for text in models.values())

    def in_bars(self, starts: Sequence[datetime]) -> list[Tally]:
        """Return what was seen from each of these moments to the next, oldest first, all models together; what is earlier counts to the first."""
        bars: list[list[bytes]] = [[] for _ in starts]
        for hour, models in self.hours.items():
            bars[max(bisect_right(starts, hour), 1) - 1].extend(models.values())
        return [_tally(texts) for texts in bars]

    def by_model(self) -> dict[str, Tally]:
        """Return each model, most asked first."""
        groups: dict[bytes, list[bytes]] = {}
        for models in self.hours.values():
            for model, text in models.items():
                groups.setdefault(model, []).append(text)
        tallies = {model.decode(errors="replace"): _tally(texts) for model, texts in groups.items()}
        return dict(sorted(tallies.items(), key=lambda item: (-item[1].requests, item[0])))


def sum_of(tallies: Iterable[Tally]) -> Tally:
    """Return all of them together."""
    counters = [each.counters for each in tallies]
    return Tally(tuple(map(sum, zip(*counters, strict=True)))) if counters else Tally()


def _tally(texts: Iterable[bytes]) -> Tally:
    return Tally.from_text(b"".join(texts).decode(errors="replace"))
