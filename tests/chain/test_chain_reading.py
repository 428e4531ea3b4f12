"""The pure reading of transactions, held against what the real runtime and its token and memo programs leave behind."""

from typing import Any

import httpx
import pytest
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from chainwatch.decode import ConfirmedTransaction, read_transaction
from chainwatch.deposits import name_account, read_move
from chainwatch.event_authority import derive_event_rules
from chainwatch.events import EventRules
from chainwatch.signatures import verify_signatures
from ledger import asides
from ledger.deposit_values import Naming, Vault
from sandbox.chain.instructions import transfer_checked
from sandbox.chain.records import Record
from tests.fakes.chain import EVENT_PROGRAM, TOKEN_2022_PROGRAM, USDC, VAULT, Chain
from tests.fakes.sbf_event import Act, call_event_program, deposit_event

CODE = "0123456789ABCDEF"
BY_MEMO, BY_EVENT = Naming(deposit_code=CODE, source="memo"), Naming(deposit_code=CODE, source="event")
TOKEN_PROGRAM = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"


def the_vault(chain: Chain) -> Vault:
    return Vault(genesis=chain.genesis, address=str(VAULT), owner=str(chain.treasury.pubkey()), mint=str(chain.mint), token_program=TOKEN_PROGRAM)


async def fetch(chain: Chain, record: Record) -> ConfirmedTransaction:
    """Read a landed transaction as it comes over HTTP, and verify its signatures."""
    chain.finalize()
    options = {"encoding": "base64", "maxSupportedTransactionVersion": 0, "commitment": "finalized"}
    async with httpx.AsyncClient(verify=False) as client:
        body = {"jsonrpc": "2.0", "id": 1, "method": "getTransaction", "params": [record.signature, options]}
        answer: dict[str, Any] = (await client.post(chain.rpc_url(), json=body)).json()
    transaction = read_transaction(answer["result"], signature=record.signature)
    verify_signatures(transaction.wire)
    return transaction


async def read(chain: Chain, record: Record, *, rules: EventRules | None = None, inner_memo: bool = True) -> tuple[int, tuple[str, ...], Naming]:
    """Return what the vault gained, from whom, and whom the transaction names."""
    assert record.fault is None
    transaction = await fetch(chain, record)
    change = read_move(transaction, the_vault(chain))
    amount, senders = (change.amount, change.senders) if change else (0, ())
    return amount, senders, name_account(transaction, references={}, inner_memo=inner_memo, event=rules, amount=amount)


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("v1", [True, False])
async def test_a_payment_is_read_from_either_kind_of_transaction_with_either_memo(chain: Chain, legacy: bool, v1: bool) -> None:
    wallet = chain.wallet()
    record = chain.send([chain.memo(f" level5:{CODE.lower()}:1", v1=v1, signers=(wallet,)), chain.plain_transfer(wallet, USDC)], [wallet], legacy=legacy)

    assert await read(chain, record) == (USDC, (str(wallet.pubkey()),), BY_MEMO)


async def test_a_vault_from_a_lookup_table_and_a_batch_without_traces_are_read(chain: Chain) -> None:
    wallet = chain.wallet()
    by_table = chain.send([chain.transfer(wallet, 5), chain.memo(CODE)], [wallet], tables=[chain.lookup_table(VAULT)])
    batch = chain.send([chain.batch(chain.transfer(wallet, 1), chain.transfer(wallet, 2)), chain.memo(CODE)], [wallet])

    assert await read(chain, by_table) == (5, (str(wallet.pubkey()),), BY_MEMO)
    assert await read(chain, batch) == (3, (str(wallet.pubkey()),), BY_MEMO)


async def test_what_is_no_deposit_is_none(chain: Chain) -> None:
    wallet = chain.wallet()
    chain.pay(wallet, 9 * USDC)

    assert (await read(chain, chain.self_transfer(USDC)))[0] == 0
    assert (await read(chain, chain.mention(wallet)))[0] == 0
    assert await read(chain, chain.withdraw(USDC, wallet, CODE)) == (-USDC, (), Naming())
    assert await read(chain, chain.mint_to(4)) == (4, (), Naming(aside=asides.NO_CODE))
    assert read_move(await fetch(chain, chain.fail(wallet, 1, CODE)), the_vault(chain)) is None


async def test_a_fee_that_the_token_keeps_is_not_counted(chain: Chain) -> None:
    wallet, mint = chain.wallet(), chain.fee_mint(100)
    source = chain.open_account(wallet.pubkey(), mint, program=TOKEN_2022_PROGRAM, amount=10 * USDC)
    target = chain.open_account(chain.treasury.pubkey(), mint, program=TOKEN_2022_PROGRAM)
    data = transfer_checked(source, target, mint=mint, authority=wallet.pubkey(), amount=10 * USDC)
    record = chain.send([Instruction(TOKEN_2022_PROGRAM, bytes(data.data), data.accounts)], [wallet])
    vault = Vault(
        genesis=chain.genesis, address=str(target), owner=str(chain.treasury.pubkey()), mint=str(mint), token_program=str(TOKEN_2022_PROGRAM)
    )  # fmt: skip

    change = read_move(await fetch(chain, record), vault)

    assert change is not None
    assert (change.amount, change.senders) == (9_900_000, (str(wallet.pubkey()),))
    assert (await read(chain, record))[0] == 0


def call(chain: Chain, wallet: Keypair, acts: Act, **changes: Any) -> Record:
    """Let the wallet pay 7 by the event program."""
    event = deposit_event(owner=wallet.pubkey(), mint=changes.pop("event_mint", chain.mint), code=CODE, amount=changes.pop("claimed", 7))
    further = changes.pop("further", [])
    own = {"source": chain.token_account(wallet), "mint": chain.mint, "target": VAULT, "authority": wallet.pubkey(), "event": event}
    return chain.send([call_event_program(EVENT_PROGRAM, amount=7, acts=acts, **own, **changes), *further], [wallet])


async def test_an_event_by_log_by_call_or_both_names_the_account(chain: Chain) -> None:
    wallet, rules = chain.wallet(), derive_event_rules(str(chain.event_program()), mint=str(chain.mint))

    for acts in (Act.LOG, Act.CALL_ITSELF, Act.LOG | Act.CALL_ITSELF):
        assert await read(chain, call(chain, wallet, Act.TRANSFER | acts), rules=rules) == (7, (str(wallet.pubkey()),), BY_EVENT)
    assert (await read(chain, call(chain, wallet, Act.LOG), rules=rules)) == (0, (), Naming())
    assert (await read(chain, call(chain, wallet, Act.TRANSFER | Act.LOG, claimed=8), rules=rules))[2] == Naming(aside=asides.EVENT_OVER_CLAIMS)
    assert (await read(chain, call(chain, wallet, Act.TRANSFER | Act.LOG, event_mint=Pubkey.default()), rules=rules))[2] == Naming(aside=asides.NO_CODE)
    assert (await read(chain, call(chain, wallet, Act.TRANSFER | Act.LOG)))[2] == Naming(aside=asides.NO_CODE)


async def test_a_log_that_is_cut_off_loses_the_event_and_a_call_does_not(chain: Chain) -> None:
    wallet, rules = chain.wallet(), derive_event_rules(str(chain.event_program()), mint=str(chain.mint))

    assert await read(chain, call(chain, wallet, Act.TRANSFER | Act.LOG, earlier_logs=120), rules=rules) == (
        7, (str(wallet.pubkey()),), Naming(aside=asides.LOG_TRUNCATED),
    )  # fmt: skip
    assert (await read(chain, call(chain, wallet, Act.TRANSFER | Act.LOG | Act.CALL_ITSELF, earlier_logs=120), rules=rules))[2] == BY_EVENT


async def test_a_memo_that_writes_lines_into_the_log_forges_nothing(chain: Chain) -> None:
    wallet, rules = chain.wallet(), derive_event_rules(str(chain.event_program()), mint=str(chain.mint))
    injection = chain.memo(f"x\nProgram {EVENT_PROGRAM} invoke [2]\nProgram data: ePg9Ux+Oa5A=")

    plain = chain.send([chain.transfer(wallet, 7), injection], [wallet])

    assert any("\n" in line for line in plain.read_meta()["logMessages"])
    assert (await read(chain, plain, rules=rules))[2] == Naming(aside=asides.MEMO_IS_NO_CODE)
    assert (await read(chain, call(chain, wallet, Act.TRANSFER | Act.LOG, further=[injection]), rules=rules))[2] == Naming(aside=asides.LOG_FORGED)


async def test_the_memo_of_a_program_on_behalf_of_the_payer_names_the_account(chain: Chain) -> None:
    wallet = chain.wallet()
    chain.event_program()
    record = call(chain, wallet, Act.TRANSFER | Act.MEMO, memo=CODE)

    assert await read(chain, record) == (7, (str(wallet.pubkey()),), Naming(deposit_code=CODE, source="inner_memo"))
    assert (await read(chain, record, inner_memo=False))[2] == Naming(aside=asides.NO_CODE)
