"""The limits by the minute, in a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from control import minute_limit
from control.errors import ApiError
from control.minute_limit import MinuteLimit
from ledger.balances import connect_redis
from ledger.errors import BalanceUnavailable


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Any]:
    client = connect_redis(redis_url, command_seconds_max=10)
    yield client
    await client.aclose()


async def test_the_eleventh_within_a_minute_must_wait(redis: Any) -> None:
    limit = MinuteLimit(redis, "register", per_minute=10)

    admitted = [await limit.admit("192.0.2.1") for _ in range(10)]
    refused = await limit.admit("192.0.2.1")

    assert admitted == [0] * 10
    assert 1 <= refused <= 60
    assert await limit.admit("192.0.2.2") == 0


async def test_a_refusal_writes_nothing_and_what_is_written_goes_by_itself(redis: Any) -> None:
    limit = MinuteLimit(redis, "register", per_minute=2)
    for _ in range(50):
        await limit.admit("192.0.2.1")

    assert await redis.llen(limit.key("192.0.2.1")) == 2
    assert 0 < await redis.pttl(limit.key("192.0.2.1")) <= 60_000


async def test_after_the_minute_one_is_admitted_again(redis: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minute_limit, "WINDOW_MILLISECONDS", 300)
    limit = MinuteLimit(redis, "register", per_minute=1)

    assert await limit.admit("n") == 0
    assert await limit.admit("n") == 1
    await asyncio.sleep(0.35)
    assert await limit.admit("n") == 0


async def test_at_once_no_more_than_the_limit_are_admitted(redis: Any) -> None:
    limits = [MinuteLimit(redis, "register", per_minute=10), MinuteLimit(redis, "register", per_minute=10)]  # two processes

    answers = await asyncio.gather(*(limits[index % 2].admit("n") for index in range(30)))

    assert answers.count(0) == 10


async def test_zero_is_no_limit(redis: Any) -> None:
    limit = MinuteLimit(redis, "register", per_minute=0)

    assert [await limit.admit("n") for _ in range(20)] == [0] * 20


async def test_without_redis_nothing_is_admitted() -> None:
    client = connect_redis("unix:///nowhere/valkey.sock")

    with pytest.raises(BalanceUnavailable):
        await MinuteLimit(client, "register", per_minute=10).admit("n")
    await client.aclose()


async def test_one_limit_does_not_count_for_another(redis: Any) -> None:
    registering, claiming = MinuteLimit(redis, "register", per_minute=1), MinuteLimit(redis, "claim", per_minute=1)

    assert await registering.admit("n") == 0
    assert await claiming.admit("n") == 0


async def test_who_must_wait_is_told_how_long(redis: Any) -> None:
    limit = MinuteLimit(redis, "claim", per_minute=1)
    await limit.require("n", "too_many_claims", what="claims … from one account")

    with pytest.raises(ApiError, match=r"1 claims a minute are allowed from one account; try again in \d+ seconds") as refused:
        await limit.require("n", "too_many_claims", what="claims … from one account")

    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
