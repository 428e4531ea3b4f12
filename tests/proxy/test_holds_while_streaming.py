"""A stream's hold: small at first, larger as it runs, and what happens when the balance cannot follow."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from metering.pricing import price_record
from tests.fakes.gateway import CARD, Stage
from tests.fakes.raw_provider import Asked, chat_chunks, message_events, streams

MakeStage = Callable[..., Any]
LONG = {"stream": True, "max_tokens": 60_000}


async def test_a_stream_starts_on_less_than_its_limit_could_cost_and_its_hold_grows(make_stage: MakeStage) -> None:
    stage: Stage = await make_stage(ledger={"hold_output_tokens": 300, "extension_tokens": 100})
    account = await stage.open_account(10_000_000)
    stage.provider.script = streams(message_events(words=1500, output_tokens=3000), pause=0.0005)
    seen: list[int] = []

    async def watch() -> None:
        while True:
            seen.append((await stage.standing(account))[1])
            await asyncio.sleep(0.02)

    watching = asyncio.create_task(watch())
    response = await stage.messages(account, **LONG)
    watching.cancel()

    assert response.status_code == 200
    held = [amount for amount in seen if amount]
    assert max(held) > min(held)
    assert max(held) < 60_000 * 16_500_000 // 1_000_000
    [record] = await stage.settled(account, charges=1)
    assert record.lines[0].output_tokens == 3000


@pytest.mark.parametrize("mode", ["cut", "finish"])
async def test_a_new_account_that_runs_dry_is_cut_with_an_error_event(make_stage: MakeStage, mode: str) -> None:
    stage: Stage = await make_stage(ledger={"on_exhausted": mode, "hold_output_tokens": 300, "extension_tokens": 50})
    account = await stage.open_account(8_000)
    events = message_events(words=3000, output_tokens=6000)
    stage.provider.script = streams(events, pause=0.0005)

    response = await stage.messages(account, **LONG)

    assert response.text.count("event: error") == 1
    assert response.text.rstrip().rsplit("event: ", 1)[-1].startswith("error\ndata: ")
    assert "billing_error" in response.text
    await asyncio.wait_for(stage.provider.closed.wait(), 2)
    [record] = await stage.settled(account, charges=1)
    step = 50 * 16_500_000 // 1_000_000
    assert -step <= (await stage.standing(account))[0] < 1_000
    assert record.estimated


async def test_an_old_customers_stream_is_finished_into_its_line(make_stage: MakeStage) -> None:
    stage: Stage = await make_stage(ledger={"on_exhausted": "finish", "hold_output_tokens": 300, "extension_tokens": 50})
    account = await stage.open_account(8_000)
    await stage.books.accounts.set_line(account.account, 1_000_000)
    events = message_events(words=1000, output_tokens=2000)
    stage.provider.script = streams(events, pause=0.0005)

    response = await stage.messages(account, **LONG)

    assert response.content == b"".join(events)
    [record] = await stage.settled(account, charges=1)
    assert (record.lines[0].output_tokens, record.estimated) == (2000, False)
    assert (await stage.standing(account))[0] == 8_000 - record.amount < 0


async def test_strict_holds_the_worst_case_of_a_stream_too(make_stage: MakeStage) -> None:
    stage: Stage = await make_stage(ledger={"on_exhausted": "strict"})
    account = await stage.open_account(8_000)

    response = await stage.messages(account, **LONG)

    assert response.status_code == 402


async def test_a_chat_stream_that_runs_dry_says_so_in_its_dialect(make_stage: MakeStage) -> None:
    stage: Stage = await make_stage(ledger={"on_exhausted": "cut", "hold_output_tokens": 300, "extension_tokens": 50})
    account = await stage.open_account(6_000)
    stage.provider.script = streams(chat_chunks(words=3000, completion=6000), pause=0.0005)
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/chat/completions", json=body)

    last = response.text.rstrip().rsplit("\n\n", 1)[-1]
    assert last.startswith('data: {"error":')
    assert "insufficient_quota" in last
    assert "The balance is used up, so this answer ends here: 0.00" in last
    assert f"Deposit USDC to go on: {stage.url}/dashboard" in last
    await stage.settled(account, charges=1)


async def test_many_small_balances_are_not_overspent_beyond_the_published_bound(make_stage: MakeStage) -> None:
    stage: Stage = await make_stage(ledger={"on_exhausted": "cut", "hold_output_tokens": 300, "extension_tokens": 50})
    accounts = [await stage.open_account(6_000) for _ in range(5)]
    stage.provider.script = streams(message_events(words=1500, output_tokens=3000), pause=0.0005)

    await asyncio.gather(*(stage.messages(account, **LONG) for account in accounts for _ in range(2)))

    step = 50 * 16_500_000 // 1_000_000
    for account in accounts:
        records = await stage.charges(account)
        assert all(price_record(record, CARD).amount == record.amount for record in records)
        assert (await stage.standing(account))[0] >= -2 * step


async def test_redis_going_away_in_mid_stream_cuts_nobody_and_loses_no_charge(lone_stage: Stage, valkey_server: Any) -> None:
    account = await lone_stage.open_account()
    events = message_events(input_tokens=1000, output_tokens=77)
    began = asyncio.Event()
    proceed = asyncio.Event()

    async def halfway(asked: Asked, writer: asyncio.StreamWriter) -> None:
        began.set()
        await proceed.wait()
        await streams(events)(asked, writer)

    lone_stage.provider.script = halfway
    asking = asyncio.create_task(lone_stage.messages(account, stream=True))
    await began.wait()
    valkey_server.stop()
    proceed.set()
    response = await asking

    assert response.content == b"".join(events)
    valkey_server.start()
    valkey_server.wait_until_ready()
    async with asyncio.timeout(20):
        while not await lone_stage.charges(account):
            await asyncio.sleep(0.2)
    [record] = await lone_stage.charges(account)
    assert record.lines[0].output_tokens == 77


async def test_thinking_that_cannot_be_watched_is_not_begun_without_money_for_it(stage: Stage) -> None:
    account = await stage.open_account(100_000)
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 30_000}}

    refused = await stage.messages(account, stream=True, max_tokens=32_000, **thinking)
    tokens = refused.json()["error"]["details"]["affordable_output_tokens"]
    stage.provider.script = streams(message_events(output_tokens=tokens))
    served = await stage.messages(account, stream=True, max_tokens=tokens, **thinking)

    assert (refused.status_code, served.status_code) == (402, 200)
    [record] = await stage.settled(account, charges=1)
    assert record.lines[0].output_tokens == tokens
    assert (await stage.standing(account))[0] >= 0
