"""What the reader of a statement looks for, from the query string. What cannot be read is left out, with a word on why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from ledger.transaction_search import StatementFilter

TYPES: Final[Mapping[str, str]] = {"DEBIT": "Charges", "DEPOSIT": "Deposits", "CREDIT": "Credits", "REFUND": "Refunds", "ADJUSTMENT": "Adjustments"}
TEXT_LENGTH_MAX: Final = 200
NUMBER_MAX: Final = 2**53
_TEXTS: Final = ("q", "provider", "model", "workspace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked for, as the form shows it again. `before` and `after` are line numbers, None on the first page."""

    q: str
    type: str
    provider: str
    model: str
    workspace: str
    first: str
    last: str
    before: int | None
    after: int | None
    faults: tuple[str, ...]

    @property
    def is_filtered(self) -> bool:
        """Whether anything but a place in the list was asked for."""
        return any((self.q, self.type, self.provider, self.model, self.workspace, self.first, self.last))

    @property
    def wanted(self) -> StatementFilter:
        """What to look for. The last day is included."""
        return StatementFilter(
            type=self.type or None,
            provider=self.provider or None,
            model=self.model or None,
            workspace_id=self.workspace or None,
            since=_midnight(self.first),
            until=None if not self.last else _after(self.last),
            text=self.q or None,
        )

    def query(self, **places: int | None) -> str:
        """Return the query string of another page of the same search; empty where nothing is asked for."""
        texts = {"q": self.q, "type": self.type, "provider": self.provider, "model": self.model, "workspace": self.workspace}
        given = texts | {"from": self.first, "to": self.last} | {name: str(place) for name, place in places.items() if place is not None}
        encoded = urlencode({name: value for name, value in given.items() if value})
        return f"?{encoded}" if encoded else ""


def read_asked(query: Mapping[str, str]) -> Asked:
    """Return what the query string asks for."""
    faults = list[str]()
    texts = {name: _text(query.get(name, ""), faults) for name in _TEXTS}
    first, last = _day(query.get("from", ""), faults), _day(query.get("to", ""), faults)
    if first and last and last < first:
        faults.append("The last day lies before the first; nothing is between them.")
    kind = query.get("type", "")
    return Asked(
        q=texts["q"],
        type=kind if kind in TYPES else "",
        provider=texts["provider"],
        model=texts["model"],
        workspace=texts["workspace"],
        first=first,
        last=last,
        before=_number(query.get("before", "")),
        after=_number(query.get("after", "")),
        faults=tuple(dict.fromkeys(faults)),
    )


def _text(text: str, faults: list[str]) -> str:
    text = text.strip()
    if len(text) > TEXT_LENGTH_MAX or "\0" in text:
        faults.append(f"A text to look for has up to {TEXT_LENGTH_MAX} characters; a longer one was left out.")
        return ""
    return text


def _day(text: str, faults: list[str]) -> str:
    if not text.strip():
        return ""
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        faults.append("A day is written like 2026-01-31; what could not be read was left out.")
        return ""
    return day.isoformat()


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 17 and 0 < int(text) < NUMBER_MAX else None


def _midnight(day: str) -> datetime | None:
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) if day else None


def _after(day: str) -> datetime | None:
    try:
        return _midnight((date.fromisoformat(day) + timedelta(days=1)).isoformat())
    except OverflowError:
        return None
