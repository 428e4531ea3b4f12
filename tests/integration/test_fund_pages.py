"""The page by which an account is paid into, in all the states that a service can be in: what it offers, and what it keeps quiet about."""

import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from solders.keypair import Keypair

from cli.embedded import EmbeddedPostgres
from control.dashboard.funds import DEPOSITS_SHOWN
from ledger.base58 import encode_base58
from ledger.deposit_values import Pending, Vault
from ledger.tokens import TokenScope
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENDER = str(Keypair.from_seed(sha256(b"who pays").digest()).pubkey())
TREASURY, MINT, ADDRESS = (encode_base58(sha256(text).digest()) for text in (b"the treasury", b"the mint", b"the vault"))
MAINNET = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
VAULT = Vault(genesis=MAINNET, address=ADDRESS, owner=TREASURY, mint=MINT, token_program="TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
OWN = {"sec-fetch-site": "same-origin", "content-type": "application/x-www-form-urlencoded"}
UNSEEN = encode_base58(bytes(range(64)))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    """A service on mainnet, whose provider nobody can reach."""
    async with own_stores(postgres_server, store_home) as urls:
        chain = {"rpc_urls": "http://127.0.0.1:1", "treasury": TREASURY}
        settings = control_settings(*urls, register={"rate_per_minute": 0}, public_url="https://pay.example.com", chain=chain)
        await prepare_stores(settings)
        async with running_control(settings) as running:
            running.context.claim_limit.per_minute = 0
            await running.context.deposits.open_vault(VAULT, opening=None)
            await running.watcher_says("ok")
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def without_chain(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    """A service that takes no deposits on chain."""
    async with own_stores(postgres_server, store_home) as urls:
        settings = control_settings(*urls, register={"rate_per_minute": 0})
        await prepare_stores(settings)
        async with running_control(settings) as running:
            yield running


async def funds(control: Control, account: dict[str, str], rest: str = "", **query: str) -> httpx.Response:
    return await control.client.get(f"/dashboard/{account['api_token']}/funds{rest}", params=query)


async def test_it_shows_where_to_pay_and_what_names_the_account(control: Control) -> None:
    account = await control.register()

    page = await funds(control, account, amount="2.5")

    assert page.status_code == 200
    assert TREASURY in page.text
    assert MINT in page.text
    assert account["deposit_code"] in page.text
    assert f'src="/pay/{account["deposit_code"]}.svg?amount=2.5"' in page.text
    assert f'href="solana:{TREASURY}?amount=2.5&amp;spl-token={MINT}&amp;reference=' in page.text
    assert 'data-chain="solana:mainnet"' in page.text
    assert "test-money" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert account["api_token"] not in re.sub(r'(href|action|data-funds)="/dashboard/[^"]*"', "", page.text)


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("0", "must be more than 0 USDC"), ("1,5", "must be an amount of USDC"), ('"><script>alert(1)</script>', "must be an amount of USDC")],
)
async def test_an_amount_that_is_none_is_said_beside_its_field_and_the_code_asks_for_none(control: Control, typed: str, shown: str) -> None:
    account = await control.register()

    page = await funds(control, account, amount=typed)

    assert page.status_code == 200
    assert shown in page.text
    assert f'src="/pay/{account["deposit_code"]}.svg"' in page.text
    assert "<script>alert" not in page.text


async def test_while_deposits_are_closed_no_address_is_shown_and_what_came_stays_in_sight(control: Control) -> None:
    account = await control.register()
    await control.arrive(VAULT, 7_000_000, senders=(SENDER,), code=account["deposit_code"])

    await control.watcher_says("frozen")
    closed, part = await funds(control, account), await funds(control, account, "/pay")
    await control.watcher_says("ok")

    assert "Do not pay in now" in closed.text
    assert "deposits are closed until the operator has looked" in closed.text
    assert TREASURY not in closed.text + part.text
    assert "solana:" not in closed.text + part.text
    assert re.search(r"7\.00\s*</td>", closed.text)


async def test_where_deposits_are_off_the_operator_credits_the_code(without_chain: Control) -> None:
    account = await without_chain.register()

    page = await funds(without_chain, account)

    assert "On-chain deposits are off here." in page.text
    assert account["deposit_code"] in page.text
    assert "A payment that has not arrived" not in page.text
    assert "data-wallets" not in page.text


async def test_nobody_is_told_to_pay_into_a_closed_account_and_a_suspended_one_says_so(control: Control) -> None:
    closed, suspended = await control.register(), await control.register()
    await control.context.accounts.set_status(await control.account(closed), "closed", "gone")
    await control.context.accounts.set_status(await control.account(suspended), "suspended", "a look")

    told, warned = await funds(control, closed), await funds(control, suspended)

    assert "This account is closed. Do not pay in" in told.text
    assert TREASURY not in told.text
    assert "calls are refused until the operator lifts the suspension" in warned.text
    assert TREASURY in warned.text


async def test_deposits_are_listed_newest_first_and_page_by_page(control: Control) -> None:
    account = await control.register()
    for amount in range(1, DEPOSITS_SHOWN + 3):
        await control.arrive(VAULT, amount * 1_000_000, senders=(SENDER,), code=account["deposit_code"])

    first = await funds(control, account)
    older = re.search(r'href="[^"]*\?before=(\d+)#deposits" rel="next"', first.text)
    assert older is not None
    second = await funds(control, account, before=older[1])

    def amounts(page: httpx.Response) -> list[str]:
        return re.findall(r'class="figure">([\d.]+)</td>', page.text)

    assert amounts(first) == [f"{amount}.00" for amount in range(DEPOSITS_SHOWN + 2, 2, -1)]
    assert amounts(second) == ["2.00", "1.00"]
    assert 'rel="next"' not in second.text
    assert "https://explorer.solana.com/tx/" in first.text
    assert all('rel="noreferrer noopener"' in link for link in re.findall(r'<a href="https://[^>]*>', first.text))


async def test_a_payment_is_followed_in_words(control: Control) -> None:
    account, other = await control.register(), await control.register()
    code = account["deposit_code"]
    credited = await control.arrive(VAULT, 3_000_000, senders=(SENDER,), code=code)
    others = await control.arrive(VAULT, 4_000_000, senders=(SENDER,), code=other["deposit_code"])
    aside = await control.arrive(VAULT, 5_000_000, senders=(SENDER,))
    waiting = Pending(signature=encode_base58(b"p" * 64), slot=10**9, amount=6_000_000, deposit_code=code, seen_at=1_700_000_000_000)
    unnamed = Pending(signature=encode_base58(b"q" * 64), slot=10**9, amount=6_000_000, deposit_code=None, seen_at=1_700_000_000_000)
    await control.context.deposits.set_pending(VAULT, [waiting, unnamed])

    said = [(await funds(control, account, "/now", payment=one)).text for one in (credited.signature, others.signature, aside.signature)]
    ahead = [(await funds(control, account, "/now", payment=one)).text for one in (waiting.signature, unnamed.signature, UNSEEN)]
    await control.context.deposits.set_pending(VAULT, [])

    for text, words in zip(said, ("3.00 USDC credited", "The payment is another account&#39;s", "5.00 USDC arrived and is safe"), strict=True):
        assert words in text
    for text, words in zip(ahead, ("6.00 USDC can be spent when", "It does not name this account", "The network has not shown it yet"), strict=True):
        assert words in text
        assert "data-waiting" in text
    assert other["api_token"] not in "".join(said)
    assert other["deposit_code"] not in "".join(said)
    assert "On its way" in ahead[0]


async def test_what_is_shown_of_a_wallet_is_what_it_sent_without_a_name(control: Control) -> None:
    account, wallet = await control.register(), str(Keypair.from_seed(sha256(b"another who pays").digest()).pubkey())
    aside = await control.arrive(VAULT, 8_000_000, senders=(wallet,))
    await control.arrive(VAULT, 9_000_000, senders=(wallet,), code=account["deposit_code"])

    found, none = [await funds(control, account, "/claimable", wallet=one) for one in (wallet, TREASURY)]
    wrong = await funds(control, account, "/claimable", wallet="<script>")

    assert "Claim 8.00 USDC" in found.text
    assert aside.signature in found.text
    assert "9.00" not in found.text
    assert "Claim" not in none.text
    assert wrong.status_code == 400
    assert "<script>" not in wrong.text.replace('<script type="module"', "").replace("<script src", "")


async def test_a_token_for_looking_sees_deposits_and_no_form_that_changes_something(control: Control) -> None:
    registered = await control.register()
    text, _ = await control.context.accounts.create_token(await control.account(registered), scope=TokenScope.READ_ONLY)
    await control.arrive(VAULT, 2_000_000, senders=(SENDER,))

    page = await funds(control, {"api_token": text})

    assert page.status_code == 200
    assert "a token for looking only" in page.text
    assert 'method="post"' not in page.text


async def test_no_part_of_the_page_answers_for_a_token_that_is_nobodys(control: Control) -> None:
    account = await control.register()
    wrong = {"api_token": account["api_token"][:-4] + "0000"}

    answers = [await funds(control, wrong, rest) for rest in ("", "/now", "/pay", f"/claimable?wallet={SENDER}", "/claims/clm_" + "0" * 32)]

    assert [answer.status_code for answer in answers] == [401] * 5
    assert all(account["deposit_code"] not in answer.text for answer in answers)


async def test_a_claim_is_opened_from_what_was_pasted_and_only_its_own_account_sees_it(control: Control) -> None:
    account, other = await control.register(), await control.register()
    aside = await control.arrive(VAULT, 11_000_000, senders=(SENDER,))
    pasted = {"signature": f" https://explorer.solana.com/tx/{aside.signature}?cluster=mainnet "}

    opened = await control.client.post(f"/dashboard/{account['api_token']}/funds/claims", data=pasted, headers=OWN)
    page = await control.client.get(opened.headers["location"])
    theirs = await control.client.get(opened.headers["location"].replace(account["api_token"], other["api_token"]))

    assert opened.status_code == 303
    assert "Claim 11.00 USDC" in page.text
    assert "pay.example.com wants you to sign in with your Solana account:" in page.text
    assert theirs.status_code == 404
    assert aside.signature not in theirs.text


async def test_test_money_is_the_sandboxs_alone(control: Control) -> None:
    account = await control.register()

    answer = await control.client.post(f"/dashboard/{account['api_token']}/funds/test-money", data={"amount": "5"}, headers=OWN)

    assert answer.status_code == 404
