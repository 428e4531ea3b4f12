"""Two watchers, an operator and claims at random, while the history grows: in the end each move is in the books once."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ledger.accounts import NewAccount
from ledger.balances import Balances, connect_redis
from ledger.deposit_values import Cursor
from ledger.deposits import Deposits
from ledger.errors import AlreadyAssigned, VaultDiffers
from ledger.journal import open_pool
from ledger.reconcile import verify
from tests.fakes.books import Books, open_books
from tests.fakes.vaults import START, VAULT, History, cursor_at

ROUNDS = 60
DUST_BELOW = 10


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as books:
        yield books


@asynccontextmanager
async def another_process(books: Books, database_url: str, redis_url: str) -> AsyncIterator[Deposits]:
    pool, redis = await open_pool(database_url), connect_redis(redis_url, command_seconds_max=10)
    balances = Balances(redis, instance=books.balances.instance)
    await balances.load()
    yield Deposits(pool, balances)
    await redis.aclose()
    pool.terminate()


@dataclass
class Actor:
    """One process that does anything at any time, from whatever cursor it believes in."""

    deposits: Deposits
    history: History
    accounts: list[NewAccount]
    random: random.Random
    cursor: Cursor = START
    refused: int = 0
    done: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        actions = {
            self.record: 8, self.grow: 5, self.credit: 4, self.assign: 3, self.restart: 3, self.look_back: 2, self.rewind: 1, self.stop: 1, self.resume: 2,
        }  # fmt: skip
        for _ in range(ROUNDS):
            [action] = self.random.choices(list(actions), weights=list(actions.values()))
            await action()
            self.done[action.__name__] += 1

    async def grow(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            amount, same_slot = self.random.randint(1, 40), self.random.random() < 0.4
            match self.random.randrange(6):
                case 0 | 1 | 2:
                    self.history.arrive(amount, to=self.random.choice(self.accounts).account.deposit_code, same_slot=same_slot)
                case 3:
                    self.history.arrive(amount, same_slot=same_slot)
                case 4:
                    self.history.arrive(amount, to="0123456789ABCDEF", same_slot=same_slot)
                case _ if self.history.balance:
                    self.history.withdraw(self.random.randint(1, self.history.balance), same_slot=same_slot)

    async def record(self) -> None:
        moves = self.history.behind(self.cursor, at_most=self.random.randint(1, 9))
        if not moves:
            return
        try:
            await self.deposits.record_page(VAULT, moves, cursor=cursor_at(moves), set_aside_min=DUST_BELOW)
        except VaultDiffers:
            self.refused += 1
            await self.restart()
        else:
            self.cursor = cursor_at(moves)

    async def restart(self) -> None:
        self.cursor = await self.deposits.open_vault(VAULT, opening=None)

    async def look_back(self) -> None:
        """Believe in an old cursor, as a process does that was asleep."""
        if self.history.moves:
            self.cursor = cursor_at([self.random.choice(self.history.moves)])

    async def rewind(self) -> None:
        await self.deposits.rewind(VAULT)

    async def credit(self) -> None:
        await self.deposits.credit_due(limit=self.random.randint(1, 10))

    async def assign(self) -> None:
        candidates = await self.deposits.list(limit=20)
        if candidates:
            try:
                await self.deposits.assign(
                    self.random.choice(candidates), self.random.choice(self.accounts).account, actor="anna", reason="random",
                    source=self.random.choice(("operator", "claim")),
                )  # fmt: skip
            except AlreadyAssigned:
                self.refused += 1

    async def stop(self) -> None:
        await self.deposits.stop_crediting("random")

    async def resume(self) -> None:
        await self.deposits.resume_crediting()


async def finish(actor: Actor) -> None:
    await actor.resume()
    await actor.restart()
    while actor.history.behind(actor.cursor):
        await actor.record()
    while await actor.deposits.credit_due():
        pass


async def audit(books: Books, history: History, accounts: list[NewAccount]) -> None:
    """Compare with the history itself, by plain SQL: nothing here knows how the ledger does it."""
    rows = await books.pool.fetch("SELECT kind, key, accounts, amounts, detail FROM journal")
    arrivals = Counter(row["key"].split(":")[2] for row in rows if row["kind"] == "arrival")
    credits_ = Counter(row["key"].split(":")[2] for row in rows if row["kind"] == "deposit")
    withdrawals = Counter(row["key"].split(":")[2] for row in rows if row["kind"] == "withdrawal")
    moved = {row["signature"]: (row["pre"], row["post"]) for row in await books.pool.fetch("SELECT * FROM vault_moves")}
    assert moved == {move.signature: (move.pre, move.post) for move in history.moves}
    assert set(withdrawals) == {move.signature for move in history.moves if move.amount < 0}
    named = {each.account.deposit_code for each in accounts}
    listed = {move.signature for move in history.moves if move.amount >= DUST_BELOW or (move.amount > 0 and move.naming.deposit_code in named)}
    assert set(arrivals) == listed
    assert max((*arrivals.values(), *credits_.values(), *withdrawals.values()), default=1) == 1
    amounts = {move.signature: move.amount for move in history.moves}
    must = {move.signature for move in history.moves if move.amount > 0 and move.naming.deposit_code in named}
    assert must <= set(credits_) <= listed
    owned = [await books.balance(new) for new in accounts]
    assert sum(owned) == sum(amounts[signature] for signature in credits_)
    assert owned == [await books.journal_balance(new) for new in accounts]
    sums: Counter[str] = Counter()
    for row in rows:
        for account, amount in zip(row["accounts"], row["amounts"], strict=True):
            sums[account] += amount
    assert sums["vault:usdc"] == history.balance
    assert -sums["unattributed"] == sum(amount for amount in amounts.values() if amount > 0) - sum(owned)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_two_processes_do_each_move_is_in_the_books_once(books: Books, database_url: str, redis_url: str, seed: int) -> None:
    accounts, history = [await books.open_account() for _ in range(3)], History()
    async with another_process(books, database_url, redis_url) as one, another_process(books, database_url, redis_url) as two:
        await one.open_vault(VAULT, opening=None)
        actors = [Actor(process, history, accounts, random.Random(f"{seed} {name}")) for name, process in (("one", one), ("two", two))]
        await asyncio.gather(*(actor.run() for actor in actors))
        await asyncio.gather(*(finish(actor) for actor in actors))
    await books.drain()

    assert actors[0].done["record"] + actors[1].done["record"] > 10
    await audit(books, history, accounts)
    report = await verify(books.pool, books.balances)
    assert [finding.text for finding in report.findings] == []
