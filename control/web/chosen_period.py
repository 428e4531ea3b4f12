"""Which time and which split of it the reader of a page with figures asked for. What cannot be read is answered with the usual and a word on why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from control.web.charts import Bucket
from ledger.figure_values import Dimension
from ledger.periods import Period, Step, period_back, period_between

RANGES: Final[Mapping[str, tuple[str, timedelta]]] = {
    "24h": ("24 hours", timedelta(hours=24)),
    "7d": ("7 days", timedelta(days=7)),
    "30d": ("30 days", timedelta(days=30)),
    "90d": ("90 days", timedelta(days=90)),
}
USUAL: Final = "7d"
CUSTOM: Final = "custom"
DIMENSIONS: Final[Mapping[Dimension, str]] = {
    Dimension.MODEL: "Model",
    Dimension.PROVIDER: "Provider",
    Dimension.WORKSPACE: "Workspace",
    Dimension.TASK_TYPE: "Task type",
}
ZONE_LENGTH_MAX: Final = 64
DAYS_MAX: Final = 3650


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """What to show. `fault` says what could not be read; `since` and `until` are the days that a custom range was asked for with."""

    name: str
    by: Dimension
    zone: str
    period: Period
    since: str = ""
    until: str = ""
    fault: str = ""

    @property
    def words(self) -> str:
        """Return the period in words."""
        if self.name in RANGES:
            return f"last {RANGES[self.name][0]}"
        return f"{self.since} to {self.until}"

    def query(self, **changes: str) -> str:
        """Return the query string of the same page with something else chosen."""
        kept = {"range": self.name, "by": self.by.value, **({"zone": self.zone} if self.zone != "UTC" else {})}
        if self.name == CUSTOM:
            kept |= {"from": self.since, "to": self.until}
        return "?" + urlencode({name: value for name, value in (kept | changes).items() if value})


def read_chosen(query: Mapping[str, str], now: datetime) -> Chosen:
    """Return what the query string asks for."""
    zone, fault = _zone(query.get("zone", "UTC"))
    by = next((dimension for dimension in DIMENSIONS if dimension.value == query.get("by")), Dimension.MODEL)
    name = query.get("range", USUAL)
    if name == CUSTOM:
        try:
            return _custom(query, now, zone=zone, by=by)
        except ValueError as error:
            fault = f"The days cannot be shown: {error}."
    name = name if name in RANGES else USUAL
    return Chosen(
        name=name,
        by=by,
        zone=zone,
        period=period_back(RANGES[name][1], now, zone=zone),
        since=_as_day(query.get("from", "")),
        until=_as_day(query.get("to", "")),
        fault=fault,
    )


def buckets_of(period: Period) -> list[Bucket]:
    """Return the axis of time in the words of the period's own clock."""
    zone = ZoneInfo(period.zone)
    moments = [begin.astimezone(zone) for begin in period.buckets]
    return [_bucket(at, period.step) for at in moments]


def _bucket(at: datetime, step: Step) -> Bucket:
    day = f"{at.day} {at.strftime('%b')}"
    if step is Step.MONTH:
        return Bucket(label=at.strftime("%Y-%m"), mark=at.strftime("%b %Y"))
    if step is Step.WEEK:
        return Bucket(label=f"week of {at.strftime('%Y-%m-%d')}", mark=f"{day} {at.year}")
    if step is Step.DAY:
        return Bucket(label=at.strftime("%Y-%m-%d"), mark=day)
    return Bucket(label=at.strftime("%Y-%m-%d %H:%M"), mark=day if at.hour == 0 else at.strftime("%H:%M"))


def _custom(query: Mapping[str, str], now: datetime, *, zone: str, by: Dimension) -> Chosen:
    first, last = (_day(query.get(name, ""), what) for name, what in (("from", "first"), ("to", "last")))
    if last < first:
        raise ValueError("the last one lies before the first")
    if (last - first).days >= DAYS_MAX:
        raise ValueError(f"{DAYS_MAX} at once, ten years, are the most")
    clock = ZoneInfo(zone)
    since = datetime(first.year, first.month, first.day, tzinfo=clock)
    following = min(last, date(9999, 12, 30)) + timedelta(days=1)
    until = min(datetime(following.year, following.month, following.day, tzinfo=clock), now)
    period = period_between(since.astimezone(UTC), until.astimezone(UTC), zone=zone)
    return Chosen(name=CUSTOM, by=by, zone=zone, period=period, since=first.isoformat(), until=last.isoformat())


def _day(text: str, what: str) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"write the {what} day like 2026-01-31") from None
    if not 2000 <= found.year <= 9990:
        raise ValueError(f"the {what} day is too far away")
    return found


def _as_day(text: str) -> str:
    """Return what was asked for where it is a day at all: a field for days takes nothing else."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


def _zone(text: str) -> tuple[str, str]:
    """Return the zone and what is wrong with it."""
    try:
        if len(text) > ZONE_LENGTH_MAX:
            raise ValueError
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        return "UTC", "This time zone is not known here; times are UTC."
    return text, ""
