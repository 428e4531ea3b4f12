"""Walking back through a provider's list of the vault's transactions until the cursor is seen.

A short page, or an empty one, proves nothing: nodes prune, and stores behind them fail. Only the cursor's own signature shows that
nothing is missing before it. `until` is not sent, as nodes that do not know the signature return something unrelated.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from chainwatch.calls import PAGE_ROWS_MAX, Caller, Row, list_rows
from chainwatch.errors import BadAnswer, ChainBroken, UnknownBefore
from ledger.deposit_values import Cursor

ROWS_HELD_MAX: Final = 50_000  # of a longer history the oldest are read first; the next walk brings the rest
CHUNK_ROWS: Final = 200


@dataclass(slots=True)
class Walk:
    """The rows beyond the cursor, newest first while they are gathered; those of the cursor's own slot are among them.

    `newest` is the newest row at or below the slot the walk was asked for, failed ones included; `listed` counts all rows.
    """

    rows: deque[Row] = field(default_factory=lambda: deque[Row](maxlen=ROWS_HELD_MAX))  # a full one lets go of its other end
    newest: Row | None = None
    listed: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all rows are held. Else the newest were let go."""
        return self.rows.maxlen is None or len(self.rows) < self.rows.maxlen

    def oldest_first(self) -> list[Row]:
        """Return the rows in the order of their slots; inside a slot as the provider has them."""
        return list(reversed(self.rows))


async def walk_back(provider: Caller, address: str, *, cursor: Cursor, slot: int) -> Walk:
    """Return what the provider lists beyond the cursor, as of a finalized slot that is at least `slot`.

    Without a cursor's signature everything above the cursor's slot is returned, to the end of the list; whether that is where the
    history began is for the balance chain to prove.

    Raises:
        ChainBroken: the list ends, or goes below the cursor's slot, without the cursor.
        ProviderFailure: the provider failed; nothing is known then.
    """
    walk, page_end, seen = Walk(), None, False
    while True:
        page = await _page(provider, address, before=page_end, slot=slot)
        if not page and not seen and cursor.signature is not None:
            raise _gap(provider, cursor, walk, slot=slot)
        for row in page:
            if row.slot < cursor.slot or (row.slot == cursor.slot and cursor.signature is None):
                if not seen and cursor.signature is not None:
                    raise _gap(provider, cursor, walk, slot=slot)
                return walk
            if row.signature == cursor.signature:
                seen = True
            _note(walk, row, is_new=row.signature != cursor.signature, slot=slot)
        if not page or seen:
            return walk
        page_end = page[-1]


def _note(walk: Walk, row: Row, *, is_new: bool, slot: int) -> None:
    if walk.newest is None and row.slot <= slot:
        walk.newest = row
    if is_new:
        walk.listed += 1
        if not row.failed:  # a failed transaction moved nothing, so its content does not matter
            walk.rows.append(row)


async def _page(provider: Caller, address: str, *, before: Row | None, slot: int) -> list[Row]:
    """Return one page whose rows go down in their slots and lie below the page before."""
    try:
        signature = before.signature if before else None
        page = await list_rows(provider, address, commitment="finalized", limit=PAGE_ROWS_MAX, before=signature, min_slot=slot)
    except UnknownBefore as refusal:
        raise BadAnswer(f"{provider.host} listed a transaction that it does not know any more") from refusal
    slots = [row.slot for row in ([before] if before else []) + page]
    if any(later < earlier for later, earlier in pairwise(slots)) or (before and before.signature in {row.signature for row in page}):
        raise BadAnswer(f"{provider.host} lists transactions out of order")
    return page


def _gap(provider: Caller, cursor: Cursor, walk: Walk, *, slot: int) -> ChainBroken:
    oldest = walk.rows[-1].slot if walk.rows else slot
    text = f"{provider.host} does not list the last transaction that was read ({cursor.signature}): its history is incomplete"
    return ChainBroken(text, after=cursor.slot, until=max(oldest, cursor.slot))


def chunks(rows: Sequence[Row], size: int = CHUNK_ROWS) -> Iterator[list[Row]]:
    """Yield the rows in pieces of about `size`, never parting those of one slot."""
    begin = 0
    while begin < len(rows):
        end = min(begin + size, len(rows))
        while end < len(rows) and rows[end].slot == rows[end - 1].slot:
            end += 1
        yield list(rows[begin:end])
        begin = end
