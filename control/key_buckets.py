"""How many requests a minute one ingest key may send.

Counted in the process, not in Redis: the limit protects the appliance from one client that runs wild, and must not cost every honest
request a further round trip. With several control processes behind a load balancer each of them grants the whole rate.
"""

from dataclasses import dataclass, field
from typing import Final

WINDOW_SECONDS: Final = 60.0
SWEEP_EVERY: Final = 4096


@dataclass(slots=True)
class KeyBuckets:
    """A bucket for each key: `per_minute` at once, refilled evenly over a minute; 0 is no limit."""

    per_minute: int
    _empty_at: dict[str, float] = field(default_factory=dict)  # when the bucket of a key will be as if it was never used
    _taken: int = 0

    def take(self, digest: str, now: float) -> float:
        """Take one and return 0, or return the seconds until there will be one. `now` is a clock's that never goes back."""
        if self.per_minute == 0:
            return 0.0
        empty_at = max(self._empty_at.get(digest, now), now) + WINDOW_SECONDS / self.per_minute
        # A whole minute is granted at once; the smallest part more is what adding up fractions costs.
        if empty_at - now > WINDOW_SECONDS + 1e-6:
            return empty_at - now - WINDOW_SECONDS
        self._empty_at[digest] = empty_at
        self._taken += 1
        if self._taken % SWEEP_EVERY == 0:
            self._empty_at = {key: at for key, at in self._empty_at.items() if at > now}
        return 0.0

    def forget(self, digest: str) -> None:
        """Forget a key that turned out to be none, so that made-up keys fill no memory."""
        self._empty_at.pop(digest, None)
