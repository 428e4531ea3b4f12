"""The simulated cluster as solana-py sees it, unmodified and over real HTTP."""

import asyncio
import base64
import time
from typing import Any

import httpx
import pytest
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.models import MemcmpOpts, TokenAccountOpts, TxOpts
from solders.pubkey import Pubkey
from solders.signature import Signature

from config.chain import SANDBOX_MINT, SANDBOX_TREASURY
from sandbox.chain.instructions import transfer_checked
from sandbox.chain.landing import TransactionRefused
from tests.fakes.chain import EVENT_PROGRAM, MINT, TOKEN_2022_PROGRAM, TREASURY, USDC, VAULT, Chain
from tests.fakes.sbf_event import Act, call_event_program, deposit_event

CODE = "0123456789ABCDEF"


async def ask(chain: Chain, method: str, *params: Any, provider: int = 1) -> dict[str, Any]:
    """Return the whole answer to one request, errors included."""
    async with httpx.AsyncClient(verify=False) as client:
        answer = await client.post(chain.rpc_url(provider), json={"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)})
        body: dict[str, Any] = answer.json()
        return body


async def signatures(client: AsyncClient, **options: Any) -> list[Signature]:
    return [row.signature for row in (await client.get_signatures_for_address(VAULT, **options)).value]


def changes_of_vault(meta: dict[str, Any], keys: list[str]) -> int:
    held = [
        sum(int(row["uiTokenAmount"]["amount"]) for row in meta[when] if keys[row["accountIndex"]] == str(VAULT))
        for when in ("preTokenBalances", "postTokenBalances")
    ]
    return held[1] - held[0]


def test_the_keys_are_those_of_the_settings() -> None:
    assert str(TREASURY.pubkey()) == SANDBOX_TREASURY
    assert str(MINT.pubkey()) == SANDBOX_MINT


async def test_a_payment_with_a_memo_is_found_read_and_counted(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet(20 * USDC)
    paid = chain.build([chain.transfer(wallet, 5 * USDC), chain.memo(CODE)], [wallet])
    sent = (await client.send_raw_transaction(bytes(paid))).value
    chain.finalize()

    (row, *_) = (await client.get_signatures_for_address(VAULT)).value
    whole = (await client.get_transaction(sent, "base64", max_supported_transaction_version=0)).value
    assert row.signature == sent == paid.signatures[0]
    assert row.memo == f"[16] {CODE}"
    assert row.err is None
    assert whole is not None
    assert whole.block_time == row.block_time
    answer = (await ask(chain, "getTransaction", str(sent), {"encoding": "base64", "maxSupportedTransactionVersion": 0}))["result"]
    assert base64.b64decode(answer["transaction"][0]) == bytes(paid)
    assert changes_of_vault(answer["meta"], [str(key) for key in paid.message.account_keys]) == 5 * USDC
    assert (await client.get_token_account_balance(VAULT)).value.amount == str(5 * USDC)
    assert (await client.get_token_supply(MINT.pubkey())).value.decimals == 6


async def test_each_commitment_sees_its_own_slot_and_its_own_balances(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet()
    chain.finalize()
    record = chain.pay(wallet, USDC, CODE)
    signature = Signature.from_string(record.signature)

    async def seen() -> list[str]:
        return [(await client.get_token_account_balance(VAULT, commitment=one)).value.amount for one in (Processed, Confirmed, Finalized)]

    async def status() -> str:
        (found,) = (await client.get_signature_statuses([signature])).value
        assert found is not None
        return str(found.confirmation_status).rsplit(".", maxsplit=1)[-1]

    assert await seen() == ["1000000", "0", "0"]
    assert await status() == "Processed"
    assert signature not in await signatures(client, commitment=Confirmed)
    chain.advance()
    assert await seen() == ["1000000", "1000000", "0"]
    assert await status() == "Confirmed"
    assert signature in await signatures(client, commitment=Confirmed)
    assert signature not in await signatures(client)
    chain.finalize()
    assert await seen() == ["1000000"] * 3
    assert await status() == "Finalized"
    slots = [(await client.get_slot(one)).value for one in (Processed, Confirmed, Finalized)]
    assert slots == [chain.slot, chain.slot - 1, chain.slot - 32]


async def test_a_fork_drops_a_confirmed_payment_and_the_same_bytes_land_again(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet()
    chain.finalize()
    before = chain.amount()
    paid = chain.build([chain.transfer(wallet, 3 * USDC), chain.memo(CODE)], [wallet])
    first = chain.land(paid)
    chain.advance()
    assert first.signature in map(str, await signatures(client, commitment=Confirmed))

    assert chain.fork(2) == [first.signature]

    assert (await client.get_signature_statuses([paid.signatures[0]])).value == [None]
    assert (await client.get_transaction(paid.signatures[0], commitment=Confirmed, max_supported_transaction_version=0)).value is None
    assert chain.amount() == before
    again = chain.land(paid)
    assert again.signature == first.signature
    assert again.slot > first.slot
    assert chain.amount() == before + 3 * USDC
    with pytest.raises(TransactionRefused, match="AlreadyProcessed"):
        chain.land(paid)
    skipped = await ask(chain, "getBlock", first.slot, {"commitment": "confirmed"})
    assert skipped["error"]["code"] == -32007


async def test_what_is_final_cannot_be_dropped(chain: Chain) -> None:
    chain.pay(chain.wallet(), USDC)
    chain.finalize()

    with pytest.raises(ValueError, match="not finalized"):
        chain.fork(33)


async def test_pages_go_back_by_signature_without_a_gap(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet()
    expected = []
    for number in range(25):
        expected.append(Signature.from_string(chain.pay(wallet, number + 1, CODE).signature))
        if number % 4 == 0:
            chain.advance()
    chain.finalize()

    whole = await signatures(client)
    pages: list[Signature] = []
    while page := await signatures(client, before=pages[-1] if pages else None, limit=10):
        pages += page
        assert len(page) <= 10

    assert pages == whole
    assert pages[:25] == expected[::-1]
    assert await signatures(client, until=expected[0]) == expected[:0:-1]
    for limit in (0, 1001):
        assert (await ask(chain, "getSignaturesForAddress", str(VAULT), {"limit": limit}))["error"]["code"] == -32602
    least = {"minContextSlot": chain.slot + 1}
    assert (await ask(chain, "getSignaturesForAddress", str(VAULT), least))["error"] == {
        "code": -32016, "message": "Minimum context slot has not been reached", "data": {"contextSlot": chain.slot - 32},
    }  # fmt: skip
    assert (await ask(chain, "getSignaturesForAddress", str(VAULT), {"commitment": "processed"}))["error"]["code"] == -32602


@pytest.mark.parametrize(("method", "params", "code"), [
    ("getMoney", [], -32601),
    ("getBalance", [], -32602),
    ("getBalance", ["no address"], -32602),
    ("getTransaction", ["x"], -32602),
    ("getTokenAccountBalance", [str(TREASURY.pubkey())], -32602),
    ("getBlock", [1 << 40], -32004),
    ("getBlockTime", [1], -32001),
])  # fmt: skip
async def test_a_request_that_is_wrong_is_told_so_in_the_codes_of_a_node(chain: Chain, method: str, params: list[Any], code: int) -> None:
    assert (await ask(chain, method, *params))["error"]["code"] == code


async def test_batches_and_malformed_bodies_are_answered_as_json_rpc_has_it(chain: Chain) -> None:
    async with httpx.AsyncClient(verify=False) as client:
        bodies = ['[{"jsonrpc":"2.0","id":1,"method":"getHealth"},{"jsonrpc":"2.0","id":2,"method":"getMoney"},4]', "[]", "{", '{"method":"getSlot"}']
        batch, empty, broken, no_version = [(await client.post(chain.rpc_url(), content=body)).json() for body in bodies]
        elsewhere = await client.post(f"{chain.rpc_url()}/provider/9", content="{}")

    assert [one.get("result") or one["error"]["code"] for one in batch] == ["ok", -32601, -32600]
    assert [one["error"]["code"] for one in (empty, broken, no_version)] == [-32600, -32700, -32600]
    assert elsewhere.status_code == 404


async def test_a_version_that_the_client_does_not_name_is_refused(chain: Chain) -> None:
    wallet = chain.wallet()
    new, old = chain.pay(wallet, 1), chain.pay(wallet, 1, legacy=True)
    chain.finalize()

    refused = await ask(chain, "getTransaction", new.signature)
    legacy = await ask(chain, "getTransaction", old.signature)
    named = await ask(chain, "getTransaction", new.signature, {"maxSupportedTransactionVersion": 0})

    assert refused["error"]["code"] == -32015
    assert "version" not in legacy["result"]
    assert named["result"]["version"] == 0


async def test_sending_tells_why_a_transaction_cannot_land(chain: Chain, client: AsyncClient) -> None:
    wallet, poor = chain.wallet(), chain.wallet(1)
    too_old = chain.build([chain.transfer(wallet, 1)], [wallet])
    unsigned = bytearray(bytes(chain.build([chain.transfer(wallet, 1)], [wallet])))
    unsigned[5] ^= 1
    too_much = chain.build([chain.transfer(poor, 2 * USDC)], [poor])

    async def send(wire: bytes, **options: Any) -> dict[str, Any]:
        return await ask(chain, "sendTransaction", base64.b64encode(wire).decode(), {"encoding": "base64", **options})

    no_money = (await send(bytes(too_much)))["error"]
    assert no_money["code"] == -32002
    assert no_money["data"]["err"] == {"InstructionError": [1, {"Custom": 1}]}
    assert no_money["data"]["logs"]
    assert (await send(bytes(unsigned)))["error"]["code"] == -32003
    assert (await send(b"nothing"))["error"]["code"] == -32602
    landed = await send(bytes(too_much), skipPreflight=True)
    assert landed["result"] == str(too_much.signatures[0])
    assert chain.cluster.records.by_signature[landed["result"]].fault == {"InstructionError": [1, {"Custom": 1}]}
    chain.advance(200)
    assert (await send(bytes(too_old)))["error"]["data"]["err"] == "BlockhashNotFound"
    assert (await send(bytes(too_old), skipPreflight=True))["result"] not in chain.cluster.records.by_signature
    fresh = chain.build([chain.transfer(wallet, 1)], [wallet])
    await client.send_raw_transaction(bytes(fresh), TxOpts(skip_preflight=False))
    assert (await send(bytes(fresh)))["error"]["data"]["err"] == "AlreadyProcessed"


async def test_every_way_to_move_money_leaves_its_traces(chain: Chain) -> None:
    wallet = chain.wallet()
    chain.event_program()
    table = chain.lookup_table(VAULT)
    event = deposit_event(owner=wallet.pubkey(), mint=chain.mint, code=CODE, amount=7)
    own = {"source": chain.token_account(wallet), "mint": chain.mint, "target": VAULT, "authority": wallet.pubkey(), "event": event}
    everything = Act.TRANSFER | Act.MEMO | Act.LOG | Act.CALL_ITSELF

    by_table = chain.send([chain.transfer(wallet, 1), chain.memo(CODE, v1=True)], [wallet], tables=[table])
    batch = chain.send([chain.batch(chain.transfer(wallet, 1), chain.transfer(wallet, 2)), chain.memo(CODE, signers=(wallet,))], [wallet])
    inner = chain.send([call_event_program(EVENT_PROGRAM, amount=7, acts=everything, memo=CODE, **own)], [wallet])
    cut_off = chain.send([call_event_program(EVENT_PROGRAM, amount=7, earlier_logs=120, **own)], [wallet])
    failed = chain.fail(wallet, USDC, CODE)

    assert VAULT not in [Pubkey(bytes(key)) for key in chain.build([chain.transfer(wallet, 1)], [wallet], tables=[table]).message.account_keys]
    assert str(VAULT) in by_table.keys
    assert by_table.read_meta()["loadedAddresses"] == {"writable": [str(VAULT)], "readonly": []}
    assert batch.read_meta()["innerInstructions"] == []
    depths = [[one["stackHeight"] for one in group["instructions"]] for group in inner.read_meta()["innerInstructions"]]
    assert depths == [[2, 2, 2]]
    assert f"Program log: {CODE}" in inner.read_meta()["logMessages"]
    assert cut_off.read_meta()["logMessages"][-1] == "Log truncated"
    assert failed.fault is not None
    moved = [changes_of_vault(one.read_meta(), list(one.keys)) for one in (by_table, batch, inner, cut_off, failed)]
    assert moved == [1, 3, 7, 7, 0]


async def test_the_issuer_and_the_treasury_can_do_what_they_can(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet(10 * USDC)
    assert chain.mint_to(4 * USDC).fault is None
    assert chain.self_transfer(USDC).fault is None
    assert chain.mention(wallet).fault is None
    assert chain.withdraw(USDC, wallet).fault is None
    assert chain.amount() == 3 * USDC
    assert chain.delegate(wallet.pubkey(), 5).fault is None
    assert chain.set_close_authority(wallet.pubkey()).fault is None
    assert chain.freeze().fault is None
    assert chain.pay(wallet, 1).fault == {"InstructionError": [1, {"Custom": 17}]}
    chain.finalize()

    shown = (await client.get_account_info_json_parsed(VAULT)).value
    assert shown is not None
    info = shown.data.parsed["info"]
    assert info["state"] == "frozen"
    assert info["delegate"] == info["closeAuthority"] == str(wallet.pubkey())
    assert chain.thaw().fault is None
    assert chain.set_owner(wallet.pubkey()).fault is None


async def test_a_transfer_fee_and_other_tokens_are_what_they_are_on_chain(chain: Chain) -> None:
    wallet = chain.wallet()
    mint = chain.fee_mint(100)
    source = chain.open_account(wallet.pubkey(), mint, program=TOKEN_2022_PROGRAM, amount=10 * USDC)
    target = chain.open_account(TREASURY.pubkey(), mint, program=TOKEN_2022_PROGRAM)
    worthless = chain.open_account(wallet.pubkey(), chain.other_mint(), amount=5)

    step = transfer_checked(source, target, mint=mint, authority=wallet.pubkey(), amount=10 * USDC, program=TOKEN_2022_PROGRAM)
    assert chain.send([step], [wallet]).fault is None
    assert chain.amount(target) == 9_900_000
    assert chain.amount(worthless) == 5


async def test_tokens_are_found_by_owner_by_mint_and_by_filter(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet(7)
    chain.finalize()
    account = chain.token_account(wallet)

    by_mint = (await client.get_token_accounts_by_owner(wallet.pubkey(), TokenAccountOpts(mint=chain.mint))).value
    owner = MemcmpOpts(offset=32, bytes=str(wallet.pubkey()))
    by_filter = (await client.get_program_accounts(Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"), filters=[165, owner])).value
    several = (await client.get_multiple_accounts([account, Pubkey.new_unique()])).value

    assert [row.pubkey for row in by_mint] == [row.pubkey for row in by_filter] == [account]
    assert several[0] is not None
    assert several[1] is None


async def test_blocks_hashes_fees_and_airdrops_are_those_of_a_cluster(chain: Chain, client: AsyncClient) -> None:
    poor = Pubkey.new_unique()
    dropped = (await client.request_airdrop(poor, 5 * 10**9)).value
    slot = chain.slot
    chain.finalize()
    block = (await client.get_block(slot, max_supported_transaction_version=0)).value
    latest = (await client.get_latest_blockhash()).value
    wallet = chain.wallet()
    message = chain.build([chain.transfer(wallet, 1)], [wallet]).message

    assert block is not None
    assert dropped in [row.transaction.signatures[0] for row in block.transactions]
    assert (await client.get_balance(poor)).value == 5 * 10**9
    assert (await client.get_fee_for_message(message)).value == 5000
    assert (await ask(chain, "isBlockhashValid", str(latest.blockhash)))["result"]["value"] is True
    assert latest.last_valid_block_height == (await client.get_block_height()).value + 150
    assert (await client.get_block_time(slot)).value == block.block_time
    assert str((await client.get_genesis_hash()).value) == chain.genesis
    assert (await client.get_minimum_balance_for_rent_exemption(165)).value == 2039280
    assert await client.is_connected()
    chain.advance(151)
    assert (await ask(chain, "isBlockhashValid", str(latest.blockhash), {"commitment": "processed"}))["result"]["value"] is False


async def test_a_simulation_changes_nothing(chain: Chain, client: AsyncClient) -> None:
    wallet = chain.wallet()
    before = chain.amount()

    told = (await client.simulate_transaction(chain.build([chain.transfer(wallet, USDC)], [wallet]), sig_verify=True)).value

    assert told.err is None
    assert told.units_consumed
    assert chain.amount() == before


async def test_a_running_clock_finalizes_by_itself(chain: Chain, client: AsyncClient) -> None:
    chain.pay(chain.wallet(), USDC, CODE)
    chain.cluster.set_pace(slot_milliseconds=10, finalized_slots=4)
    chain.running.controls.ticking = True

    async with asyncio.timeout(20):
        while (await client.get_token_account_balance(VAULT, commitment=Finalized)).value.amount != str(USDC):
            await asyncio.sleep(0.02)


async def test_block_times_neither_go_back_nor_run_ahead_of_the_real_time(chain: Chain) -> None:
    wallet = chain.wallet()
    times = []
    for _ in range(3):
        chain.advance(500)
        times.append(chain.pay(wallet, 1).block_time)
        chain.cluster.tick()
        times.append(chain.pay(wallet, 1).block_time)

    assert times == sorted(times)
    assert times[-1] <= time.time() + 1
