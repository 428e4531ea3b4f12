"""One request all the way: held, forwarded with the operator's key, answered, settled, told."""

import json

from tests.fakes.gateway import KEY, Stage
from tests.fakes.raw_provider import answer, chat_chunks, message, message_events, says, streams

SONNET_IN, SONNET_OUT = 3_300_000, 16_500_000


def price(input_tokens: int, output_tokens: int) -> int:
    return -(-(input_tokens * SONNET_IN + output_tokens * SONNET_OUT) // 1_000_000)


async def test_a_plain_message_is_charged_what_its_usage_says(stage: Stage) -> None:
    account = await stage.open_account(10_000_000)
    stage.provider.script = says(answer(message(input_tokens=1000, output_tokens=200)))

    response = await stage.messages(account)

    charge = price(1000, 200)
    assert response.status_code == 200
    assert response.json()["usage"] == {"input_tokens": 1000, "output_tokens": 200}
    assert response.headers["x-level5-charge"] == str(charge)
    assert response.headers["x-balance-remaining"] == str(10_000_000 - charge)
    assert response.headers["x-request-id"]
    [record] = await stage.settled(account, charges=1)
    assert (record.amount, record.estimated) == (charge, False)
    assert await stage.standing(account) == (10_000_000 - charge, 0)


async def test_a_streamed_message_arrives_whole_and_is_settled_before_its_terminal_event(stage: Stage) -> None:
    account = await stage.open_account(10_000_000)
    events = message_events(input_tokens=1000, output_tokens=200)
    stage.provider.script = streams(events)

    async with stage.client.stream(
        "POST",
        f"{stage.url}/proxy/{account.api_token}/v1/messages",
        json={"model": "claude-sonnet-4-6", "max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": "Say hi"}]},
    ) as response:
        received = b""
        async for piece in response.aiter_raw():
            received += piece
            if b"message_stop" in received:
                assert await stage.standing(account) == (10_000_000 - price(1000, 200), 0)

    assert received == b"".join(events)
    assert int(response.headers["x-balance-remaining"]) < 10_000_000 - price(1000, 200)
    [record] = await stage.settled(account, charges=1)
    assert record.amount == price(1000, 200)


async def test_the_operators_key_goes_up_and_the_clients_stays_here(stage: Stage) -> None:
    account = await stage.open_account()

    response = await stage.client.post(
        f"{stage.url}/v1/messages?beta=true",
        json={"model": "claude-sonnet-4-6", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]},
        headers={
            "authorization": f"Bearer {account.api_token}",
            "x-api-key": account.api_token,
            "cookie": "a=b",
            "anthropic-beta": "x-1",
            "x-forwarded-for": "1.2.3.4",
        },
    )

    assert response.status_code == 200
    [asked] = stage.provider.asked
    assert asked.line == "POST /v1/messages?beta=true HTTP/1.1"
    assert asked.header("x-api-key") == KEY
    assert asked.header("anthropic-beta") == "x-1"
    assert asked.header("accept-encoding") == "identity"
    assert asked.header("host") == f"127.0.0.1:{stage.provider.port}"
    assert [asked.header(name) for name in ("authorization", "cookie", "x-forwarded-for")] == [None] * 3
    assert account.api_token not in str(asked.headers)


async def test_what_names_the_operators_account_does_not_come_back(stage: Stage) -> None:
    account = await stage.open_account()
    more = "set-cookie: s=1\r\nanthropic-organization-id: org-operator\r\nrequest-id: req_provider\r\nopenai-organization: o\r\nconnection: keep-alive\r\n"
    stage.provider.script = says(answer(message(), more=more))

    response = await stage.messages(account)

    assert response.headers["request-id"] == "req_provider"
    assert {"set-cookie", "anthropic-organization-id", "openai-organization", "connection"}.isdisjoint(response.headers)


async def test_usage_is_asked_for_in_the_clients_stead_and_its_chunk_hidden(stage: Stage) -> None:
    account = await stage.open_account()
    chunks = chat_chunks(prompt=1000, completion=200)
    stage.provider.script = streams(chunks)
    body = {"model": "gpt-4o", "stream": True, "messages": [{"role": "user", "content": "hi"}]}

    response = await stage.client.post(f"{stage.url}/proxy/{account.api_token}/v1/chat/completions", json=body)

    assert stage.provider.asked[0].json == body | {"stream_options": {"include_usage": True}}
    assert response.content == b"".join(chunks[:-2] + chunks[-1:])
    [record] = await stage.settled(account, charges=1)
    assert record.amount == -(-(1000 * 2_750_000 + 200 * 11_000_000) // 1_000_000)


async def test_a_client_that_asks_gets_the_balance_as_a_closing_comment(stage: Stage) -> None:
    account = await stage.open_account()
    stage.provider.script = streams(message_events())

    response = await stage.messages(account, stream=True, headers={"x-level5-events": "1"})

    last = response.text.rstrip().rsplit("\n", 1)[-1]
    facts = json.loads(last.removeprefix(": level5 "))
    assert facts["balance_remaining"] == (await stage.standing(account))[0]
    assert facts["charge"] == price(100, 50)


async def test_a_connection_carries_many_requests(stage: Stage) -> None:
    account = await stage.open_account()

    for _ in range(5):
        assert (await stage.messages(account)).status_code == 200

    assert stage.provider.connections == 1
    assert len(await stage.settled(account, charges=5)) == 5
