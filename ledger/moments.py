"""Moments of the books: whole milliseconds since the epoch, and the datetimes that Postgres has for them."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=4096)
def moment(milliseconds: int) -> datetime:
    """Return the moment `milliseconds` after the epoch, exactly. What is settled together asks for the same one again and again."""
    return EPOCH + timedelta(milliseconds=milliseconds)


def milliseconds(at: datetime) -> int:
    """Return the whole milliseconds between the epoch and `at`."""
    return (at - EPOCH) // timedelta(milliseconds=1)
