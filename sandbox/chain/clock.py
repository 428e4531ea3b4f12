"""Slots: their times, their block hashes, and which of them a commitment covers."""

from bisect import bisect_left, bisect_right
from collections import deque
from dataclasses import dataclass
from hashlib import sha256
from operator import itemgetter
from typing import Final, Literal

from solders.hash import Hash

type Commitment = Literal["processed", "confirmed", "finalized"]

BLOCKHASH_SLOTS_MAX: Final = 150
REMEMBERED_HASHES: Final = 2 * BLOCKHASH_SLOTS_MAX  # as nodes do: a hash may be read at an older commitment


@dataclass(slots=True, kw_only=True)
class Pace:
    """How fast the chain goes, and how far its commitments are apart, in slots."""

    slot_milliseconds: int = 400
    confirmed_slots: int = 1
    finalized_slots: int = 32


class SlotClock:
    """Counts slots up, never down: the slots of a dropped fork are skipped, as on a real cluster."""

    def __init__(self, *, genesis: str, first_slot: int, first_time_ms: int, pace: Pace) -> None:
        self.genesis, self.pace = genesis, pace
        self.first_slot = self.slot = first_slot
        # (slot, its time, milliseconds to the next): so it goes on from there. A restart adds one.
        self._anchors = [(first_slot, first_time_ms, pace.slot_milliseconds)]
        self._skipped: list[int] = []
        self._hashes: deque[tuple[int, str]] = deque([(first_slot, self.hash_of(first_slot))], maxlen=REMEMBERED_HASHES)

    def hash_of(self, slot: int) -> str:
        """Return the hash of the block in a slot: made from genesis and slot alone, so that a restart gives the same."""
        return self.genesis if slot == self.first_slot else str(Hash(sha256(f"{self.genesis} {slot}".encode()).digest()))

    def advance(self) -> None:
        """Go on to the next slot."""
        self.slot += 1
        self._hashes.append((self.slot, self.hash_of(self.slot)))

    def jump(self, slot: int, *, time_ms: int) -> None:
        """Go on at `slot` and `time_ms`, as after a pause that nobody counted."""
        self.slot = max(self.slot, slot)
        self.anchor(self.slot, max(time_ms, self.milliseconds(self.slot)), each=self.pace.slot_milliseconds)
        self._hashes.clear()
        for past in range(max(self.first_slot, self.slot - REMEMBERED_HASHES + 1), self.slot + 1):
            if not self.is_skipped(past):
                self._hashes.append((past, self.hash_of(past)))

    def skip(self, first: int, last: int) -> None:
        """Drop these slots: their blocks were on a fork that lost."""
        self._skipped.extend(range(first, last + 1))
        kept = [one for one in self._hashes if not first <= one[0] <= last]
        self._hashes = deque(kept, maxlen=REMEMBERED_HASHES)

    def is_skipped(self, slot: int) -> bool:
        """Whether there is no block in this slot."""
        index = bisect_left(self._skipped, slot)
        return index < len(self._skipped) and self._skipped[index] == slot

    def height(self, slot: int) -> int:
        """Return the number of blocks below and in `slot`."""
        return slot - bisect_right(self._skipped, slot)

    def parent(self, slot: int) -> int:
        """Return the slot of the block before."""
        slot -= 1
        while self.is_skipped(slot):
            slot -= 1
        return max(slot, self.first_slot)

    def milliseconds(self, slot: int) -> int:
        """Return the time of a slot in milliseconds since the epoch."""
        at, time_ms, each = self._anchors[max(0, bisect_right(self._anchors, slot, key=itemgetter(0)) - 1)]
        return time_ms + (slot - at) * each

    @property
    def each(self) -> int:
        """The milliseconds by which slots follow one another at present; 0 while they are stepped by hand."""
        return self._anchors[-1][2]

    def anchor(self, slot: int, time_ms: int, *, each: int) -> None:
        """Let `slot` be at `time_ms`, and those behind it that far apart."""
        self._anchors.append((slot, time_ms, each))

    def covered(self, commitment: Commitment) -> int:
        """Return the newest slot that a commitment covers."""
        behind = {"processed": 0, "confirmed": self.pace.confirmed_slots, "finalized": self.pace.finalized_slots}[commitment]
        return max(self.first_slot, self.slot - behind)

    def latest_hash(self, slot: int) -> tuple[int, str]:
        """Return the newest block at or below `slot` and its hash."""
        return next((one for one in reversed(self._hashes) if one[0] <= slot), self._hashes[0])

    def is_valid_hash(self, value: str, slot: int) -> bool:
        """Whether a transaction with this block hash may land in `slot`."""
        return any(one == value and slot - BLOCKHASH_SLOTS_MAX <= at <= slot for at, one in self._hashes)
