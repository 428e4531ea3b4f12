"""Filling a hole in the lists of all providers from the blocks themselves."""

import asyncio
from typing import Final

from chainwatch.calls import Caller, Row, list_block_rows
from chainwatch.errors import Gap, SlotSkipped
from chainwatch.reading import Patch

BLOCKS_MAX: Final = 1000  # a block of mainnet is megabytes
BLOCKS_AT_ONCE: Final = 4


async def find_patch(provider: Caller, address: str, *, after: int, until: int) -> Patch:
    """Return the transactions of `address` in all blocks from slot `after` to slot `until`, both included.

    Raises:
        Gap: there are too many slots to read them all.
        ProviderFailure: a block could not be had.
    """
    if until - after >= BLOCKS_MAX:
        raise Gap(f"the history of the vault has a hole between slots {after} and {until}, too long to fill from blocks: name another RPC provider")
    permits = asyncio.Semaphore(BLOCKS_AT_ONCE)

    async def read(slot: int) -> list[Row]:
        async with permits:
            try:
                return await list_block_rows(provider, slot, address)
            except SlotSkipped:
                return []

    tasks = [asyncio.ensure_future(read(slot)) for slot in range(after, until + 1)]
    try:
        blocks = await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
    return Patch(until=until, rows=tuple(row for block in blocks for row in block))
