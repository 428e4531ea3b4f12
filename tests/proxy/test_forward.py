"""The forward door: agents that know only HTTPS_PROXY and our certificate, against the providers' own names."""

import pytest

from tests.fakes.gateway import Stage
from tests.fakes.raw_provider import message_events, streams

MESSAGES = "https://api.anthropic.com/v1/messages"
BODY = {"model": "claude-sonnet-4-6", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}
CHAT = {"model": "gpt-4o", "max_tokens": 500, "messages": [{"role": "user", "content": "Say hi"}]}


@pytest.mark.parametrize("http2", [False, True])
async def test_a_turn_at_the_providers_own_address_is_billed(stage: Stage, http2: bool) -> None:
    account = await stage.open_account()

    async with stage.through(account, http2=http2) as client:
        plain = await client.post(MESSAGES, json=BODY, headers={"x-api-key": "the client's own", "authorization": "Bearer another"})
        again = await client.post(MESSAGES, json=BODY)

    assert (plain.status_code, plain.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    charges = await stage.settled(account, charges=2)
    balance = 10_000_000 - sum(record.amount for record in charges)
    assert again.headers["x-balance-remaining"] == str(balance)
    assert plain.headers["x-level5-charge"] == str(charges[0].amount)
    asked = stage.provider.asked[0]
    assert (asked.line, asked.header("x-api-key")) == ("POST /v1/messages HTTP/1.1", "operator-key-anthropic")
    assert not {"authorization", "proxy-authorization"} & {name.lower() for name, _ in asked.headers}


@pytest.mark.parametrize("http2", [False, True])
async def test_a_stream_comes_through_as_it_is_and_closes_with_the_balance(stage: Stage, http2: bool) -> None:
    account, events = await stage.open_account(), message_events(words=20)
    stage.provider.script = streams(events)

    async with stage.through(account, http2=http2) as client:
        response = await client.post(MESSAGES, json=BODY | {"stream": True}, headers={"x-level5-events": "1"})

    [charge] = await stage.settled(account, charges=1)
    whole = b"".join(events)
    assert response.content[: len(whole)] == whole
    assert str(10_000_000 - charge.amount).encode() in response.content[len(whole) :]
