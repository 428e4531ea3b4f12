"""How long to wait before trying again."""

import math
import random
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime

FIRST_SECONDS = 0.2
LONGEST_SECONDS = 60.0
RETRY_AFTER_SECONDS_MAX = 3600.0


def pause_after(failures: int, retry_after: float | None = None) -> float:
    """Return the wait after so many failures in a row, in seconds.

    What the server asked for is kept to, and a little jitter added, so that many clients do not come back
    at once; else the wait doubles from FIRST_SECONDS to LONGEST_SECONDS, of which a random half is taken off.
    """
    if retry_after is not None:
        return retry_after + random.uniform(0, min(1.0, retry_after / 10))  # noqa: S311 - spreads clients, protects nothing
    full = min(LONGEST_SECONDS, FIRST_SECONDS * float(2 ** min(failures - 1, 16)))
    return full * random.uniform(0.5, 1.0)  # noqa: S311 - as above


def read_retry_after(text: str | None) -> float | None:
    """Return the seconds of a Retry-After header (a number or a date), at most an hour; None where it says nothing readable."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except (TypeError, ValueError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        seconds = (moment - datetime.now(timezone.utc)).total_seconds()
    return None if math.isnan(seconds) else min(max(0.0, seconds), RETRY_AFTER_SECONDS_MAX)
