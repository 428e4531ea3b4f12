"""What pages show comes to what was posted: roll-ups by the hour, by kind of work and of the whole house, on real stores."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ledger import reported_rows
from ledger.entries import UsageLine
from ledger.figure_values import GATEWAY, OTHER, Dimension, total_of
from ledger.figures import burn, spend_by, spend_over_time, usage_by_model, work_breakdown
from ledger.findings import Fault
from ledger.house_figures import dearest_accounts, earned_over_time, house_money, house_over_time, house_usage
from ledger.journal import journal_transaction, lock_shards, read_figures
from ledger.migrate import read_migrations
from ledger.money import Microunits
from ledger.periods import Period, Step, period_between
from ledger.posting import Posting
from ledger.rebuild import rebuild_shard
from ledger.reconcile import verify
from ledger.tokens import new_request_id
from ledger.workspaces import Workspaces
from tests.fakes.books import Books, open_books, record_of
from tests.fakes.reports import FLAG, Reporter, item, open_reporter

HOURS = ("rollups_hourly", "work_hourly", "house_hourly")
DAYS = ("rollups_daily", "work_daily", "house_daily")


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


def the_day() -> Period:
    now = datetime.now(UTC)
    return period_between(now - timedelta(hours=12), now + timedelta(hours=12))


async def report(reporter: Reporter, *events: dict[str, Any]) -> None:
    sent = [item(line, **fields) for line, fields in enumerate(events)]
    await reporter.ingest.charge_usage(reporter.key, new_request_id(), sent, policy=FLAG)


async def tamper(books: Books, statement: str) -> None:
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(statement)


async def add_up_days(books: Books) -> None:
    """Make the days of the hours, as the migration does that brought them."""
    [migration] = [each for each in read_migrations() if each.name == "0009_days.sql"]
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("DROP TABLE rollups_daily, work_daily, house_daily")
        await connection.execute(migration.text)


async def test_spending_is_told_apart_by_model_provider_workspace_and_task_type(books: Books) -> None:
    reporter = await open_reporter(books, 1_000_000)
    account, shard = reporter.key.account, reporter.key.shard
    place = await Workspaces(books.pool, books.balances).resolve(account, shard, "Prod <b>", caps={"free": None})
    workspace = place.workspace.id
    await report(
        reporter,
        {"workspace_id": workspace, "task_type": "review", "cost": 700, "input_tokens": 10, "reasoning_tokens": 5, "output_tokens": 1},
        {"workspace_id": workspace, "task_type": "general", "cost": 200, "provider": "openai", "model": "gpt-5", "cache_write_tokens": 9},
        {"task_type": "general", "cost": 50, "cache_write_tokens": 8, "cache_write_1h_tokens": 3, "cache_read_tokens": 4},
    )
    await books.spend(books.opened[0], 330)
    await books.drain()
    period = the_day()

    by_model = {(usage.provider, usage.model, usage.reported): usage.counts for usage in await usage_by_model(books.pool, account, period)}
    workspaces = await spend_by(books.pool, account, period, by=Dimension.WORKSPACE)
    tasks = await spend_by(books.pool, account, period, by=Dimension.TASK_TYPE)
    work = await work_breakdown(books.pool, account, period)
    series = {by: await spend_over_time(books.pool, account, period, by=by) for by in Dimension}

    sonnet = by_model["anthropic", "claude-sonnet-4-6", True]
    assert (sonnet.requests, sonnet.amount, sonnet.output_tokens, sonnet.cache_write_tokens, sonnet.cache_write_1h_tokens) == (2, 750, 6, 8, 3)
    metered = by_model["anthropic", "claude-sonnet-4-6", False]
    assert (metered.requests, metered.amount, metered.provider_cost, metered.markup, metered.cache_write_1h_tokens) == (1, 330, 300, 30, 3)
    assert total_of(by_model.values()).amount == 1280
    assert [(share.key, share.label, share.counts.amount) for share in workspaces] == [(workspace, "Prod <b>", 900), (GATEWAY, "", 330), ("", "", 50)]
    assert [(share.key, share.counts.amount) for share in tasks] == [("review", 700), (GATEWAY, 330), ("general", 250)]
    assert [(line.workspace, line.task_type, line.through_gateway, line.counts.amount) for line in work] == [
        ("Prod <b>", "review", False, 700), ("", GATEWAY, True, 330), ("Prod <b>", "general", False, 200), ("", "general", False, 50),
    ]  # fmt: skip
    assert [(line.key, line.total) for line in series[Dimension.MODEL]] == [("anthropic/claude-sonnet-4-6", 1080), ("openai/gpt-5", 200)]
    assert [(line.label, line.total) for line in series[Dimension.PROVIDER]] == [("anthropic", 1080), ("openai", 200)]
    assert [(line.label, line.total) for line in series[Dimension.WORKSPACE]] == [("Prod <b>", 900), ("", 330), ("", 50)]
    assert all(len(line.amounts) == len(period.buckets) for lines in series.values() for line in lines)
    assert (await verify(books.pool, books.balances)).findings == []


async def test_what_is_beyond_the_dearest_is_one_line_at_the_end(books: Books) -> None:
    reporter = await open_reporter(books, 1_000_000)
    await report(reporter, *({"model": f"m{number}", "task_type": f"t{number}", "cost": number} for number in range(1, 7)))
    await books.drain()
    period, account = the_day(), reporter.key.account

    lines = await spend_over_time(books.pool, account, period, by=Dimension.MODEL, series_max=2)
    shares = await spend_by(books.pool, account, period, by=Dimension.TASK_TYPE, rows_max=2)
    work = await work_breakdown(books.pool, account, period, rows_max=2)

    assert [(line.key, line.total) for line in lines] == [("anthropic/m6", 6), ("anthropic/m5", 5), (OTHER, 10)]
    assert [(share.key, share.counts.amount) for share in shares] == [("t6", 6), ("t5", 5), (OTHER, 10)]
    assert [(line.task_type, line.counts.requests) for line in work] == [("t6", 1), ("t5", 1), (OTHER, 4)]


async def test_names_beyond_those_that_are_told_apart_count_as_one_and_the_books_stay_whole(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reported_rows, "MODELS_MAX", 3)
    monkeypatch.setattr(reported_rows, "TASK_TYPES_MAX", 2)
    reporter = await open_reporter(books, 1_000_000)
    await report(reporter, *({"model": f"m{number}", "task_type": f"t{number}", "cost": 1} for number in range(3)))
    await books.drain()
    await report(reporter, *({"model": f"m{number}", "task_type": f"t{number}", "cost": 1} for number in range(6)))
    await books.drain()
    period, account = the_day(), reporter.key.account

    models = {usage.model: usage.counts.amount for usage in await usage_by_model(books.pool, account, period)}
    tasks = {share.key: share.counts.amount for share in await spend_by(books.pool, account, period, by=Dimension.TASK_TYPE)}
    lines = await spend_over_time(books.pool, account, period, by=Dimension.MODEL, series_max=1)

    assert models == {"m0": 2, "m1": 2, "m2": 2, "*": 3}
    assert tasks == {"t0": 2, "t1": 2, OTHER: 5}
    assert [(line.key, line.total) for line in lines] == [("anthropic/m0", 2), (OTHER, 7)]
    assert (await verify(books.pool, books.balances)).findings == []


async def test_buckets_follow_the_clock_of_a_zone_and_its_changes() -> None:
    hours = period_between(datetime(2026, 10, 24, 12, 30, tzinfo=UTC), datetime(2026, 10, 25, 12, tzinfo=UTC), zone="Europe/Berlin")
    days = period_between(datetime(2026, 10, 23, tzinfo=UTC), datetime(2026, 10, 28, tzinfo=UTC), zone="Europe/Berlin")
    half = period_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 10, tzinfo=UTC), zone="Asia/Kolkata")

    assert (hours.step, len(hours.buckets), hours.buckets[0].hour) == (Step.HOUR, 24, 12)
    assert [bucket.hour for bucket in days.buckets] == [22, 22, 22, 23, 23, 23]  # midnight in Berlin, before and after the clocks change
    assert all(bucket.strftime("%H:%M") == "18:30" for bucket in half.buckets)
    for since, until, zone in ((1, 1, "UTC"), (1, 0, "UTC"), (0, 3800, "UTC"), (0, 1, "Nowhere/Atlantis"), (0, 1, "../etc/passwd"), (0, 1, "")):
        with pytest.raises(ValueError, match=r"period|zone"):
            period_between(datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=since), datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=until), zone=zone)


async def test_a_corrected_charge_is_taken_away_from_the_account_and_from_the_house(books: Books) -> None:
    new = await books.open_account(10_000)
    hold = await books.hold(new, 100)
    estimate = record_of(hold.request_id, 100, estimated=True)
    await books.balances.settle(hold, estimate)
    await books.drain()
    exact = replace(record_of(hold.request_id, 60), lines=(UsageLine(provider="anthropic", model="claude-sonnet-4-6", input_tokens=60),))
    await books.pool.execute("UPDATE rollups_hourly SET hour = hour - interval '3 hours'")
    await books.pool.execute("UPDATE house_hourly SET hour = hour - interval '3 hours'")
    await add_up_days(books)
    await _adjust(books, new.account.shard, exact)
    period = the_day()

    [usage] = [each for each in await usage_by_model(books.pool, new.account.id, period) if each.model == "claude-sonnet-4-6"]
    [line] = await spend_over_time(books.pool, new.account.id, period, by=Dimension.MODEL)

    assert (usage.counts.requests, usage.counts.amount, usage.counts.cache_write_1h_tokens, usage.counts.input_tokens) == (1, 60, 0, 60)
    assert sorted(amount for amount in line.amounts if amount) == [-40, 100]
    assert [each.counts.amount for each in await house_usage(books.pool, period) if each.counts.amount] == [60]
    assert (await verify(books.pool, None)).findings == []


async def _adjust(books: Books, shard: int, exact: Any) -> None:
    """Post an exact settlement over an estimate, as a rebuild does that finds one."""
    async with journal_transaction(books.pool) as connection:
        positions = await lock_shards(connection, [shard])
        posting = await Posting.prepare(connection, positions, {})
        account = books.opened[0].account.id
        posting.writer.figures.update(await read_figures(connection, [account]))
        now = int(datetime.now(UTC).timestamp() * 1000)
        await posting.add_charge(shard, exact, account=account, kind="adjust", amount=exact.amount - 100, at=now, line=True)
        await posting.writer.flush()


async def test_burn_is_of_the_last_week_or_since_the_first_charge(books: Books) -> None:
    new = await books.open_account(1_000_000)
    quiet = await burn(books.pool, new.account.id, datetime.now(UTC))
    await books.spend(new, 7_000)
    await books.drain()
    now = datetime.now(UTC)

    young = await burn(books.pool, new.account.id, now)
    settled = await burn(books.pool, new.account.id, now + timedelta(days=3))
    past = await burn(books.pool, new.account.id, now + timedelta(days=30))

    assert (quiet.spent, quiet.runway_seconds(5)) == (0, None)
    assert (young.per_day, young.runway_seconds(993_000)) == (7_000, 993_000 * 86_400 // 7_000)
    assert 2_100 <= settled.per_day <= 2_400
    assert (past.spent, settled.runway_seconds(-5)) == (0, 0)


async def test_the_house_knows_what_it_earned_owes_and_served(books: Books) -> None:
    reporter, other = await open_reporter(books, 1_000), await books.open_account(500)
    await report(reporter, {"cost": 100, "model": "x" * 200})
    await books.spend(other, 330)
    await books.drain()
    period = the_day()

    money = await house_money(books.pool)
    usage = await house_usage(books.pool, period)
    earned = {line.key: line.total for line in await earned_over_time(books.pool, period)}

    assert (money.customers, money.accounts, money.grants, money.providers) == (1_070, 2, 1_500, (("anthropic", 300),))
    assert (money.markup_earned, money.external_usage, money.vault, money.other) == (30, 100, 0, 0)
    assert [(each.model, each.reported, each.counts.amount) for each in usage] == [
        ("claude-sonnet-4-6", False, 330), ("", True, 100), ("claude-haiku-4-5", False, 0),
    ]  # fmt: skip
    assert earned == {"requests": 1, "amount": 330, "markup": 30}
    assert [(line.key, line.total) for line in await house_over_time(books.pool, period)] == [("anthropic/claude-sonnet-4-6", 330)]
    assert [(each.public_id, each.counts.amount) for each in await dearest_accounts(books.pool, period)] == [
        (other.account.public_id, 330), (books.opened[0].account.public_id, 100),
    ]  # fmt: skip


async def test_a_journal_that_was_restored_gets_its_figures_back_from_the_outbox(books: Books) -> None:
    reporter = await open_reporter(books, 1_000_000)
    await books.drain()
    kept = await _rows(books)
    await report(reporter, {"cost": 100, "task_type": "review"}, {"cost": 5, "model": "n"})
    await books.spend(books.opened[0], 330)
    await books.drain()
    whole = await _rows(books)
    await _forget(books, reporter.key.shard)
    assert await _rows(books) == kept

    await rebuild_shard(books.pool, books.balances, reporter.key.shard)
    await books.drain()

    assert await _rows(books) == whole
    line = await books.pool.fetchrow("SELECT workspace_id, task_type FROM statement WHERE kind = 'usage'")
    assert tuple(line) == (None, "*")
    assert (await verify(books.pool, books.balances)).findings == []


async def _rows(books: Books) -> list[list[tuple[Any, ...]]]:
    tables = (*HOURS, *DAYS, "task_types", "reported_models")
    return [sorted(tuple(sorted(row.items())) for row in await books.pool.fetch(f"SELECT * FROM {table}")) for table in tables]


async def _forget(books: Books, shard: int) -> None:
    """Take the journal of a shard back to before its last two entries, as the restore of an older backup does."""
    keep = await books.pool.fetchval("SELECT max(seq) FROM journal WHERE shard = $1 AND kind NOT IN ('usage', 'charge')", shard)
    head = await books.pool.fetchval("SELECT hash FROM journal WHERE shard = $1 AND seq = $2", shard, keep)
    posted = await books.pool.fetchval("SELECT posted_seq FROM shards WHERE shard = $1", shard) - 2
    account = books.opened[0].account.id
    async with books.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM journal_keys WHERE shard = $1 AND seq > $2", shard, keep)
        await connection.execute("DELETE FROM journal WHERE shard = $1 AND seq > $2", shard, keep)
        await connection.execute("DELETE FROM statement WHERE kind IN ('usage', 'charge')")
        for table in (*HOURS, *DAYS, "task_types", "reported_models", "usage_events", "usage_months"):
            await connection.execute(f"DELETE FROM {table}")
        await connection.execute("DELETE FROM house_balances WHERE account IN ('external:usage', 'provider:anthropic', 'revenue:markup')")
        await connection.execute("UPDATE accounts SET balance = 1000000, statement_balance = 1000000, n = 1, charged = 0 WHERE id = $1", account)
        await connection.execute("UPDATE shards SET posted_seq = $2, chain_seq = $3, chain_head = $4 WHERE shard = $1", shard, posted, keep, head)


async def test_the_migration_adds_up_what_was_posted_before_it(books: Books) -> None:
    reporter = await open_reporter(books, 1_000_000)
    account, shard = reporter.key.account, reporter.key.shard
    place = await Workspaces(books.pool, books.balances).resolve(account, shard, "prod", caps={"free": None})
    await report(reporter, {"cost": 100, "task_type": "review", "cache_write_tokens": 5, "cache_write_1h_tokens": 2}, {"cost": 5, "model": "n"})
    await report(reporter, {"cost": 9, "workspace_id": place.workspace.id})
    hold = await books.hold(books.opened[0], 100)
    await books.balances.settle(hold, record_of(hold.request_id, 100, estimated=True))
    await books.drain()
    await _adjust(books, shard, replace(record_of(hold.request_id, 60), lines=(UsageLine(provider="openai", model="gpt-5", cache_write_1h_tokens=4),)))
    whole, lines = await _rows(books), await _lines(books)
    [migration] = [each for each in read_migrations() if each.name == "0005_figures.sql"]
    async with books.pool.acquire() as connection, connection.transaction():
        for name in ("work_hourly", "house_hourly", "task_types", "reported_models"):
            await connection.execute(f"DROP TABLE {name}")
        await connection.execute("ALTER TABLE rollups_hourly DROP COLUMN cache_write_1h_tokens; DROP INDEX rollups_by_hour")
        await connection.execute("ALTER TABLE statement DROP COLUMN workspace_id, DROP COLUMN task_type")
        await connection.execute(migration.text)

    assert (await _rows(books), await _lines(books)) == (whole, lines)
    assert lines[1:3] == [("*", None), ("general", place.workspace.id)]
    assert (await verify(books.pool, None)).findings == []


async def _lines(books: Books) -> list[tuple[str | None, str | None]]:
    return [tuple(row) for row in await books.pool.fetch("SELECT task_type, workspace_id FROM statement ORDER BY n")]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE rollups_hourly SET amount = amount + 7 WHERE reported", "its hours of reported usage"),
        ("UPDATE rollups_hourly SET cache_write_1h_tokens = 0 WHERE NOT reported", "its hours of metered usage"),
        ("DELETE FROM work_hourly", "its work comes to 0 events"),
        ("UPDATE house_hourly SET requests = requests + 1", "the house's hour"),
        ("UPDATE rollups_hourly SET provider_cost = provider_cost - 1 WHERE NOT reported AND requests > 0", "microunits for providers"),
        ("UPDATE rollups_daily SET amount = amount + 7 WHERE reported", "does not come to the usage of its hours, by 7 microunits"),
        ("DELETE FROM work_daily", "does not come to the work of its hours, by 100 microunits"),
        ("UPDATE work_daily SET input_tokens = input_tokens + 1", "does not come to the work of its hours, by 0 microunits"),
        ("UPDATE house_daily SET day = day - interval '1 day'", "the house's day"),
    ],
)
async def test_figures_that_were_tampered_with_are_found(books: Books, statement: str, said: str) -> None:
    reporter = await open_reporter(books, 1_000)
    await report(reporter, {"cost": 100})
    await books.spend(books.opened[0], 330)
    await books.drain()

    await tamper(books, statement)
    findings = (await verify(books.pool, None)).findings

    assert {finding.fault for finding in findings} == {Fault.FIGURES_DIFFER}
    assert any(said in finding.text for finding in findings), [finding.text for finding in findings]


async def test_no_sum_of_others_counts_overflows(books: Books) -> None:
    reporter = await open_reporter(books, 1_000)
    await report(reporter, {"cost": 1, "input_tokens": 10**12})
    await books.drain()
    for table in (*HOURS, *DAYS):
        await tamper(books, f"UPDATE {table} SET input_tokens = 9223372036854775806")

    await report(reporter, {"cost": 1, "input_tokens": 10**12}, {"cost": 1, "input_tokens": 10**12})
    await books.drain()

    assert await books.pool.fetchval("SELECT input_tokens FROM work_hourly") == 2**63 - 1
    assert await books.pool.fetchval("SELECT input_tokens FROM rollups_daily") == 2**63 - 1
    assert Microunits(await books.pool.fetchval("SELECT amount FROM house_hourly")) == 3
    [usage] = await usage_by_model(books.pool, reporter.key.account, the_day())
    assert (usage.counts.requests, usage.counts.input_tokens) == (3, 2**63 - 1)
