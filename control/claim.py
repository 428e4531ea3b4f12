"""The check that both stores belong to this appliance, made as soon as both answer."""

import asyncio
from typing import Final

from control.context import ControlContext
from ledger.errors import WrongStore
from ledger.stores import claim_stores
from telemetry.logs import get_log

CLAIM_SECONDS_MAX: Final = 10.0
CLAIM_PAUSES: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


async def claim_when_they_answer(context: ControlContext) -> None:
    """Claim both stores; while one is away, try again. Until then balances of any instance are shown.

    Raises:
        WrongStore: they belong to another instance or mode; this process must not serve them.
    """
    for attempt in range(1_000_000):
        try:
            async with asyncio.timeout(CLAIM_SECONDS_MAX):
                await claim_stores(context.pool, context.balances, mode=context.settings.mode)
        except WrongStore:
            raise
        except Exception as error:  # away, starting, or without tables yet: whatever it is, it is not ready
            if attempt == 0:
                get_log().warning("stores_not_ready", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(CLAIM_PAUSES[min(attempt, len(CLAIM_PAUSES) - 1)])
        else:
            get_log().info("stores_claimed", instance=context.balances.instance)
            return
