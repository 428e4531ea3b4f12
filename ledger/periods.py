"""Lengths of time that pages show: their bars on the clock of a zone, and which hours and days of the figures they are read from. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

PERIOD_DAYS_MAX: Final = 3700  # ten years
HOURLY_DAYS_MAX: Final = 4  # up to here a chart has a bar an hour
DAILY_DAYS_MAX: Final = 100  # up to here one a day
WEEKLY_DAYS_MAX: Final = 731  # up to here one a week, beyond one a month
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class Step(StrEnum):
    """How long one bar of a chart is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """What a period reads: days (UTC) where they are whole, hours else. Each span is a moment from which on, and one before which."""

    days: tuple[tuple[datetime, datetime], ...]
    hours: tuple[tuple[datetime, datetime], ...]

    @property
    def arrays(self) -> tuple[list[datetime], list[datetime], list[datetime], list[datetime]]:
        """The ends of the spans of days and of hours, as the queries take them."""
        return [since for since, _ in self.days], [until for _, until in self.days], [since for since, _ in self.hours], [until for _, until in self.hours]


@dataclass(frozen=True, kw_only=True)
class Period:
    """From `since` on, before `until`, in steps of the clock of `zone` (an IANA name); see `period_between`."""

    since: datetime
    until: datetime
    step: Step
    zone: str

    @cached_property
    def buckets(self) -> tuple[datetime, ...]:
        """The moments at which the bars begin, in UTC, oldest first: never empty. The first one may lie before `since`.

        A day lasts from midnight to midnight in `zone`, a week from Monday on; where that is not on the hour, an hour belongs to the day in which
        it begins.
        """
        return tuple(self._buckets())

    @cached_property
    def whole(self) -> Spans:
        """What to read for the sum of the period."""
        return spans_between((self.since, self.until))

    @cached_property
    def bars(self) -> Spans:
        """What to read so that each row lies in one bar: a row's first moment then says which."""
        return spans_between((self.since, *self.buckets[1:], self.until))

    def _buckets(self) -> Iterable[datetime]:
        if self.step is Step.HOUR:
            begin = self.since
            while begin < self.until:
                yield begin
                begin += _HOUR
            return
        zone = ZoneInfo(self.zone)
        day = _first_day(self.since.astimezone(zone).date(), self.step)
        while (begin := datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)) < self.until:
            yield begin
            day = _next_day(day, self.step)


def spans_between(edges: Sequence[datetime]) -> Spans:
    """Return what covers the time from the first of these moments to the last, with no day across any of them."""
    days: list[tuple[datetime, datetime]] = []
    hours: list[tuple[datetime, datetime]] = []
    for since, until in pairwise(edges):
        last = until.replace(hour=0, minute=0, second=0, microsecond=0)
        first = since.replace(hour=0, minute=0, second=0, microsecond=0)
        first += timedelta(0) if first == since else _DAY
        if first < last:
            _append(hours, since, first)
            _append(days, first, last)
            _append(hours, last, until)
        else:
            _append(hours, since, until)
    return Spans(days=tuple(days), hours=tuple(hours))


def _append(spans: list[tuple[datetime, datetime]], since: datetime, until: datetime) -> None:
    """Add a span that is not empty; what follows on the one before makes it longer."""
    if spans and spans[-1][1] == since:
        since = spans.pop()[0]
    if since < until:
        spans.append((since, until))


def _first_day(day: date, step: Step) -> date:
    if step is Step.MONTH:
        return day.replace(day=1)
    return day - timedelta(days=day.weekday()) if step is Step.WEEK else day


def _next_day(day: date, step: Step) -> date:
    if step is Step.MONTH:
        return (day + timedelta(days=31)).replace(day=1)
    return day + timedelta(days=7 if step is Step.WEEK else 1)


def period_between(since: datetime, until: datetime, *, zone: str = "UTC", step: Step | None = None) -> Period:
    """Return the period of whole hours around these two moments, in steps that suit its length unless `step` says which.

    Raises:
        ValueError: it is empty or longer than ten years, a moment has no time zone, or `zone` is none that is known here; the text says which.
    """
    if since.tzinfo is None or until.tzinfo is None:
        raise ValueError("a moment needs its time zone")
    begin = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    end = until.astimezone(UTC)
    if end != (whole := end.replace(minute=0, second=0, microsecond=0)):
        end = whole + _HOUR
    if not begin < end:
        raise ValueError("a period ends after it began")
    if end - begin > timedelta(days=PERIOD_DAYS_MAX):
        raise ValueError("a period is at most ten years long")
    try:
        ZoneInfo(zone)
    except (ValueError, OSError, KeyError):
        raise ValueError("this time zone is not known here") from None
    return Period(since=begin, until=end, step=step or _step_of(end - begin), zone=zone)


def _step_of(length: timedelta) -> Step:
    for days_max, step in ((HOURLY_DAYS_MAX, Step.HOUR), (DAILY_DAYS_MAX, Step.DAY), (WEEKLY_DAYS_MAX, Step.WEEK)):
        if length <= timedelta(days=days_max):
            return step
    return Step.MONTH


def period_back(length: timedelta, now: datetime, *, zone: str = "UTC") -> Period:
    """Return the period of this length that ends with the present hour; one of days, or longer ones, begins with such a one in `zone`.

    Raises:
        ValueError: as `period_between`.
    """
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0) + _HOUR
    period = period_between(end - length, end, zone=zone)
    if period.step is Step.HOUR:
        return period
    first = next(bar for bar in period.buckets if bar >= period.since)  # not the second one: at midnight the first is whole
    return period_between(first, end, zone=zone, step=period.step)
