"""Claims: the sender of a deposit that named nobody proves it with the sending wallet, and has it credited once."""

import asyncio
import base64
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from cli.embedded import EmbeddedPostgres
from control.claim_texts import Envelope, signed_forms
from ledger.base58 import encode_base58
from ledger.deposit_values import Deposit, Vault
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

WALLET, STRANGER = (Keypair.from_seed(sha256(text).digest()) for text in (b"the sender", b"a stranger"))
SENDER = str(WALLET.pubkey())
PROGRAM = str(Pubkey.find_program_address([b"a smart wallet"], Pubkey.default())[0])
TREASURY, MINT, ADDRESS = (encode_base58(sha256(text).digest()) for text in (b"treasury", b"mint", b"vault"))
MAINNET = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
VAULT = Vault(genesis=MAINNET, address=ADDRESS, owner=TREASURY, mint=MINT, token_program="TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    async with own_stores(postgres_server, store_home) as (database_url, redis_url):
        chain = {"rpc_urls": "https://rpc.example.com", "treasury": TREASURY}
        settings = control_settings(database_url, redis_url, register={"rate_per_minute": 0}, public_url="https://pay.example.com:8443", chain=chain)
        await prepare_stores(settings)
        async with running_control(settings) as running:
            running.context.claim_limit.per_minute = 0
            await running.context.deposits.open_vault(VAULT, opening=None)
            await running.context.chain.refresh()
            yield running


async def claim(control: Control, account: dict[str, Any], deposit: Deposit) -> Any:
    return await control.client.post(f"/proxy/{account['api_token']}/claims", json={"signature": deposit.signature})


async def prove(control: Control, account: dict[str, Any], claim_id: str, **proof: str) -> Any:
    return await control.client.post(f"/proxy/{account['api_token']}/claims/{claim_id}", json=proof)


async def balance(control: Control, account: dict[str, Any]) -> int:
    return int((await control.client.get(f"/proxy/{account['api_token']}/balance")).json()["usdc_balance"])


def signed(text: str, wallet: Keypair = WALLET) -> str:
    return str(wallet.sign_message(text.encode()))


async def test_the_sender_signs_and_has_the_deposit_credited(control: Control) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 4_000_000, senders=(SENDER,))

    opened = (await claim(control, account, deposit)).json()
    proven = await prove(control, account, opened["claim_id"], wallet_signature=signed(opened["text"]))

    assert (opened["wallet"], opened["usdc_amount"]) == (SENDER, 4_000_000)
    assert proven.json() == {"claim_id": opened["claim_id"], "status": "credited", "signature": deposit.signature, "usdc_amount": 4_000_000}
    assert await balance(control, account) == 4_000_000
    [line] = (await control.client.get(f"/proxy/{account['api_token']}/transactions")).json()["transactions"]
    assert line["type"] == "DEPOSIT"
    assert (await control.context.deposits.find(deposit.signature)).source == "claim"


async def test_the_text_names_this_service_the_wallet_the_deposit_and_the_account(control: Control) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 1_500_000, senders=(SENDER,))

    first, second = [(await claim(control, account, deposit)).json() for _ in range(2)]

    lines = first["text"].split("\n")
    assert lines[:2] == ["pay.example.com:8443 wants you to sign in with your Solana account:", SENDER]
    for part in (deposit.signature, "1.500000 USDC", account["deposit_code"]):
        assert part in lines[3]
    assert {"URI: https://pay.example.com:8443", "Version: 1", "Chain ID: mainnet"} <= set(lines)
    assert account["api_token"] not in first["text"]
    assert first["text"] != second["text"]  # each has a nonce of its own


@pytest.mark.parametrize("envelope", list(Envelope))
async def test_every_envelope_is_accepted_under_its_name_only(control: Control, envelope: Envelope) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 10, senders=(SENDER,))
    opened = (await claim(control, account, deposit)).json()
    form = signed_forms(opened["text"], envelope, wallet=bytes(WALLET.pubkey()))[-1]
    signature = base64.b64encode(bytes(WALLET.sign_message(form))).decode()
    others = [other for other in Envelope if other is not envelope]

    refused = [(await prove(control, account, opened["claim_id"], wallet_signature=signature, envelope=other)).status_code for other in others]
    proven = await prove(control, account, opened["claim_id"], wallet_signature=signature, envelope=envelope)

    assert refused == [422, 422]
    assert proven.status_code == 200


async def test_a_wrong_signature_gains_nothing_and_leaves_the_claim_open(control: Control) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 11, senders=(SENDER,))
    opened = (await claim(control, account, deposit)).json()
    other = (await claim(control, account, deposit)).json()

    for wrong in (signed(opened["text"], STRANGER), signed(other["text"]), signed(opened["text"] + "\n"), "nonsense", "A" * 86):
        answer = await prove(control, account, opened["claim_id"], wallet_signature=wrong)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_signature")
    assert await balance(control, account) == 0

    assert (await prove(control, account, opened["claim_id"], wallet_signature=signed(opened["text"]))).status_code == 200


async def test_a_claim_is_its_accounts_own(control: Control) -> None:
    account, thief = await control.register(), await control.register()
    deposit = await control.arrive(VAULT, 12, senders=(SENDER,))
    opened = (await claim(control, account, deposit)).json()

    stolen = await prove(control, thief, opened["claim_id"], wallet_signature=signed(opened["text"]))

    assert (stolen.status_code, stolen.json()["error"]["code"]) == (404, "unknown_claim")
    assert await balance(control, thief) == 0


async def test_a_claim_is_used_once(control: Control) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 13, senders=(SENDER,))
    opened, other = [(await claim(control, account, deposit)).json() for _ in range(2)]
    await prove(control, account, opened["claim_id"], wallet_signature=signed(opened["text"]))

    again = await prove(control, account, opened["claim_id"], wallet_signature=signed(opened["text"]))
    second = await prove(control, account, other["claim_id"], wallet_signature=signed(other["text"]))
    anew = await claim(control, account, deposit)

    assert [answer.status_code for answer in (again, second, anew)] == [409, 409, 409]
    assert [answer.json()["error"]["code"] for answer in (again, second, anew)] == ["claim_spent", "already_credited", "already_credited"]
    assert await balance(control, account) == 13


async def test_of_many_who_prove_at_once_one_is_credited(control: Control) -> None:
    accounts = [await control.register() for _ in range(4)]
    deposit = await control.arrive(VAULT, 14, senders=(SENDER,))
    opened = [(await claim(control, account, deposit)).json() for account in accounts for _ in range(2)]
    pairs = [(account, one) for index, one in enumerate(opened) for account in (accounts[index // 2],)]

    answers = await asyncio.gather(
        *(prove(control, account, one["claim_id"], wallet_signature=signed(one["text"])) for account, one in pairs for _ in range(2))
    )

    winners = [pairs[index // 2][0]["deposit_code"] for index, answer in enumerate(answers) if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len(set(winners)) == 1
    assert sorted([await balance(control, account) for account in accounts]) == [0, 0, 0, 14]


async def test_a_claims_time_ends(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 15, senders=(SENDER,))
    monkeypatch.setattr("control.deposit_claims.CLAIM_SECONDS", 0)
    opened = (await claim(control, account, deposit)).json()

    late = await prove(control, account, opened["claim_id"], wallet_signature=signed(opened["text"]))

    assert (late.status_code, late.json()["error"]["code"]) == (410, "claim_expired")
    assert await balance(control, account) == 0


@pytest.mark.parametrize(
    ("senders", "code"),
    [((), "no_single_sender"), ((SENDER, str(STRANGER.pubkey())), "no_single_sender"), ((PROGRAM,), "sender_cannot_sign")],
)
async def test_who_cannot_prove_it_alone_is_told_what_to_do_instead(control: Control, senders: tuple[str, ...], code: str) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 16, senders=senders)

    answer = await claim(control, account, deposit)

    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert "with your deposit code as the memo" in answer.json()["error"]["message"]


async def test_what_is_credited_or_unknown_cannot_be_claimed(control: Control) -> None:
    account, owner = await control.register(), await control.register()
    deposit = await control.arrive(VAULT, 17, senders=(SENDER,), code=owner["deposit_code"])

    taken = await claim(control, account, deposit)
    unknown = await control.client.post(f"/proxy/{account['api_token']}/claims", json={"signature": encode_base58(bytes(range(1, 65)))})

    assert (taken.status_code, unknown.status_code) == (409, 404)
    assert owner["deposit_code"] not in taken.text


async def test_a_claim_while_crediting_is_stopped_is_kept_and_credited_later(control: Control) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 18, senders=(SENDER,))
    opened = (await claim(control, account, deposit)).json()
    await control.context.deposits.stop_crediting("a test")

    proven = (await prove(control, account, opened["claim_id"], wallet_signature=signed(opened["text"]))).json()
    waiting = await balance(control, account)
    await control.context.deposits.resume_crediting()
    await control.context.deposits.credit_due()

    assert (proven["status"], waiting) == ("due", 0)
    assert await balance(control, account) == 18


@pytest.mark.parametrize("token", ["nonsense", "l5_1_" + "0" * 64])
async def test_a_token_that_is_not_good_is_401(control: Control, token: str) -> None:
    opening = await control.client.post(f"/proxy/{token}/claims", json={"signature": "1" * 64})
    proving = await control.client.post(f"/proxy/{token}/claims/clm_{'0' * 32}", json={"wallet_signature": "1" * 64})

    assert (opening.status_code, proving.status_code) == (401, 401)


async def test_a_suspended_account_cannot_claim(control: Control) -> None:
    account, deposit = await control.register(), await control.arrive(VAULT, 19, senders=(SENDER,))
    await control.context.accounts.set_status(await control.account(account), "suspended", reason="test")

    assert (await claim(control, account, deposit)).status_code == 401


@pytest.mark.parametrize(
    "body", [{}, {"signature": ""}, {"signature": "0" * 88}, {"signature": "1" * 63}, {"signature": 5}, {"signature": "1" * 64, "account": "x"}]
)
async def test_what_is_no_signature_is_400(control: Control, body: dict[str, Any]) -> None:
    account = await control.register()

    assert (await control.client.post(f"/proxy/{account['api_token']}/claims", json=body)).status_code == 400


@pytest.mark.parametrize("claim_id", ["1", "clm_" + "0" * 32, "clm_%00", "clm_" + "g" * 32, "x" * 500])
async def test_an_unknown_claim_is_404(control: Control, claim_id: str) -> None:
    account = await control.register()

    assert (await prove(control, account, claim_id, wallet_signature="1" * 64)).status_code == 404


async def test_one_account_may_not_try_without_end(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    account, other = await control.register(), await control.register()
    deposit = await control.arrive(VAULT, 20, senders=(SENDER,))
    monkeypatch.setattr(control.context.claim_limit, "per_minute", 3)
    opened = (await claim(control, account, deposit)).json()

    tries = [(await prove(control, account, opened["claim_id"], wallet_signature="1" * 64)).status_code for _ in range(3)]

    assert tries == [422, 422, 429]
    assert (await claim(control, other, deposit)).status_code == 200
