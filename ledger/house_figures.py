"""Figures of the whole house for its operator, from roll-ups and running balances alone.

Every function raises JournalUnavailable where Postgres does not answer.
"""

from ledger.figure_values import AccountUsage, HouseMoney, ModelUsage, Period, Series
from ledger.journal import Pool


async def house_money(pool: Pool) -> HouseMoney:
    """Return what the house has and owes now."""
    raise NotImplementedError


async def house_usage(pool: Pool, period: Period) -> list[ModelUsage]:
    """Return what each served model did for all accounts, dearest first, at most 1000; all reported usage is one entry with no model.

    `counts.markup` of one that is not reported is what the house earned with it.
    """
    raise NotImplementedError


async def house_over_time(pool: Pool, period: Period, *, series_max: int = 8) -> list[Series]:
    """Return what customers paid for served models in each bucket, by model as `ledger.figures.spend_over_time` does."""
    raise NotImplementedError


async def earned_over_time(pool: Pool, period: Period) -> list[Series]:
    """Return three series, in each bucket: requests (key `requests`), what customers paid (`amount`), and the mark-up in it (`markup`)."""
    raise NotImplementedError


async def dearest_accounts(pool: Pool, period: Period, *, rows_max: int = 20) -> list[AccountUsage]:
    """Return the accounts that spent most, at most `rows_max` (100). Looks at every account's roll-ups: for days, not for months."""
    raise NotImplementedError
