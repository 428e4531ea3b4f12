"""Subscriptions on the simulated cluster, with solana-py's WebSocket client as it is."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.websocket_api import SolanaWsClient
from solders.rpc.config import RpcTransactionLogsFilterMentions
from solders.signature import Signature
from websockets.asyncio.client import connect

from sandbox.chain.keys import TOKEN_PROGRAM
from tests.fakes.chain import USDC, VAULT, Chain

CODE = "0123456789ABCDEF"
MENTIONS_VAULT = RpcTransactionLogsFilterMentions(VAULT)


@pytest_asyncio.fixture
async def socket(chain: Chain) -> AsyncIterator[SolanaWsClient]:
    async with SolanaWsClient(chain.ws_url()) as made:
        yield made


async def news(socket: SolanaWsClient, seconds_max: float = 10) -> Any:
    """Return the next notification's result."""
    async with asyncio.timeout(seconds_max):
        message: Any = await socket.recv()
        return message.result


async def test_a_payment_is_told_at_the_commitment_that_was_asked_for(chain: Chain, socket: SolanaWsClient) -> None:
    wallet = chain.wallet()
    await socket.logs_subscribe(filter_=MENTIONS_VAULT, commitment=Confirmed)
    record = chain.pay(wallet, USDC, CODE)
    with pytest.raises(TimeoutError):
        await news(socket, 0.2)

    chain.advance()

    told = await news(socket)
    assert str(told.value.signature) == record.signature
    assert told.context.slot == record.slot
    assert f"Program log: {CODE}" in told.value.logs


async def test_a_payment_of_a_fork_that_loses_was_told_and_is_told_again(chain: Chain, socket: SolanaWsClient) -> None:
    wallet = chain.wallet()
    chain.finalize()
    await socket.logs_subscribe(filter_=MENTIONS_VAULT, commitment=Confirmed)
    paid = chain.build([chain.transfer(wallet, USDC)], [wallet])
    first = chain.land(paid)
    chain.advance()
    assert (await news(socket)).context.slot == first.slot

    chain.fork(2)
    again = chain.land(paid)
    chain.advance()

    assert (await news(socket)).context.slot == again.slot > first.slot


async def test_accounts_programs_slots_and_signatures_can_be_followed(chain: Chain, socket: SolanaWsClient) -> None:
    wallet = chain.wallet()
    chain.finalize()
    paid = chain.build([chain.transfer(wallet, 3 * USDC)], [wallet])
    wanted = [
        await socket.account_subscribe(pubkey=VAULT, commitment=Processed, encoding="base64"),
        await socket.program_subscribe(program_id=TOKEN_PROGRAM, commitment=Processed, encoding="base64"),
        await socket.signature_subscribe(signature=paid.signatures[0], commitment=Processed),
    ]
    chain.land(paid)
    told = [await news(socket) for _ in range(4)]
    await socket.slot_subscribe()
    await socket.root_subscribe()
    slot = chain.advance()
    moved, root = await news(socket), await news(socket)

    assert int.from_bytes(told[0].value.data[64:72], "little") == 3 * USDC
    assert {one.value.pubkey for one in told[1:3]} == {VAULT, chain.token_account(wallet)}
    assert told[3].value.err is None
    assert (moved.slot, moved.parent, moved.root) == (slot, slot - 1, slot - 32)
    assert root == slot - 32
    await socket.unsubscribe(wanted[0])
    late = await socket.signature_subscribe(signature=Signature.from_string(str(paid.signatures[0])), commitment=Processed)
    assert late is not None
    assert (await news(socket)).value.err is None  # it had landed already


async def test_a_socket_may_be_silent_repeat_itself_be_late_or_be_refused(chain: Chain, socket: SolanaWsClient) -> None:
    wallet = chain.wallet()
    await socket.logs_subscribe(filter_=MENTIONS_VAULT, commitment=Processed)
    chain.faults().socket_silent = True
    chain.pay(wallet, 1)
    with pytest.raises(TimeoutError):
        await news(socket, 0.2)
    chain.faults().clear()
    chain.faults().socket_copies = 2
    twice = chain.pay(wallet, 2)
    assert [str((await news(socket)).value.signature) for _ in range(2)] == [twice.signature] * 2
    chain.faults().clear()
    chain.faults().socket_late_seconds = 0.4
    late = chain.pay(wallet, 3)
    with pytest.raises(TimeoutError):
        await news(socket, 0.1)
    assert str((await news(socket)).value.signature) == late.signature

    chain.faults(2).socket_refused = True
    async with connect(chain.ws_url(2)) as refused:
        async with asyncio.timeout(10):
            await refused.wait_closed()
    other = SolanaWsClient(chain.ws_url(3))
    async with other:
        await other.logs_subscribe(filter_=MENTIONS_VAULT, commitment=Finalized)
        chain.faults().hidden.add(chain.pay(wallet, 4).signature)
        chain.finalize()
        told = [await news(other) for _ in range(4)]
    assert len({str(one.value.signature) for one in told}) == 4


async def test_what_is_wrong_on_a_socket_is_told_in_the_codes_of_a_node(chain: Chain) -> None:
    async with connect(chain.ws_url()) as raw:
        answers = []
        for text in ("{", '{"jsonrpc":"2.0","id":1,"method":"logsSubscribe","params":[{"mentions":["a","b"]}]}',
                     '{"jsonrpc":"2.0","id":2,"method":"logsUnsubscribe","params":[99]}', '{"jsonrpc":"2.0","id":3,"method":"blockSubscribe"}',
                     '{"jsonrpc":"2.0","id":4,"method":"getHealth"}'):  # fmt: skip
            await raw.send(text)
            answers.append(json.loads(await asyncio.wait_for(raw.recv(), 10)))

    assert [one["error"]["code"] for one in answers[:4]] == [-32700, -32602, -32602, -32601]
    assert answers[4]["result"] == "ok"
