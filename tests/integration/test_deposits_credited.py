"""A deposit is credited once, whoever decides it: its memo, an operator or a claim, in whatever order and at once."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ledger.accounts import NewAccount
from ledger.balances import Balances
from ledger.deposit_credits import SHARDS_AT_ONCE
from ledger.deposit_values import Deposit
from ledger.deposits import Deposits
from ledger.errors import AlreadyAssigned, BalanceUnavailable, ClaimExpired, ClaimSpent, InactiveAccount, UnknownClaim, UnknownDeposit
from ledger.money import AMOUNT_MAX
from ledger.reconcile import verify
from ledger.redis_client import connect_redis
from ledger.statements import transactions
from tests.fakes.books import Books, open_books
from tests.fakes.vaults import VAULT, History, catch_up
from tests.fakes.watching import eventually


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@pytest.fixture
async def deposits(books: Books) -> Deposits:
    deposits = Deposits(books.pool, books.balances)
    await deposits.open_vault(VAULT, opening=None)
    return deposits


async def arrived(deposits: Deposits, amount: int, *, to: NewAccount | None = None) -> Deposit:
    """One deposit in a vault that had none."""
    history = History()
    move = history.arrive(amount, to=to.account.deposit_code if to else None)
    await catch_up(deposits, history)
    return await deposits.find(move.signature)


async def assert_whole(books: Books) -> None:
    await books.drain()
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []


async def test_what_is_due_is_credited_and_can_be_spent(books: Books, deposits: Deposits) -> None:
    new = await books.open_account()
    deposit = await arrived(deposits, 5_000_000, to=new)

    assert await deposits.credit_due() == 1
    assert await deposits.credit_due() == 0

    assert await books.balance(new) == 5_000_000
    await books.spend(new, 100)
    found = await deposits.find(deposit.signature)
    assert (found.state, found.account_id, found.public_id, found.source) == ("credited", new.account.id, new.account.public_id, "memo")
    assert found.credited_at is not None
    await books.drain()
    [charge, line] = await transactions(books.pool, books.balances, new.account)
    assert (line.type, line.usdc_amount, line.balance_after, charge.usdc_amount) == ("DEPOSIT", 5_000_000, 5_000_000, -100)
    key = f"deposit:{VAULT.genesis}:{deposit.signature}:{VAULT.address}"
    row = await books.pool.fetchrow("SELECT * FROM journal WHERE key = $1", key)
    assert (row["accounts"], row["amounts"]) == (["unattributed", f"customer:{new.account.id}"], [5_000_000, -5_000_000])
    detail = json.loads(row["detail"])
    assert detail.pop("created_at") > 0
    assert detail == {
        "kind": "deposit", "type": "DEPOSIT", "house": "unattributed", "genesis": VAULT.genesis, "vault": VAULT.address,
        "signature": deposit.signature, "source": "memo", "actor": "chainwatch",
    }  # fmt: skip
    await assert_whole(books)


async def test_many_rounds_at_once_credit_each_deposit_once(books: Books, deposits: Deposits) -> None:
    news, history = [await books.open_account() for _ in range(3)], History()
    for number in range(30):
        history.arrive(10, to=news[number % 3].account.deposit_code)
    await catch_up(deposits, history)

    counts = await asyncio.gather(*(Deposits(books.pool, books.balances).credit_due(limit=12) for _ in range(4)))

    while await deposits.credit_due():
        pass
    assert sum(counts) >= 12
    assert [await books.balance(new) for new in news] == [100] * 3
    assert (await deposits.figures()).credited == 300
    await assert_whole(books)


async def accounts_of_shards(books: Books, count: int) -> list[NewAccount]:
    """Accounts no two of which share a shard; where an account lies is drawn by lot."""
    found: dict[int, NewAccount] = {}
    while len(found) < count:
        new = await books.open_account()
        found.setdefault(new.account.shard, new)
    return list(found.values())


async def test_a_shard_that_is_busy_keeps_the_deposits_of_others_waiting_for_nothing(books: Books, deposits: Deposits) -> None:
    news, history = await accounts_of_shards(books, SHARDS_AT_ONCE + 2), History()
    for _ in range(2):
        for new in news:
            history.arrive(10, to=new.account.deposit_code)
    await catch_up(deposits, history)

    async with books.pool.acquire() as other, other.transaction():
        await other.fetchrow("SELECT 1 FROM shards WHERE shard = $1 FOR UPDATE", news[0].account.shard)
        crediting = asyncio.create_task(deposits.credit_due())
        await eventually(lambda: have(books, news[1:], 20), "a shard that is locked keeps others waiting")
        assert not crediting.done()
        assert await books.balance(news[0]) == 0

    assert await crediting == 2 * len(news)
    assert await have(books, news, 20)
    await assert_whole(books)


async def have(books: Books, news: list[NewAccount], amount: int) -> bool:
    return [await books.balance(new) for new in news] == [amount] * len(news)


async def test_a_fault_in_one_shard_is_told_after_the_others_have_their_money(books: Books, deposits: Deposits) -> None:
    news, history = await accounts_of_shards(books, 4), History()
    for new in news:
        history.arrive(10, to=new.account.deposit_code)
    await catch_up(deposits, history)
    await books.pool.execute("DELETE FROM shards WHERE shard = $1", news[0].account.shard)

    with pytest.raises(KeyError):
        await deposits.credit_due()

    assert [await books.balance(new) for new in news] == [0, 10, 10, 10]


async def test_once_crediting_is_stopped_no_credit_that_was_under_way_comes_behind(books: Books, deposits: Deposits) -> None:
    news, history = await accounts_of_shards(books, 2 * SHARDS_AT_ONCE), History()
    for _ in range(3):
        for new in news:
            history.arrive(10, to=new.account.deposit_code)
    await catch_up(deposits, history)

    crediting = asyncio.create_task(deposits.credit_due())
    await eventually(lambda: is_begun(deposits), "nothing is credited")
    await Deposits(books.pool, books.balances).stop_crediting("the vault differs")
    then = (await deposits.figures()).credited
    await crediting

    assert (await deposits.figures()).credited == then
    await deposits.resume_crediting()
    await deposits.credit_due()
    assert await have(books, news, 30)
    await assert_whole(books)


async def is_begun(deposits: Deposits) -> bool:
    return (await deposits.figures()).credited > 0


async def test_an_operator_assigns_what_was_set_aside_and_it_is_noted(books: Books, deposits: Deposits) -> None:
    new = await books.open_account()
    deposit = await arrived(deposits, 700)

    credit = await deposits.assign(deposit, new.account, actor="anna", reason="ticket 7")
    again = await deposits.assign(deposit, new.account, actor="anna", reason="ticket 7")

    assert (credit.amount, credit.balance_after, credit.applied) == (700, 700, True)
    assert (again.key, again.amount, again.balance_after) == (credit.key, 700, None)
    assert await books.balance(new) == 700
    found = await deposits.find(deposit.signature)
    assert (found.state, found.source, found.aside) == ("credited", "operator", "")
    [row] = await books.pool.fetch("SELECT actor, detail FROM audit WHERE action = 'deposit_assigned'")
    assert (row["actor"], json.loads(row["detail"])["reason"]) == ("anna", "ticket 7")
    await assert_whole(books)


async def test_what_is_credited_goes_to_nobody_else(books: Books, deposits: Deposits) -> None:
    first, second = await books.open_account(), await books.open_account()
    deposit = await arrived(deposits, 700, to=first)
    await deposits.credit_due()

    with pytest.raises(AlreadyAssigned) as refusal:
        await deposits.assign(deposit, second.account, actor="anna", reason="wrong memo")

    assert refusal.value.public_id == first.account.public_id
    assert (await books.balance(first), await books.balance(second)) == (700, 0)
    with pytest.raises(UnknownDeposit):
        await deposits.assign(replace(deposit, id=10**9), second.account, actor="anna", reason="x")


async def test_memo_operator_and_claim_at_once_give_it_to_one_of_them(books: Books, deposits: Deposits) -> None:
    news, history = [await books.open_account() for _ in range(4)], History()

    async def assign(deposit: Deposit, new: NewAccount, source: str) -> int:
        try:
            credit = await Deposits(books.pool, books.balances).assign(deposit, new.account, actor="x", reason="race", source=source)
        except AlreadyAssigned:
            return 0
        return int(credit.balance_after is not None)

    for number in range(8):
        move = history.arrive(100, to=news[0].account.deposit_code if number % 2 else None)
        await catch_up(deposits, history)
        deposit = await deposits.find(move.signature)
        won = await asyncio.gather(
            assign(deposit, news[1], "operator"), assign(deposit, news[2], "claim"), assign(deposit, news[3], "claim"),
            assign(deposit, news[1], "operator"), deposits.credit_due(),
        )  # fmt: skip
        assert sum(won) == 1

    assert sum([await books.balance(new) for new in news]) == 800
    assert await books.pool.fetchval("SELECT count(*) FROM journal WHERE kind = 'deposit'") == 8
    await assert_whole(books)


async def test_nothing_is_credited_while_crediting_is_stopped_and_all_of_it_afterwards(books: Books, deposits: Deposits) -> None:
    named, chosen, history = await books.open_account(), await books.open_account(), History()
    history.arrive(10, to=named.account.deposit_code)
    await deposits.stop_crediting("the vault differs")
    await deposits.stop_crediting("the vault differs by 5")
    assert await deposits.stopped() == "the vault differs by 5"
    aside = history.arrive(20)
    await catch_up(deposits, history)

    assert await deposits.credit_due() == 0
    credit = await deposits.assign(await deposits.find(aside.signature), chosen.account, actor="anna", reason="ticket 7")
    assert await deposits.credit_due() == 0

    assert (credit.amount, credit.balance_after, credit.applied) == (20, None, False)
    assert [await books.balance(new) for new in (named, chosen)] == [0, 0]
    assert (await deposits.figures()).due == 30
    await deposits.resume_crediting()
    await deposits.resume_crediting()
    assert await deposits.stopped() is None
    assert await deposits.credit_due() == 2
    assert [await books.balance(new) for new in (named, chosen)] == [10, 20]
    assert [each.source for each in await deposits.list()] == ["operator", "memo"]
    actions = [row["action"] for row in await books.pool.fetch("SELECT action FROM audit ORDER BY id")]
    assert actions == ["vault_opened", "crediting_stopped", "crediting_stopped", "deposit_assigned", "crediting_resumed"]
    await assert_whole(books)


async def test_a_deposit_that_is_due_to_one_can_be_given_to_another_before_it_is_credited(books: Books, deposits: Deposits) -> None:
    named, chosen = await books.open_account(), await books.open_account()
    deposit = await arrived(deposits, 10, to=named)

    await deposits.assign(deposit, chosen.account, actor="anna", reason="sent with the wrong code")

    assert await deposits.credit_due() == 0
    assert [await books.balance(new) for new in (named, chosen)] == [0, 10]


async def test_an_account_closed_meanwhile_gets_nothing(books: Books, deposits: Deposits) -> None:
    new = await books.open_account()
    deposit = await arrived(deposits, 10, to=new)
    await books.accounts.set_status(new.account, "closed", "asked for")

    assert await deposits.credit_due() == 0

    found = await deposits.find(deposit.signature)
    assert (found.state, found.aside, found.account_id) == ("aside", "closed_account", None)
    with pytest.raises(InactiveAccount, match="closed"):
        await deposits.assign(found, new.account, actor="anna", reason="x")
    assert (await deposits.find(deposit.signature)).state == "aside"
    assert await books.pool.fetchval("SELECT count(*) FROM audit WHERE action = 'deposit_assigned'") == 0
    await assert_whole(books)


async def test_more_than_an_account_can_hold_is_set_aside_and_keeps_nobody_else_waiting(books: Books, deposits: Deposits) -> None:
    full, other, history = await books.open_account(5), await books.open_account(), History()
    history.arrive(AMOUNT_MAX - 4, to=full.account.deposit_code)
    huge = history.arrive(2**62, to=other.account.deposit_code)
    history.arrive(8, to=other.account.deposit_code)
    await catch_up(deposits, history)

    assert await deposits.credit_due() == 1
    assert await deposits.credit_due() == 0

    assert [(each.state, each.aside) for each in await deposits.list()] == [("credited", ""), ("aside", "balance_full"), ("aside", "balance_full")]
    assert [await books.balance(new) for new in (full, other)] == [5, 8]
    with pytest.raises(ValueError, match="2\\^53"):
        await deposits.assign(await deposits.find(huge.signature), other.account, actor="anna", reason="x")
    await assert_whole(books)


async def test_a_suspended_account_still_gets_its_money(books: Books, deposits: Deposits) -> None:
    new = await books.open_account()
    await arrived(deposits, 10, to=new)
    await books.accounts.set_status(new.account, "suspended", "unpaid")

    assert await deposits.credit_due() == 1
    assert await books.journal_balance(new) == 10


async def test_an_account_that_turns_up_later_gets_what_named_it(books: Books, deposits: Deposits) -> None:
    new, history = await books.open_account(), History()
    history.arrive(10, to="0123456789ABCDEF")
    await catch_up(deposits, history)
    assert await deposits.credit_due() == 0
    await books.pool.execute("UPDATE accounts SET deposit_code = '0123456789ABCDEF' WHERE id = $1", new.account.id)  # as an outbox replay would bring it

    assert await deposits.credit_due() == 1
    assert await books.balance(new) == 10


async def test_while_redis_is_away_deposits_wait_and_recording_goes_on(books: Books, redis_url: str) -> None:
    here = Deposits(books.pool, books.balances)
    new, history = await books.open_account(), History()
    history.arrive(10, to=new.account.deposit_code)
    await here.open_vault(VAULT, opening=None)
    gone = connect_redis("redis://127.0.0.1:1", command_seconds_max=1)
    deposits = Deposits(books.pool, Balances(gone, instance=""))

    await deposits.record_page(VAULT, history.moves, cursor=replace(await here_cursor(here), signature="x", slot=200, balance=10), set_aside_min=0)
    assert await deposits.credit_due() == 0
    with pytest.raises(BalanceUnavailable):
        await deposits.assign((await deposits.list())[0], new.account, actor="anna", reason="x")

    assert await here.credit_due() == 1
    assert await books.balance(new) == 10
    await gone.aclose()


async def here_cursor(deposits: Deposits):  # type: ignore[no-untyped-def]
    cursor = (await deposits.figures()).cursor
    assert cursor is not None
    return cursor


async def test_a_claim_is_used_once_by_the_first_who_takes_it(books: Books, deposits: Deposits) -> None:
    new = await books.open_account()
    deposit = await arrived(deposits, 10)
    soon = datetime.now(UTC) + timedelta(minutes=5)
    claim_id = await deposits.open_claim(deposit, new.account, text="level5 asks …", nonce="n1", expires_at=soon)

    taken = await asyncio.gather(*(Deposits(books.pool, books.balances).take_claim(claim_id) for _ in range(5)), return_exceptions=True)

    [claim] = [each for each in taken if not isinstance(each, BaseException)]
    assert sum(isinstance(each, ClaimSpent) for each in taken) == 4
    assert (claim.deposit_id, claim.signature, claim.account_id, claim.text, claim.nonce) == (
        deposit.id,
        deposit.signature,
        new.account.id,
        "level5 asks …",
        "n1",
    )
    found = await deposits.find_claim(claim_id)
    assert found is not None
    assert found.spent_at is not None
    assert (await deposits.assign(deposit, new.account, actor="claim", reason=claim_id, source="claim")).amount == 10
    assert (await deposits.find(deposit.signature)).source == "claim"


async def test_a_claim_whose_time_is_over_is_refused(books: Books, deposits: Deposits) -> None:
    new = await books.open_account()
    deposit = await arrived(deposits, 10)
    claim_id = await deposits.open_claim(deposit, new.account, text="x", nonce="n1", expires_at=datetime.now(UTC) - timedelta(seconds=1))

    with pytest.raises(ClaimExpired):
        await deposits.take_claim(claim_id)
    with pytest.raises(UnknownClaim):
        await deposits.take_claim("clm_unknown")

    assert await deposits.find_claim("clm_unknown") is None
    found = await deposits.find_claim(claim_id)
    assert found is not None
    assert found.spent_at is None
    await books.pool.execute("UPDATE claims SET expires_at = now() - interval '2 days'")
    await deposits.open_claim(deposit, new.account, text="x", nonce="n2", expires_at=datetime.now(UTC))
    assert await deposits.find_claim(claim_id) is None
