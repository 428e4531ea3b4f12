"""How a poster rests while nothing is to be posted: Redis wakes it when an outbox grows, and it looks at every shard once a second all the same."""

import asyncio
from collections.abc import Mapping
from typing import Final

from ledger.balances import Balances
from ledger.entries import SHARDS
from ledger.errors import BalanceUnavailable
from ledger.holds import ShardMeta
from ledger.journal import ShardPosition

REST_SECONDS_MAX: Final = 1.0  # how late a poster sees what no outbox tells: a store that went back, a change whose maker has died


def ends_at_rest(positions: Mapping[int, ShardPosition], healthy: Mapping[int, ShardMeta]) -> dict[int, int]:
    """Return where the outboxes end when neither store owes the other anything and no shard is to be rebuilt; else nothing."""
    if len(healthy) < SHARDS:
        return {}
    if any(meta.seq != positions[shard].posted_seq or meta.due_seq < positions[shard].due_seq for shard, meta in healthy.items()):
        return {}
    return {shard: meta.seq for shard, meta in healthy.items()}


async def rest(balances: Balances, ends: Mapping[int, int], stop: asyncio.Event) -> None:
    """Wait until an outbox grows beyond its end, `stop` is set, or it is time to look; a Redis that cannot tell ends the rest at once."""
    async with asyncio.TaskGroup() as group:
        ways = (group.create_task(_await_entries(balances, ends)), group.create_task(stop.wait()))
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()


async def _await_entries(balances: Balances, ends: Mapping[int, int]) -> None:
    try:
        await balances.await_entries(ends, seconds_max=REST_SECONDS_MAX)
    except BalanceUnavailable:
        return  # the next turn finds out what it means


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait for `seconds`, or until `stop` is set."""
    try:
        await asyncio.wait_for(stop.wait(), max(seconds, 0.001))
    except TimeoutError:
        return
