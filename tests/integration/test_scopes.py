"""Tokens that may look and nothing else, tokens that are changed for others, and what a workspace is meant to cost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from ledger.account_values import KeyReused
from ledger.errors import InactiveAccount, LastToken, ReadOnlyToken, TooManyTokens, UnknownToken, UnknownWorkspace
from ledger.ingest_values import BudgetUse
from ledger.keys import Keys
from ledger.rebuild import rebuild_shard
from ledger.tokens import TokenScope, new_request_id, parse_token
from ledger.workspaces import Workspaces
from tests.fakes.books import POLICY, Books, open_books
from tests.fakes.reports import FLAG, item, open_reporter

CAPS = {"free": None}
MONTH = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


async def test_a_read_only_token_sees_the_account_and_can_hold_nothing(books: Books) -> None:
    new = await books.open_account(1000)
    text, token_id = await books.accounts.create_token(new.account, "for the board", scope=TokenScope.READ_ONLY)
    token = parse_token(text)

    standing = await books.balances.standing(token)

    assert (standing.balance, standing.status, standing.read_only) == (1000, "active", True)
    assert (await books.balances.authenticate(token, to_look=True)).balance == 1000
    with pytest.raises(ReadOnlyToken):
        await books.balances.authenticate(token)
    with pytest.raises(ReadOnlyToken):
        await books.balances.place_hold(token, new_request_id(), minimum=0, amount=0, policy=POLICY)
    assert (await books.balances.standing(parse_token(new.api_token))).held == 0
    assert not (await books.balances.standing(parse_token(new.api_token))).read_only
    await books.accounts.revoke_token(token_id)
    assert (await books.balances.standing(token)).status == "revoked"


async def test_a_suspended_account_shows_its_standing_to_a_read_only_token(books: Books) -> None:
    new = await books.open_account(1000)
    token = parse_token((await books.accounts.create_token(new.account, scope=TokenScope.READ_ONLY))[0])
    await books.accounts.set_status(new.account, "suspended", "test")

    standing = await books.balances.standing(token)

    assert (standing.status, standing.read_only) == ("suspended", True)
    with pytest.raises(InactiveAccount, match="suspended"):
        await books.balances.authenticate(token, to_look=True)


async def test_a_read_only_token_is_one_after_a_rebuild_too(books: Books) -> None:
    new = await books.open_account(1000)
    token = parse_token((await books.accounts.create_token(new.account, scope=TokenScope.READ_ONLY))[0])
    await books.drain()

    await rebuild_shard(books.pool, books.balances, new.account.shard)

    assert (await books.balances.standing(token)).read_only
    with pytest.raises(ReadOnlyToken):
        await books.balances.place_hold(token, new_request_id(), minimum=0, amount=0, policy=POLICY)


async def test_the_last_token_that_can_spend_stays_and_all_others_go(books: Books) -> None:
    new = await books.open_account()
    _, to_look = await books.accounts.create_token(new.account, scope=TokenScope.READ_ONLY)

    with pytest.raises(LastToken):
        await books.accounts.revoke_token(new.token_id, new.account, keep_one=True)
    await books.accounts.revoke_token(to_look, new.account, keep_one=True)
    _, other = await books.accounts.create_token(new.account)
    await books.accounts.revoke_token(new.token_id, new.account, keep_one=True)
    await books.accounts.revoke_token(new.token_id, new.account, keep_one=True)  # a repeat changes nothing
    with pytest.raises(LastToken):
        await books.accounts.revoke_token(other, new.account, keep_one=True)
    await books.accounts.revoke_token(other)  # the operator may

    assert [token.revoked_at is None for token in await books.accounts.list_tokens(new.account)] == [False, False, False]


async def test_two_tokens_that_revoke_each_other_at_once_leave_one(books: Books) -> None:
    new = await books.open_account()
    _, other = await books.accounts.create_token(new.account)

    ends = await asyncio.gather(
        *(books.accounts.revoke_token(token_id, new.account, keep_one=True) for token_id in (new.token_id, other)), return_exceptions=True
    )

    assert sorted(type(end) for end in ends if end is not None) == [LastToken]
    assert sum(token.revoked_at is None for token in await books.accounts.list_tokens(new.account)) == 1


async def test_nobody_revokes_the_token_of_another_account(books: Books) -> None:
    one, two = await books.open_account(), await books.open_account()

    with pytest.raises(UnknownToken):
        await books.accounts.revoke_token(one.token_id, two.account)

    assert (await books.balances.standing(parse_token(one.api_token))).status == "active"


async def test_one_wish_makes_one_token_and_one_key(books: Books) -> None:
    new = await books.open_account()
    keys = Keys(books.pool, books.balances)

    await books.accounts.create_token(new.account, once="a form")
    await keys.create(new.account, once="a form")
    with pytest.raises(KeyReused):
        await books.accounts.create_token(new.account, once="a form")
    with pytest.raises(KeyReused):
        await keys.create(new.account, once="a form")

    assert len(await books.accounts.list_tokens(new.account)) == 2
    assert len(await keys.list(new.account)) == 1


async def test_an_account_has_so_many_tokens_at_once(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.accounts.TOKENS_ACTIVE_MAX", 2)
    new = await books.open_account()
    _, token_id = await books.accounts.create_token(new.account)

    with pytest.raises(TooManyTokens):
        await books.accounts.create_token(new.account)
    await books.accounts.revoke_token(token_id)

    await books.accounts.create_token(new.account)


async def test_a_workspace_has_its_months_use_and_a_budget(books: Books) -> None:
    reporter = await open_reporter(books, 10_000)
    account, workspaces = books.opened[0].account, Workspaces(books.pool, books.balances)
    prod = (await workspaces.resolve(account.id, account.shard, "prod", caps=CAPS)).workspace
    idle = (await workspaces.resolve(account.id, account.shard, "idle", caps=CAPS)).workspace
    events = [item(line, cost=400, input_tokens=5, reasoning_tokens=2, workspace_id=prod.id) for line in range(2)]
    await reporter.ingest.charge_usage(reporter.key, new_request_id(), events, policy=FLAG)
    await books.drain()

    await workspaces.set_budget(account, prod.id, 1000)
    await workspaces.set_budget(account, idle.id, 1)
    await workspaces.set_budget(account, idle.id, None)

    used, unused = await workspaces.list_with_use(account, since=MONTH, limit=10)
    assert (used.name, used.events, used.tokens, used.spent, used.use) == ("prod", 2, 14, 800, BudgetUse(budget=1000, spent=800))
    assert (unused.name, unused.events, unused.tokens, unused.spent, unused.use) == ("idle", 0, 0, 0, None)
    assert await workspaces.list_with_use(account, since=MONTH, limit=1, offset=1) == [unused]
    assert await workspaces.budgets_nearly_used(since=MONTH) == {prod.id: BudgetUse(budget=1000, spent=800)}
    assert (await workspaces.list_with_use(account, since=MONTH + timedelta(days=31), limit=1))[0].spent == 0
    await workspaces.set_budget(account, prod.id, 1001)
    assert await workspaces.budgets_nearly_used(since=MONTH) == {}


async def test_a_budget_is_set_for_ones_own_workspaces_only_and_is_above_zero(books: Books) -> None:
    mine, other = await books.open_account(), await books.open_account()
    workspaces = Workspaces(books.pool, books.balances)
    made = (await workspaces.resolve(mine.account.id, mine.account.shard, "prod", caps=CAPS)).workspace

    with pytest.raises(UnknownWorkspace):
        await workspaces.set_budget(other.account, made.id, 1)
    for amount in (0, -1, 2**53):
        with pytest.raises(ValueError, match="budget"):
            await workspaces.set_budget(mine.account, made.id, amount)


def test_a_budget_is_near_at_four_fifths_and_over_beyond_all_of_it() -> None:
    states = [(use.is_near, use.is_over) for use in (BudgetUse(budget=1000, spent=spent) for spent in (799, 800, 1000, 1001))]

    assert states == [(False, False), (True, False), (True, False), (True, True)]
