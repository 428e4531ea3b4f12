"""Idempotency keys: each request is recorded once and answered alike, whoever dies in between and whatever the stores go through."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import asyncpg
import pytest

from cli.embedded import EmbeddedPostgres, EmbeddedValkey
from ledger.errors import JournalUnavailable, LedgerError, NotPostedYet, RequestEnded, ShardClosed
from ledger.idempotency import WHOLE_REQUEST, Busy, Claims, Conflict, Fresh, Known, Recorded, Taken, Wanted, wanted_claim
from ledger.ingest import Ingest
from ledger.ingest_values import IngestKey
from ledger.keys import Keys, parse_key
from ledger.poster import run_poster
from ledger.queries import SQL
from ledger.rebuild import rebuild_shard
from ledger.reconcile import verify
from ledger.tokens import new_request_id
from tests.fakes.books import Books, open_books
from tests.fakes.reports import FLAG, Reporter, items, open_reporter
from tests.integration.test_books_under_chaos import copy_when_idle, level, other_process
from tests.integration.test_rebuild import restore_database

COST = 7


@pytest.fixture
async def books(database_url: str, redis_url: str) -> AsyncIterator[Books]:
    async with open_books(database_url, redis_url) as opened:
        yield opened


@pytest.fixture
def no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims of the dead are looked into at once, however new they are."""
    text = SQL["read_claims"].replace("taken_at > now()", "taken_at > now() + interval '1 day'")
    monkeypatch.setitem(SQL, "read_claims", text)


class Client:
    """Somebody who sends requests with idempotency keys, as the control API handles them."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter, self.claims = reporter, Claims(reporter.books.pool, reporter.ingest)

    async def take(self, *keys: str, body: str = "body") -> Taken:
        lines = range(len(keys)) if len(keys) > 1 else [WHOLE_REQUEST]
        wanted = [wanted_claim(key, body.encode(), line=line) for key, line in zip(keys, lines, strict=True)]
        return await self.claims.take(self.reporter.key, new_request_id(), wanted)

    async def take_posted(self, *keys: str) -> Taken:
        """Take while a poster works: what became of an old claim is known when the journal has caught up."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.take(*keys))
            while not task.done():
                await self.reporter.books.drain()
        return task.result()

    async def charge(self, taken: Taken, *costs: int) -> None:
        await self.reporter.ingest.charge_usage(
            self.reporter.key, taken.request_id, items(*costs), policy=FLAG, claims=taken.marks, epoch=taken.epoch
        )  # fmt: skip

    async def answer(self, taken: Taken, key: str, text: str) -> None:
        await self.claims.answer(self.reporter.key.account, taken.request_id, {wanted_claim(key, b"").key_sha256: text})


@pytest.fixture
async def client(books: Books) -> Client:
    return Client(await open_reporter(books, 1_000_000))


async def recorded(books: Books) -> int:
    await books.drain()
    return int(await books.pool.fetchval("SELECT count(*) FROM usage_events"))


async def test_a_repeat_gets_the_first_answer_and_another_body_is_a_conflict(client: Client) -> None:
    taken = await client.take("a")
    await client.charge(taken, COST)
    await client.answer(taken, "a", '{"first":true}')

    assert taken.states == (Fresh(),)
    assert (await client.take("a")).states == (Known('{"first":true}'),)
    assert (await client.take("a", body="other")).states == (Conflict(),)


async def test_a_key_is_busy_while_its_request_is_under_way_and_free_when_it_was_released(client: Client) -> None:
    taken = await client.take("a")

    assert (await client.take("a")).states == (Busy(),)
    await client.claims.release(client.reporter.key.account, taken.request_id, [wanted_claim("a", b"")])
    assert (await client.take("a", body="other")).states == (Fresh(),)


async def test_keys_belong_to_accounts_and_a_header_key_is_no_events_key(client: Client, books: Books) -> None:
    await client.take("a")
    other = Client(await open_reporter(books))

    assert (await other.take("a")).states == (Fresh(),)
    assert (await client.take("a", "b")).states == (Fresh(), Fresh())


@pytest.mark.usefixtures("no_lease")
async def test_who_dies_before_charging_leaves_a_claim_that_the_next_one_takes_over(client: Client, books: Books) -> None:
    dead = await client.take("a")

    taken = await client.take_posted("a")

    assert taken.states == (Fresh(),)
    with pytest.raises(RequestEnded):  # he was not dead, only slow
        await client.charge(dead, COST)
    await client.charge(taken, COST)
    assert await recorded(books) == 1


@pytest.mark.usefixtures("no_lease")
async def test_who_dies_after_charging_leaves_an_answer_that_is_made_from_the_journal(client: Client, books: Books) -> None:
    dead = await client.take("a")
    await client.charge(dead, COST, 10**9, COST)

    [state] = (await client.take_posted("a")).states

    assert isinstance(state, Recorded)
    assert (state.line, state.record.request_id, [item.line for item in state.record.items]) == (WHOLE_REQUEST, dead.request_id, [0, 2])
    outcome = await client.reporter.ingest.outcome_of(client.reporter.key.account, state.record, policy=FLAG)
    assert [one.recorded for one in outcome.items] == [True, False, True]
    await client.answer(dead, "a", "made again")
    assert (await client.take("a")).states == (Known("made again"),)
    assert await recorded(books) == 2


@pytest.mark.usefixtures("no_lease")
async def test_each_event_of_a_batch_has_its_own_claim(client: Client, books: Books) -> None:
    dead = await client.take("a", "b", "c")
    await client.charge(dead, COST, 10**9, COST)

    first, second, third = (await client.take_posted("a", "b", "c")).states

    assert isinstance(first, Recorded)
    assert isinstance(third, Recorded)
    assert second == Fresh()  # it was refused
    assert (first.line, third.line) == (0, 2)


@pytest.mark.usefixtures("no_lease")
async def test_of_many_heirs_one_takes_over(client: Client, books: Books) -> None:
    await client.take("a")

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client.take("a")) for _ in range(8)]
        while not all(task.done() for task in tasks):
            await books.drain()
    winners = [task.result() for task in tasks if task.result().states == (Fresh(),)]
    charged = 0
    for winner in winners:
        with suppress(RequestEnded):
            await client.charge(winner, COST)
            charged += 1

    assert charged == 1
    assert await recorded(books) == 1


async def test_a_claim_is_charged_in_the_epoch_in_which_it_was_taken(client: Client, books: Books) -> None:
    taken = await client.take("a")
    await rebuild_shard(books.pool, books.balances, client.reporter.key.shard)

    with pytest.raises(ShardClosed):
        await client.charge(taken, COST)


async def test_no_claim_is_taken_on_a_journal_that_lacks_what_redis_has_seen_of_it(client: Client, books: Books) -> None:
    taken = await client.take("a")
    await client.charge(taken, COST)
    await books.drain()
    await books.pool.execute("UPDATE shards SET posted_seq = posted_seq - 1 WHERE shard = $1", client.reporter.key.shard)
    await books.pool.execute("DELETE FROM ingest_claims")

    with pytest.raises(ShardClosed):
        await client.take("a")


async def test_no_claim_is_taken_on_a_journal_that_lost_the_claims_of_what_it_has_still_to_post(
    client: Client, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ledger.idempotency.POSTED_SECONDS_MAX", 0.1)
    taken = await client.take("a")
    await client.charge(taken, COST)
    await books.pool.execute("DELETE FROM ingest_claims")  # as a backup that is older than the claim
    await books.pool.expire_connections()  # which a restored database has none of

    with pytest.raises(NotPostedYet):
        await client.take("a")
    with pytest.raises(NotPostedYet):
        await client.take("b")

    await books.drain()
    [state] = (await client.take_posted("a")).states
    assert isinstance(state, Recorded)
    assert (await client.take("b")).states == (Fresh(),)


@pytest.mark.usefixtures("no_lease")
async def test_a_restored_claim_that_was_taken_over_since_is_known_as_the_one_that_was_recorded(client: Client, books: Books) -> None:
    early = await client.take("a")
    taken = await client.take_posted("a")
    await client.charge(taken, COST)
    await books.pool.execute("UPDATE ingest_claims SET request_id = $1", early.request_id)  # as a backup from before

    # Who asks at the very moment in which posting puts it right is told to ask again.
    [first] = (await client.take_posted("a")).states
    [state] = (await client.take_posted("a")).states

    assert isinstance(first, Busy | Recorded)
    assert isinstance(state, Recorded)
    assert state.record.request_id == taken.request_id


async def test_a_claim_is_not_charged_once_others_may_have_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.idempotency.LEASE_SECONDS", 0.0)
    taken = await client.take("a")

    with pytest.raises(RequestEnded):
        await client.charge(taken, COST)


async def test_old_claims_are_forgotten(client: Client, books: Books) -> None:
    taken = await client.take("a")
    await client.answer(taken, "a", "{}")
    await books.pool.execute("UPDATE ingest_claims SET created_at = now() - interval '35 days 1 minute'")

    await books.drain()

    assert (await client.take("a", body="other")).states == (Fresh(),)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b"])
def test_a_key_is_text_of_a_bounded_length(key: str) -> None:
    with pytest.raises(ValueError, match="idempotency key"):
        wanted_claim(key, b"")


# ---- under chaos ----


class Crowd:
    """Clients that send every key until it is answered, served by processes that die anywhere."""

    def __init__(self, keys: list[IngestKey], *, seed: int) -> None:
        self.keys, self.random = keys, random.Random(seed)
        self.acknowledged: Counter[int] = Counter()
        self.sent = 0
        self.stop = asyncio.Event()

    async def go_on(self, *, reports: int) -> None:
        """Wait until so many more were acknowledged, for a second at least: on a busy machine it takes longer."""
        wanted = self.acknowledged.total() + reports
        async with asyncio.timeout(60):
            await asyncio.sleep(1.0)
            while self.acknowledged.total() < wanted:
                await asyncio.sleep(0.02)

    async def run(self, claims: Claims, ingest: Ingest) -> None:
        while not self.stop.is_set():
            self.sent += 1
            key, name = self.random.choice(self.keys), f"key {self.sent}"
            costs = [COST] * self.random.choice((1, 1, 5))
            while not await self.attempt(claims, ingest, key, name, costs):
                await asyncio.sleep(0.02)
            self.acknowledged[key.account] += len(costs)

    async def attempt(self, claims: Claims, ingest: Ingest, key: IngestKey, name: str, costs: list[int]) -> bool:
        """One try of a client, in a process that may be killed at any moment."""
        try:
            async with asyncio.timeout(self.random.choice((0.001, 0.004, 0.01, 5, 5, 5))):
                return await self.serve(claims, ingest, key, wanted_claim(name, b""), costs)
        except (LedgerError, TimeoutError):
            return False

    async def serve(self, claims: Claims, ingest: Ingest, key: IngestKey, wanted: Wanted, costs: list[int]) -> bool:
        taken = await claims.take(key, new_request_id(), [wanted])
        [state] = taken.states
        if isinstance(state, Known):
            return True
        request_id = taken.request_id
        if isinstance(state, Recorded):
            request_id = state.record.request_id
        elif isinstance(state, Fresh):
            outcome = await ingest.charge_usage(key, request_id, items(*costs), policy=FLAG, claims=taken.marks, epoch=taken.epoch)
            assert outcome.recorded == len(costs)
        else:
            return False
        if self.random.random() < 0.8:  # else it dies with the answer
            await claims.answer(key.account, request_id, {wanted.key_sha256: "{}"})
            return True
        return False


type Chaos = Callable[[], Awaitable[None]]


async def survive(books: Books, redis_url: str, *, chaos: Chaos, seed: int) -> None:
    keys = [parse_key((await Keys(books.pool, books.balances).create((await books.open_account()).account)).text) for _ in range(3)]
    await books.drain()
    crowd, stop = Crowd(keys, seed=seed), asyncio.Event()
    async with other_process(books, redis_url) as worker, other_process(books, redis_url) as poster:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(run_poster(books.pool, poster, retention_hours=48, stop=stop))
            ingest = Ingest(books.pool, worker)
            clients = [group.create_task(crowd.run(Claims(books.pool, ingest), ingest)) for _ in range(8)]
            await crowd.go_on(reports=11)
            await chaos()
            await crowd.go_on(reports=11)
            crowd.stop.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*clients)
                while not await level(books):
                    await asyncio.sleep(0.1)
            stop.set()
    await books.balances.load()
    for new, key in zip(books.opened, keys, strict=True):
        count = crowd.acknowledged[key.account]
        assert await books.pool.fetchval("SELECT count(*) FROM usage_events WHERE account_id = $1", key.account) == count
        assert (await books.balance(new), await books.journal_balance(new)) == (-count * COST, -count * COST)
    assert [finding.text for finding in (await verify(books.pool, books.balances)).findings] == []
    assert sum(crowd.acknowledged.values()) > 20


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.idempotency.LEASE_SECONDS", 0.2)


@pytest.mark.usefixtures("short_lease")
async def test_every_key_is_recorded_once_while_its_servers_die(books: Books, redis_url: str) -> None:
    async def nothing() -> None:
        await asyncio.sleep(1.0)

    await survive(books, redis_url, chaos=nothing, seed=1)


@pytest.mark.usefixtures("short_lease")
async def test_every_key_is_recorded_once_while_valkey_is_killed(books: Books, redis_url: str, valkey_server: EmbeddedValkey) -> None:
    async def kill() -> None:
        for _ in range(2):
            assert valkey_server.process is not None
            valkey_server.process.kill()
            await asyncio.to_thread(valkey_server.process.wait)
            await asyncio.to_thread(valkey_server.start)
            await asyncio.to_thread(valkey_server.wait_until_ready)
            await asyncio.sleep(0.5)

    await survive(books, redis_url, chaos=kill, seed=2)


@pytest.mark.usefixtures("short_lease")
async def test_every_key_is_recorded_once_while_shards_are_rebuilt(books: Books, redis_url: str) -> None:
    async def rebuild() -> None:
        for _ in range(3):
            for shard in {new.account.shard for new in books.opened}:
                with suppress(LedgerError):
                    await rebuild_shard(books.pool, books.balances, shard)
            await asyncio.sleep(0.3)

    await survive(books, redis_url, chaos=rebuild, seed=3)


@pytest.mark.usefixtures("short_lease")
async def test_every_key_is_recorded_once_while_postgres_loses_its_connections(books: Books, redis_url: str, postgres_server: EmbeddedPostgres) -> None:
    async def cut() -> None:
        connection = await asyncpg.connect(postgres_server.url)
        for _ in range(10):
            await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND application_name = 'level5'")
            await asyncio.sleep(0.1)
        await connection.close()

    await survive(books, redis_url, chaos=cut, seed=4)


@pytest.mark.usefixtures("short_lease")
async def test_every_key_is_recorded_once_while_the_database_is_restored_from_a_backup(
    books: Books, redis_url: str, database_url: str, postgres_server: EmbeddedPostgres
) -> None:
    async def restore() -> None:
        copy = await copy_when_idle(database_url, postgres_server, books)
        await asyncio.sleep(1.0)
        await restore_database(database_url, postgres_server, to=copy)

    with suppress(JournalUnavailable):
        await books.pool.expire_connections()
    await survive(books, redis_url, chaos=restore, seed=5)
