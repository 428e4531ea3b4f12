"""Figures of the whole house for its operator, from roll-ups and running balances alone.

Every function raises JournalUnavailable where Postgres does not answer.
"""

import json
from typing import Final

from ledger.figure_values import AccountUsage, HouseMoney, ModelUsage, Series
from ledger.figures import MODELS_MAX, SERIES_MAX, counts_of, model_usage, series_of
from ledger.journal import COMMAND_SECONDS_MAX, Pool, journal_answers
from ledger.periods import Period
from ledger.postings import DRAWINGS, EXTERNAL_USAGE, GRANTS, REVENUE, UNATTRIBUTED, VAULT
from ledger.queries import SQL

ACCOUNTS_MAX: Final = 100
_PROVIDER: Final = "provider:"


async def house_money(pool: Pool) -> HouseMoney:
    """Return what the house has and owes now."""
    async with journal_answers():
        row = await pool.fetchrow(SQL["house_money"], timeout=COMMAND_SECONDS_MAX)
    house: dict[str, int] = json.loads(row["house"])
    providers = {account[len(_PROVIDER) :]: -house.pop(account) for account in list(house) if account.startswith(_PROVIDER)}
    vault, grants, drawings = (house.pop(account, 0) for account in (VAULT, GRANTS, DRAWINGS))
    unattributed, revenue, external = (-house.pop(account, 0) for account in (UNATTRIBUTED, REVENUE, EXTERNAL_USAGE))
    return HouseMoney(
        customers=row["customers"],
        accounts=row["accounts"],
        vault=vault,
        unattributed=unattributed,
        providers=tuple(sorted(providers.items())),
        markup_earned=revenue,
        grants=grants,
        drawings=drawings,
        external_usage=external,
        other=sum(house.values()),
    )


async def house_usage(pool: Pool, period: Period) -> list[ModelUsage]:
    """Return what each served model did for all accounts, dearest first, at most 1000; all reported usage is one entry with no model.

    `counts.markup` of one that is not reported is what the house earned with it.
    """
    async with journal_answers():
        rows = await pool.fetch(SQL["house_usage"], *period.whole.arrays, MODELS_MAX, timeout=COMMAND_SECONDS_MAX)
    return [model_usage(row) for row in rows]


async def house_over_time(pool: Pool, period: Period, *, series_max: int = SERIES_MAX) -> list[Series]:
    """Return what customers paid for served models in each bucket, by model as `ledger.figures.spend_over_time` does."""
    buckets = list(period.buckets)
    async with journal_answers():
        rows = await pool.fetch(SQL["house_over_time"], *period.bars.arrays, buckets, series_max, timeout=COMMAND_SECONDS_MAX)
    return series_of(rows, len(buckets))


async def earned_over_time(pool: Pool, period: Period) -> list[Series]:
    """Return three series, in each bucket: requests (key `requests`), what customers paid (`amount`), and the mark-up in it (`markup`)."""
    buckets = list(period.buckets)
    async with journal_answers():
        rows = await pool.fetch(SQL["house_earnings"], *period.bars.arrays, buckets, timeout=COMMAND_SECONDS_MAX)
    lines = {name: [0] * len(buckets) for name in ("requests", "amount", "markup")}
    for row in rows:
        for name, line in lines.items():
            line[max(row["bucket"], 1) - 1] += row[name]
    return [Series(key=name, label=name, amounts=tuple(line)) for name, line in lines.items()]


async def dearest_accounts(pool: Pool, period: Period, *, rows_max: int = 20) -> list[AccountUsage]:
    """Return the accounts that spent most, at most `rows_max` (100). Looks at every account's roll-ups: for days, not for months."""
    async with journal_answers():
        rows = await pool.fetch(SQL["dearest_accounts"], *period.whole.arrays, min(rows_max, ACCOUNTS_MAX), timeout=COMMAND_SECONDS_MAX)
    return [AccountUsage(account_id=row["id"], public_id=row["public_id"], name=row["name"], counts=counts_of(row)) for row in rows]
