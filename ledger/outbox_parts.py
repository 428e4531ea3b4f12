"""Cutting what the outbox holds into parts that one transaction can take: an entry may carry a thousand events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from ledger.holds import OutboxEntry

PART_CHARACTERS_MAX: Final = 1_000_000  # some thirty thousand events
READ_CHARACTERS_MAX: Final = 4_000_000
PLAIN_ENTRY_CHARACTERS: Final = 500


def in_parts(entries: Mapping[int, Sequence[OutboxEntry]]) -> Iterator[dict[int, Sequence[OutboxEntry]]]:
    """Yield the entries of all shards, each shard's in order, in parts of at most about `PART_CHARACTERS_MAX` and at least one entry."""
    part: dict[int, Sequence[OutboxEntry]] = {}
    size = 0
    for shard, page in entries.items():
        start = 0
        for index, entry in enumerate(page):
            if size and size + len(entry.detail) > PART_CHARACTERS_MAX:
                if index > start:
                    part[shard] = page[start:index]
                yield part
                part, size, start = {}, 0, index
            size += len(entry.detail)
        if start < len(page):
            part[shard] = page[start:]
    if part:
        yield part


class ReadPace:
    """How many entries to read at a time, from the size of those that were read last."""

    def __init__(self) -> None:
        self._mean = PLAIN_ENTRY_CHARACTERS

    def count(self, wanted: int, *, shards: int) -> int:
        """Return how many of `wanted` entries to read of each of so many shards."""
        return max(1, min(wanted, READ_CHARACTERS_MAX // (self._mean * max(1, shards))))

    def learn(self, pages: Mapping[int, Sequence[OutboxEntry]]) -> None:
        """Take note of what was read."""
        sizes = [len(entry.detail) for page in pages.values() for entry in page]
        if sizes:
            self._mean = max(PLAIN_ENTRY_CHARACTERS, sum(sizes) // len(sizes))
