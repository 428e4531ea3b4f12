"""Forgetting old outbox entries: by age, and never what the journal does not have."""

from ledger.balances import Balances
from ledger.errors import BalanceUnavailable


async def trim_shard(balances: Balances, shard: int, *, posted: int, before_ms: int) -> int:
    """Trim the posted entries of a shard that are older than `before_ms`; return how many went.

    The boundary is found by halving: entries are in the order of their time. A shard that is not open is left alone.
    """
    try:
        first = await _entry(balances, shard, 0)
        if first is None or first[1] >= before_ms:
            return 0
        old, new = first[0], posted + 1  # `old` may go, `new` stays
        while new - old > 1:
            middle = (old + new) // 2
            found = await _entry(balances, shard, middle - 1)
            if found is not None and found[0] <= posted and found[1] < before_ms:
                old = max(found[0], middle)
            else:
                new = middle
        return await balances.trim_outbox(shard, old + 1)
    except BalanceUnavailable:
        return 0  # the next round finds the same


async def _entry(balances: Balances, shard: int, after: int) -> tuple[int, int] | None:
    """Return number and time of the first entry behind `after`."""
    page = await balances.read_outbox(shard, after=after, count=1)
    return (page[0].seq, page[0].at) if page else None
