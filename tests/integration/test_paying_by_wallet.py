"""Solana Pay transaction requests: what a wallet is given to sign really pays, on a real virtual machine."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.transaction import Transaction, VersionedTransaction

from cli.embedded import EmbeddedPostgres
from control.rpc_providers import NoProvider, RpcProviders
from ledger.deposit_values import Vault, deposit_reference
from sandbox.chain.faucet import Payment, give_lamports, pay
from sandbox.chain.genesis import FAUCET_ACCOUNT, VAULT
from sandbox.chain.keys import MINT, TREASURY
from sandbox.chain.machine import read_holding
from sandbox.chain.serving import RunningChain, run_chain
from tests.fakes.control import Control, control_settings, own_stores, prepare_stores, running_control

pytestmark = pytest.mark.asyncio(loop_scope="module")

WALLET = Keypair.from_seed(sha256(b"a wallet that pays").digest())
EMPTY_WALLET = Keypair.from_seed(sha256(b"a wallet without USDC").digest())
MEMO_PROGRAM = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain() -> AsyncIterator[RunningChain]:
    """A simulated cluster on which a wallet has 20 USDC."""
    async with run_chain(None) as running:
        pay(running.cluster, Payment(usdc=20_000_000, deposit_code=None, wallet=str(WALLET.pubkey())))
        give_lamports(running.cluster, str(EMPTY_WALLET.pubkey()), lamports=10**8)
        running.cluster.finalize()
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def control(chain: RunningChain, postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Control]:
    async with own_stores(postgres_server, store_home) as (database_url, redis_url):
        urls = f"{chain.rpc_url(1)},{chain.rpc_url(2)}"
        settings = control_settings(database_url, redis_url, mode="sandbox", register={"rate_per_minute": 0}, chain={"rpc_urls": urls})
        await prepare_stores(settings)
        async with running_control(settings) as running:
            running.context.pay_limit.per_minute = 0
            await running.context.deposits.open_vault(vault_of(chain), opening=None)
            await running.context.chain.refresh()
            yield running


@pytest.fixture(autouse=True)
def healthy_providers(chain: RunningChain) -> None:
    for number in (1, 2):
        chain.provider(number).faults.change({"always": "", "account_lies": {}})


def vault_of(chain: RunningChain) -> Vault:
    program = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
    return Vault(genesis=chain.cluster.genesis, address=str(VAULT), owner=str(TREASURY.pubkey()), mint=str(MINT.pubkey()), token_program=program)


def held(chain: RunningChain, account: Pubkey) -> int:
    holding = read_holding(chain.cluster.accounts.now(str(account)))
    assert holding is not None
    return holding.amount


async def ask(control: Control, code: str, *, wallet: Keypair = WALLET, query: str = "", **body: Any) -> Any:
    return await control.client.post(f"/v1/pay/{code}{query}", json={"account": str(wallet.pubkey()), **body})


async def test_a_wallet_is_told_who_is_paid_and_shown_an_icon_of_ours(control: Control) -> None:
    code = (await control.register())["deposit_code"]

    answer = await control.client.get(f"/v1/pay/{code}", headers={"Origin": "https://wallet.example"})
    icon = await control.client.get("/icon.svg")

    assert answer.json() == {"label": "Level5 sandbox", "icon": "http://127.0.0.1:8402/icon.svg"}
    assert answer.headers["access-control-allow-origin"] == "*"
    assert icon.headers["content-type"].startswith("image/svg+xml")
    assert icon.headers["cross-origin-resource-policy"] == "cross-origin"


async def test_what_a_wallet_is_given_pays_the_vault_once_it_is_signed(control: Control, chain: RunningChain) -> None:
    code = (await control.register())["deposit_code"]
    before = held(chain, VAULT)

    answer = await ask(control, code, query="?amount=2.5")
    unsigned = Transaction.from_bytes(base64.b64decode(answer.json()["transaction"]))
    signed = Transaction([WALLET], unsigned.message, unsigned.message.recent_blockhash)
    record = chain.cluster.submit(VersionedTransaction.from_bytes(bytes(signed)))

    assert answer.json()["message"] == f"Deposit 2.5 USDC to the Level5 sandbox account {code}"
    assert record.fault is None
    assert held(chain, VAULT) - before == 2_500_000


async def test_the_memo_stands_right_before_the_transfer_which_is_last_and_bears_the_reference(control: Control) -> None:
    code = (await control.register())["deposit_code"]

    message = Transaction.from_bytes(base64.b64decode((await ask(control, code, query="?amount=1")).json()["transaction"])).message

    programs = [str(message.account_keys[one.program_id_index]) for one in message.instructions]
    assert programs[-2:] == [MEMO_PROGRAM, "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"]
    assert bytes(message.instructions[-2].data) == code.encode()
    transfer = message.instructions[-1]
    reference = list(message.account_keys).index(Pubkey(deposit_reference(code)))
    assert transfer.accounts[-1] == reference
    assert not message.is_signer(reference)
    assert reference >= len(message.account_keys) - message.header.num_readonly_unsigned_accounts
    assert (str(message.account_keys[0]), message.header.num_required_signatures) == (str(WALLET.pubkey()), 1)


async def test_the_amount_may_stand_in_the_body_and_the_address_wins(control: Control) -> None:
    code = (await control.register())["deposit_code"]

    assert (await ask(control, code, amount="3")).json()["message"].startswith("Deposit 3 USDC")
    assert (await ask(control, code, query="?amount=4", amount="3", redirect="x")).json()["message"].startswith("Deposit 4 USDC")


@pytest.mark.parametrize(
    ("body", "query", "status", "code"),
    [
        ({}, "?amount=1", 400, "invalid_request"),
        ({"account": "nonsense"}, "?amount=1", 400, "invalid_request"),
        ({"account": str(WALLET.pubkey())}, "", 400, "amount_missing"),
        ({"account": str(WALLET.pubkey())}, "?amount=0", 400, "invalid_request"),
        ({"account": str(WALLET.pubkey())}, "?amount=20.000001", 422, "payer_lacks_funds"),
        ({"account": str(EMPTY_WALLET.pubkey())}, "?amount=1", 422, "payer_has_no_account"),
        ({"account": str(VAULT)}, "?amount=1", 422, "payer_cannot_sign"),
    ],
)
async def test_what_cannot_be_paid_is_said_where_wallets_look(control: Control, body: dict[str, str], query: str, status: int, code: str) -> None:
    deposit_code = (await control.register())["deposit_code"]

    answer = await control.client.post(f"/v1/pay/{deposit_code}{query}", json=body)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["message"] == answer.json()["error"]["message"]
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_a_page_of_another_origin_may_ask(control: Control) -> None:
    answer = await control.client.options("/v1/pay/0123456789ABCDEF", headers={"Origin": "https://wallet.example", "Access-Control-Request-Method": "POST"})
    unknown = await control.client.post("/v1/pay/0123456789ABCDEF?amount=1", json={"account": str(WALLET.pubkey())})

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Content-Type" in answer.headers["access-control-allow-headers"]
    assert unknown.status_code == 404
    assert unknown.headers["access-control-allow-origin"] == "*"


async def test_a_provider_that_is_out_of_order_is_passed_over(control: Control, chain: RunningChain) -> None:
    code = (await control.register())["deposit_code"]
    for fault in ("503", "429", "reset", "cut", "bad_json", "error:-32019"):
        chain.provider(1).faults.change({"always": fault})

        assert (await ask(control, code, query="?amount=1")).status_code == 200, fault


async def test_without_any_provider_it_is_503_and_no_address_is_told(control: Control, chain: RunningChain, capsys: pytest.CaptureFixture[str]) -> None:
    code = (await control.register())["deposit_code"]
    for number in (1, 2):
        chain.provider(number).faults.change({"always": "503"})

    answer = await ask(control, code, query="?amount=1")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "chain_unavailable")
    assert answer.headers["retry-after"]
    assert str(chain.port) not in answer.text + capsys.readouterr().out


async def test_a_provider_that_never_answers_is_given_up(chain: RunningChain) -> None:
    providers = RpcProviders([chain.rpc_url(3)], seconds_max=0.2)
    chain.provider(3).faults.change({"always": "hang", "hang_seconds": 5})

    with pytest.raises(NoProvider):
        await providers.ask("getLatestBlockhash")

    chain.provider(3).faults.change({"always": ""})
    await providers.close()


@pytest.mark.parametrize("lie", [None, base64.b64encode(bytes(165)).decode(), base64.b64encode(b"short").decode()])
async def test_nothing_is_built_that_pays_into_a_vault_that_is_not_in_order(control: Control, chain: RunningChain, lie: str | None) -> None:
    code = (await control.register())["deposit_code"]
    for number in (1, 2):
        chain.provider(number).faults.change({"account_lies": {str(VAULT): lie}})

    answer = await ask(control, code, query="?amount=1")

    assert answer.status_code == 503
    assert "transaction" not in answer.json()


async def test_a_vault_that_wallets_would_not_find_is_told_itself_and_paid_by_a_transaction_of_ours(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(FAUCET_ACCOUNT)  # stands for an account of the treasury that is not its associated one
    beside = replace(control.context.chain._picture.vault, address=other)  # type: ignore[union-attr]
    chain = control.context.settings.chain.model_copy(update={"vault": other})
    monkeypatch.setattr(control.context.chain, "_settings", control.context.settings.model_copy(update={"chain": chain}))
    monkeypatch.setattr(control.context.chain, "_picture", replace(control.context.chain._picture, vault=beside))  # type: ignore[type-var]

    told = (await control.register())["instructions"]

    assert told["deposit_address"] == told["vault"] == other
    assert told["solana_pay_url"] == told["transaction_request_url"]


async def test_one_network_may_not_ask_without_end(database_url: str, redis_url: str) -> None:
    settings = control_settings(database_url, redis_url, mode="sandbox")
    await prepare_stores(settings)
    async with running_control(settings, poster=False) as limited:
        limited.context.pay_limit.per_minute = 1
        statuses = [(await ask(limited, "0123456789ABCDEF", query="?amount=1")).status_code for _ in range(2)]

    assert statuses == [404, 429]


async def test_it_is_described_for_machines(control: Control) -> None:
    document = (await control.client.get("/openapi.json")).json()

    assert set(document["paths"]["/v1/pay/{deposit_code}"]) == {"get", "post", "options"}
    assert "#/components/schemas/WalletRequest" in json.dumps(document["paths"]["/v1/pay/{deposit_code}"]["post"])
    names = [parameter["name"] for parameter in document["paths"]["/v1/pay/{deposit_code}"]["post"]["parameters"]]
    assert names == ["deposit_code", "amount"]
