"""What the chain did to the vault is recorded once: pages, cursor, journal rows, references, reports."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import asyncpg
import pytest

from ledger.base58 import encode_base58
from ledger.deposit_values import ChainStatus, Cursor, Pending, VaultFigures, deposit_reference
from ledger.deposits import Deposits
from ledger.errors import BrokenInvariant, NoVault, UnknownDeposit, VaultDiffers, WrongStore
from ledger.reconcile import verify
from ledger.stores import IDENTITY_KEY, claim_stores, redis_command
from tests.fakes.books import Books, open_books
from tests.fakes.vaults import SENDER, START, VAULT, History, address, catch_up, cursor_at, record


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.fixture
async def deposits(books: Books) -> Deposits:
    deposits = Deposits(books.pool, books.balances)
    await deposits.open_vault(VAULT, opening=None)
    return deposits


async def assert_whole(books: Books) -> None:
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []


async def legs(books: Books, kind: str) -> list[dict[str, int]]:
    rows = await books.pool.fetch("SELECT accounts, amounts FROM journal WHERE kind = $1 ORDER BY shard, seq", kind)
    return [dict(zip(row["accounts"], row["amounts"], strict=True)) for row in rows]


async def test_a_page_becomes_journal_rows_deposits_and_a_cursor(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    history.arrive(1_000_000, to=new.account.deposit_code)
    history.arrive(300_000, aside="several_codes")
    history.withdraw(200_000, same_slot=True)

    outcome = await record(deposits, history.moves)

    assert (outcome.recorded, outcome.arrived, outcome.withdrawn, outcome.due, outcome.aside) == (3, 1_300_000, 200_000, 1, 1)
    assert outcome.cursor == cursor_at(history.moves) == await deposits.open_vault(VAULT, opening=None)
    assert await legs(books, "arrival") == [{"vault:usdc": 1_000_000, "unattributed": -1_000_000}, {"vault:usdc": 300_000, "unattributed": -300_000}]
    assert await legs(books, "withdrawal") == [{"operator:drawings": 200_000, "vault:usdc": -200_000}]
    listed = await deposits.list()
    assert [(each.signature, each.state, each.aside, each.public_id) for each in listed] == [
        (history.moves[1].signature, "aside", "several_codes", None),
        (history.moves[0].signature, "due", "", new.account.public_id),
    ]
    assert listed[1].block_time == datetime.fromtimestamp(1_700_000_101, UTC)
    assert (listed[1].senders, listed[1].source, listed[1].deposit_code) == ((SENDER,), "memo", new.account.deposit_code)
    await books.drain()
    await assert_whole(books)


async def test_a_page_that_comes_again_changes_nothing(books: Books, deposits: Deposits) -> None:
    history = History()
    for amount in (5, 6, 7):
        history.arrive(amount)
    first = await record(deposits, history.moves)
    before = await deposits.figures()

    again = await record(deposits, history.moves)
    older = await record(deposits, history.moves[:1])

    assert (first.recorded, first.known, again.recorded, again.known, older.recorded) == (3, 0, 0, 3, 0)
    assert again.cursor == older.cursor == cursor_at(history.moves)
    assert await deposits.figures() == before


async def test_two_watchers_with_overlapping_pages_end_with_everything_once(books: Books, deposits: Deposits) -> None:
    history = History()
    for amount in range(1, 41):
        history.arrive(amount, same_slot=amount % 3 == 0)
    other = Deposits(books.pool, books.balances)

    async def watch(watcher: Deposits, size: int) -> None:
        cursor = START
        while moves := history.behind(cursor, at_most=size):
            try:
                await record(watcher, moves)
            except VaultDiffers:
                cursor = await watcher.open_vault(VAULT, opening=None)
            else:
                cursor = cursor_at(moves)

    await asyncio.gather(watch(deposits, 3), watch(other, 7), watch(deposits, 5))

    figures = await deposits.figures()
    assert (figures.moves_count, figures.arrived, figures.vault_balance, figures.set_aside) == (40, 820, 820, 820)
    assert figures.cursor == cursor_at(history.moves)
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind = 'arrival'") == 40
    await assert_whole(books)


async def test_a_page_with_a_hole_writes_nothing(books: Books, deposits: Deposits) -> None:
    history = History()
    first, _, third = history.arrive(5), history.arrive(6), history.arrive(7)
    before = await deposits.figures()

    with pytest.raises(VaultDiffers):
        await record(deposits, [first, third])

    assert await deposits.figures() == before
    assert await books.pool.fetchval("SELECT chain_seq FROM shards WHERE shard = 64") == 0


async def test_a_balance_beyond_the_books_is_refused_whole(deposits: Deposits) -> None:
    history = History()
    history.arrive(5)
    history.arrive(2**64 - 6)

    with pytest.raises(BrokenInvariant, match="beyond what the books can hold"):
        await record(deposits, history.moves)

    assert (await deposits.figures()).moves_count == 0


async def test_dust_is_counted_by_its_sum_and_not_listed(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    history.arrive(9)
    history.arrive(9, to=new.account.deposit_code)
    history.arrive(10)
    history.arrive(8, to="0123456789ABCDEF")

    outcome = await record(deposits, history.moves, set_aside_min=10)

    assert (outcome.dust, outcome.due, outcome.aside) == (2, 1, 1)
    assert await legs(books, "dust") == [{"vault:usdc": 17, "unattributed": -17}]
    assert [each.amount for each in await deposits.list()] == [10, 9]
    with pytest.raises(UnknownDeposit):
        await deposits.find(history.moves[0].signature)
    figures = await deposits.figures()
    assert (figures.dust, figures.dust_count, figures.arrived, figures.vault_balance) == (17, 2, 36, 36)
    await assert_whole(books)


async def test_codes_of_nobody_and_of_closed_accounts_are_set_aside(books: Books, deposits: Deposits) -> None:
    closed, history = await books.open_account(), History()
    await books.accounts.set_status(closed.account, "closed", "asked for")
    history.arrive(50, to="0123456789ABCDEF")
    history.arrive(50, to=closed.account.deposit_code)

    await record(deposits, history.moves, set_aside_min=10)

    assert [each.aside for each in await deposits.list(state="aside")] == ["closed_account", "unknown_code"]


async def test_deposits_are_listed_by_state_and_page_by_page(deposits: Deposits) -> None:
    history = History()
    for amount in range(1, 6):
        history.arrive(amount)
    await record(deposits, history.moves)

    newest = await deposits.list(limit=2)

    assert [each.amount for each in newest] == [5, 4]
    assert [each.amount for each in await deposits.list(before=newest[-1].id, limit=2)] == [3, 2]
    assert await deposits.list(state="credited") == []
    assert (await deposits.find(f" {history.moves[2].signature} ")).amount == 3


async def test_references_lead_to_the_codes_of_old_and_new_accounts(books: Books, deposits: Deposits) -> None:
    codes = [(await books.open_account()).account.deposit_code for _ in range(2)]
    keys = [encode_base58(deposit_reference(code)) for code in codes]

    found = await deposits.find_references([*keys, SENDER, VAULT.address])

    assert found == dict(zip(keys, codes, strict=True))
    assert await deposits.find_references([]) == {}
    with pytest.raises(ValueError):
        await deposits.find_references(["not base58!"])


async def test_what_is_pending_is_shown_until_it_is_recorded(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    move = history.arrive(70, to=new.account.deposit_code)
    first = Pending(signature=move.signature, slot=9, amount=70, deposit_code=new.account.deposit_code, seen_at=1)
    seen = [first, replace(first, signature="x", amount=5, deposit_code=None)]

    await deposits.set_pending(VAULT, [*seen, replace(seen[0], signature="y", amount=1)])
    await deposits.set_pending(VAULT, [*seen, seen[0]])
    assert await deposits.pending_by_account() == {new.account.id: 70}

    await record(deposits, history.moves)
    assert await deposits.pending_by_account() == {}
    await deposits.set_pending(VAULT, [])
    assert await books.pool.fetchval("SELECT count(*) FROM pending_deposits") == 0


async def test_the_watchers_last_word_is_kept(deposits: Deposits) -> None:
    assert await deposits.status() is None
    status = ChainStatus(
        state="ok", reasons=("one provider lags",), finalized_slot=7, lag_seconds=0.4, backlog=0, oldest_pending_seconds=0.0, vault_on_chain=None, updated_at=5
    )

    await deposits.report(replace(status, state="starting"))
    await deposits.report(status)

    assert await deposits.status() == status


async def test_the_whole_history_is_read_into_an_empty_vault(deposits: Deposits) -> None:
    assert await deposits.vault() == VAULT
    assert await deposits.figures() == VaultFigures(
        vault_balance=0, arrived=0, withdrawn=0, opening=0, credited=0, due=0, set_aside=0, dust=0, moves_count=0, credited_count=0,
        due_count=0, set_aside_count=0, dust_count=0, cursor=START,
    )  # fmt: skip


async def test_an_opening_is_taken_over_with_the_first_page_and_then_stays(books: Books) -> None:
    deposits = Deposits(books.pool, books.balances)
    await deposits.open_vault(VAULT, opening=90)
    assert await deposits.open_vault(VAULT, opening=100) == Cursor(signature=None, slot=0, balance=100)
    assert (await deposits.figures()).opening == 0
    start = Cursor(signature="newest at the start", slot=50, balance=100)
    assert (await deposits.record_page(VAULT, [], cursor=start, set_aside_min=0)).cursor == start
    history = History(opening=100)
    history.arrive(11)
    history.withdraw(100)
    await record(deposits, history.moves)
    await deposits.open_vault(VAULT, opening=77)

    figures = await deposits.figures()
    assert (figures.opening, figures.arrived, figures.withdrawn, figures.vault_balance) == (100, 11, 100, 11)
    assert await legs(books, "opening") == [{"vault:usdc": 100, "operator:drawings": -100}]
    await deposits.rewind(VAULT)
    assert await deposits.open_vault(VAULT, opening=None) == start
    assert (await record(deposits, history.moves)).known == 2
    await assert_whole(books)


async def test_another_vault_or_chain_is_refused_with_advice(books: Books, deposits: Deposits) -> None:
    for other in (
        replace(VAULT, address=address("other")), replace(VAULT, owner=address("other")),
        replace(VAULT, mint=address("other")), replace(VAULT, token_program=address("other")),
    ):  # fmt: skip
        with pytest.raises(WrongStore, match="put the setting back"):
            await deposits.open_vault(other, opening=None)
    with pytest.raises(WrongStore, match="belongs to chain"):
        await deposits.open_vault(replace(VAULT, genesis=address("other")), opening=None)
    await redis_command(books.balances, "DEL", IDENTITY_KEY)
    with pytest.raises(WrongStore, match="the database belongs to chain"):
        await deposits.open_vault(replace(VAULT, genesis=address("other")), opening=None)


async def test_a_vault_that_was_never_opened_is_refused(books: Books) -> None:
    deposits, history = Deposits(books.pool, books.balances), History()
    history.arrive(1)

    assert await deposits.vault() is None
    assert (await deposits.figures()).cursor is None
    assert await deposits.stopped() is None
    for attempt in (record(deposits, history.moves), deposits.rewind(VAULT), deposits.stop_crediting("x")):
        with pytest.raises(NoVault):
            await attempt
    await deposits.resume_crediting()


async def test_starters_that_do_not_know_the_chain_are_welcome_at_any_time(books: Books) -> None:
    deposits = Deposits(books.pool, books.balances)
    identity = {b"instance": books.balances.instance.encode(), b"mode": b"sandbox"}

    async def start() -> None:
        assert await claim_stores(books.pool, books.balances, mode="sandbox") == books.balances.instance

    await start()
    await books.pool.execute("UPDATE instance SET genesis = $1", VAULT.genesis)  # pinned in the database, and dead before Redis was told
    await start()
    assert await redis_command(books.balances, "HGET", IDENTITY_KEY, "genesis") == VAULT.genesis.encode()
    await redis_command(books.balances, "HSET", IDENTITY_KEY, "genesis", "")  # told by a starter that had read the database before
    await start()
    await deposits.open_vault(VAULT, opening=None)
    await start()
    await claim_stores(books.pool, books.balances, mode="sandbox", genesis=VAULT.genesis)
    found = await redis_command(books.balances, "HGETALL", IDENTITY_KEY)
    pairs = dict(found.items() if isinstance(found, dict) else zip(found[::2], found[1::2], strict=True))
    assert pairs == {**identity, b"genesis": VAULT.genesis.encode()}


async def test_many_first_starts_at_once_open_one_vault(books: Books) -> None:
    watchers = [Deposits(books.pool, books.balances) for _ in range(6)]

    cursors = await asyncio.gather(*(watcher.open_vault(VAULT, opening=None) for watcher in watchers))

    assert cursors == [START] * 6
    assert await books.pool.fetchval("SELECT count(*) FROM audit WHERE action = 'vault_opened'") == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE vault_moves SET post = post + 1",
        "DELETE FROM vault_moves",
        "TRUNCATE vault_moves CASCADE",
        "DELETE FROM deposits",
        "UPDATE deposits SET amount = amount + 1",
        "UPDATE deposits SET senders = '{}'",
        "UPDATE deposits SET state = 'credited'",
        "UPDATE instance SET genesis = 'other'",
    ],
)
async def test_the_record_of_the_chain_cannot_be_changed(books: Books, deposits: Deposits, statement: str) -> None:
    history = History()
    history.arrive(5)
    await catch_up(deposits, history)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await books.pool.execute(statement)
