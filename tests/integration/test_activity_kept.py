"""What the gateway saw, on a real Redis: added up, told apart as far as there is room, and never in the way of the books."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ledger.activity import ENTRIES_MAX, HOUSE, read_activity, read_clients, read_house_activity, read_house_clients, record_activity
from ledger.activity_values import CLIENTS_MAX, MODELS_MAX, OTHER_MODEL, SIZE, Outcome, sum_of
from ledger.balances import Balances, connect_redis
from ledger.entries import HOUSE_SHARD, AccountId
from ledger.errors import BalanceUnavailable
from ledger.stores import redis_command

ACCOUNT, SHARD = 7, 3


@pytest.fixture
async def balances(redis_url: str) -> AsyncIterator[Balances]:
    redis = connect_redis(redis_url)
    yield Balances(redis, instance="")
    await redis.aclose()


def seen(outcome: Outcome = Outcome.OK, count: int = 1) -> list[int]:
    counters = [0] * SIZE
    counters[outcome] = count
    return counters


def this_hour() -> int:
    return int(datetime.now(UTC).timestamp()) // 3600


async def test_what_workers_saw_adds_up_by_hour_and_model_for_the_account_and_the_house(balances: Balances) -> None:
    hour = this_hour()
    for _ in range(2):  # two workers
        await record_activity(
            balances,
            {
                (SHARD, ACCOUNT, hour, "m"): seen(count=3), (SHARD, ACCOUNT, hour - 30, "m"): seen(Outcome.CUT),
                (SHARD, ACCOUNT, hour, ""): seen(Outcome.BALANCE),
                (9, 8, hour, "m"): seen(), (HOUSE_SHARD, HOUSE, hour, ""): seen(Outcome.CLIENT_ERROR),
            },
            {(SHARD, ACCOUNT, "curl"): [4, hour * 3_600_000], (9, 8, "codex"): [1, hour * 3_600_000 + 5]},
        )  # fmt: skip
    now = datetime.now(UTC)

    account = await read_activity(balances, AccountId(ACCOUNT), SHARD, since=now - timedelta(days=3), until=now + timedelta(hours=1))
    short = await read_activity(balances, AccountId(ACCOUNT), SHARD, since=now, until=now + timedelta(hours=1))
    house = await read_house_activity(balances, since=now - timedelta(days=3), until=now + timedelta(hours=1))
    clients, all_clients = await read_clients(balances, AccountId(ACCOUNT), SHARD), await read_house_clients(balances)

    total, [recent] = sum_of(account.in_bars([now])), short.in_bars([now])
    assert (total.requests, total.errors, recent.requests) == (10, 4, 8)
    assert {model: tally.requests for model, tally in account.by_model().items()} == {"m": 8, "": 2}
    assert [tally.requests for tally in account.in_bars([now - timedelta(days=3), now - timedelta(hours=20)])] == [2, 8]
    everybody = sum_of(house.in_bars([now]))
    assert (everybody.requests, everybody.of(Outcome.CLIENT_ERROR), house.by_model()["m"].requests) == (14, 2, 10)
    assert [(client.family, client.requests) for client in clients] == [("curl", 8)]
    assert [(client.family, client.requests) for client in all_clients] == [("codex", 2), ("curl", 8)]
    kept = await redis_command(balances, "TTL", f"l5:{{{SHARD}}}:act:{ACCOUNT}:clients")
    assert 90 * 86_400 < kept <= 91 * 86_400


async def test_an_account_has_so_many_models_a_day_and_so_many_clients_and_the_rest_counts_together(balances: Balances) -> None:
    hour, many = this_hour(), max(ENTRIES_MAX, MODELS_MAX) + 30
    tallies = {(SHARD, ACCOUNT, hour, f"model-{number:04}-{'x' * 200}"): seen() for number in range(many)}
    clients = {(SHARD, ACCOUNT, f"client-{number}"): [1, hour * 3_600_000] for number in range(CLIENTS_MAX + 5)}
    await record_activity(balances, tallies, clients)
    now = datetime.now(UTC)

    by_model = (await read_activity(balances, AccountId(ACCOUNT), SHARD, since=now, until=now + timedelta(hours=1))).by_model()

    assert (len(by_model), by_model[OTHER_MODEL].requests) == (MODELS_MAX + 1, many - MODELS_MAX)
    assert len(await read_clients(balances, AccountId(ACCOUNT), SHARD)) == CLIENTS_MAX


async def test_what_could_not_be_brought_is_given_back_and_a_full_redis_is_left_alone(balances: Balances, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = this_hour()
    tallies = {(SHARD, ACCOUNT, hour, "m"): seen()}
    monkeypatch.setattr(balances, "call", _refuse)

    left, _ = await record_activity(balances, tallies, {})
    assert left == tallies

    async def pressed() -> bool:
        return True

    monkeypatch.setattr(balances, "under_pressure", pressed)
    assert await record_activity(balances, tallies, {}) == ({}, {})


async def _refuse(*_: object) -> None:
    raise BalanceUnavailable("away")
