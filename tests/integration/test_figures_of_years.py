"""Figures of long periods are read of days and of the hours around them, and come to what the hours alone come to: on every clock, in bars of any length."""

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from ledger.entries import AccountId
from ledger.figure_values import GATEWAY, Dimension, total_of
from ledger.figures import spend_by, spend_over_time, usage_by_model, work_breakdown
from ledger.house_figures import dearest_accounts, earned_over_time, house_over_time, house_usage
from ledger.migrate import read_migrations
from ledger.periods import Period, Step, period_between
from tests.fakes.books import Books, open_books

LAST = datetime(2026, 11, 22, 17, tzinfo=UTC)
HOURS = 3 * 366 * 24
ROLLUP = "INSERT INTO rollups_hourly VALUES ($1, $2, $3, $4, $5, $6, $6, $6, $6, $6, $7, $8, $9, $6)"
WORK = "INSERT INTO work_hourly VALUES ($1, $2, $3, $4, $5, $6, $6, $6, $6, $6, $7)"
HOUSE = "INSERT INTO house_hourly VALUES ($1, $2, $3, false, $4, $4, $4, $4, $4, $4, $5, $6)"
PERIODS = [
    (timedelta(hours=30), "UTC"), (timedelta(days=9, hours=5), "UTC"), (timedelta(days=90), "America/St_Johns"), (timedelta(days=90, hours=1), "UTC"),
    (timedelta(days=400), "Europe/Berlin"), (timedelta(days=700), "UTC"), (timedelta(days=1000, hours=7), "Asia/Kolkata"), (timedelta(days=1000), "UTC"),
]  # fmt: skip
type Rows = list[tuple[datetime, str, str, int, int]]  # hour, of what, of what besides, requests, amount


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


async def write_years(books: Books, account: AccountId, shard: int) -> tuple[Rows, Rows]:
    """Write three years of hours, here and there one, and the days that come of them; return usage through the gateway and reported work."""
    dice = random.Random(20)
    metered, reported = list[tuple[datetime, str, str, int, int]](), list[tuple[datetime, str, str, int, int]]()
    for back in dice.sample(range(HOURS), 4000):
        hour = LAST - timedelta(hours=back)
        metered.append((hour, dice.choice(("anthropic", "openai")), dice.choice("abc"), dice.randrange(1, 9), dice.randrange(-50, 1000)))
        reported.append((hour, "", dice.choice(("review", "chat")), dice.randrange(1, 9), dice.randrange(1000)))
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.executemany(ROLLUP, [(shard, account, hour, provider, model, n, amount, 3, False) for hour, provider, model, n, amount in metered])
        await connection.executemany(ROLLUP, [(shard, account, hour, "x", "y", n, amount, 0, True) for hour, _, _, n, amount in reported])
        await connection.executemany(WORK, [(shard, account, *row) for row in reported])
        await connection.executemany(HOUSE, [(hour, provider, model, n, amount, 3) for hour, provider, model, n, amount in metered])
        await connection.execute("DROP TABLE rollups_daily, work_daily, house_daily")
        [migration] = [each for each in read_migrations() if each.name == "0009_days.sql"]
        await connection.execute(migration.text)
    return metered, reported


def bars_of(rows: Rows, period: Period, name: str) -> list[int]:
    """Return what these rows come to in each bar, by looking at each of them; `name` is how the figures call the line, empty for all."""
    bars = [0] * len(period.buckets)
    for hour, provider, model, _, amount in rows:
        if period.since <= hour < period.until and name in ("", f"{provider}/{model}", model):
            bars[bisect_right(period.buckets, hour) - 1] += amount
    return bars


async def test_years_come_to_what_their_hours_come_to(books: Books) -> None:
    new = await books.open_account(1_000)
    account = new.account.id
    metered, reported = await write_years(books, account, new.account.shard)

    for length, zone in PERIODS:
        period = period_between(LAST + timedelta(hours=1) - length, LAST + timedelta(hours=1), zone=zone)
        inside = [row for row in metered if period.since <= row[0] < period.until]
        told = [row for row in reported if period.since <= row[0] < period.until]
        spent, earned = sum(row[4] for row in inside), sum(row[4] - 3 for row in inside)

        by_model = {line.key: list(line.amounts) for line in await spend_over_time(books.pool, account, period, by=Dimension.MODEL)}
        by_task = {line.key: list(line.amounts) for line in await spend_over_time(books.pool, account, period, by=Dimension.TASK_TYPE)}
        tasks = {share.key: share.counts.amount for share in await spend_by(books.pool, account, period, by=Dimension.TASK_TYPE)}
        work = Counter({line.task_type: line.counts.amount for line in await work_breakdown(books.pool, account, period)})
        house = {line.key: list(line.amounts) for line in await house_over_time(books.pool, period)}
        earnings = {line.key: line for line in await earned_over_time(books.pool, period)}

        names = {f"{provider}/{model}" for _, provider, model, _, _ in inside}
        assert by_model == {**{name: bars_of(metered, period, name) for name in names}, "x/y": bars_of(reported, period, "")}
        assert by_task == {**{name: bars_of(reported, period, name) for name in ("review", "chat")}, GATEWAY: bars_of(metered, period, "")}
        assert house == {name: bars_of(metered, period, name) for name in names}
        assert total_of(usage.counts for usage in await usage_by_model(books.pool, account, period)).amount == spent + sum(row[4] for row in told)
        assert tasks == work == {GATEWAY: spent, **{name: sum(row[4] for row in told if row[2] == name) for name in ("review", "chat")}}
        assert (earnings["amount"].total, earnings["markup"].total) == (spent, earned)
        assert total_of(usage.counts for usage in await house_usage(books.pool, period)).requests == sum(row[3] for row in inside)
        assert [each.counts.amount for each in await dearest_accounts(books.pool, period)] == [spent + sum(row[4] for row in told)]


def test_a_long_period_has_bars_of_weeks_or_months_on_the_readers_clock() -> None:
    weeks = period_between(datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC), zone="Europe/Berlin")
    months = period_between(datetime(2023, 12, 31, 23, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC), zone="Europe/Berlin")

    assert (weeks.step, weeks.buckets[0], weeks.buckets[14]) == (Step.WEEK, datetime(2024, 12, 29, 23, tzinfo=UTC), datetime(2025, 4, 6, 22, tzinfo=UTC))
    assert (months.step, months.buckets[0], months.buckets[4], len(months.buckets)) == (
        Step.MONTH, datetime(2023, 12, 31, 23, tzinfo=UTC), datetime(2024, 4, 30, 22, tzinfo=UTC), 35,
    )  # fmt: skip
    with pytest.raises(ValueError, match="ten years"):
        period_between(datetime(2016, 1, 1, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC))


def test_what_is_read_covers_a_period_once_and_no_day_lies_in_two_bars() -> None:
    for length, zone in PERIODS:
        period = period_between(LAST - length, LAST, zone=zone)
        for spans in (period.whole, period.bars):
            ends = sorted(spans.days + spans.hours)
            assert (ends[0][0], ends[-1][1]) == (period.since, period.until)
            assert all(before[1] == after[0] for before, after in pairwise(ends))
            assert all(edge.hour == 0 for span in spans.days for edge in span)
        edges = set(period.buckets[1:])
        days = [day + timedelta(days=n) for day, until in period.bars.days for n in range((until - day).days)]
        assert not [day for day in days if any(day < edge < day + timedelta(days=1) for edge in edges)]
        assert len(period.whole.hours) <= 2
