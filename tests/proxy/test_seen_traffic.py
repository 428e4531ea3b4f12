"""What a worker counts of its traffic, on both data paths: how requests ended, how long they took, and who asked."""

import asyncio
from datetime import UTC, datetime, timedelta

from addons.activity import activity
from ledger.activity import read_activity, read_clients, read_house_activity
from ledger.activity_values import Activity, Outcome
from ledger.tokens import mint_token, parse_token
from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import answer, message, message_events, says, streams

NOW = timedelta(hours=1)
STREAMING = b'{"model":"claude-sonnet-4-6","max_tokens":500,"stream":true,"messages":[{"role":"user","content":"Say hi"}]}'


async def seen(stage: Stage, api_token: str) -> Activity:
    """What is kept of the account once the worker has brought it."""
    await activity.flush(stage.books.balances)
    token, now = parse_token(api_token), datetime.now(UTC)
    return await read_activity(stage.books.balances, token.account, token.shard, since=now - NOW, until=now + NOW)


async def test_requests_are_counted_by_their_endings_models_and_clients(stage: Stage) -> None:
    account, poor = await stage.open_account(), await stage.open_account(1)
    stage.provider.script = says(answer(message()))
    for _ in range(2):
        assert (await stage.messages(account, headers={"user-agent": "claude-cli/2.0.14 (external, cli)"})).status_code == 200
    assert (await stage.messages(account, model="no-such-model", headers={"user-agent": "curl/8"})).status_code == 404
    assert (await stage.messages(poor)).status_code == 402
    stage.provider.script = says(answer({"error": {"type": "rate_limit_error", "message": "slow down"}}, status=429))
    assert (await stage.messages(account)).status_code == 429
    stage.provider.script = says(answer({"error": {"type": "api_error", "message": "broken"}}, status=500))
    assert (await stage.messages(account)).status_code == 500

    found, poors = await seen(stage, account.api_token), await seen(stage, poor.api_token)
    token = parse_token(account.api_token)
    clients = {client.family: client.requests for client in await read_clients(stage.books.balances, token.account, token.shard)}

    assert {outcome: found.total.of(outcome) for outcome in Outcome if found.total.of(outcome)} == {
        Outcome.OK: 2, Outcome.CLIENT_ERROR: 1, Outcome.RATE_LIMITED: 1, Outcome.PROVIDER_ERROR: 1,
    }  # fmt: skip
    assert {model: tally.requests for model, tally in found.by_model().items()} == {"claude-sonnet-4-6": 4, "": 1}
    assert (found.total.latency.total, found.total.first_byte.total) == (4, 4)
    assert (poors.total.of(Outcome.BALANCE), poors.total.requests, poors.total.latency.total) == (1, 1, 0)
    assert clients == {"claude-code": 2, "curl": 1, "python-httpx": 2}


async def test_a_stream_that_breaks_off_and_a_client_that_leaves_are_told_apart(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(message_events()[:4], end=False)
    await stage.exchange_raw(stage.raw_request(account, STREAMING))
    stage.provider.script = streams(message_events(words=50), pause=0.1)
    reader, writer = await stage.connect()
    writer.write(stage.raw_request(account, STREAMING))
    await reader.readuntil(b"content_block_delta")
    writer.close()
    async with asyncio.timeout(20):
        while (found := await seen(stage, account.api_token)).total.requests < 2:
            await asyncio.sleep(0.02)

    assert (found.total.of(Outcome.CUT), found.total.of(Outcome.CLIENT_LEFT)) == (1, 1)


async def test_nobody_counts_for_an_account_that_is_not_theirs(stage: Stage) -> None:
    account = await stage.open_account()
    token = parse_token(account.api_token)
    stranger, _ = mint_token(token.account, token.shard)
    before = (await read_house_activity(stage.books.balances, since=datetime.now(UTC) - NOW, until=datetime.now(UTC) + NOW)).total.requests
    url = f"{stage.url}/proxy/{stranger}/v1/messages"

    for body in ({"model": "claude-sonnet-4-6", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}, {"model": "nothing"}):
        assert (await stage.client.post(url, json=body)).status_code == 401

    assert (await seen(stage, account.api_token)).total.requests == 0
    house = await read_house_activity(stage.books.balances, since=datetime.now(UTC) - NOW, until=datetime.now(UTC) + NOW)
    assert house.total.requests >= before + 2
