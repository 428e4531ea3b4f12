"""The hot balances keep their promises when the one connection that all requests share breaks."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from cli.embedded import EmbeddedValkey
from ledger.balances import Balances, Hold, HoldPolicy, connect_redis
from ledger.entries import AccountId, ChargeRecord, UsageLine
from ledger.errors import BalanceUnavailable
from ledger.money import Microunits
from ledger.tokens import ApiToken, mint_token, new_request_id

SHARD, ACCOUNT = 3, AccountId(8)
POLICY = HoldPolicy(overdraft_max=0, concurrent_max=10_000, ttl_ms=60_000, outbox_max=100_000)


@pytest.fixture
def token() -> ApiToken:
    return mint_token(ACCOUNT, SHARD)[1]


@pytest.fixture
async def balances(redis_url: str, token: ApiToken) -> AsyncIterator[Balances]:
    """An account with a million microunits."""
    redis = connect_redis(redis_url)
    books = Balances(redis, instance="i")
    await books.open_shard(SHARD, epoch=1, seq=0, due_seq=0, posted=0, instance="i", mode="sandbox")
    await books.load()
    fields = {"status": "active", f"t:{token.digest}": "1"}
    await books.apply_change(SHARD, due_seq=1, account=ACCOUNT, key="open:x", amount=0, fields=fields, detail="{}")
    await books.apply_change(SHARD, due_seq=2, account=ACCOUNT, key="credit:x", amount=1_000_000, fields={}, detail="{}")
    yield books
    await redis.aclose()


def record_of(hold: Hold, amount: int) -> ChargeRecord:
    return ChargeRecord(
        request_id=hold.request_id, provider="openai", model="m", operation="responses", lines=(UsageLine(provider="openai", model="m"),),
        amount=Microunits(amount), provider_leg=Microunits(amount), numerator=0, list_numerator=0, rate_card="c", started_at=0,
    )  # fmt: skip


async def spend(books: Balances, token: ApiToken) -> None:
    hold = await books.place_hold(token, new_request_id(), minimum=100, amount=100, policy=POLICY)
    await books.settle(hold, record_of(hold, 7))


async def test_connections_that_are_cut_under_load_cost_nobody_anything_twice(balances: Balances, token: ApiToken) -> None:
    async def cut() -> None:
        for _ in range(4):
            await asyncio.sleep(0.15)
            await balances.redis.client_kill_filter(_type="normal", skipme=True)

    async def spend_on() -> None:
        for _ in range(20):
            await spend(balances, token)
            await asyncio.sleep(0.03)

    await asyncio.gather(cut(), *(spend_on() for _ in range(30)))

    standing = await balances.authenticate(token)
    assert (standing.balance, standing.held, standing.charged) == (1_000_000 - 600 * 7, 0, 600 * 7)


async def test_requests_that_are_cancelled_leave_the_others_their_own_figures(balances: Balances, token: ApiToken) -> None:
    tasks = [asyncio.create_task(balances.place_hold(token, new_request_id(), minimum=n, amount=n, policy=POLICY)) for n in range(1, 301)]
    await asyncio.sleep(0.005)
    for task in tasks[::2]:
        task.cancel()
    holds = await asyncio.gather(*tasks, return_exceptions=True)

    for n, hold in enumerate(holds, start=1):
        assert isinstance(hold, asyncio.CancelledError) or (isinstance(hold, Hold) and hold.amount == n)


async def test_a_redis_that_hangs_is_unavailable_within_a_bounded_time(balances: Balances, token: ApiToken, valkey_server: EmbeddedValkey) -> None:
    assert valkey_server.process is not None
    valkey_server.process.send_signal(19)
    try:
        async with asyncio.timeout(6):
            results = await asyncio.gather(*(spend(balances, token) for _ in range(500)), return_exceptions=True)
        assert {type(result) for result in results} == {BalanceUnavailable}
    finally:
        valkey_server.process.send_signal(18)
    await asyncio.sleep(0.1)

    await spend(balances, token)
    standing = await balances.authenticate(token)
    assert standing.balance == 1_000_000 - 7
    assert standing.held in {n * 100 for n in range(501)}  # holds whose answer was lost wait for their void


async def test_a_client_without_a_wire_does_everything_by_redis_py(balances: Balances, token: ApiToken, redis_url: str) -> None:
    plain = Redis.from_url(redis_url)
    books = Balances(plain, instance="i")
    await spend(books, token)

    assert (await books.authenticate(token)).balance == 1_000_000 - 7
    await plain.aclose()
