"""Figures of one account for its pages, from roll-ups alone: spending over time and by kind, work, burn.

Each function is one bounded statement. None waits for the journal: figures are as far as the poster is, seconds behind at most.
Every function raises JournalUnavailable where Postgres does not answer.
"""

from datetime import datetime
from typing import Final

from ledger.entries import AccountId
from ledger.figure_values import Burn, Dimension, ModelUsage, Period, Series, Share, WorkUsage
from ledger.journal import Pool

SERIES_MAX: Final = 8  # lines of a chart; more colours cannot be told apart
SHARES_MAX: Final = 200


async def spend_over_time(pool: Pool, account: AccountId, period: Period, *, by: Dimension, series_max: int = SERIES_MAX) -> list[Series]:
    """Return what was spent in each bucket of `period`, the dearest `series_max` first, the rest as one series `OTHER` at the end.

    Nothing spent is an empty list.
    """
    raise NotImplementedError


async def spend_by(pool: Pool, account: AccountId, period: Period, *, by: Dimension, rows_max: int = 20) -> list[Share]:
    """Return what was used, split by one property: the dearest `rows_max`, at most 200, the rest as one share `OTHER` at the end."""
    raise NotImplementedError


async def usage_by_model(pool: Pool, account: AccountId, period: Period) -> list[ModelUsage]:
    """Return what each model did, dearest first, at most 1000; their sum (`total_of`) is all that the account used.

    `metering.savings` says what its cached tokens saved.
    """
    raise NotImplementedError


async def work_breakdown(pool: Pool, account: AccountId, period: Period, *, rows_max: int = 50) -> list[WorkUsage]:
    """Return the cost of each task type in each workspace, dearest first, at most `rows_max` (200); the gateway's own traffic is one line.

    Lines beyond are put together in one with `task_type` and `workspace` `OTHER`.
    """
    raise NotImplementedError


async def burn(pool: Pool, account: AccountId, now: datetime) -> Burn:
    """Return how fast the account spends at present."""
    raise NotImplementedError
