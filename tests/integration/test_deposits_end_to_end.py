"""Deposits from a new user's side, on a whole appliance: paid with a plain wallet, seen, credited, claimed, spent, and still there after a restart."""

import asyncio
import base64
import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import httpx
import pytest
from solders.keypair import Keypair

from cli.embedded import postgres_url, valkey_url
from ledger.balances import Balances
from ledger.deposit_values import VaultFigures
from ledger.deposits import Deposits
from ledger.journal import open_pool
from ledger.redis_client import connect_redis
from tests.fakes.appliance import Account, Appliance
from tests.fakes.wallet import Wallet

USDC = 1_000_000
QUESTION = {"model": "claude-sonnet-4-6", "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(scope="module")
def wallet(running: Appliance) -> Wallet:
    """A wallet with 50 USDC."""
    made = Wallet(running.rpc_url, Keypair.from_seed(sha256(b"the wallet of an end-to-end test").digest()))
    given = httpx.post(f"{running.url}/sandbox/faucet", json={"wallet": made.address, "usdc": 50 * USDC}, timeout=30)
    assert given.status_code == 200, given.text
    eventually(lambda: has_money(made, given.json()["mint"]))
    return made


def has_money(wallet: Wallet, mint: str) -> bool:
    try:
        return asyncio.run(wallet.token_balance(wallet.address, mint)) == 50 * USDC
    except Exception:  # the account is not confirmed yet, which solana-py says in several ways
        return False


def eventually(holds: Callable[[], bool], *, seconds_max: float = 40.0) -> None:
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, "it did not come to be in time"
        time.sleep(0.1)


def register(running: Appliance) -> tuple[Account, dict[str, Any]]:
    """Return a new account and how it is paid into."""
    answer = httpx.post(f"{running.url}/v1/register", timeout=30).raise_for_status().json()
    return Account(answer["api_token"], answer["deposit_code"]), answer["instructions"]


def tell_chain(made: Appliance, what: str, **terms: object) -> None:
    httpx.post(f"{made.rpc_url}/_sandbox/{what}", json=terms, timeout=30).raise_for_status()


def ask(running: Appliance, account: Account) -> httpx.Response:
    return httpx.post(f"{running.url}/proxy/{account.api_token}/v1/messages", json=QUESTION, timeout=30)


def usdc_of(running: Appliance, account: Account) -> int:
    return int(running.balance(account)["usdc_balance"])


async def figures_of(running: Appliance) -> VaultFigures:
    """Return what the journal of the appliance says of its vault."""
    home = running.home / "sandbox"
    pool, redis = await open_pool(postgres_url(home)), connect_redis(valkey_url(home), command_seconds_max=10)
    try:
        return await Deposits(pool, Balances(redis, instance="")).figures()
    finally:
        await redis.aclose()
        await pool.close()


def assert_level(running: Appliance, wallet: Wallet, instructions: dict[str, Any]) -> None:
    """Chain, journal and listing agree to the microunit, and the books are whole."""
    on_chain = asyncio.run(wallet.token_balance(instructions["deposit_address"], instructions["usdc_mint"]))
    figures = asyncio.run(figures_of(running))
    listed = [(one["state"], one["amount"]) for one in running.ask("deposits", "list")]

    assert figures.vault_balance == figures.arrived == on_chain == sum(amount for _, amount in listed)
    assert figures.credited == sum(amount for state, amount in listed if state == "credited")
    assert figures.set_aside == sum(amount for state, amount in listed if state == "aside")
    running.verify()


def test_a_payment_is_seen_then_credited_then_spent(running: Appliance, wallet: Wallet) -> None:
    account, instructions = register(running)

    tell_chain(running, "clock", running=False)
    signature = asyncio.run(wallet.pay(instructions, 5 * USDC))
    tell_chain(running, "slots", count=2)
    eventually(lambda: running.balance(account)["pending_deposits"] == 5 * USDC)
    seen, refused = running.balance(account), ask(running, account)
    tell_chain(running, "clock", running=True)
    eventually(lambda: usdc_of(running, account) == 5 * USDC)
    eventually(lambda: running.balance(account)["pending_deposits"] == 0)
    answer = ask(running, account)

    assert (seen["usdc_balance"], seen["available"], refused.status_code) == (0, 0, 402)
    assert answer.status_code == 200
    charge = int(answer.headers["x-level5-charge"])
    assert charge > 0
    assert usdc_of(running, account) == 5 * USDC - charge
    eventually(lambda: len(running.transactions(account)) == 2)
    spent, came = running.transactions(account)
    assert (came["type"], came["usdc_amount"], came["balance_after"]) == ("DEPOSIT", 5 * USDC, 5 * USDC)
    assert (spent["usdc_amount"], spent["balance_after"]) == (-charge, 5 * USDC - charge)
    assert running.ask("deposits", "show", signature)["state"] == "credited"


def test_a_payment_that_names_nobody_is_set_aside_and_claimed_with_the_key_that_paid(running: Appliance, wallet: Wallet) -> None:
    account, instructions = register(running)
    url = f"{running.url}/proxy/{account.api_token}/claims"
    stranger = Keypair.from_seed(sha256(b"a wallet that did not pay").digest())

    signature = asyncio.run(wallet.pay(instructions, 3 * USDC, with_memo=False))
    eventually(lambda: signature in running.run("deposits", "list", "--state", "aside", "--json").stdout)
    opened = httpx.post(url, json={"signature": signature}, timeout=30)
    text = opened.json()["text"].encode()
    proofs = [str(key.sign_message(text)) for key in (stranger, wallet.key, wallet.key)]
    answers = [httpx.post(f"{url}/{opened.json()['claim_id']}", json={"wallet_signature": proof}, timeout=30) for proof in proofs]

    assert (opened.status_code, opened.json()["wallet"], opened.json()["usdc_amount"]) == (200, wallet.address, 3 * USDC)
    assert [answer.status_code for answer in answers][1] == 200, [answer.text for answer in answers]
    assert all(answers[place].status_code in range(400, 500) for place in (0, 2))
    assert answers[1].json()["status"] == "credited"
    assert usdc_of(running, account) == 3 * USDC
    assert ask(running, account).status_code == 200
    assert_level(running, wallet, instructions)


def test_a_page_of_another_origin_has_a_wallet_pay_by_a_transaction_of_ours(running: Appliance, wallet: Wallet) -> None:
    account, _ = register(running)
    url, origin = f"{running.url}/v1/pay/{account.deposit_code}", {"Origin": "https://wallet.example"}

    allowed = httpx.options(url, headers=origin | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}, timeout=30)
    label = httpx.get(url, headers=origin, timeout=30)
    offer = httpx.post(f"{url}?amount=2.25", json={"account": wallet.address}, headers=origin, timeout=30)
    asyncio.run(wallet.sign_and_send(base64.b64decode(offer.json()["transaction"])))
    eventually(lambda: usdc_of(running, account) == 2_250_000)

    assert (allowed.status_code, allowed.content) == (200, b"")
    assert "POST" in allowed.headers["access-control-allow-methods"]
    assert "content-type" in allowed.headers["access-control-allow-headers"].lower()
    assert [answer.headers["access-control-allow-origin"] for answer in (allowed, label, offer)] == ["*"] * 3
    assert label.json()["label"] == "Level5 sandbox"


def test_all_of_it_is_there_after_a_restart_and_the_next_payment_is_credited(running: Appliance, wallet: Wallet) -> None:
    account, instructions = register(running)
    asyncio.run(wallet.pay(instructions, 1 * USDC))
    eventually(lambda: usdc_of(running, account) == 1 * USDC)
    before, listed = asyncio.run(figures_of(running)), running.ask("deposits", "list")

    assert running.stop() == 0
    running.start()

    eventually(lambda: usdc_of(running, account) == 1 * USDC)
    after = asyncio.run(figures_of(running))
    assert (after.vault_balance, after.credited, after.moves_count) == (before.vault_balance, before.credited, before.moves_count)
    assert running.ask("deposits", "list") == listed
    asyncio.run(wallet.pay(instructions, 7))
    eventually(lambda: usdc_of(running, account) == 1 * USDC + 7)
    assert [line["usdc_amount"] for line in running.transactions(account, type="DEPOSIT")] == [7, 1 * USDC]
    assert_level(running, wallet, instructions)
