"""What answers leave at providers: known to the account that made it, at once and for thirty days, whatever happens to Redis."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from ledger.accounts import NewAccount
from ledger.balances import Renewal
from ledger.changes import LateJournal
from ledger.entries import MADE_MAX, ChargeRecord, object_digest
from ledger.errors import JournalUnavailable
from ledger.holds import Hold
from ledger.money import Microunits
from ledger.queries import SQL
from ledger.rebuild import rebuild_shard
from ledger.reconcile import verify
from ledger.stored_objects import KEPT_DAYS, StoredObjects
from ledger.tokens import new_request_id, parse_token
from tests.fakes.books import POLICY, Books, open_books, record_of

RESPONSE, ITEM, STRANGE = object_digest("resp_1"), object_digest("msg_1"), object_digest("resp_2")


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


def record(hold: Hold, amount: int = 300, *, estimated: bool = False) -> ChargeRecord:
    return replace(record_of(hold.request_id, amount, estimated=estimated), made=(RESPONSE, ITEM))


async def settle(books: Books, account: NewAccount) -> Hold:
    hold = await books.hold(account, 500)
    await books.balances.settle(hold, record(hold))
    return hold


async def briefly_held(books: Books, account: NewAccount) -> Hold:
    """A hold that the reaper may end a millisecond later."""
    token, policy = parse_token(account.api_token), replace(POLICY, ttl_ms=1)
    return await books.balances.place_hold(token, new_request_id(), minimum=500, amount=500, policy=policy)


async def unknown_to_redis(books: Books, account: NewAccount) -> frozenset[str]:
    return await StoredObjects(books.pool, books.balances).not_made_lately(parse_token(account.api_token), [RESPONSE, ITEM, STRANGE])


async def unknown_to_the_journal(books: Books, account: NewAccount) -> frozenset[str]:
    return await StoredObjects(books.pool, books.balances).never_made(account.account.id, [RESPONSE, ITEM, STRANGE])


async def test_an_object_is_its_makers_at_once_and_nobody_elses(books: Books) -> None:
    maker, other = await books.open_account(1000), await books.open_account(1000)
    everything = frozenset([RESPONSE, ITEM, STRANGE])

    await settle(books, maker)

    assert await unknown_to_redis(books, maker) == {STRANGE}
    assert await unknown_to_redis(books, other) == everything
    await books.drain()
    assert await unknown_to_the_journal(books, maker) == {STRANGE}
    assert await unknown_to_the_journal(books, other) == everything
    assert not (await verify(books.pool, books.balances)).findings


async def test_a_rebuilt_redis_has_forgotten_and_the_journal_has_not(books: Books) -> None:
    maker = await books.open_account(1000)
    await settle(books, maker)

    await rebuild_shard(books.pool, books.balances, parse_token(maker.api_token).shard)

    assert RESPONSE in await unknown_to_redis(books, maker)
    assert await unknown_to_the_journal(books, maker) == {STRANGE}


async def test_what_is_older_than_a_provider_keeps_it_is_nobodys_and_forgotten(books: Books) -> None:
    maker = await books.open_account(1000)
    await settle(books, maker)
    await books.drain()
    await books.pool.execute("UPDATE stored_objects SET made_at = made_at - make_interval(days => $1)", KEPT_DAYS)

    assert RESPONSE in await unknown_to_the_journal(books, maker)
    await books.pool.execute(SQL["forget_stored"], KEPT_DAYS)
    assert await books.pool.fetchval("SELECT count(*) FROM stored_objects") == 0


async def test_what_a_request_had_made_when_its_worker_died_is_its_accounts(books: Books) -> None:
    maker = await books.open_account(1000)
    shard = parse_token(maker.api_token).shard
    hold = await briefly_held(books, maker)
    estimate = record(hold, 200, estimated=True)
    await books.balances.renew([Renewal(hold=hold, charge=Microunits(200), detail=estimate.to_json())], ttl_ms=1)
    await asyncio.sleep(0.01)

    assert await books.balances.expire(shard) == 1
    await books.drain()

    assert await unknown_to_the_journal(books, maker) == {STRANGE}


async def test_an_exact_settlement_after_an_expiry_makes_it_known_too(books: Books) -> None:
    maker = await books.open_account(1000)
    hold = await briefly_held(books, maker)
    estimate = record_of(hold.request_id, 200, estimated=True)
    await books.balances.renew([Renewal(hold=hold, charge=Microunits(200), detail=estimate.to_json())], ttl_ms=1)
    await asyncio.sleep(0.01)
    await books.balances.expire(parse_token(maker.api_token).shard)

    await books.balances.settle(hold, record(hold))

    assert await unknown_to_redis(books, maker) == {STRANGE}
    await books.drain()
    assert await unknown_to_the_journal(books, maker) == {STRANGE}
    assert await books.journal_balance(maker) == 700


async def test_a_charge_that_only_the_journal_could_take_makes_it_known(books: Books) -> None:
    maker = await books.open_account(1000)
    token = parse_token(maker.api_token)
    hold = await books.hold(maker, 500)
    await books.drain()

    await LateJournal(books.pool, books.balances).charge_late(record(hold), account=token.account, shard=token.shard, hold_epoch=hold.epoch)

    assert await unknown_to_the_journal(books, maker) == {STRANGE}


async def test_the_most_that_one_answer_can_leave_fits_into_one_settlement(books: Books) -> None:
    maker = await books.open_account(1000)
    hold = await books.hold(maker, 500)
    digests = tuple(object_digest(f"msg_{number}") for number in range(MADE_MAX))

    await books.balances.settle(hold, replace(record(hold), made=digests))

    assert not await StoredObjects(books.pool, books.balances).not_made_lately(parse_token(maker.api_token), [*digests] * 16)
    await books.drain()
    assert not await StoredObjects(books.pool, books.balances).never_made(maker.account.id, digests)


async def test_a_database_that_is_away_is_no_answer(books: Books) -> None:
    maker = await books.open_account(1000)
    await books.pool.expire_connections()
    books.pool.terminate()

    with pytest.raises(JournalUnavailable):
        await unknown_to_the_journal(books, maker)
