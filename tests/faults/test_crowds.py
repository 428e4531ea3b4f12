"""Many requests at once on little money: nobody spends what is not there."""

import asyncio

import httpx

from tests.fakes.appliance import Appliance
from tests.fakes.calls import call_async, charge_by_hand


async def test_two_hundred_requests_on_a_balance_for_three_never_overspend(victim: Appliance) -> None:
    account = victim.register("0.013")
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        answers = await asyncio.gather(*(call_async(client, victim, account, "input=20 output=200 head_delay_ms=300") for _ in range(200)))

    served = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 402]
    cost = charge_by_hand(20, 200)
    assert len(served) + len(refused) == 200
    assert 1 <= len(served) <= 3
    assert victim.balance(account)["usdc_balance"] == 13_000 - len(served) * cost >= 0
    assert victim.balance(account)["held"] == 0
    victim.verify()


async def test_streams_of_many_accounts_at_once_are_each_charged_by_their_own_usage(victim: Appliance) -> None:
    accounts = [victim.register("1") for _ in range(5)]
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=100)) as client:
        calls = [(account, index) for index in range(8) for account in accounts]
        await asyncio.gather(
            *(call_async(client, victim, account, f"input={100 + index} output={10 * index + 1} delay_ms=5", stream=True) for account, index in calls)
        )

    expected = sum(charge_by_hand(100 + index, 10 * index + 1) for index in range(8))
    for account in accounts:
        assert victim.balance(account)["usdc_balance"] == 1_000_000 - expected
        assert sum(entry["usdc_amount"] for entry in victim.transactions(account, limit="200")) == 1_000_000 - expected
    victim.verify()
