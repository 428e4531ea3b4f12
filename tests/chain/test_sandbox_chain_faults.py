"""Each switch of a provider does what it says, and to that provider alone."""

import asyncio
import base64
from typing import Any

import httpx
import pytest
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from sandbox.chain.faults import BadFault, Faults
from tests.fakes.chain import USDC, VAULT, Chain

CODE = "0123456789ABCDEF"


async def ask(chain: Chain, method: str, *params: Any, provider: int = 1) -> dict[str, Any]:
    async with httpx.AsyncClient(verify=False, timeout=10) as client:
        answer = await client.post(chain.rpc_url(provider), json={"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        body: dict[str, Any] = answer.json()
        return body


async def listed(chain: Chain, provider: int = 1, **options: Any) -> list[str]:
    return [row["signature"] for row in (await ask(chain, "getSignaturesForAddress", str(VAULT), options, provider=provider))["result"]]


async def read(chain: Chain, signature: str, provider: int = 1) -> dict[str, Any] | None:
    options = {"encoding": "base64", "maxSupportedTransactionVersion": 0}
    found: dict[str, Any] | None = (await ask(chain, "getTransaction", signature, options, provider=provider))["result"]
    return found


def held(answer: dict[str, Any] | None) -> int:
    """Return what the vault held after a transaction, as it was told."""
    assert answer is not None
    (amount,) = [int(row["uiTokenAmount"]["amount"]) for row in answer["meta"]["postTokenBalances"] if row["owner"].startswith("4iY48m7oDbh3")]
    return amount


async def test_a_hidden_signature_is_unknown_to_one_provider_only(chain: Chain) -> None:
    record = chain.pay(chain.wallet(), USDC, CODE)
    chain.finalize()
    chain.faults().hidden.add(record.signature)

    block = (await ask(chain, "getBlock", record.slot, {"transactionDetails": "signatures"}))["result"]

    assert record.signature not in await listed(chain)
    assert await read(chain, record.signature) is None
    assert record.signature not in block["signatures"]
    assert (await ask(chain, "getSignatureStatuses", [record.signature]))["result"]["value"] == [None]
    assert record.signature in await listed(chain, provider=2)
    assert held(await read(chain, record.signature, provider=2)) == USDC


async def test_a_listed_transaction_may_be_null(chain: Chain) -> None:
    record = chain.pay(chain.wallet(), USDC)
    chain.finalize()
    chain.faults().unreadable.add(record.signature)

    assert record.signature in await listed(chain)
    assert await read(chain, record.signature) is None


async def test_a_pruned_history_ends_early(chain: Chain) -> None:
    wallet = chain.wallet()
    old = chain.pay(wallet, 1)
    chain.advance(5)
    new = chain.pay(wallet, 2)
    chain.finalize()
    chain.faults().pruned_below = new.slot

    assert await listed(chain) == [new.signature]
    assert await read(chain, old.signature) is None
    assert (await ask(chain, "getBlock", old.slot))["error"]["code"] == -32001
    assert (await ask(chain, "getFirstAvailableBlock"))["result"] == new.slot


async def test_providers_may_order_a_slot_differently_and_page_by_their_own_order(chain: Chain) -> None:
    wallet = chain.wallet()
    chain.advance()
    one, two, three = [chain.pay(wallet, amount).signature for amount in (1, 2, 3)]
    chain.finalize()
    chain.faults(2).reversed_in_slot = True

    assert (await listed(chain))[:3] == [three, two, one]
    assert (await listed(chain, provider=2))[:3] == [one, two, three]
    assert (await listed(chain, provider=2, before=one))[:2] == [two, three]


async def test_balances_can_be_lied_about(chain: Chain) -> None:
    record = chain.pay(chain.wallet(), 5 * USDC, CODE)
    chain.finalize()
    chain.faults().gain_lies[record.signature] = -USDC
    chain.faults(2).balance_lies[str(VAULT)] = USDC

    assert [held(await read(chain, record.signature, provider)) for provider in (1, 2, 3)] == [4 * USDC, 5 * USDC, 5 * USDC]
    amounts = [(await ask(chain, "getTokenAccountBalance", str(VAULT), provider=one))["result"]["value"]["amount"] for one in (1, 2)]
    assert amounts == ["5000000", "6000000"]
    data = (await ask(chain, "getAccountInfo", str(VAULT), {"encoding": "base64"}, provider=2))["result"]["value"]["data"][0]
    assert int.from_bytes(base64.b64decode(data)[64:72], "little") == 6 * USDC


async def test_errors_can_be_lied_about_both_ways(chain: Chain) -> None:
    wallet = chain.wallet()
    good, bad = chain.pay(wallet, USDC, CODE), chain.fail(wallet, USDC, CODE)
    chain.finalize()
    claimed = {"InstructionError": [0, {"Custom": 1}]}
    chain.faults().fault_lies.update({good.signature: claimed, bad.signature: None})

    rows = {row["signature"]: row["err"] for row in (await ask(chain, "getSignaturesForAddress", str(VAULT)))["result"]}
    answers = [await read(chain, one) for one in (good.signature, bad.signature)]
    statuses = (await ask(chain, "getSignatureStatuses", [good.signature, bad.signature], {"searchTransactionHistory": True}))["result"]["value"]

    assert [rows[good.signature], rows[bad.signature]] == [claimed, None]
    assert [answer and answer["meta"]["err"] for answer in answers] == [claimed, None]
    assert [one["err"] for one in statuses] == [claimed, None]


async def test_the_bytes_of_a_transaction_can_be_swapped(chain: Chain) -> None:
    wallet = chain.wallet()
    one, two = chain.pay(wallet, 1), chain.pay(wallet, 2)
    chain.finalize()
    chain.faults().swapped[one.signature] = two.signature
    chain.faults(2).swapped[one.signature] = base64.b64encode(one.wire[:-1]).decode()

    other, cut = await read(chain, one.signature), await read(chain, one.signature, provider=2)

    assert other is not None
    assert cut is not None
    assert VersionedTransaction.from_bytes(base64.b64decode(other["transaction"][0])).signatures[0] == Signature.from_string(two.signature)
    assert base64.b64decode(cut["transaction"][0]) == one.wire[:-1]


async def test_a_provider_may_lag_be_stuck_or_go_backwards(chain: Chain) -> None:
    chain.advance(200)
    newest = chain.slot
    chain.faults(1).lag = 150
    chain.faults(2).stuck_at = newest - 10
    chain.faults(3).backwards = 7
    chain.advance(20)

    async def slot(provider: int) -> int:
        found: int = (await ask(chain, "getSlot", {"commitment": "processed"}, provider=provider))["result"]
        return found

    assert [await slot(1), await slot(2), await slot(2)] == [newest - 130, newest - 10, newest - 10]
    assert sorted([await slot(3), await slot(3)]) == [newest + 13, newest + 20]
    assert (await ask(chain, "getHealth"))["error"] == {"code": -32005, "message": "Node is behind by 150 slots", "data": {"numSlotsBehind": 150}}
    assert (await ask(chain, "getHealth", provider=2))["result"] == "ok"


async def test_a_signature_to_page_from_that_is_not_known_is_met_in_three_ways(chain: Chain) -> None:
    wallet = chain.wallet()
    first, second = chain.pay(wallet, 1).signature, chain.pay(wallet, 2).signature
    chain.finalize()
    unknown = str(Signature.new_unique())

    refused = await ask(chain, "getSignaturesForAddress", str(VAULT), {"before": unknown})
    chain.faults().unknown_before = "empty"
    assert refused["error"]["code"] == -32020
    assert await listed(chain, before=unknown) == []
    assert len(await listed(chain, until=unknown)) >= 2  # older nodes go on as if nothing had been asked
    chain.faults().unknown_before = "ignore"
    assert (await listed(chain, before=unknown))[:2] == [second, first]
    chain.faults().page_max = 1
    assert await listed(chain) == [second]


async def test_transport_fails_as_the_words_say_and_only_as_often(chain: Chain) -> None:
    faults = chain.faults()
    faults.http = ["429", "503", "bad_json", "empty", "error:-32019", "error:-32016"]
    faults.retry_after = 3
    async with httpx.AsyncClient(verify=False) as client:
        answers = [await client.post(chain.rpc_url(), json={"jsonrpc": "2.0", "id": 1, "method": "getSlot"}) for _ in range(7)]

    assert [answer.status_code for answer in answers] == [429, 503, 200, 200, 200, 200, 200]
    assert answers[0].headers["retry-after"] == "3"
    assert answers[3].content == b""
    with pytest.raises(ValueError, match="Expecting"):
        answers[2].json()
    assert [answers[index].json()["error"] for index in (4, 5)] == [{"code": code, "message": "Simulated error"} for code in (-32019, -32016)]
    assert answers[6].json()["result"] == chain.slot - 32
    assert chain.calls() == ["getSlot"] * 7


async def test_a_fault_can_be_for_one_method_only(chain: Chain) -> None:
    chain.faults().always, chain.faults().only = "503", {"getTransaction"}

    assert (await ask(chain, "getHealth"))["result"] == "ok"
    assert (await ask(chain, "getTransaction", str(Signature.default())))["error"]["code"] == 503


@pytest.mark.parametrize("word", ["cut", "reset", "429"])
async def test_a_connection_that_is_cut_and_a_429_reach_solana_py_as_its_error(chain: Chain, word: str) -> None:
    chain.faults().always = word

    async with AsyncClient(chain.rpc_url(), max_transport_retries=0) as client:
        with pytest.raises(SolanaRpcException):
            await client.get_slot()


async def test_a_hanging_provider_says_nothing_for_a_while(chain: Chain) -> None:
    chain.faults().always, chain.faults().hang_seconds = "hang", 60.0

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(chain, "getSlot"), 0.3)


async def test_an_unknown_error_code_and_one_without_data_are_traps_of_solana_py(chain: Chain) -> None:
    chain.faults().always = "error:-32019"
    async with AsyncClient(chain.rpc_url()) as client:
        with pytest.raises(AttributeError):
            _ = (await client.get_slot()).value


async def test_the_genesis_hash_and_an_account_can_be_somebody_elses(chain: Chain) -> None:
    chain.faults().genesis = "1" * 32
    chain.faults().account_lies[str(VAULT)] = None

    assert (await ask(chain, "getGenesisHash"))["result"] == "1" * 32
    assert (await ask(chain, "getAccountInfo", str(VAULT)))["result"]["value"] is None


def test_switches_that_do_not_exist_or_do_not_fit_change_nothing() -> None:
    faults = Faults()
    for switches in ({"lag": 3, "lagg": 1}, {"lag": 3, "hidden": "x"}, {"lag": True}, {"unknown_before": "maybe"}, {"stuck_at": "x"}):
        with pytest.raises(BadFault):
            faults.change(switches)
    assert faults == Faults()

    faults.change({"hidden": ["b", "a"], "socket_late_seconds": 1, "stuck_at": 5})
    assert faults.as_json()["hidden"] == ["a", "b"]
    faults.clear()
    assert faults == Faults()
