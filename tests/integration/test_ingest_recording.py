"""Reported usage on real stores: what is recorded and refused, what the books make of it, and that it is recorded once."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ledger.accounts import Accounts
from ledger.errors import AccountExhausted, BooksUnderPressure, InactiveAccount, RequestEnded, ShardClosed, TooManyKeys, UnknownKey
from ledger.ingest_values import BALANCE_MIN, COST_MAX, TOKENS_MAX, event_id
from ledger.keys import Keys, mint_key, parse_key
from ledger.rebuild import rebuild_shard
from ledger.reconcile import verify
from ledger.shard_link import epoch_prefix
from ledger.tokens import new_request_id
from tests.fakes.books import Books, open_books
from tests.fakes.reports import BLOCK, FLAG, item, items, open_reporter


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


async def test_a_request_becomes_one_balanced_row_one_line_and_an_event_each(books: Books) -> None:
    reporter = await open_reporter(books, 1_000_000)
    request_id = new_request_id()
    sent = [
        item(0, input_tokens=1200, output_tokens=800, cache_read_tokens=5, cache_write_tokens=6, reasoning_tokens=7, cost=15_600, estimated=True, user_id="u1"),
        item(2, provider="openai", model="gpt-5", task_type="review", source="sdk", cost=400, external_ref='a "reference", ],\n [', unpriced=True),
        item(3, input_tokens=10),
    ]

    outcome = await reporter.ingest.charge_usage(reporter.key, request_id, sent, policy=FLAG, rate_card="card")

    assert [one.event_id for one in outcome.items] == [event_id(request_id, line) for line in (0, 2, 3)]
    assert [one.balance_after for one in outcome.items] == [984_400, 984_000, 984_000]
    assert (outcome.tokens_mtd, outcome.balance, outcome.available, outcome.tier) == (2028, 984_000, 984_000, "free")
    await books.drain()
    row = await books.pool.fetchrow("SELECT * FROM journal WHERE kind = 'usage'")
    assert (row["accounts"], row["amounts"]) == ([f"customer:{reporter.key.account}", "external:usage"], [16_000, -16_000])
    assert (row["key"], row["rate_card"]) == (f"usage:{request_id}", "card")
    line = await books.pool.fetchrow("SELECT * FROM statement WHERE kind = 'usage'")
    assert (line["type"], line["amount"], line["balance_after"], line["request_id"], line["provider"]) == ("DEBIT", -16_000, 984_000, request_id, None)
    events = await books.pool.fetch("SELECT * FROM usage_events ORDER BY line")
    assert [(event["line"], event["amount"], event["model"]) for event in events] == [(0, 15_600, sent[0].model), (2, 400, "gpt-5"), (3, 0, sent[0].model)]
    assert (events[0]["input_tokens"], events[0]["reasoning_tokens"], events[0]["cache_write_5m_tokens"]) == (1200, 7, 6)
    assert (events[1]["external_ref"], events[1]["unpriced"], events[1]["source"], events[0]["user_id"]) == ('a "reference", ],\n [', True, "sdk", "u1")
    rollup = await books.pool.fetchrow("SELECT sum(requests)::int, sum(amount)::int, sum(output_tokens)::int, bool_and(reported) FROM rollups_hourly")
    assert tuple(rollup) == (3, 16_000, 807, True)
    month = await books.pool.fetchrow("SELECT tokens, events, amount FROM usage_months")
    assert tuple(month) == (2028, 3, 16_000)
    [key] = await Keys(books.pool, books.balances).list(await books.accounts.find(outcome.org_id))
    assert key.last_used_at is not None
    assert (await verify(books.pool, books.balances)).findings == []


async def test_a_request_that_costs_nothing_has_no_statement_line(books: Books) -> None:
    reporter = await open_reporter(books)

    outcome = await reporter.report(0, 0, tokens=5)

    await books.drain()
    assert (outcome.tokens_mtd, outcome.balance) == (10, 0)
    assert await books.pool.fetchval("SELECT count(*) FROM statement") == 0
    assert await books.pool.fetchval("SELECT count(*) FROM usage_events") == 2
    assert (await verify(books.pool, books.balances)).whole


async def test_the_balance_of_an_account_that_had_money_stops_events_first_fit(books: Books) -> None:
    reporter = await open_reporter(books, 200_000)

    outcome = await reporter.report(150_000, 150_000, 50_000, 1, 0)

    assert [one.recorded for one in outcome.items] == [True, False, True, False, True]
    assert [one.over_balance for one in outcome.items] == [False, True, False, True, False]
    assert [one.balance_after for one in outcome.items] == [50_000, 50_000, 0, 0, 0]
    assert outcome.items[1].event_id is None
    await books.drain()
    assert await books.pool.fetchval("SELECT sum(amount)::int FROM usage_events") == 200_000
    assert (await verify(books.pool, books.balances)).whole


async def test_money_set_aside_for_running_requests_is_not_there_for_events(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    await books.hold(books.opened[0], 600)

    assert [one.recorded for one in (await reporter.report(401, 400)).items] == [False, True]


async def test_an_account_that_never_had_money_goes_below_zero_and_a_setting_lets_others(books: Books) -> None:
    poor, rich = await open_reporter(books), await open_reporter(books, 100)

    assert (await poor.report(78_000)).balance == -78_000
    outcome = await rich.report(150, policy=replace(FLAG, block_over_balance=False))

    assert (outcome.balance, outcome.items[0].recorded, outcome.items[0].over_balance) == (-50, True, True)


async def test_the_free_tier_is_flagged_and_where_it_is_to_be_stopped_by_the_event_that_finds_it_used_up(books: Books) -> None:
    flagged, blocked = await open_reporter(books), await open_reporter(books)
    assert not (await flagged.report(0, tokens=9998)).items[0].over_free_limit
    await blocked.report(0, tokens=9998)

    flags = await flagged.report(0, 0, 0, 0)
    blocks = await blocked.report(0, 0, 0, 0, policy=BLOCK)
    nothing = await blocked.report(0, tokens=0, policy=BLOCK)

    assert [one.over_free_limit for one in flags.items] == [False, True, True, True]
    assert (flags.recorded, flags.tokens_mtd, flags.tracked_limit) == (4, 10_002, 10_000)
    assert [one.recorded for one in blocks.items] == [True, True, False, False]
    assert [one.over_free_limit for one in blocks.items] == [False, True, True, True]
    assert (blocks.tokens_mtd, nothing.recorded, nothing.items[0].over_free_limit) == (10_000, 0, True)
    await books.drain()
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind = 'usage'") == 4
    assert (await verify(books.pool, books.balances)).whole


async def test_another_tier_has_another_limit_at_once(books: Books) -> None:
    reporter = await open_reporter(books)
    account = books.opened[0].account
    await reporter.report(0, tokens=20_000)

    await Accounts(books.pool, books.balances).set_tier(account, "pro", "test")

    outcome = await reporter.report(0, policy=BLOCK)
    assert (outcome.tier, outcome.tracked_limit, outcome.recorded) == ("pro", None, 1)
    assert (await books.accounts.find(account.public_id)).tier == "pro"


async def test_a_repeat_of_a_call_gives_the_same_outcome_and_changes_nothing(books: Books) -> None:
    reporter = await open_reporter(books, 200_000)
    request_id, sent = new_request_id(), items(150_000, 150_000, 50_000)
    first = await reporter.ingest.charge_usage(reporter.key, request_id, sent, policy=FLAG)
    await books.accounts.credit(books.opened[0].account, 10**6, reason="test", actor="tester")

    again = await asyncio.gather(*(reporter.ingest.charge_usage(reporter.key, request_id, sent, policy=FLAG) for _ in range(3)))

    assert all(one == replace(first, repeated=True) for one in again)
    await books.drain()
    assert await books.balance(books.opened[0]) == 10**6
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind = 'usage'") == 1


async def test_a_call_that_finds_the_shard_in_a_new_epoch_asks_the_journal_before_it_charges(books: Books) -> None:
    reporter = await open_reporter(books, 200_000)
    request_id, sent = new_request_id(), items(100, 200)
    first = await reporter.ingest.charge_usage(reporter.key, request_id, sent, policy=FLAG)
    await books.drain()
    shard, epoch = reporter.key.shard, books.balances.epoch(reporter.key.shard)
    await rebuild_shard(books.pool, books.balances, shard)
    books.balances._epochs[shard] = epoch  # as a process that has not heard of the rebuild

    again = await reporter.ingest.charge_usage(reporter.key, request_id, sent, policy=FLAG)

    assert again == replace(first, repeated=True)
    assert await books.balance(books.opened[0]) == 199_700


async def test_a_request_with_claims_is_charged_in_its_epoch_only(books: Books) -> None:
    reporter = await open_reporter(books, 200_000)
    epoch = books.balances.epoch(reporter.key.shard)
    await rebuild_shard(books.pool, books.balances, reporter.key.shard)

    with pytest.raises(ShardClosed):
        await reporter.ingest.charge_usage(reporter.key, new_request_id(), items(100), policy=FLAG, epoch=epoch)

    assert await books.balance(books.opened[0]) == 200_000


async def test_what_was_given_up_on_is_not_recorded_any_more_and_what_was_recorded_is_found(books: Books) -> None:
    reporter = await open_reporter(books, 1000)
    late, done = new_request_id(), new_request_id()
    first = await reporter.ingest.charge_usage(reporter.key, done, items(400, 700), policy=FLAG)

    async with asyncio.TaskGroup() as group:
        missing = group.create_task(reporter.ingest.is_recorded(reporter.key, late))
        found = group.create_task(reporter.ingest.is_recorded(reporter.key, done))
        await books.drain()
    record = found.result()

    assert missing.result() is None
    with pytest.raises(RequestEnded):
        await reporter.ingest.charge_usage(reporter.key, late, items(100), policy=FLAG)
    assert record is not None
    assert await reporter.ingest.outcome_of(reporter.key.account, record, policy=FLAG) == replace(first, repeated=True)


async def test_a_revoked_key_is_refused_at_once_and_so_is_one_that_nobody_made(books: Books) -> None:
    reporter = await open_reporter(books)
    keys, account = Keys(books.pool, books.balances), books.opened[0].account
    other = await keys.create(account, "other")

    await keys.revoke((await reporter.ingest.read_standing(reporter.key)).key_id, account)

    for bad in (reporter.key, mint_key(account.id, account.shard)[1]):
        with pytest.raises(UnknownKey):
            await reporter.ingest.read_standing(bad)
        with pytest.raises(UnknownKey):
            await reporter.ingest.charge_usage(bad, new_request_id(), items(0), policy=FLAG)
    assert (await reporter.ingest.read_standing(parse_key(other.text))).key_id == other.key_id
    assert [row.revoked_at is None for row in await keys.list(account)] == [False, True]
    with pytest.raises(UnknownKey):
        await keys.revoke(other.key_id, (await books.open_account()).account)


async def test_a_suspended_account_reports_nothing(books: Books) -> None:
    reporter = await open_reporter(books)
    await books.accounts.set_status(books.opened[0].account, "suspended", "test")

    with pytest.raises(InactiveAccount) as refusal:
        await reporter.report(0)

    assert refusal.value.reason == "suspended"


async def test_an_account_has_a_bounded_number_of_keys(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.keys.ACTIVE_MAX", 2)
    reporter = await open_reporter(books)
    keys, account = Keys(books.pool, books.balances), books.opened[0].account
    await keys.create(account)

    with pytest.raises(TooManyKeys):
        await keys.create(account)

    await keys.revoke((await reporter.ingest.read_standing(reporter.key)).key_id)
    assert await keys.create(account)


async def test_pressure_refuses_reports_as_it_refuses_holds(books: Books) -> None:
    reporter = await open_reporter(books)
    await reporter.report(0)

    with pytest.raises(BooksUnderPressure):
        await reporter.report(0, policy=replace(FLAG, outbox_max=1))


async def test_no_report_takes_an_account_so_far_down_that_its_figures_overflow(books: Books) -> None:
    reporter = await open_reporter(books)
    name = f"{epoch_prefix(reporter.key.shard, books.balances.epoch(reporter.key.shard))}a:{reporter.key.account}"
    await books.balances.redis.hset(name, "balance", str(BALANCE_MIN + 10))

    with pytest.raises(AccountExhausted):
        await reporter.report(11)
    outcome = await reporter.report(10)

    assert outcome.balance == BALANCE_MIN


async def test_the_largest_request_there_can_be_poisons_nothing(books: Books) -> None:
    reporter = await open_reporter(books)
    full = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"), TOKENS_MAX)
    largest = [item(line, cost=COST_MAX, **full) for line in range(1000)]

    for _ in range(3):
        outcome = await reporter.ingest.charge_usage(reporter.key, new_request_id(), largest, policy=FLAG)
    after = await reporter.report(1, tokens=1)

    assert (outcome.tokens_mtd, after.tokens_mtd) == (2**53 - 1, 2**53 - 1)
    assert after.balance == -3 * 1000 * COST_MAX - 1
    await books.drain()
    await rebuild_shard(books.pool, books.balances, reporter.key.shard)
    assert (await reporter.report(0)).tokens_mtd == 2**53 - 1
    await books.drain()
    assert (await verify(books.pool, books.balances)).findings == []


@pytest.mark.parametrize(
    "bad",
    [
        {"input_tokens": TOKENS_MAX + 1}, {"input_tokens": -1}, {"cost": COST_MAX + 1}, {"cost": -1}, {"model": "a\x00b"}, {"model": "\ud800"},
        {"external_ref": "\x00"}, {"external_ref": "x" * 201}, {"task_type": "x" * 201}, {"line": 1000},
    ],
    ids=str,
)  # fmt: skip
async def test_what_could_not_be_posted_is_not_taken(books: Books, bad: dict[str, object]) -> None:
    reporter = await open_reporter(books)

    with pytest.raises(ValueError, match="event"):
        await reporter.ingest.charge_usage(reporter.key, new_request_id(), [item(**({"line": 0} | bad))], policy=FLAG)  # type: ignore[arg-type]


async def test_a_month_begins_with_nothing_used(books: Books) -> None:
    reporter = await open_reporter(books)
    await reporter.report(0, tokens=500)
    name = f"{epoch_prefix(reporter.key.shard, books.balances.epoch(reporter.key.shard))}a:{reporter.key.account}"
    await books.balances.redis.hset(name, "month", "202001")  # as if it had been in January 2020

    assert (await reporter.ingest.read_standing(reporter.key)).tokens_mtd == 0
    assert (await reporter.report(0, tokens=7)).tokens_mtd == 7


async def test_a_lost_redis_is_rebuilt_with_balances_months_keys_and_tiers(books: Books) -> None:
    reporter, revoked = await open_reporter(books, 5000), await open_reporter(books)
    keys = Keys(books.pool, books.balances)
    await keys.revoke((await revoked.ingest.read_standing(revoked.key)).key_id)
    await books.accounts.set_tier(books.opened[0].account, "pro", "test")
    await reporter.report(1000, tokens=70)
    await books.drain()
    before = await reporter.ingest.read_standing(reporter.key)

    await books.balances.redis.flushall()
    await books.drain()

    assert await reporter.ingest.read_standing(reporter.key) == before
    assert (before.tokens_mtd, before.balance, before.tier, before.funded) == (70, 4000, "pro", True)
    with pytest.raises(UnknownKey):
        await revoked.ingest.read_standing(revoked.key)
    assert [one.recorded for one in (await reporter.report(4001, 4000)).items] == [False, True]
    await books.drain()
    assert (await verify(books.pool, books.balances)).findings == []


async def test_verify_finds_events_and_months_that_were_tampered_with(books: Books) -> None:
    reporter = await open_reporter(books, 5000)
    for _ in range(3):
        await reporter.report(10, 20)
    await books.drain()
    await books.pool.execute("UPDATE usage_events SET amount = amount + 1 WHERE ctid = (SELECT min(ctid) FROM usage_events)")
    await books.pool.execute("DELETE FROM usage_events WHERE seq = (SELECT max(seq) FROM usage_events)")
    await books.pool.execute("UPDATE usage_months SET tokens = tokens - 1")
    await books.pool.execute(
        "INSERT INTO usage_events (shard, account_id, request_id, line, provider, model, operation, input_tokens, output_tokens, amount, estimated,"
        " occurred_at, settled_at, seq) SELECT shard, account_id, 'x', 0, 'p', 'm', operation, 0, 0, 5, false, now(), now(), 1000 FROM usage_events LIMIT 1"
    )

    report = await verify(books.pool, books.balances)

    assert sorted(finding.fault for finding in report.findings) == [*["events_differ"] * 3, *["figures_differ"] * 3]
    assert any("its hours of reported usage come to 6 requests and 90 microunits" in finding.text for finding in report.findings)


async def test_verify_estimates_again_what_was_estimated(books: Books) -> None:
    reporter = await open_reporter(books, 5000)
    sent = [item(0, cost=10, estimated=True), item(1, cost=11, estimated=True), item(2, cost=999)]
    await reporter.ingest.charge_usage(reporter.key, new_request_id(), sent, policy=FLAG, rate_card="card")
    await books.pool.execute("INSERT INTO rate_cards (hash, body) VALUES ('card', '10')")
    await books.drain()

    report = await verify(books.pool, books.balances, price_usage=lambda item, body, /, *, markup: int(body))

    assert [(finding.fault, finding.difference) for finding in report.findings] == [("price_differs", 1)]
    assert report.checked["reported"] == 3


async def test_the_outbox_has_the_events_that_were_recorded_and_no_others(books: Books) -> None:
    reporter = await open_reporter(books, 100)
    await reporter.report(60, 60, 40)

    [entry] = [one for one in await books.balances.read_outbox(reporter.key.shard, after=0, count=100) if one.kind == "usage"]

    detail = json.loads(entry.detail)
    assert [row[6] for row in detail["items"]] == [60, 40]
    assert (detail["mask"], entry.amount, entry.balance) == ("1b1", -100, 0)
