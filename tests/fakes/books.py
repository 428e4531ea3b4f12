"""Whole books on real stores, and what a worker and an operator do with them, in few words."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from ledger.accounts import Account, Accounts, NewAccount
from ledger.balances import Balances, Hold, HoldPolicy, connect_redis
from ledger.entries import ChargeRecord, RequestId, UsageLine
from ledger.errors import JournalUnavailable
from ledger.journal import Pool, journal_answers, open_pool, read_shards
from ledger.migrate import migrate
from ledger.money import Microunits
from ledger.poster import Poster
from ledger.rebuild import needs_rebuild
from ledger.stores import claim_stores
from ledger.tokens import new_request_id, parse_token

POLICY = HoldPolicy(overdraft_max=0, concurrent_max=64, ttl_ms=60_000, outbox_max=100_000)


def record_of(request_id: RequestId, amount: int, *, estimated: bool = False, provider: str = "anthropic") -> ChargeRecord:
    """A charge of `amount`, of which ten elevenths (rounded up) are the provider's."""
    lines = (
        UsageLine(provider=provider, model="claude-sonnet-4-6", input_tokens=amount, output_tokens=7, cache_write_5m_tokens=2, cache_write_1h_tokens=3),
        UsageLine(provider=provider, model="claude-haiku-4-5", input_tokens=1),
    )
    return ChargeRecord(
        request_id=request_id, provider=provider, model="claude-sonnet-4-6", operation="messages", lines=lines, amount=Microunits(amount),
        provider_leg=Microunits(-(-amount * 10 // 11)), numerator=amount * 10**6, list_numerator=amount * 10**6 * 10 // 11,
        rate_card="card-1", started_at=1_700_000_000_000, estimated=estimated,
    )  # fmt: skip


@dataclass
class Books:
    """One instance: both stores, with an operator's and a worker's hands."""

    pool: Pool
    balances: Balances
    accounts: Accounts
    opened: list[NewAccount] = field(default_factory=list)

    async def open_account(self, balance: int = 0) -> NewAccount:
        new = await self.accounts.create()
        if balance:
            await self.accounts.credit(new.account, balance, reason="test", actor="tester")
        self.opened.append(new)
        return new

    async def hold(self, new: NewAccount, amount: int) -> Hold:
        return await self.balances.place_hold(parse_token(new.api_token), new_request_id(), minimum=amount, amount=amount, policy=POLICY)

    async def spend(self, new: NewAccount, amount: int) -> ChargeRecord:
        hold = await self.hold(new, amount)
        record = record_of(hold.request_id, amount)
        await self.balances.settle(hold, record)
        return record

    async def balance(self, new: NewAccount) -> int:
        """What Redis says."""
        return (await self.balances.standing(parse_token(new.api_token))).balance

    async def journal_balance(self, new: NewAccount) -> int:
        return (await self.reload(new)).balance

    async def reload(self, new: NewAccount) -> Account:
        return await self.accounts.find(new.account.public_id)

    async def is_level(self) -> bool:
        """Whether both stores are whole and the journal has all that Redis did."""
        async with journal_answers():
            positions = await read_shards(self.pool)
        metas = await self.balances.read_all_meta()
        return all(
            not needs_rebuild(positions[shard], meta) and meta is not None
            and (meta.seq, meta.due_seq, meta.posted) == (positions[shard].posted_seq, positions[shard].due_seq, positions[shard].posted_seq)
            for shard, meta in metas.items()
        )  # fmt: skip

    async def drain(self, *, seconds_max: float = 20.0) -> None:
        """Let one poster work until both stores are level."""
        poster = Poster(self.pool, self.balances, retention_hours=48)
        deadline = time.monotonic() + seconds_max
        async with asyncio.TaskGroup() as group:
            while True:
                with suppress(JournalUnavailable):  # connections to a database that was replaced
                    await poster.turn(group)
                    if await self.is_level():
                        return
                if time.monotonic() > deadline:
                    raise TimeoutError("the poster does not get the stores level")
                await asyncio.sleep(0.005)


@asynccontextmanager
async def open_books(database_url: str, redis_url: str, *, mode: str = "sandbox") -> AsyncIterator[Books]:
    """Migrate, claim and open; closed again at the end, with the stores left as they are."""
    await migrate(database_url)
    pool, redis = await open_pool(database_url), connect_redis(redis_url, command_seconds_max=10)
    balances = Balances(redis, instance="")
    try:
        await claim_stores(pool, balances, mode=mode)
        await balances.load()
        yield Books(pool, balances, Accounts(pool, balances))
    finally:
        await redis.aclose()
        pool.terminate()
