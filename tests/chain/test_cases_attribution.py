"""Cases 1 to 31: to whom money belongs, from a payment that the real runtime executed to the balance that can be spent."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from cli.embedded import EmbeddedPostgres
from ledger import asides
from ledger.errors import BrokenInvariant
from sandbox.chain.instructions import transfer_checked
from sandbox.chain.keys import keypair_of
from tests.fakes.books import Books, open_books
from tests.fakes.cases import (
    NOTHING,
    aside,
    balances,
    call,
    code_of,
    credited,
    fate,
    open_module,
    reference_of,
    require_level,
    settle,
    told,
)
from tests.fakes.chain import EVENT_PROGRAM, FAUCET, TOKEN_2022_PROGRAM, TREASURY, USDC, VAULT
from tests.fakes.sbf_event import Act, deposit_event
from tests.fakes.watching import Watching, open_watching, watch

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODYS_CODE = "00112233445566FF"
BY_LOG, BY_CALL = Act.TRANSFER | Act.LOG, Act.TRANSFER | Act.CALL_ITSELF


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(postgres_server: EmbeddedPostgres, store_home: Path) -> AsyncIterator[Watching]:
    async with open_module(postgres_server, store_home) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="module")
async def watching(shared: Watching) -> AsyncIterator[Watching]:
    """The watcher of all cases here; after each of them the books are level with the chain."""
    yield shared
    await require_level(shared)


async def test_case_01_versions_0_and_legacy_are_credited(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    new = watching.chain.pay(payer, 3 * USDC, code_of(account))
    legacy = watching.chain.pay(payer, 4 * USDC, code_of(account), legacy=True)

    assert await settle(watching, new, legacy) == [credited("memo", 3 * USDC), credited("memo", 4 * USDC)]
    assert await watching.balance(account) == 7 * USDC


async def test_case_02_a_memo_of_any_version_place_case_and_blanks_is_read(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    code, transfer = code_of(account), chain.transfer(payer, 1 * USDC)
    ways = [
        [chain.memo(code, v1=True), transfer],
        [transfer, chain.memo(code, v1=True)],
        [chain.memo(code), transfer],
        [transfer, chain.memo(code)],
        [transfer, chain.memo(code, signers=(payer,))],
        [transfer, chain.memo(code.lower())],
        [transfer, chain.memo(f" \t{code}\n ")],
        [transfer, chain.memo(f"level5:{code.lower()}")],
        [transfer, chain.memo(f"LEVEL5:{code}")],
    ]
    records = [chain.send(way, [payer]) for way in ways]

    assert await settle(watching, *records) == [credited("memo", 1 * USDC)] * len(ways)
    assert await watching.balance(account) == len(ways) * USDC


async def test_case_03_the_same_memo_twice_names_one_account_once(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    code = code_of(account)
    paid = chain.send([chain.memo(code), chain.transfer(payer, 3 * USDC), chain.memo(code.lower(), v1=True)], [payer])

    assert await settle(watching, paid) == [credited("memo", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_04_two_different_codes_are_for_a_person_to_decide(watching: Watching) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    first, second = await watching.books.open_account(), await watching.books.open_account()
    paid = chain.send([chain.memo(code_of(first)), chain.memo(code_of(second)), chain.transfer(payer, 3 * USDC)], [payer])

    assert await settle(watching, paid) == [aside(asides.SEVERAL_CODES, 3 * USDC)]
    assert await balances(watching, first, second) == [0, 0]


async def test_case_05_money_without_a_memo_is_set_aside(watching: Watching) -> None:
    paid = watching.chain.pay(watching.chain.wallet(), 3 * USDC)

    assert await settle(watching, paid) == [aside(asides.NO_CODE, 3 * USDC)]


async def test_case_06_a_memo_that_imitates_how_lists_show_memos_names_nobody(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    texts = [f"hi; [16] {code_of(account)}", f"[16] {code_of(account)}", f"{code_of(account)}; [2] hi"]
    records = [watching.chain.pay(payer, 3 * USDC, text) for text in texts]

    assert await settle(watching, *records) == [aside(asides.MEMO_IS_NO_CODE, 3 * USDC)] * len(texts)
    assert await watching.balance(account) == 0


async def test_case_07_a_code_counts_whole_or_with_a_nonce_and_never_as_a_part_of_something(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    code = code_of(account)
    parts = [watching.chain.pay(payer, 1 * USDC, text) for text in (f"{code}00", f"00{code}", f"{code} thanks", code[:-1], f"{code}:", f"other:{code}")]
    nonces = [watching.chain.pay(payer, 2 * USDC, text) for text in (f"{code}:1", f"level5:{code}:{NOBODYS_CODE}")]

    assert await settle(watching, *parts) == [aside(asides.MEMO_IS_NO_CODE, 1 * USDC)] * len(parts)
    assert await settle(watching, *nonces) == [credited("memo", 2 * USDC)] * 2
    assert await watching.balance(account) == 4 * USDC


async def test_case_08_several_transfers_are_one_sum(watching: Watching) -> None:
    chain, account, payer, other = watching.chain, await watching.books.open_account(), watching.chain.wallet(), watching.chain.wallet()
    steps = [chain.transfer(payer, 3 * USDC), chain.plain_transfer(payer, 4 * USDC), chain.transfer(other, 5 * USDC), chain.memo(code_of(account))]
    paid = chain.send(steps, [payer, other])

    assert await settle(watching, paid) == [credited("memo", 12 * USDC)]
    assert await watching.balance(account) == 12 * USDC
    assert set((await watching.deposits.find(paid.signature)).senders) == {str(payer.pubkey()), str(other.pubkey())}


async def test_case_09_a_batch_is_one_sum_though_it_leaves_no_trace_of_its_parts(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    batch = chain.batch(chain.transfer(payer, 1 * USDC), chain.plain_transfer(payer, 2 * USDC))
    paid = chain.send([batch, chain.memo(code_of(account))], [payer])

    assert paid.read_meta()["innerInstructions"] == []
    assert await settle(watching, paid) == [credited("memo", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_10_a_vault_that_pays_itself_gains_nothing(watching: Watching) -> None:
    account = await watching.books.open_account()
    watching.chain.pay(watching.chain.wallet(), 2 * USDC)
    paid = watching.chain.self_transfer(1 * USDC, code_of(account))

    assert paid.fault is None
    assert await settle(watching, paid) == [NOTHING]
    assert await watching.balance(account) == 0


async def test_case_11_what_goes_in_and_out_counts_by_its_difference(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    chain.pay(payer, 10 * USDC)

    def both(into: int, out: int) -> list[Instruction]:
        back = transfer_checked(VAULT, chain.token_account(payer), mint=chain.mint, authority=TREASURY.pubkey(), amount=out)
        return [chain.transfer(payer, into), back, chain.memo(code_of(account))]

    gain = chain.send(both(5 * USDC, 2 * USDC), [payer, TREASURY])
    loss = chain.send(both(2 * USDC, 5 * USDC), [payer, TREASURY])
    level = chain.send(both(4 * USDC, 4 * USDC), [payer, TREASURY])
    withdrawn = (await watching.deposits.figures()).withdrawn

    assert await settle(watching, gain, loss, level) == [credited("memo", 3 * USDC), NOTHING, NOTHING]
    assert await watching.balance(account) == 3 * USDC
    assert (await watching.deposits.figures()).withdrawn - withdrawn == 3 * USDC


async def test_case_12_a_withdrawal_is_a_move_and_no_credit(watching: Watching) -> None:
    account, payer = await watching.books.open_account(), watching.chain.wallet()
    watching.chain.pay(payer, 5 * USDC)
    await watching.settle()
    before = await watching.deposits.figures()
    out = watching.chain.withdraw(4 * USDC, payer, code_of(account))

    assert await settle(watching, out) == [NOTHING]
    after = await watching.deposits.figures()
    assert (after.withdrawn - before.withdrawn, after.moves_count - before.moves_count) == (4 * USDC, 1)
    assert await watching.balance(account) == 0


async def test_case_13_a_payment_that_failed_is_none(watching: Watching) -> None:
    account = await watching.books.open_account()
    failed = watching.chain.fail(watching.chain.wallet(), 3 * USDC, code_of(account))

    assert failed.fault is not None
    assert await settle(watching, failed) == [NOTHING]
    assert await watching.balance(account) == 0


async def test_case_14_tokens_minted_into_the_vault_count(watching: Watching) -> None:
    account = await watching.books.open_account()
    named, unnamed = watching.chain.mint_to(3 * USDC, code=code_of(account)), watching.chain.mint_to(4 * USDC)

    assert await settle(watching, named, unnamed) == [credited("memo", 3 * USDC), aside(asides.NO_CODE, 4 * USDC)]
    assert await watching.balance(account) == 3 * USDC
    assert (await watching.deposits.find(named.signature)).senders == ()


async def test_case_15_a_vault_that_only_a_lookup_table_names_is_found(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    steps, table = [chain.transfer(payer, 3 * USDC), chain.memo(code_of(account))], chain.lookup_table(VAULT, chain.token_account(payer))
    paid = chain.send(steps, [payer], tables=[table])

    assert str(VAULT) in paid.read_meta()["loadedAddresses"]["writable"]
    assert await settle(watching, paid) == [credited("memo", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_16_a_solana_pay_reference_names_the_account_also_from_a_lookup_table(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    steps = [chain.transfer(payer, 3 * USDC, references=(reference_of(account), keypair_of("level5 test other reference").pubkey()))]
    direct, loaded = chain.send(steps, [payer]), chain.send(steps, [payer], tables=[chain.lookup_table(reference_of(account))])

    assert await settle(watching, direct, loaded) == [credited("reference", 3 * USDC)] * 2
    assert await watching.balance(account) == 6 * USDC


async def test_case_17_a_reference_against_a_memo_is_for_a_person_to_decide(watching: Watching) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    first, second = await watching.books.open_account(), await watching.books.open_account()

    def paying(references: tuple[Pubkey, ...], *memos: str) -> list[Instruction]:
        return [*map(chain.memo, memos), chain.transfer(payer, 3 * USDC, references=references)]

    ways = {
        "against": paying((reference_of(first),), code_of(second)),
        "several": paying((reference_of(first), reference_of(second))),
        "same": paying((reference_of(first),), code_of(first)),
        "chatty": paying((reference_of(second),), "for lunch"),
    }
    records = [chain.send(way, [payer]) for way in ways.values()]

    assert dict(zip(ways, await settle(watching, *records), strict=True)) == {
        "against": aside(asides.MEMO_AGAINST_REFERENCE, 3 * USDC),
        "several": aside(asides.SEVERAL_CODES, 3 * USDC),
        "same": credited("memo", 3 * USDC),
        "chatty": credited("reference", 3 * USDC),
    }
    assert await balances(watching, first, second) == [3 * USDC, 3 * USDC]


async def test_case_18_nothing_paid_or_a_mere_mention_is_nothing(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    before = (await watching.deposits.figures()).moves_count
    zero, mention = chain.pay(payer, 0, code_of(account)), chain.mention(payer)
    marked = chain.send([chain.transfer(payer, 0, to=chain.token_account(payer), references=(VAULT,)), chain.memo(code_of(account))], [payer])

    assert await settle(watching, zero, mention, marked) == [NOTHING] * 3
    assert await watching.balance(account) == 0
    assert (await watching.deposits.figures()).moves_count == before


async def test_case_19_a_token_of_another_mint_is_no_money(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    fake = chain.other_mint("level5 test worthless token")
    source, target = chain.open_account(payer.pubkey(), fake, amount=9 * USDC), chain.open_account(TREASURY.pubkey(), fake)
    gift = transfer_checked(source, target, mint=fake, authority=payer.pubkey(), amount=4 * USDC, references=(VAULT,))
    alone = chain.send([gift, chain.memo(code_of(account))], [payer])
    beside = chain.send([gift, chain.transfer(payer, 1 * USDC), chain.memo(code_of(account))], [payer])

    assert (alone.fault, beside.fault) == (None, None)
    assert await settle(watching, alone, beside) == [NOTHING, credited("memo", 1 * USDC)]
    assert await watching.balance(account) == 1 * USDC


async def test_case_20_of_a_token_that_keeps_a_fee_what_arrived_is_credited(watching: Watching, database_url: str, redis_url: str) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    mint = chain.fee_mint(100)
    source = chain.open_account(payer.pubkey(), mint, program=TOKEN_2022_PROGRAM, amount=50 * USDC)
    vault = chain.open_account(TREASURY.pubkey(), mint, program=TOKEN_2022_PROGRAM)
    chain.finalize()
    async with open_books(database_url, redis_url) as books, watch(chain, books, usdc_mint=str(mint)) as taxed:
        account = await books.open_account()
        step = transfer_checked(source, vault, mint=mint, authority=payer.pubkey(), amount=10 * USDC)
        paid = chain.send([Instruction(TOKEN_2022_PROGRAM, bytes(step.data), step.accounts), chain.memo(code_of(account))], [payer])

        assert await settle(taxed, paid) == [credited("memo", 9_900_000)]
        assert await taxed.balance(account) == 9_900_000
        await require_level(taxed, vault=vault)
    assert await settle(watching, paid) == [NOTHING]  # the vault of this watcher saw none of it


async def test_case_21_an_event_by_log_by_call_or_by_both_names_the_account_once(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    acts = (BY_LOG, BY_CALL, BY_LOG | Act.CALL_ITSELF)
    records = [chain.send([call(chain, payer, act, code=code_of(account), amount=3 * USDC)], [payer]) for act in acts]

    assert await settle(watching, *records) == [credited("event", 3 * USDC)] * 3
    assert await watching.balance(account) == 9 * USDC


async def test_case_21_two_events_of_one_account_are_one_sum_and_of_two_accounts_a_persons_decision(watching: Watching) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    first, second = await watching.books.open_account(), await watching.books.open_account()
    ours, theirs = (call(chain, payer, BY_CALL, code=code_of(one), amount=2 * USDC) for one in (first, second))
    twice, both = chain.send([ours, ours], [payer]), chain.send([ours, theirs], [payer])
    against = chain.send([ours, chain.memo(code_of(second))], [payer])

    assert await settle(watching, twice, both, against) == [
        credited("event", 4 * USDC), aside(asides.SEVERAL_CODES, 4 * USDC), aside(asides.MEMO_AGAINST_EVENT, 2 * USDC),
    ]  # fmt: skip
    assert await balances(watching, first, second) == [4 * USDC, 0]


async def test_case_22_the_event_of_another_program_names_nobody(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    other = chain.event_program(keypair_of("level5 test other event program").pubkey())
    acts = (BY_LOG, BY_CALL, BY_LOG | Act.CALL_ITSELF)
    records = [chain.send([call(chain, payer, act, code=code_of(account), amount=3 * USDC, program=other)], [payer]) for act in acts]

    assert all(record.fault is None for record in records)
    assert await settle(watching, *records) == [aside(asides.NO_CODE, 3 * USDC)] * 3
    assert await watching.balance(account) == 0


async def test_case_23_an_event_that_tells_of_more_than_arrived_names_nobody(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    more, less = (
        chain.send([call(chain, payer, BY_CALL, code=code_of(account), amount=3 * USDC, claimed=3 * USDC + one)], [payer]) for one in (1, -1)
    )  # fmt: skip

    assert await settle(watching, more, less) == [aside(asides.EVENT_OVER_CLAIMS, 3 * USDC), credited("event", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_24_an_event_without_money_is_nothing(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    records = [chain.send([call(chain, payer, act, code=code_of(account), amount=3 * USDC)], [payer]) for act in (Act.LOG, Act.CALL_ITSELF)]

    assert all(record.fault is None for record in records)
    assert await settle(watching, *records) == [NOTHING] * 2
    assert await watching.balance(account) == 0


async def test_case_25_an_event_in_a_failed_transaction_is_nothing(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    acts = (BY_LOG | Act.FAIL, BY_CALL | Act.FAIL)
    records = [chain.send([call(chain, payer, act, code=code_of(account), amount=3 * USDC)], [payer]) for act in acts]

    assert all(record.fault is not None for record in records)
    assert await settle(watching, *records) == [NOTHING] * 2
    assert await watching.balance(account) == 0


async def test_case_26_a_log_that_is_cut_off_loses_the_event_and_a_call_does_not(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    by_log, by_call = (
        chain.send([call(chain, payer, act, code=code_of(account), amount=3 * USDC, earlier_logs=120)], [payer]) for act in (BY_LOG, BY_LOG | BY_CALL)
    )  # fmt: skip

    assert "Log truncated" in by_log.read_meta()["logMessages"]
    assert await settle(watching, by_log, by_call) == [aside(asides.LOG_TRUNCATED, 3 * USDC), credited("event", 3 * USDC)]
    assert await watching.balance(account) == 3 * USDC


async def test_case_27_a_memo_that_writes_lines_into_the_log_forges_nothing(watching: Watching) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    victim, thief = await watching.books.open_account(), await watching.books.open_account()
    event = deposit_event(owner=payer.pubkey(), mint=chain.mint, code=code_of(thief), amount=3 * USDC)
    lines = f"x\nProgram {EVENT_PROGRAM} invoke [1]\nProgram data: {base64.b64encode(event).decode()}\nProgram {EVENT_PROGRAM} success"
    plain = chain.send([chain.transfer(payer, 3 * USDC), chain.memo(lines)], [payer])
    by_log, by_call = (
        chain.send([chain.memo(lines), call(chain, payer, act, code=code_of(victim), amount=3 * USDC)], [payer]) for act in (BY_LOG, BY_CALL)
    )  # fmt: skip

    assert await settle(watching, plain, by_log, by_call) == [
        aside(asides.MEMO_IS_NO_CODE, 3 * USDC), aside(asides.LOG_FORGED, 3 * USDC), credited("event", 3 * USDC),
    ]  # fmt: skip
    assert await balances(watching, victim, thief) == [3 * USDC, 0]


async def test_case_28_an_event_about_sol_or_another_token_names_nobody(watching: Watching) -> None:
    chain, account, payer = watching.chain, await watching.books.open_account(), watching.chain.wallet()
    mints = (Pubkey.default(), keypair_of("level5 test mint that is none").pubkey())
    records = [
        chain.send([call(chain, payer, act, code=code_of(account), amount=3 * USDC, event_mint=mint)], [payer]) for mint in mints for act in (BY_LOG, BY_CALL)
    ]
    without = chain.send([call(chain, payer, Act.CALL_ITSELF, code=code_of(account), amount=3 * USDC, event_mint=Pubkey.default())], [payer])

    assert await settle(watching, *records, without) == [aside(asides.NO_CODE, 3 * USDC)] * 4 + [NOTHING]
    assert await watching.balance(account) == 0


async def test_case_29_the_memo_of_a_smart_wallet_names_the_account(watching: Watching) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    first, second = await watching.books.open_account(), await watching.books.open_account()
    ours, theirs = (call(chain, payer, Act.TRANSFER | Act.MEMO, code=NOBODYS_CODE, amount=3 * USDC, memo=code_of(one)) for one in (first, second))
    records = [
        chain.send(way, [payer]) for way in ([ours], [ours, theirs], [ours, chain.memo("for lunch")], [ours, chain.memo(code_of(second))])
    ]  # fmt: skip

    assert await settle(watching, *records) == [
        credited("inner_memo", 3 * USDC), aside(asides.SEVERAL_CODES, 6 * USDC), credited("inner_memo", 3 * USDC), credited("memo", 3 * USDC),
    ]  # fmt: skip
    assert await balances(watching, first, second) == [6 * USDC, 3 * USDC]


async def test_case_29_the_memo_of_a_smart_wallet_names_nobody_where_the_settings_say_so(watching: Watching, database_url: str, redis_url: str) -> None:
    chain, payer = watching.chain, watching.chain.wallet()
    await watching.settle()
    async with open_books(database_url, redis_url) as books, watch(chain, books, inner_memo=False, history="from_now") as strict:
        account = await books.open_account()
        step = call(chain, payer, Act.TRANSFER | Act.MEMO, code=NOBODYS_CODE, amount=3 * USDC, memo=code_of(account))

        assert await settle(strict, chain.send([step], [payer])) == [aside(asides.NO_CODE, 3 * USDC)]
        assert await strict.balance(account) == 0
        await require_level(strict)
    await watching.settle()


async def test_case_30_codes_of_nobody_of_the_closed_and_of_others(watching: Watching) -> None:
    payer, closed = watching.chain.wallet(), await watching.books.open_account()
    owner, stranger = await watching.books.open_account(), await watching.books.open_account()
    await watching.books.accounts.set_status(closed.account, "closed", "asked for")
    unknown, late = watching.chain.pay(payer, 3 * USDC, NOBODYS_CODE), watching.chain.pay(payer, 3 * USDC, code_of(closed))
    strangers = watching.chain.pay(payer, 3 * USDC, code_of(stranger))
    gift = watching.chain.pay(payer, 4 * USDC, code_of(owner))

    assert await settle(watching, unknown, late, strangers, gift) == [
        aside(asides.UNKNOWN_CODE, 3 * USDC), aside(asides.CLOSED_ACCOUNT, 3 * USDC), credited("memo", 3 * USDC), credited("memo", 4 * USDC),
    ]  # fmt: skip
    assert await balances(watching, closed, owner, stranger) == [0, 4 * USDC, 3 * USDC]  # who pays for another has no part in it


async def test_case_31_amounts_are_exact_up_to_what_the_books_can_hold_and_no_further(database_url: str, redis_url: str) -> None:
    async with open_watching(database_url, redis_url) as watching:
        chain, most = watching.chain, 2**53 - 1
        full, fuller, small = [await watching.books.open_account() for _ in range(3)]
        one, nearly, over = chain.mint_to(1, code=code_of(small)), chain.mint_to(most, code=code_of(full)), chain.mint_to(most + 1, code=code_of(fuller))
        half, rest, too_much = (chain.mint_to(amount, code=code_of(fuller)) for amount in (2**52, 2**52 - 1, 1))
        vast = chain.mint_to(2**62 + 1)

        assert await settle(watching, one, nearly, over) == [credited("memo", 1), credited("memo", most), aside(asides.BALANCE_FULL, most + 1)]
        assert [await fate(watching, record) for record in (half, rest, too_much, vast)] == [
            credited("memo", 2**52), credited("memo", 2**52 - 1), aside(asides.BALANCE_FULL, 1), aside(asides.NO_CODE, 2**62 + 1),
        ]  # fmt: skip
        assert await balances(watching, small, full, fuller) == [1, most, most]
        await require_level(watching)

        held = chain.amount()
        beyond = chain.mint_to(2**63 - held)  # the vault now holds what no column of the books can

        with pytest.raises(BrokenInvariant):
            await watching.settle()
        assert await fate(watching, beyond) is NOTHING
        assert (await watching.deposits.figures()).vault_balance == held


async def test_an_instance_that_reads_all_of_it_in_one_round_comes_to_the_same(watching: Watching, database_url: str, redis_url: str) -> None:
    watching.chain.pay(FAUCET, 1 * USDC)
    await watching.settle()
    async with open_books(database_url, redis_url) as books, watch(watching.chain, books, event_program=str(EVENT_PROGRAM)) as other:
        for account in watching.books.opened:
            await adopt(books, code_of(account), status=(await watching.books.reload(account)).status)

        assert (await other.turn()).faults == ()

        assert told(await other.deposits.list(limit=1000)) == told(await watching.deposits.list(limit=1000))
        assert await balances(other, *books.opened) == await balances(watching, *watching.books.opened)
        await require_level(other)


async def adopt(books: Books, code: str, *, status: str) -> None:
    """Open an account with the deposit code of another instance's."""
    new = await books.open_account()
    if status != "active":
        await books.accounts.set_status(new.account, status, "as there")
    await books.pool.execute("UPDATE accounts SET deposit_code = $2 WHERE id = $1", new.account.id, code)
