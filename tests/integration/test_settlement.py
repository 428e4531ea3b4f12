"""The settler against a real Valkey: no charge is lost, none is taken twice."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cli.embedded import EmbeddedValkey
from ledger import delivery
from ledger.balances import AccountRow, Balances, Hold, HoldPolicy, connect_redis
from ledger.entries import AccountId, ChargeRecord, RequestId, UsageLine
from ledger.errors import HoldEnded, JournalUnavailable, ShardClosed, UnknownToken
from ledger.money import Microunits
from ledger.reaper import reap, reap_forever
from ledger.settlement import Settler
from ledger.spool import Spool, UnpostedCharge
from ledger.tokens import ApiToken, TokenState, mint_token, new_request_id

SHARD = 11
ACCOUNT = AccountId(5)
POLICY = HoldPolicy(overdraft_max=0, concurrent_max=64, ttl_ms=60_000, outbox_max=1000)


@dataclass
class Journal:
    """What the late way does, in memory: a charge once, or the difference to what is known."""

    known: dict[str, int] = field(default_factory=dict)
    away: bool = False

    async def charge_late(self, record: ChargeRecord, *, account: AccountId, shard: int, hold_epoch: int) -> None:
        if self.away:
            raise JournalUnavailable("away")
        assert (account, shard) == (ACCOUNT, SHARD)
        self.known.setdefault(record.request_id, record.amount)

    async def epochs(self) -> dict[int, int]:
        if self.away:
            raise JournalUnavailable("away")
        return {SHARD: 1}


@dataclass
class Place:
    """One worker's settler with everything around it."""

    balances: Balances
    journal: Journal
    spool: Spool
    settler: Settler
    token: ApiToken
    folder: Path

    async def hold(self, amount: int = 300, *, ttl_ms: int = 60_000) -> Hold:
        policy = replace(POLICY, ttl_ms=ttl_ms)
        return await self.balances.place_hold(self.token, new_request_id(), minimum=amount, amount=amount, policy=policy)

    async def rebuild(self, balance: int, *, seq: int = 2) -> None:
        """Open the shard in its next epoch with what a journal would say."""
        epoch = self.balances.epoch(SHARD) + 1
        other = Balances(self.balances.redis, instance="i")
        await other.close_shard(SHARD)
        row = AccountRow(account=ACCOUNT, balance=balance, n=1, charged=0, status="active", tokens={self.token.digest: TokenState.ACTIVE})
        await other.write_accounts(SHARD, epoch, [row])
        await other.open_shard(SHARD, epoch=epoch, seq=seq, due_seq=2, posted=seq, instance="i", mode="sandbox")


@pytest.fixture
async def place(redis_url: str, tmp_path: Path) -> AsyncIterator[Place]:
    redis = connect_redis(redis_url, command_seconds_max=10)
    balances = Balances(redis, instance="i")
    await balances.open_shard(SHARD, epoch=1, seq=0, due_seq=0, posted=0, instance="i", mode="sandbox")
    await balances.load()
    token = mint_token(ACCOUNT, SHARD)[1]
    fields = {"status": "active", f"t:{token.digest}": "1"}
    await balances.apply_change(SHARD, due_seq=1, account=ACCOUNT, key="open:x", amount=0, fields=fields, detail="{}")
    await balances.apply_change(SHARD, due_seq=2, account=ACCOUNT, key="credit:x", amount=1000, fields={}, detail="{}")
    journal, spool = Journal(), Spool(tmp_path / "spool")
    yield Place(balances, journal, spool, Settler(balances, spool, journal, policy=POLICY), token, tmp_path / "spool")
    await redis.aclose()


@asynccontextmanager
async def redis_away(server: object) -> AsyncIterator[None]:
    server.stop()  # type: ignore[attr-defined]
    yield
    server.start()  # type: ignore[attr-defined]
    server.wait_until_ready()  # type: ignore[attr-defined]


def record_of(request_id: RequestId, amount: int) -> ChargeRecord:
    return ChargeRecord(
        request_id=request_id, provider="anthropic", model="m", operation="messages", lines=(UsageLine(provider="anthropic", model="m"),),
        amount=Microunits(amount), provider_leg=Microunits(amount), numerator=0, list_numerator=0, rate_card="card", started_at=0,
    )  # fmt: skip


async def balance(place: Place) -> int:
    return (await place.balances.standing(place.token)).balance


async def test_a_settled_charge_is_remembered_until_the_journal_has_it(place: Place) -> None:
    hold = await place.hold()
    place.settler.track(hold, lambda: (0, ""))

    settlement = await place.settler.settle(hold, record_of(hold.request_id, 40))

    assert settlement is not None
    assert (settlement.balance, place.settler.idle) == (960, False)
    await place.settler.deliver()
    assert not place.settler.idle
    await place.balances.mark_posted(SHARD, 1, settlement.seq)
    await place.settler.deliver()
    assert place.settler.idle
    assert place.journal.known == {}


async def test_a_charge_that_redis_lost_goes_to_the_journal(place: Place) -> None:
    hold = await place.hold()
    await place.settler.settle(hold, record_of(hold.request_id, 40))
    await place.balances.redis.flushall()
    await place.rebuild(1000)

    await place.settler.deliver()

    assert place.journal.known == {hold.request_id: 40}
    assert place.settler.idle


async def test_the_late_way_waits_for_the_journal(place: Place) -> None:
    hold = await place.hold()
    await place.settler.settle(hold, record_of(hold.request_id, 40))
    await place.balances.redis.flushall()
    await place.rebuild(1000)
    place.journal.away = True
    await place.settler.deliver()
    assert not place.settler.idle

    place.journal.away = False
    await place.settler.deliver()

    assert place.journal.known == {hold.request_id: 40}
    assert place.settler.idle


async def test_a_charge_is_kept_on_disk_while_redis_is_away_and_settled_once_afterwards(place: Place, valkey_server: object) -> None:
    hold = await place.hold()
    async with redis_away(valkey_server):
        assert await place.settler.settle(hold, record_of(hold.request_id, 40)) is None
        assert place.spool.depth == 1
        assert place.settler.accepting

    for _ in range(2):
        await place.settler.deliver()

    assert await balance(place) == 960
    assert place.spool.depth == 1  # until the journal has it
    await place.balances.mark_posted(SHARD, 1, 3)
    await place.settler.deliver()
    assert place.settler.idle
    assert list(place.folder.iterdir()) == []


async def test_another_worker_delivers_what_a_dead_one_left(place: Place, valkey_server: object) -> None:
    hold = await place.hold()
    async with redis_away(valkey_server):
        await place.settler.settle(hold, record_of(hold.request_id, 40))
    place.spool.close()  # as the kernel does for a process that dies
    successor = Settler(place.balances, Spool(place.folder), place.journal, policy=POLICY)

    await successor.deliver()

    assert await balance(place) == 960


async def test_an_unposted_charge_survives_a_worker_that_stops(place: Place) -> None:
    hold = await place.hold()
    await place.settler.settle(hold, record_of(hold.request_id, 40))
    place.settler.close()
    await place.balances.redis.flushall()
    await place.rebuild(1000)
    successor = Settler(place.balances, Spool(place.folder), place.journal, policy=POLICY)

    await successor.deliver()

    assert place.journal.known == {hold.request_id: 40}
    assert successor.idle
    assert not place.settler.accepting


async def test_a_charge_that_a_restored_redis_has_forgotten_is_settled_again(place: Place, valkey_server: object) -> None:
    hold = await place.hold()
    for _ in range(2):
        await place.settler.deliver()
    await place.settler.settle(hold, record_of(hold.request_id, 40))
    async with redis_away(valkey_server):
        pass
    await place.balances.read_all_meta()
    # What an older copy looks like: the hold is open again, the charge gone, and others have moved the shard on.
    prefix = f"l5:{{{SHARD}}}:e1:"
    await place.balances.redis.hset(f"{prefix}a:{ACCOUNT}", mapping={"balance": 1000, "held": 300, "holds": 1, "n": 1, "charged": 0})
    await place.balances.redis.hset(f"{prefix}h:{hold.request_id}", mapping={"account": ACCOUNT, "amount": 300, "charge": 0, "detail": ""})
    await place.balances.redis.delete(f"{prefix}d:{hold.request_id}")
    await place.balances.redis.hset(f"l5:{{{SHARD}}}:meta", "posted", 3)

    await place.settler.deliver()

    assert await balance(place) == 960
    assert not place.settler.idle


async def test_an_unknown_hold_is_charged_by_the_journal_alone(place: Place) -> None:
    hold = replace(await place.hold(), request_id=new_request_id())

    assert await place.settler.settle(hold, record_of(hold.request_id, 40)) is None
    await place.settler.deliver()

    assert place.journal.known == {hold.request_id: 40}
    with pytest.raises(HoldEnded):
        await place.balances.place_hold(place.token, hold.request_id, minimum=0, amount=0, policy=POLICY)


async def test_a_running_hold_is_placed_again_after_a_rebuild_and_charged_by_the_journal(place: Place) -> None:
    hold = await place.hold(900)
    place.settler.track(hold, lambda: (0, ""))
    await place.rebuild(100)
    with pytest.raises(ShardClosed):
        await place.settler.renew_holds()

    assert (place.settler.current(hold).epoch, place.settler.current(hold).replaced) == (2, True)
    assert (await place.balances.authenticate(place.token)).available == -800
    assert await place.settler.settle(hold, record_of(hold.request_id, 40)) is None
    await place.settler.deliver()
    assert place.journal.known == {hold.request_id: 40}
    assert (await place.balances.authenticate(place.token)).held == 0


async def test_renewed_holds_outlive_their_first_deadline_with_their_checkpoint(place: Place) -> None:
    settler = Settler(place.balances, place.spool, place.journal, policy=replace(POLICY, ttl_ms=400))
    kept, left = await place.hold(ttl_ms=400), await place.hold(ttl_ms=400)
    settler.track(kept, lambda: (25, record_of(kept.request_id, 25).to_json()))
    task = asyncio.create_task(settler.run())
    await asyncio.sleep(0.9)

    assert await reap(place.balances) == 1
    assert (await place.balances.authenticate(place.token)).held == 300
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not settler.accepting
    await asyncio.sleep(0.5)
    assert await reap(place.balances) == 1

    entries = await place.balances.read_outbox(SHARD, after=2, count=10)
    assert [(entry.key, entry.amount, json.loads(entry.detail)["amount"]) for entry in entries] == [(f"charge:{kept.request_id}", -25, 25)]
    assert left.request_id not in entries[0].key


async def test_a_hold_that_expired_while_its_request_ran_is_settled_by_an_adjustment(place: Place) -> None:
    hold = await place.hold(ttl_ms=1)
    place.settler.track(hold, lambda: (0, ""))
    await asyncio.sleep(0.005)
    await reap(place.balances)
    await place.settler.renew_holds()

    settlement = await place.settler.settle(hold, record_of(hold.request_id, 40))

    assert settlement is not None
    assert settlement.balance == 960


async def test_a_checkpoint_that_fails_does_not_let_its_hold_expire(place: Place) -> None:
    hold = await place.hold(ttl_ms=50)

    def broken() -> tuple[int, str]:
        raise ZeroDivisionError

    place.settler.track(hold, broken)
    await place.settler.renew_holds()
    await asyncio.sleep(0.1)

    assert await reap(place.balances) == 0


async def test_a_void_is_repeated_until_redis_answers(place: Place, valkey_server: object) -> None:
    hold = await place.hold()
    async with redis_away(valkey_server):
        await place.settler.void(hold)
        await place.settler.void_unplaced(place.token, new_request_id())

    await place.settler.deliver()

    assert (await place.balances.authenticate(place.token)).held == 0
    assert place.settler.idle


async def test_a_spool_that_cannot_be_written_stops_new_requests_and_loses_nothing(place: Place, valkey_server: object, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.touch()
    settler = Settler(place.balances, Spool(blocked), place.journal, policy=POLICY)
    await settler.probe_spool()
    assert not settler.accepting
    hold = await place.hold()
    async with redis_away(valkey_server):
        assert await settler.settle(hold, record_of(hold.request_id, 40)) is None

    await settler.deliver()

    assert await balance(place) == 960
    blocked.unlink()
    await settler.probe_spool()
    assert settler.accepting


async def test_beyond_what_memory_may_hold_charges_go_to_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "REMEMBERED_MAX", 4)
    for _ in range(5):
        hold = await place.hold(1)
        await place.settler.settle(hold, record_of(hold.request_id, 1))

    assert place.spool.depth == 3
    await place.settler.deliver()
    assert await balance(place) == 995
    await place.balances.mark_posted(SHARD, 1, 7)
    await place.settler.deliver()
    assert place.settler.idle


async def test_settlements_at_once_bring_each_charge_to_disk_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "REMEMBERED_MAX", 4)
    holds = [await place.hold(1) for _ in range(30)]

    await asyncio.gather(*(place.settler.settle(hold, record_of(hold.request_id, 1)) for hold in holds))

    kept = [charge.record.request_id for file in place.spool.replay() for charge in place.spool.read(file)]
    assert len(kept) == len(set(kept)) >= 30 - 4


async def test_a_disk_that_refuses_what_memory_may_not_hold_is_not_asked_for_each_charge(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "REMEMBERED_MAX", 4)
    asked = []

    def refuse(charges: Sequence[UnpostedCharge]) -> None:
        asked.append(len(charges))
        raise OSError("no space left on device")

    with monkeypatch.context() as full:
        full.setattr(place.spool, "append_all", refuse)
        for _ in range(14):
            hold = await place.hold(1)
            assert await place.settler.settle(hold, record_of(hold.request_id, 1)) is not None

    assert len(asked) == 4  # at five, and whenever half as many as memory may hold have come since
    for _ in range(3):
        hold = await place.hold(1)
        await place.settler.settle(hold, record_of(hold.request_id, 1))
    assert place.spool.depth == 15  # all but those that may stay
    assert await balance(place) == 983


async def test_a_cancelled_settlement_is_kept(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = await place.hold()

    async def never(hold: Hold, record: ChargeRecord) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(place.balances, "settle", never)
    task = asyncio.create_task(place.settler.settle(hold, record_of(hold.request_id, 40)))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await place.settler.deliver()

    assert await balance(place) == 960


async def test_an_extension_follows_the_hold_and_a_closed_shard_is_no_refusal(place: Place) -> None:
    hold = await place.hold()
    place.settler.track(hold, lambda: (0, ""))

    extended = await place.settler.extend(hold, 500, overdraft_max=0)

    assert (extended.amount, place.settler.current(hold).amount) == (500, 500)


async def test_the_settler_believes_the_journals_epochs(place: Place) -> None:
    await place.settler.trust_journal()

    assert place.balances.epoch(SHARD) == 1
    with pytest.raises(UnknownToken):
        await place.balances.authenticate(mint_token(ACCOUNT, SHARD)[1])


async def test_the_reaper_outlives_a_redis_that_is_away(place: Place, valkey_server: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ledger.reaper.PAUSE_SECONDS", 0.05)
    stop = asyncio.Event()
    await place.hold(ttl_ms=1)
    async with redis_away(valkey_server):
        task = asyncio.create_task(reap_forever(place.balances, stop, rest_seconds=0.1))
        await asyncio.sleep(0.2)
    await asyncio.sleep(0.5)
    stop.set()
    await task

    assert (await place.balances.authenticate(place.token)).held == 0


async def test_nothing_is_reaped_on_a_redis_that_has_just_come_back(place: Place, valkey_server: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have gone back, and its holds may have been voided since; the poster finds out first."""
    monkeypatch.setattr("ledger.reaper.PAUSE_SECONDS", 0.05)
    stop = asyncio.Event()
    await place.hold(ttl_ms=500)
    task = asyncio.create_task(reap_forever(place.balances, stop, rest_seconds=3.0))
    await asyncio.to_thread(valkey_server.stop)
    valkey_server.start()
    await asyncio.to_thread(valkey_server.wait_until_ready)
    await asyncio.sleep(0.8)
    while_resting = (await place.balances.authenticate(place.token)).held
    await asyncio.sleep(3.5)
    stop.set()
    await task

    assert while_resting > 0
    assert (await place.balances.authenticate(place.token)).held == 0
