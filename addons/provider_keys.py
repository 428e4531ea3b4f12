"""The operator's keys of one provider, and which of them may be used now. Known by their position; a key itself is never shown."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Key:
    """One key. `position` begins with 1 and is its only name in logs and metrics."""

    position: int
    secret: str = field(repr=False)


class KeyRing:
    """Which key to use. What is known of them is this worker's own and gone with it.

    The first key serves as long as it is well, so that the provider's prompt caches, which belong to a key's
    organisation, stay warm. A rest is a hint: where all keys rest, the one whose rest ends first is used all the same.
    """

    def __init__(self, secrets: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = tuple(Key(position, secret) for position, secret in enumerate(secrets, start=1))
        self._clock = clock
        self._failed_at: dict[Key, float] = {}
        self._rests_until: dict[Key, float] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def choose(self) -> Key:
        """Return the key to use: of those awake the one that failed least recently, else the one that wakes first."""
        return self.other(()) or min(self._keys, key=lambda key: (self._rests_until[key], key.position))

    def other(self, tried: Collection[Key]) -> Key | None:
        """Return the key to use instead of those that one request has tried; None when all others rest."""
        now = self._clock()
        awake = [key for key in self._keys if key not in tried and self._rests_until.get(key, 0.0) <= now]
        return min(awake, key=lambda key: (self._failed_at.get(key, 0.0), key.position), default=None)

    def rest(self, key: Key, seconds: float) -> None:
        """Leave a key alone for a while; a longer rest that it has already is kept."""
        now = self._clock()
        self._failed_at[key] = now
        self._rests_until[key] = max(self._rests_until.get(key, 0.0), now + seconds)
