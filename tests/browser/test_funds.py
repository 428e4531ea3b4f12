"""Adding funds as people do it: with a wallet of the browser, by a phone or by hand; and claiming what came without a name."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from control.claim_texts import Envelope, signed_forms
from control.solana_pay import read_amount
from ledger.base58 import encode_base58
from tests.fakes.appliance import CLIENT, Account, Appliance
from tests.fakes.browser import Visits
from tests.fakes.browser_wallet import REFUSED, BrowserWallet, attach, key_of

USDC = 1_000_000
CREDIT_MILLISECONDS_MAX = 60_000
ATTACK = '"><img src=x onerror=alert(1)><script>alert(2)</script>\u202e🦊' + "x" * 200


@pytest.fixture(scope="module")
def payer(service: Appliance) -> BrowserWallet:
    """A wallet of two addresses, the first of which has test USDC."""
    made = BrowserWallet(service, keys=(key_of("the first address"), key_of("the second address")), labels=("Savings", "Spending"))
    made.fund(500 * USDC)
    return made


@pytest.fixture
def wallet(payer: BrowserWallet) -> BrowserWallet:
    """The same keys in a wallet that knows no page yet."""
    return BrowserWallet(payer.service, keys=payer.keys, labels=payer.labels)


def open_funds(visits: Visits, account: Account, *wallets: BrowserWallet, query: str = "", **options: Any) -> Page:
    page = visits.open("about:blank", prepare="\n".join(one.script for one in wallets) or None, **options)
    attach(page, *wallets)
    page.goto(f"{visits.url}/dashboard/{account.api_token}/funds{query}")
    return page


def connect(page: Page, wallet: BrowserWallet) -> None:
    page.get_by_role("button", name=wallet.name, exact=True).click()
    expect(page.get_by_label(f"Address in {wallet.name}")).to_be_visible()


def figures(page: Page) -> str:
    return page.locator("[data-part=figures]").inner_text()


def status(page: Page) -> Any:
    return page.locator("[data-status]")


@contextmanager
def stopped_clock(service: Appliance) -> Iterator[None]:
    """Let slots pass only when told to."""
    tell_chain(service, "clock", running=False)
    try:
        yield
    finally:
        tell_chain(service, "clock", running=True)


def tell_chain(service: Appliance, what: str, **terms: object) -> None:
    CLIENT.post(f"{service.rpc_url}/_sandbox/{what}", json=terms).raise_for_status()


def instructions(service: Appliance, account: Account) -> dict[str, Any]:
    found: dict[str, Any] = service.balance(account)["instructions"]
    return found


# --- paying


def test_a_wallet_pays_and_the_page_follows_the_payment_until_it_can_be_spent(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    account = service.register()
    page = open_funds(visits, account, wallet)
    visits.look(page, "funds-new")
    connect(page, wallet)
    payment = page.locator("#payment")

    with stopped_clock(service):
        page.get_by_role("link", name="25", exact=True).click()
        page.get_by_role("button", name="Pay 25 USDC").click()
        expect(payment).to_contain_text(re.compile("The payment (was sent|is confirmed)"))  # the slot under way may still end
        tell_chain(service, "slots", count=2)
        expect(payment).to_contain_text("The payment is confirmed")
        expect(page.locator("[data-part=figures]")).to_contain_text("25.00 USDC\nSeen on chain, not final yet.", use_inner_text=True)
        expect(page.locator("#deposits tbody")).to_contain_text("On its way")
        visits.look(page, "funds-confirmed")
        tell_chain(service, "slots", count=32)
        expect(payment).to_contain_text(re.compile("is final|credited"))
    expect(payment).to_contain_text("25.00 USDC credited", timeout=CREDIT_MILLISECONDS_MAX)

    expect(page.locator("[data-part=figures] dd").first).to_have_text(re.compile(r"25\.00 USDC"))
    expect(page.locator("#deposits tbody tr")).to_have_count(1)
    expect(page.locator("#deposits tbody")).to_contain_text("Credited")
    expect(page.locator("[data-announce]")).to_contain_text("25.00 USDC credited")
    assert service.balance(account)["usdc_balance"] == 25 * USDC
    assert [details["chain"] for what, details in wallet.asked if what == "pay"] == ["solana:sandbox"]
    page.reload()
    expect(payment).to_contain_text("25.00 USDC credited")


def test_who_refuses_in_the_wallet_is_told_that_nothing_was_sent(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    account = service.register()
    page = open_funds(visits, account, wallet)
    wallet.answers["connect"] = REFUSED
    page.get_by_role("button", name="Test wallet").click()
    expect(status(page)).to_have_text("You refused in Test wallet. Nothing was sent.")
    del wallet.answers["connect"]
    connect(page, wallet)

    wallet.answers["pay"] = REFUSED
    page.get_by_role("button", name="Pay 10 USDC").click()

    expect(status(page)).to_have_text("You refused in Test wallet. Nothing was sent.")
    assert page.locator("#payment").is_hidden()
    assert "payment=" not in page.url
    assert service.balance(account)["pending_deposits"] == 0
    del wallet.answers["pay"]
    expect(page.get_by_role("button", name="Pay 10 USDC")).to_be_enabled()


FAULTS: tuple[tuple[int | None, str, str], ...] = (
    (-32002, "Already processing", "is asking you something already"),
    (4100, "Unauthorized", "has not allowed this page"),
    (4900, "Disconnected", "has no connection to its network"),
    (None, "Transaction cancelled by user", "You refused in Test wallet"),
    (None, "Blockhash not found", "It took too long"),
    (None, "Attempt to debit an account but found no record of a prior credit.", "has no SOL for the network's fee"),
    (None, ATTACK, 'says: "><img src=x onerror=alert(1)>'),
    (None, "", "failed without saying why"),
)


def test_what_goes_wrong_in_a_wallet_is_said_in_words(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    page = open_funds(visits, service.register(), wallet)
    connect(page, wallet)

    for code, message, words in FAULTS:
        wallet.answers["pay"] = {"code": code, "message": message}
        page.get_by_role("button", name="Pay 10 USDC").click()
        expect(status(page)).to_contain_text(words)


def test_an_address_without_enough_usdc_is_told_what_it_has(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    page = open_funds(visits, service.register(), wallet, allowed=("status of 422",))
    connect(page, wallet)

    page.get_by_label("Amount in USDC").fill("1000000.000001")
    page.get_by_role("button", name="Pay 1000000.000001 USDC").click()
    expect(status(page)).to_contain_text("and 1000000.000001 are asked for")
    expect(status(page)).to_contain_text(re.compile(r"This address has \d+(\.\d+)? USDC on the sandbox"))

    page.get_by_label("Address in Test wallet").select_option(wallet.address(1))
    page.get_by_label("Amount in USDC").fill("0.000001")
    page.get_by_role("button", name="Pay 0.000001 USDC").click()
    expect(status(page)).to_contain_text("This address has no USDC on the sandbox")
    assert not [what for what, _ in wallet.asked if what == "pay"]


def test_wallets_that_cannot_pay_here_say_why(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    others = (
        BrowserWallet(service, "Elsewhere", chains=("solana:mainnet",)),
        BrowserWallet(service, "Only signs", features=("standard:connect", "solana:signMessage")),
        BrowserWallet(service, "Of another kind", chains=("eip155:1",)),
        BrowserWallet(service, ATTACK, icon="https://elsewhere.example/icon.svg"),
    )
    page = open_funds(visits, service.register(), wallet, *others)

    entries = page.locator("[data-list] li")
    expect(entries).to_have_count(4)
    expect(entries.filter(has_text="Elsewhere")).to_contain_text("does not know the network sandbox")
    expect(entries.filter(has_text="Only signs")).to_contain_text("cannot pay from a page")
    assert entries.filter(has_text="Only signs").get_by_role("button").is_disabled()
    expect(entries.nth(3)).to_contain_text('"><img src=x')
    visits.look(page, "funds-wallets")


def test_an_address_on_another_network_or_only_watched_is_not_asked_to_pay(service: Appliance, visits: Visits) -> None:
    elsewhere = BrowserWallet(service, "On devnet", account_chains=("solana:devnet",))
    watching = BrowserWallet(service, "Watching", account_features=("standard:connect",))
    page = open_funds(visits, service.register(), elsewhere, watching)
    for one in (elsewhere, watching):
        one.fund(20 * USDC)

    connect(page, elsewhere)
    page.get_by_role("button", name="Pay 10 USDC").click()
    expect(status(page)).to_contain_text("This address is not on the network sandbox. Switch On devnet to sandbox")
    page.get_by_role("button", name="Disconnect").click()
    connect(page, watching)
    page.get_by_role("button", name="Pay 10 USDC").click()
    expect(status(page)).to_contain_text("Watching cannot pay with this address")


def test_the_page_follows_a_wallet_that_changes_its_address_or_leaves(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    page = open_funds(visits, service.register(), wallet)
    connect(page, wallet)
    addresses = page.get_by_label("Address in Test wallet")
    expect(addresses.locator("option")).to_have_text([re.compile(r"Savings \(.{6}….{6}\)"), re.compile("Spending")])

    page.evaluate("window.testWallets['Test wallet'].switchTo(1)")
    expect(addresses).to_have_value(wallet.address(1))
    expect(addresses.locator("option")).to_have_count(1)
    page.evaluate("window.testWallets['Test wallet'].switchTo()")
    expect(status(page)).to_have_text("Test wallet has disconnected.")
    expect(addresses).to_be_hidden()

    connect(page, wallet)
    page.reload()
    expect(addresses).to_be_visible()  # it was used here before, so it is asked silently
    page.get_by_role("button", name="Disconnect").click()
    page.reload()
    expect(page.get_by_role("button", name="Test wallet")).to_be_visible()
    expect(addresses).to_be_hidden()


def test_a_wallet_that_comes_late_is_found(service: Appliance, visits: Visits) -> None:
    late = BrowserWallet(service, "Late wallet", late=True)
    page = open_funds(visits, service.register(), late)
    expect(page.get_by_text("No wallet has shown itself")).to_be_visible()

    page.evaluate("window.testWallets['Late wallet'].appear(); window.testWallets['Late wallet'].appear()")

    expect(page.locator("[data-list] li")).to_have_text(["Late wallet"])
    expect(page.get_by_text("No wallet has shown itself")).to_be_hidden()


def test_the_amount_is_shown_in_code_and_link_as_it_is_typed(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = open_funds(visits, account, allowed=("status of 400",))
    link, image = page.get_by_role("link", name="Open it in a wallet"), page.locator("img.qr")

    page.get_by_label("Amount in USDC").fill("1234.5")
    expect(image).to_have_attribute("src", f"/pay/{account.deposit_code}.svg?amount=1234.5")
    expect(link).to_have_attribute("href", re.compile(r"^solana:[1-9A-HJ-NP-Za-km-z]+\?amount=1234\.5&spl-token="))
    expect(page.locator("[data-part=phone]")).to_contain_text("1,234.50 USDC")
    page.get_by_label("Amount in USDC").fill("1,5")
    expect(page.get_by_text("Write the amount with a point and without commas")).to_be_visible()
    page.get_by_label("Amount in USDC").fill("")
    expect(image).to_have_attribute("src", f"/pay/{account.deposit_code}.svg")
    expect(page.locator("[data-part=phone]")).to_contain_text("the amount that you choose there")
    assert page.url.endswith("/funds?amount=")
    page.get_by_label("Signature of the transaction").fill("none")
    page.get_by_role("button", name="Claim this payment").click()
    page.get_by_label("Amount in USDC").fill("7")
    expect(image).to_have_attribute("src", f"/pay/{account.deposit_code}.svg?amount=7")
    assert page.url.endswith("/funds?amount=7")  # and not the address of the form that was answered
    assert image.evaluate("image => image.complete && image.naturalWidth > 0")


def test_a_page_that_is_open_when_its_token_is_revoked_shows_nothing_more(service: Appliance, visits: Visits) -> None:
    account = service.register()
    token = service.ask("tokens", "create", account.deposit_code)
    other = Account(token["api_token"], account.deposit_code)
    page = open_funds(visits, other, allowed=("status of 401",))
    expect(page.get_by_text(account.deposit_code, exact=True)).to_be_visible()

    service.run("tokens", "revoke", token["token_id"])

    expect(page.get_by_role("heading", name="No account opens with this address")).to_be_visible(timeout=20_000)
    assert account.deposit_code not in page.content()


def test_test_money_comes_by_a_real_transfer_that_is_followed(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = open_funds(visits, account)

    page.get_by_role("link", name="5", exact=True).click()
    page.get_by_role("button", name="Get 5 test USDC").click()

    expect(page.locator("#payment")).to_contain_text("5.00 USDC credited", timeout=CREDIT_MILLISECONDS_MAX)
    assert service.balance(account)["usdc_balance"] == 5 * USDC


def test_payments_made_elsewhere_appear_by_themselves_however_large_or_small(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = open_funds(visits, account)
    expect(page.locator("#deposits")).to_contain_text("No deposits yet")

    for usdc in (999_999_999_999, 1, 1_000_000_000_000):
        CLIENT.post(f"{service.url}/sandbox/faucet", json={"deposit_code": account.deposit_code, "usdc": usdc}).raise_for_status()

    expect(page.locator("#deposits tbody tr")).to_have_count(3, timeout=CREDIT_MILLISECONDS_MAX)
    expect(page.locator("#deposits .badge-good")).to_have_count(3, timeout=CREDIT_MILLISECONDS_MAX)
    expect(page.locator("[data-part=figures] dd").first).to_contain_text("2,000,000.00 USDC", timeout=CREDIT_MILLISECONDS_MAX, use_inner_text=True)
    visits.look(page, "funds-list")


# --- claiming


def set_aside(service: Appliance, wallet: BrowserWallet, account: Account, usdc: int, visits: Visits) -> str:
    """Pay without a memo, and return the signature once the payment is final and nobody's."""
    signature = wallet.pay_without_memo(instructions(service, account), usdc)
    page = open_funds(visits, account, query=f"?payment={signature}")
    expect(page.locator("#payment")).to_contain_text("The payment names no account", timeout=CREDIT_MILLISECONDS_MAX)
    page.close()
    return signature


def test_a_payment_without_a_name_is_offered_to_the_wallet_that_sent_it_and_claimed(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    account = service.register()
    signature = set_aside(service, wallet, account, 3_210_000, visits)
    page = open_funds(visits, account, wallet, query=f"?payment={signature}")
    expect(page.locator("#payment")).to_contain_text("3.21 USDC arrived and is safe, but is nobody's yet.")
    connect(page, wallet)
    visits.look(page, "funds-aside")

    page.get_by_role("button", name="Claim 3.21 USDC").click()
    expect(page.get_by_role("heading", name="Claim 3.21 USDC")).to_be_visible()
    expect(page.get_by_label("Address in Test wallet")).to_be_visible()  # silently: it is allowed already
    visits.look(page, "claim")
    page.get_by_label("Address in Test wallet").select_option(wallet.address(1))
    page.get_by_role("button", name="Sign the text").click()
    expect(status(page)).to_contain_text("Switch to the address that paid.")
    page.get_by_label("Address in Test wallet").select_option(wallet.address(0))
    wallet.answers["sign"] = REFUSED
    page.get_by_role("button", name="Sign the text").click()
    expect(status(page)).to_have_text("You refused in Test wallet. Nothing was sent.")
    del wallet.answers["sign"]
    page.get_by_role("button", name="Sign the text").click()

    expect(page.locator("#payment")).to_contain_text("3.21 USDC credited", timeout=CREDIT_MILLISECONDS_MAX)
    expect(page.locator("#deposits tbody")).to_contain_text("by your claim")
    assert service.balance(account)["usdc_balance"] == 3_210_000


def test_a_claim_by_hand_takes_what_people_paste_and_says_why_it_refuses(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    account, other = service.register(), service.register()
    signature = set_aside(service, wallet, account, 450_000, visits)
    allowed = ("status of 4",)  # the browser notes each refusal on its console
    page = open_funds(visits, account, script=False, allowed=allowed)

    page.get_by_label("Signature of the transaction").fill(ATTACK)
    page.get_by_role("button", name="Claim this payment").click()
    expect(page.get_by_role("alert")).to_contain_text("This is no signature of a transaction")
    expect(page.get_by_label("Signature of the transaction")).to_have_value(ATTACK)
    page.get_by_label("Signature of the transaction").fill(encode_base58(bytes(range(64))))
    page.get_by_role("button", name="Claim this payment").click()
    expect(page.get_by_role("alert")).to_contain_text("No final deposit with this signature is known")
    page.get_by_label("Signature of the transaction").fill(f"https://explorer.example/tx/{signature}?cluster=custom")
    page.get_by_role("button", name="Claim this payment").click()
    text = page.locator("[data-claim-text] pre").inner_text()
    page.get_by_label("Signature of the wallet").fill("nonsense")
    page.get_by_role("button", name="Prove it").click()
    expect(page.get_by_role("alert")).to_contain_text("must be the 64 bytes of a signature")
    form = signed_forms(text, Envelope.OFFCHAIN_SHORT, wallet=bytes(wallet.keys[0].pubkey()))[0]
    page.get_by_label("Signature of the wallet").fill(f" {base64.b64encode(bytes(wallet.keys[0].sign_message(form))).decode()} ")
    page.get_by_label("What was signed").select_option("offchain_short")
    claim = page.url
    page.get_by_role("button", name="Prove it").click()
    expect(page.locator("#payment")).to_contain_text(re.compile("credited|final"))

    seeing = open_funds(visits, other, allowed=allowed)
    seeing.get_by_label("Signature of the transaction").fill(signature)
    seeing.get_by_role("button", name="Claim this payment").click()
    expect(seeing.get_by_role("alert")).to_contain_text("This deposit is credited already")
    visits.look(seeing, "claim-refused")
    seeing.goto(claim)
    expect(seeing.get_by_role("heading", name="This claim is over")).to_be_visible()
    visits.look(seeing, "claim-over")
    seeing.goto(claim.replace(account.api_token, other.api_token))
    expect(seeing.get_by_text("There is no such claim of this account")).to_be_visible()


def test_a_wallet_that_wraps_what_it_signs_proves_a_claim_too(service: Appliance, visits: Visits, wallet: BrowserWallet) -> None:
    account = service.register()
    signature = set_aside(service, wallet, account, 120_000, visits)
    page = open_funds(visits, account, wallet, query=f"?payment={signature}")
    page.locator("#payment").get_by_role("button", name="Claim this payment").click()
    connect(page, wallet)
    text, key = page.locator("[data-claim-text] pre").inner_text(), bytes(wallet.keys[0].pubkey())
    wallet.wrapping = signed_forms(text, Envelope.OFFCHAIN_LONG, wallet=key)[-1].removesuffix(text.encode())

    page.get_by_role("button", name="Sign the text").click()

    expect(page.locator("#payment")).to_contain_text("0.12 USDC credited", timeout=CREDIT_MILLISECONDS_MAX)


# --- without a script, and the scripts' exact parts


def test_all_but_the_browsers_wallets_works_without_a_script(service: Appliance, visits: Visits) -> None:
    account = service.register()
    page = open_funds(visits, account, script=False, allowed=("status of 4",))

    expect(page.get_by_text("With JavaScript a wallet in this browser can pay")).to_be_visible()
    page.get_by_label("Amount in USDC").fill("0.5")
    page.get_by_role("button", name="Set").click()
    expect(page.locator("img.qr")).to_have_attribute("src", f"/pay/{account.deposit_code}.svg?amount=0.5")
    page.get_by_label("Amount in USDC").fill("a lot")
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_text("The amount must be an amount of USDC such as 5 or 0.25")).to_be_visible()
    page.get_by_role("link", name="25", exact=True).click()
    page.get_by_role("button", name="Get 25 test USDC").click()
    expect(page.locator("#payment")).to_contain_text(re.compile("sent|confirmed|final|credited"))


AMOUNTS = (
    "5", "0.25", "1234567.890123", "0.000001", "9007199254.740991", "007", "1.500000", "9007199254.740992", "0", "0.0", "0.0000001", "-1", "1e3", "1.2.3",
    "٣", "NaN", "99999999999999999999999", "0x10",
)  # fmt: skip


def module_of(page: Page, name: str) -> str:
    """Return the address of a script beside the page's own."""
    found = page.locator("script[src$='/funds.js']").get_attribute("src")
    assert found is not None
    return found.removesuffix("funds.js") + name


def test_scripts_read_amounts_as_the_server_does(service: Appliance, visits: Visits) -> None:
    page = open_funds(visits, service.register())
    read = """async ([module, texts]) => {
        const { readAmount, writeAmount } = await import(module);
        return texts.map((text) => { try { const amount = readAmount(text); return [String(amount), writeAmount(amount)]; } catch (error) { return null; } });
    }"""

    found = page.evaluate(read, [module_of(page, "funds-amount.js"), list(AMOUNTS)])

    for text, amount in zip(AMOUNTS, found, strict=True):
        try:
            expected: int | None = read_amount(text)
        except ValueError:
            expected = None
        assert (None if amount is None else int(amount[0])) == expected, text
        if amount is not None:
            assert read_amount(amount[1]) == expected


def test_scripts_write_base58_as_the_server_does(service: Appliance, visits: Visits) -> None:
    page = open_funds(visits, service.register())
    samples = [b"", b"\x00", b"\x00\x00\x01", bytes(64), b"\xff" * 64, bytes(range(64)), b"\x00" + bytes(range(255, 192, -1))]

    found = page.evaluate(
        "async ([module, samples]) => { const { toBase58 } = await import(module); return samples.map((one) => toBase58(new Uint8Array(one))); }",
        [module_of(page, "wallet-bytes.js"), [list(one) for one in samples]],
    )

    assert found == [encode_base58(one) for one in samples]


def test_scripts_tell_the_envelopes_that_the_server_knows(service: Appliance, visits: Visits) -> None:
    page = open_funds(visits, service.register())
    text, key = "a text\nof two lines, and a \u00fc", bytes(range(32))
    forms = [(envelope.value, form) for envelope in Envelope for form in signed_forms(text, envelope, wallet=key)]
    strange = [(None, b"x" + text.encode()), (None, b"x" * 20 + text.encode()), (None, text.encode() + b"x"), (None, b"another text")]

    found = page.evaluate(
        "async ([module, text, all]) => { const { envelopeOf } = await import(module); return all.map((one) => envelopeOf(text, new Uint8Array(one))); }",
        [module_of(page, "wallet-bytes.js"), text, [list(form) for _, form in [*forms, *strange]]],
    )

    assert found == [envelope for envelope, _ in [*forms, *strange]]
