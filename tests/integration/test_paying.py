"""How to pay, as registering, balances, pages and QR codes tell it."""

import io
import json
import re
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio
import segno

from cli.embedded import EmbeddedPostgres
from config.chain import SANDBOX_MINT, SANDBOX_TREASURY
from ledger.base58 import encode_base58
from ledger.deposit_values import Pending, Vault, deposit_reference
from ledger.errors import JournalUnavailable
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEVNET = "EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxkbzYG"
TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
TREASURY, MINT, PROGRAM = (encode_base58(sha256(name).digest()) for name in (b"treasury", b"mint", b"program"))
VAULT = Vault(genesis=DEVNET, address=encode_base58(sha256(b"vault").digest()), owner=TREASURY, mint=MINT, token_program=TOKEN_PROGRAM)
CHAIN = {"rpc_urls": "https://rpc.example.com/?api-key=secret", "treasury": TREASURY}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    """An API whose watcher has opened its vault on devnet."""
    async with own_stores(postgres_server, store_home) as (database_url, redis_url):
        settings = control_settings(database_url, redis_url, register={"rate_per_minute": 0}, public_url="https://pay.example.com", chain=CHAIN)
        await prepare_stores(settings)
        async with running_control(settings) as running:
            await running.context.deposits.open_vault(VAULT, opening=None)
            yield running


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def healthy(control: Control) -> None:
    """No test has to mind what the watcher said in another."""
    await control.watcher_says("ok")


async def test_registering_tells_all_that_a_payment_needs(control: Control) -> None:
    body = await control.register()

    code, told = body["deposit_code"], body["instructions"]
    assert told["contract_address"] == told["deposit_address"] == TREASURY
    assert (told["usdc_mint"], told["memo"], told["vault"], told["cluster"]) == (MINT, code, VAULT.address, "devnet")
    assert told["reference"] == encode_base58(deposit_reference(code))
    assert told["qr_url"] == f"https://pay.example.com/pay/{code}.svg"
    assert told["pay_url"] == f"https://pay.example.com/pay/{code}"
    assert told["transaction_request_url"] == f"solana:https%3A%2F%2Fpay.example.com%2Fv1%2Fpay%2F{code}"
    for part in (TREASURY, code, "Solana (devnet)"):
        assert part in told["how_to_fund"]


async def test_the_link_pays_the_owner_in_this_token_and_names_the_account_twice(control: Control) -> None:
    body = await control.register()

    link = urlsplit(body["instructions"]["solana_pay_url"])
    fields = dict(parse_qsl(link.query, strict_parsing=True))
    assert (link.scheme, link.path) == ("solana", TREASURY)
    assert fields == {
        "spl-token": MINT,
        "reference": body["instructions"]["reference"],
        "label": "Level5",
        "message": f"Deposit for {body['deposit_code']}",
        "memo": body["deposit_code"],
    }


async def test_no_address_that_may_hold_a_key_is_told(control: Control) -> None:
    body = await control.register()
    answers = [await control.client.get(path) for path in ("/llms.txt", "/SKILL.md", "/.well-known/agent-service.json", f"/pay/{body['deposit_code']}")]

    assert not any("rpc.example.com" in text for text in (json.dumps(body), *(answer.text for answer in answers)))


async def test_a_balance_tells_how_to_add_to_it_and_what_is_on_its_way(control: Control) -> None:
    registered = await control.register()
    code, url = registered["deposit_code"], f"/proxy/{registered['api_token']}/balance"
    await control.context.deposits.set_pending(VAULT, [Pending(signature="5" * 64, slot=9, amount=1_250_000, deposit_code=code, seen_at=1)])
    await control.context.chain.refresh()

    seen = (await control.client.get(url)).json()
    await control.context.deposits.set_pending(VAULT, [])
    await control.context.chain.refresh()
    gone = (await control.client.get(url)).json()

    assert (seen["pending_deposits"], seen["usdc_balance"], seen["available"]) == (1_250_000, 0, 0)
    assert seen["instructions"] == registered["instructions"]
    assert gone["pending_deposits"] == 0


async def test_while_the_journal_is_away_a_balance_goes_on_showing_what_was_known(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = await control.register()
    code, url = registered["deposit_code"], f"/proxy/{registered['api_token']}/balance"
    await control.context.deposits.set_pending(VAULT, [Pending(signature="6" * 64, slot=9, amount=7, deposit_code=code, seen_at=1)])
    await control.context.chain.refresh()

    async def away(*_: object) -> None:
        raise JournalUnavailable("away")

    monkeypatch.setattr(type(control.context.deposits), "vault", away)
    monkeypatch.setattr(type(control.context.accounts), "find", away)
    await control.context.chain.refresh()
    body = (await control.client.get(url)).json()

    assert (body["pending_deposits"], body["instructions"]["memo"]) == (7, code)


async def test_an_account_whose_code_is_not_known_has_a_balance_all_the_same(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = await control.register()
    account = await control.account(registered)
    control.context.codes._known.pop(account.id)

    async def away(*_: object) -> None:
        raise JournalUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(type(control.context.accounts), "find", away)
        body = (await control.client.get(f"/proxy/{registered['api_token']}/balance")).json()

    assert (body["usdc_balance"], body["instructions"]) == (0, None)
    control.context.codes._ask_from = 0.0
    body = (await control.client.get(f"/proxy/{registered['api_token']}/balance")).json()
    assert body["instructions"]["memo"] == registered["deposit_code"]


async def test_a_credited_deposit_is_in_balance_and_statement(control: Control) -> None:
    registered = await control.register()

    await control.arrive(VAULT, 2_000_000, senders=(PROGRAM,), code=registered["deposit_code"])

    assert (await control.client.get(f"/proxy/{registered['api_token']}/balance")).json()["usdc_balance"] == 2_000_000
    [line] = (await control.client.get(f"/proxy/{registered['api_token']}/transactions")).json()["transactions"]
    assert (line["type"], line["usdc_amount"]) == ("DEPOSIT", 2_000_000)


# --- when nobody is to pay


@pytest.mark.parametrize("state", ["frozen", "faulty", "stopped"])
async def test_nobody_is_told_to_pay_while_something_is_wrong_with_the_vault(control: Control, state: str) -> None:
    await control.watcher_says(state)

    body = await control.register()
    page, image = [await control.client.get(f"/pay/{body['deposit_code']}{ending}") for ending in ("", ".svg")]

    told = body["instructions"]
    assert told["contract_address"] is told["deposit_address"] is told["solana_pay_url"] is told["usdc_mint"] is None
    assert "qr_url" not in told
    assert told["how_to_fund"].startswith("Do not pay on chain now")
    assert (page.status_code, image.status_code) == (503, 503)
    assert TREASURY not in page.text + image.text
    assert image.json()["error"]["code"] == "deposits_closed"


@pytest.mark.parametrize("state", ["starting", "error"])
async def test_a_watcher_that_is_in_trouble_itself_closes_nothing(control: Control, state: str) -> None:
    await control.watcher_says(state)

    assert (await control.register())["instructions"]["deposit_address"] == TREASURY


async def test_a_vault_that_nobody_checked_yet_is_not_told_except_the_sandboxs_own(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, chain=CHAIN)
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        real = (await control.register())["instructions"]
        simulated = control_settings(database_url, redis_url, mode="sandbox")
        control.context.chain._settings = simulated
        sandbox = (await control.register())["instructions"]

    assert real["deposit_address"] is None
    assert "has not been checked" in real["how_to_fund"]
    assert (sandbox["deposit_address"], sandbox["usdc_mint"], sandbox["cluster"]) == (SANDBOX_TREASURY, SANDBOX_MINT, "sandbox")
    assert sandbox["vault"] is None


@pytest.mark.parametrize("change", [{"treasury": PROGRAM}, {"usdc_mint": PROGRAM}])
async def test_a_vault_that_the_settings_contradict_is_not_told(control: Control, change: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    other = control.context.settings.model_copy(update={"chain": control.context.settings.chain.model_copy(update=change)})
    monkeypatch.setattr(control.context.chain, "_settings", other)

    assert (await control.register())["instructions"]["deposit_address"] is None


async def test_where_the_contract_adapter_is_on_the_program_is_told(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    on = control.context.settings.chain.model_copy(update={"event_program": PROGRAM})
    monkeypatch.setattr(type(control.context.settings), "chain", property(lambda _: on), raising=False)
    try:
        told = (await control.register())["instructions"]
    finally:
        monkeypatch.undo()

    assert (told["contract_address"], told["deposit_address"]) == (PROGRAM, TREASURY)


async def test_with_deposits_off_there_is_nothing_to_pay(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url)
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        body = await control.register()
        answers = [
            await control.client.get(f"{path}")
            for path in (f"/pay/{body['deposit_code']}", f"/pay/{body['deposit_code']}.svg", f"/v1/pay/{body['deposit_code']}")
        ]
        claim = await control.client.post(f"/proxy/{body['api_token']}/claims", json={"signature": "1" * 64})
        balance = (await control.client.get(f"/proxy/{body['api_token']}/balance")).json()

    assert "instructions" not in balance
    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert (claim.status_code, claim.json()["error"]["code"]) == (404, "deposits_off")


# --- QR codes and pages


def as_image(text: str) -> str:
    written = io.BytesIO()
    segno.make(text, error="m", micro=False).save(written, kind="svg", border=4, scale=4, light="#fff", dark="#000", xmldecl=False, omitsize=True, nl=False)
    return written.getvalue().decode()


async def test_the_qr_code_shows_the_link_with_and_without_an_amount(control: Control) -> None:
    body = await control.register()
    link = body["instructions"]["solana_pay_url"]

    plain = await control.client.get(f"/pay/{body['deposit_code']}.svg")
    asked = await control.client.get(f"/pay/{body['deposit_code'].lower()}.svg?amount=12.50")

    assert plain.headers["content-type"].startswith("image/svg+xml")
    assert "max-age" in plain.headers["cache-control"]
    assert plain.headers["cross-origin-resource-policy"] == "cross-origin"
    assert plain.text == as_image(link)
    assert asked.text == as_image(link.replace("?spl-token", "?amount=12.5&spl-token"))


@pytest.mark.parametrize("code", ["0123456789ABCDEF", "1", "nonsense", "%00", "0123456789ABCDE%C3%A9", "org_0123456789abcdef"])
@pytest.mark.parametrize("path", ["/pay/{}.svg", "/pay/{}", "/v1/pay/{}"])
async def test_an_unknown_code_is_404_and_nothing_more(control: Control, path: str, code: str) -> None:
    answer = await control.client.get(path.format(code))

    assert answer.status_code == 404
    assert "There is nothing to pay at this address" in answer.text


async def test_a_closed_account_cannot_be_paid_and_a_suspended_one_can(control: Control) -> None:
    body = await control.register()
    account = await control.account(body)
    statuses = []
    for status in ("suspended", "closed"):
        await control.context.accounts.set_status(account, status, reason="test")
        statuses.append((await control.client.get(f"/pay/{body['deposit_code']}")).status_code)

    assert statuses == [200, 404]


@pytest.mark.parametrize("amount", ["0", "-1", "1e3", "", "abc", "0.0000001", "99999999999"])
async def test_an_amount_that_cannot_be_paid_is_400(control: Control, amount: str) -> None:
    code = (await control.register())["deposit_code"]

    assert (await control.client.get(f"/pay/{code}.svg?amount={amount}")).status_code == 400
    assert (await control.client.get(f"/pay/{code}?amount={amount}")).status_code == 400


async def test_the_page_holds_what_a_person_copies_and_brings_nothing_from_elsewhere(control: Control) -> None:
    body = await control.register()

    page = await control.client.get(f"/pay/{body['deposit_code']}?amount=5")

    assert page.status_code == 200
    for text in (TREASURY, MINT, body["deposit_code"]):
        assert f'<code class="copyable-text">{text}</code>' in page.text
    assert "<svg" in page.text
    assert "Pay 5 USDC to Level5" in page.text
    assert "amount=5&amp;spl-token" in page.text
    assert body["api_token"] not in page.text
    assert "Sandbox" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.search(r"<(img|iframe|form)\b|url\(|\bstyle=|<script>|(?:src|href)=\"(?![/#]|solana:)", page.text)


async def test_the_dashboard_tells_what_is_on_its_way(control: Control) -> None:
    body = await control.register()
    await control.context.deposits.set_pending(VAULT, [Pending(signature="7" * 64, slot=9, amount=3_000_000, deposit_code=body["deposit_code"], seen_at=1)])
    await control.context.chain.refresh()

    page = (await control.client.get(f"/dashboard/{body['api_token']}")).text
    await control.context.deposits.set_pending(VAULT, [])

    assert 'data-live="pending">3.00<span class="zeros">0000</span>' in page
    assert f'href="/dashboard/{body["api_token"]}/funds"' in page


async def test_the_sandbox_marks_its_page_as_test_money(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, mode="sandbox")
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as control:
        page = (await control.client.get(f"/pay/{(await control.register())['deposit_code']}")).text

    assert "Test money only" in page
    assert "Level5 sandbox" in page


# --- descriptions for machines


async def test_the_descriptions_tell_how_to_pay_here(control: Control) -> None:
    skill, llms = [(await control.client.get(path)).text for path in ("/SKILL.md", "/llms.txt")]
    funding = (await control.client.get("/.well-known/agent-service.json")).json()["funding"]

    for text in (skill, llms):
        assert f"USDC (mint `{MINT}`) to `{TREASURY}` with a memo that is `CODE`" in text
        assert "https://pay.example.com/v1/pay/CODE?amount=5" in text
        assert "sandbox/faucet" not in text
        assert "off on this instance" not in text
    assert (funding["deposits"], funding["deposit_address"], funding["usdc_mint"], funding["cluster"]) == (True, TREASURY, MINT, "devnet")
    assert funding["transaction_request"] == "https://pay.example.com/v1/pay/{deposit_code}"


async def test_the_descriptions_tell_nobody_to_pay_while_deposits_are_closed(control: Control) -> None:
    await control.watcher_says("frozen")

    skill = (await control.client.get("/SKILL.md")).text
    funding = (await control.client.get("/.well-known/agent-service.json")).json()["funding"]

    assert TREASURY not in skill
    assert "Do not pay on chain now" in skill
    assert (funding["deposits"], funding["contract_address"]) == (False, None)
