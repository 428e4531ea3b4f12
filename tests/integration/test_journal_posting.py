"""The poster and the journal on real stores."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from ledger.accounts import KeyReused
from ledger.balances import Renewal
from ledger.changes import LateJournal, apply_due
from ledger.entries import AccountId
from ledger.errors import InactiveAccount, JournalUnavailable, NotPostedYet, ShardClosed, UnknownAccount, UnknownToken
from ledger.journal import open_pool, record_rate_card
from ledger.money import Microunits
from ledger.poster import Poster, post_batch, run_poster
from ledger.statements import transactions
from ledger.tokens import choose_shard, new_request_id, parse_token
from ledger.trimming import trim_shard
from tests.fakes.books import Books, open_books, record_of


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


async def test_a_charge_becomes_one_balanced_row_a_statement_line_and_usage_events(books: Books) -> None:
    new = await books.open_account(1000)
    record = await books.spend(new, 330)

    await books.drain()

    row = await books.pool.fetchrow("SELECT * FROM journal WHERE key = $1", f"charge:{record.request_id}")
    assert dict(zip(row["accounts"], row["amounts"], strict=True)) == {
        f"customer:{new.account.id}": 330, "provider:anthropic": -300, "revenue:markup": -30,
    }  # fmt: skip
    assert (row["detail"], int(row["numerator"]), row["rate_card"]) == (record.to_json(), 330 * 10**6, "card-1")
    lines = await transactions(books.pool, books.balances, new.account)
    assert [(line.id, line.type, line.usdc_amount, line.balance_after) for line in lines] == [(2, "DEBIT", -330, 670), (1, "CREDIT", 1000, 1000)]
    assert (lines[0].input_tokens, lines[0].output_tokens, lines[0].cache_write_tokens, lines[0].cache_read_tokens) == (331, 7, 5, None)
    events = await books.pool.fetch("SELECT model, amount FROM usage_events ORDER BY line")
    assert [tuple(event) for event in events] == [("claude-sonnet-4-6", 330), ("claude-haiku-4-5", 0)]
    rollup = await books.pool.fetchrow("SELECT sum(requests), sum(amount), sum(provider_cost), sum(input_tokens) FROM rollups_hourly")
    assert tuple(int(value) for value in rollup) == (1, 330, 300, 331)
    house = {
        row["account"]: row["balance"] for row in await books.pool.fetch("SELECT account, sum(balance)::bigint AS balance FROM house_balances GROUP BY account")
    }
    assert house == {"operator:grants": 1000, "provider:anthropic": -300, "revenue:markup": -30}
    account = await books.reload(new)
    assert (account.balance, account.n, account.charged) == (670, 2, 330)


async def test_the_journal_refuses_update_delete_truncate_and_unbalanced_rows(books: Books) -> None:
    await books.open_account(10)
    partition = await books.pool.fetchval("SELECT tableoid::regclass::text FROM journal LIMIT 1")

    for statement in ("UPDATE journal SET kind = 'x'", "DELETE FROM journal", "TRUNCATE journal", f"TRUNCATE {partition}", "DELETE FROM journal_keys"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="immutable"):
            await books.pool.execute(statement)
    with pytest.raises(asyncpg.CheckViolationError, match="postings_sum_to_zero"):
        await books.pool.execute(
            "INSERT INTO journal (shard, seq, settled_at, occurred_at, kind, key, accounts, amounts, detail, hash)"
            " VALUES (1, 99, now(), now(), 'x', 'x', '{a,b}', '{1,2}', '', decode(repeat('00', 32), 'hex'))"
        )


async def test_an_entry_of_a_month_long_past_finds_its_partition(books: Books) -> None:
    new = await books.open_account(100)
    await books.spend(new, 10)
    await apply_due(books.pool, books.balances, new.account.shard)
    meta = await books.balances.read_meta(new.account.shard)
    assert meta is not None
    entries = await books.balances.read_outbox(new.account.shard, after=0, count=100)
    entries[-1] = replace(entries[-1], at=1_580_515_199_999)  # the last millisecond of January 2020

    batch = await post_batch(books.pool, {new.account.shard: entries}, {new.account.shard: meta.epoch})

    assert batch.posted == {new.account.shard: meta.seq}
    assert await books.pool.fetchval("SELECT tableoid::regclass::text FROM journal WHERE kind = 'charge'") == "journal_2020_01"
    again = await post_batch(books.pool, {new.account.shard: entries}, {new.account.shard: meta.epoch})
    assert (again.entries, again.posted) == (0, {})


async def test_a_gap_in_the_outbox_is_refused(books: Books) -> None:
    new = await books.open_account(100)
    for _ in range(3):
        await books.spend(new, 10)
    entries = await books.balances.read_outbox(new.account.shard, after=0, count=100)
    del entries[3]

    batch = await post_batch(books.pool, {new.account.shard: entries}, {new.account.shard: 1})

    assert (batch.posted, batch.refused) == ({new.account.shard: 3}, {new.account.shard: "gap"})


async def test_two_posters_at_once_post_everything_once(books: Books) -> None:
    news = [await books.open_account(10_000) for _ in range(8)]
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(run_poster(books.pool, books.balances, retention_hours=48, stop=stop))
        for _ in range(20):
            await asyncio.gather(*(books.spend(new, 5) for new in news))
        while not await books.is_level():
            await asyncio.sleep(0.01)
        stop.set()

    assert [await books.journal_balance(new) for new in news] == [9_900] * 8
    assert [await books.balance(new) for new in news] == [9_900] * 8
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind = 'charge'") == 160
    assert await books.pool.fetchval("SELECT count(*) FROM audit WHERE action = 'rebuild'") == 0


async def test_an_expired_hold_that_is_settled_later_is_adjusted_once_and_supersedes_the_estimate(books: Books) -> None:
    new = await books.open_account(1000)
    hold = await books.hold(new, 100)
    estimate = record_of(hold.request_id, 60, estimated=True)
    await books.balances.renew([Renewal(hold=hold, charge=Microunits(60), detail=estimate.to_json())], ttl_ms=1)
    await asyncio.sleep(0.01)
    assert await books.balances.expire(new.account.shard) == 1

    await books.balances.settle(hold, record_of(hold.request_id, 82, provider="openai"))
    await books.drain()

    row = await books.pool.fetchrow("SELECT * FROM journal WHERE kind = 'adjust'")
    assert dict(zip(row["accounts"], row["amounts"], strict=True)) == {
        f"customer:{new.account.id}": 22, "provider:openai": -75, "provider:anthropic": 55, "revenue:markup": -2,
    }  # fmt: skip
    assert await books.journal_balance(new) == await books.balance(new) == 918
    events = await books.pool.fetch("SELECT provider, amount FROM usage_events WHERE NOT superseded AND line = 0")
    assert [tuple(event) for event in events] == [("openai", 82)]
    totals = await books.pool.fetchrow("SELECT sum(requests)::int, sum(amount)::int, sum(provider_cost)::int FROM rollups_hourly")
    assert tuple(totals) == (1, 82, 75)
    lines = await transactions(books.pool, books.balances, new.account, type="ADJUSTMENT")
    assert [line.usdc_amount for line in lines] == [-22]


async def test_a_charge_that_redis_does_not_know_goes_the_late_way_once(books: Books) -> None:
    new = await books.open_account(1000)
    late = LateJournal(books.pool, books.balances)
    record = record_of(new_request_id(), 40)
    await books.drain()

    for _ in range(2):
        await late.charge_late(record, account=new.account.id, shard=new.account.shard, hold_epoch=1)
        await books.drain()
    assert await books.balance(new) == await books.journal_balance(new) == 960

    exact = replace(record, amount=Microunits(55))
    for _ in range(2):
        await late.charge_late(exact, account=new.account.id, shard=new.account.shard, hold_epoch=1)
        await books.drain()
    assert await books.balance(new) == await books.journal_balance(new) == 945
    lines = await transactions(books.pool, books.balances, new.account, order="asc")
    assert [(line.id, line.type, line.usdc_amount) for line in lines] == [(1, "CREDIT", 1000), (2, "DEBIT", -40), (3, "ADJUSTMENT", -15)]
    assert (await books.reload(new)).charged == 55
    assert await late.epochs() == dict.fromkeys(range(64), 1)


async def test_a_late_charge_waits_for_what_redis_took_before(books: Books) -> None:
    new = await books.open_account(1000)
    record = await books.spend(new, 40)
    late = LateJournal(books.pool, books.balances)

    waiting = asyncio.create_task(late.charge_late(record, account=new.account.id, shard=new.account.shard, hold_epoch=1))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    await books.drain()
    await waiting

    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind IN ('charge', 'adjust')") == 1


async def test_an_effect_that_redis_has_twice_is_healed_by_a_rebuild(books: Books) -> None:
    new = await books.open_account(1000)
    await books.drain()
    hold = await books.hold(new, 100)
    record = record_of(hold.request_id, 70)
    await LateJournal(books.pool, books.balances).charge_late(record, account=new.account.id, shard=new.account.shard, hold_epoch=1)
    await books.balances.settle(hold, record)
    assert await books.balance(new) == 860

    await books.drain()

    assert await books.balance(new) == await books.journal_balance(new) == 930
    lines = await transactions(books.pool, books.balances, new.account, order="asc")
    assert [(line.id, line.balance_after) for line in lines] == [(1, 1000), (2, 930)]


async def test_a_credit_with_a_key_is_given_once_and_its_key_stands_for_it_alone(books: Books) -> None:
    new, other = await books.open_account(), await books.open_account()

    first = await books.accounts.credit(new.account, 500, reason="gift", actor="tester", key="gift-1")
    again = await books.accounts.credit(new.account, 500, reason="gift", actor="tester", key="gift-1")

    assert (first.balance_after, first.applied, again.balance_after) == (500, True, None)
    for account, amount in ((other.account, 500), (new.account, 501)):
        with pytest.raises(KeyReused):
            await books.accounts.credit(account, amount, reason="gift", actor="tester", key="gift-1")
    assert [await books.balance(new), await books.balance(other)] == [500, 0]
    for amount in (0, -5, 2**53):
        with pytest.raises(ValueError):
            await books.accounts.credit(new.account, amount, reason="gift", actor="tester")


async def test_an_account_is_found_by_all_its_names(books: Books) -> None:
    new = await books.open_account()
    assert new.account.shard == choose_shard(new.account.id) == hashlib.sha256(str(new.account.id).encode()).digest()[0] & 63

    for name in (str(new.account.id), new.account.deposit_code, new.account.deposit_code.lower(), new.api_token, new.account.public_id):
        assert (await books.accounts.find(name)).id == new.account.id
    for name in ("0", "FFFFFFFFFFFFFFFF", "org_x", "l5_x", "", "9" * 40):
        with pytest.raises(UnknownAccount):
            await books.accounts.find(name)
    assert [account.id for account in await books.accounts.list()] == [new.account.id]


async def test_tokens_status_and_line_reach_redis(books: Books) -> None:
    new = await books.open_account(10)
    text, token_id = await books.accounts.create_token(new.account, "second")
    assert (await books.balances.authenticate(parse_token(text))).balance == 10

    await books.accounts.revoke_token(token_id)
    await books.accounts.revoke_token(token_id)
    with pytest.raises(InactiveAccount, match="revoked"):
        await books.balances.authenticate(parse_token(text))
    with pytest.raises(UnknownToken):
        await books.accounts.revoke_token("tok_0")
    assert [token.revoked_at is None for token in await books.accounts.list_tokens(new.account)] == [True, False]

    await books.accounts.set_line(new.account, 77)
    assert (await books.balances.authenticate(parse_token(new.api_token))).line == 77
    await books.accounts.set_line(new.account, None)
    await books.accounts.set_status(new.account, "suspended", "test")
    with pytest.raises(InactiveAccount, match="suspended"):
        await books.balances.authenticate(parse_token(new.api_token))
    assert (await books.balances.standing(parse_token(new.api_token))).line is None
    await books.drain()
    account = await books.reload(new)
    assert (account.status, account.line) == ("suspended", None)


async def test_transactions_are_paged_ordered_and_filtered(books: Books) -> None:
    new = await books.open_account(1000)
    for amount in (10, 20, 30):
        await books.spend(new, amount)
    await books.drain()

    async def ids(**options: object) -> list[int]:
        return [line.id for line in await transactions(books.pool, books.balances, new.account, **options)]  # type: ignore[arg-type]

    assert await ids() == [4, 3, 2, 1]
    assert await ids(order="asc", limit=2, page=2) == [3, 4]
    assert await ids(before=3) == [2, 1]
    assert await ids(type="CREDIT") == [1]
    assert await ids(type=("DEBIT", "CREDIT"), limit=2) == [4, 3]
    assert await ids(model="claude-sonnet-4-6") == [4, 3, 2]
    for page, limit in ((0, 10), (1, 0), (1, 201)):
        with pytest.raises(ValueError):
            await ids(page=page, limit=limit)


async def test_transactions_say_so_when_the_journal_is_behind(books: Books) -> None:
    new = await books.open_account(1000)
    await books.spend(new, 10)

    with pytest.raises(NotPostedYet):
        await transactions(books.pool, books.balances, new.account)


async def test_the_poster_lives_through_a_journal_that_is_away(books: Books) -> None:
    new = await books.open_account(1000)
    away = await open_pool("postgresql://level5@/nowhere?host=/nonexistent")
    stop = asyncio.Event()
    running = asyncio.create_task(run_poster(away, books.balances, retention_hours=48, stop=stop))
    await books.spend(new, 10)
    await asyncio.sleep(0.3)

    assert not running.done()
    stop.set()
    await running
    with pytest.raises(JournalUnavailable):
        await record_rate_card(away, "h", "body")
    with pytest.raises(JournalUnavailable):
        await apply_due(away, books.balances, new.account.shard)


async def test_a_poster_that_died_before_the_watermark_sets_it_later(books: Books) -> None:
    new = await books.open_account(1000)
    await books.spend(new, 10)
    entries = await books.balances.read_outbox(new.account.shard, after=0, count=100)
    await post_batch(books.pool, {new.account.shard: entries}, {new.account.shard: 1})

    await books.drain()

    meta = await books.balances.read_meta(new.account.shard)
    assert meta is not None
    assert meta.posted == meta.seq == 3
    assert meta.epoch == 1


async def test_old_posted_entries_are_trimmed_and_unposted_ones_never(books: Books) -> None:
    new = await books.open_account(100_000)
    for _ in range(250):
        await books.spend(new, 1)
    await books.drain()
    for _ in range(5):
        await books.spend(new, 1)
    shard = new.account.shard
    meta = await books.balances.read_meta(shard)
    assert meta is not None

    assert await trim_shard(books.balances, shard, posted=meta.posted, before_ms=0) == 0
    await trim_shard(books.balances, shard, posted=meta.posted, before_ms=2**52)

    rest = await books.balances.read_outbox(shard, after=0, count=1000)
    assert len(rest) < 250
    assert [entry.seq for entry in rest][-5:] == list(range(meta.seq - 4, meta.seq + 1))


async def test_a_rate_card_is_kept_once(books: Books) -> None:
    await record_rate_card(books.pool, "hash", "body")
    await record_rate_card(books.pool, "hash", "body")

    assert [tuple(row) for row in await books.pool.fetch("SELECT hash, body FROM rate_cards")] == [("hash", "body")]


async def test_changes_wait_for_a_closed_shard_and_come_through_its_rebuild(books: Books) -> None:
    new = await books.open_account(100)
    await books.drain()
    await books.balances.close_shard(new.account.shard)

    credit = await books.accounts.credit(new.account, 50, reason="x", actor="tester")
    assert not credit.applied
    with pytest.raises(ShardClosed):
        await books.balances.authenticate(parse_token(new.api_token))
    await books.drain()

    assert await books.balance(new) == await books.journal_balance(new) == 150


async def test_an_account_beside_an_unknown_one_is_not_charged_late(books: Books) -> None:
    await books.drain()
    with pytest.raises(Exception, match="does not know"):
        await LateJournal(books.pool, books.balances).charge_late(record_of(new_request_id(), 1), account=AccountId(999), shard=3, hold_epoch=1)


async def test_the_poster_posts_two_thousand_changes_in_a_few_seconds(books: Books) -> None:
    news = [await books.open_account(100_000) for _ in range(16)]
    for _ in range(125):
        await asyncio.gather(*(books.spend(new, 1) for new in news))

    began = asyncio.get_running_loop().time()
    await books.drain()

    assert asyncio.get_running_loop().time() - began < 10
    assert Poster is not None
