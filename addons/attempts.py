"""The attempts at one request: why one has failed, and what may be tried instead. Decides; sends and waits for nothing."""

import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from addons.provider_errors import error_in, operators_affair
from addons.provider_keys import Key
from addons.upstream import Provider

FIRST_PAUSE_SECONDS: Final = 0.25
RATE_LIMIT_REST_SECONDS: Final = 10.0  # of a key whose provider does not say how long
BUDGET_MAX: Final = 500
REPEAT_COST: Final = 5  # requests that pay for one repeat
_NOT_PASSING: Final = frozenset({501, 505})  # what the provider cannot do it will not be able to do in a second
_SECONDS: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")


class Step(StrEnum):
    """What is changed for the next attempt."""

    OTHER_KEY = "other_key"
    AGAIN = "again"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt brought nothing. `reason` is a constant word.

    `of_key`: another key may do better. `passing`: the same request may succeed in a moment. `retry_after` is what the
    provider asks for, in seconds.
    """

    reason: str
    of_key: bool = False
    passing: bool = False
    retry_after: float | None = None


@dataclass(slots=True, kw_only=True)
class Attempts:
    """What one request has tried. `again` is the answer to the stream: the request leaves once more."""

    provider: Provider
    key: Key
    body: bytes = field(repr=False)
    repeats_left: int
    repeats: int = 0  # at this provider
    made: int = 0  # attempts in all, the first one too
    tried_keys: set[Key] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)
    fell_back: bool = False
    again: bool = False

    def note(self, failure: Failure) -> None:
        """Remember a failed attempt for the log."""
        self.tried.append(f"{self.provider.name} key {self.key.position}: {failure.reason}")

    def pause(self, failure: Failure) -> float:
        """Return the seconds to wait before the same provider is asked again: twice as long each time, spread, and as long as it wishes."""
        most = min(FIRST_PAUSE_SECONDS * (1 << self.repeats), self.provider.retry_pause_seconds_max)
        return max(most * random.uniform(0.5, 1.0), failure.retry_after or 0.0)  # noqa: S311  # spreads load, guards nothing


class RepeatBudget:
    """Repeats are at most a fifth of a provider's requests, with a reserve: an outage must not be answered by a multiple of the load."""

    def __init__(self) -> None:
        self._left = BUDGET_MAX

    def earn(self) -> None:
        """A request was made."""
        self._left = min(self._left + 1, BUDGET_MAX)

    def spend(self) -> bool:
        """Tell whether one more repeat may be made, and count it."""
        if self._left < REPEAT_COST:
            return False
        self._left -= REPEAT_COST
        return True


def failure_of(status: int | None, headers: Mapping[str, str], body: bytes | None, *, timed_out: str | None) -> Failure | None:
    """Return why an attempt failed, None where it did not or where the caller's own request is at fault."""
    if status is None:
        return Failure(reason=timed_out or "connection", passing=True)
    retry_after = read_retry_after(headers)
    passing = headers.get("x-should-retry", "").lower() != "false"
    if (affair := operators_affair(status, body)) is not None:
        return None if _is_about_contents(status, body) else Failure(reason=affair, of_key=True, retry_after=retry_after)
    if status == 429:
        return Failure(reason="rate_limited", of_key=True, passing=passing, retry_after=retry_after)
    if status >= 500:
        return Failure(reason="status_5xx", passing=passing and status not in _NOT_PASSING, retry_after=retry_after)
    return None


def next_step(failure: Failure, *, other_key: bool, repeats_left: int, pause: float, pause_max: float, fallback: bool) -> Step | None:
    """Return what is tried next: another key at once, the same provider after a pause, then the fallback; None gives up."""
    if failure.of_key and other_key:
        return Step.OTHER_KEY
    if failure.passing and repeats_left > 0 and pause <= pause_max:
        return Step.AGAIN
    return Step.FALLBACK if fallback else None


def rest_seconds(failure: Failure, provider: Provider) -> float:
    """Return how long the key of a failed attempt is left alone."""
    if failure.reason != "rate_limited":
        return provider.key_rest_seconds
    return min(failure.retry_after if failure.retry_after is not None else RATE_LIMIT_REST_SECONDS, provider.key_rest_seconds)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the pause that a provider asks for, in seconds from now; None where it says nothing that can be read."""
    milliseconds, text = headers.get("retry-after-ms", "").strip(), headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(parsedate_to_datetime(text).timestamp() - time.time(), 0.0) if text else None
    except (ValueError, OverflowError):
        return None


def _is_about_contents(status: int, body: bytes | None) -> bool:
    """Tell whether a 403 is a moderator's, who judges the caller's words and not the operator's key."""
    metadata = error_in(body or b"").get("metadata") if status == 403 else None
    return isinstance(metadata, dict) and ("reasons" in metadata or "flagged_input" in metadata)
