"""The real scripts on a real Valkey, driven at random beside the model of a shard.

After every step both must have given the same answer; after every run the figures must be those that an
auditor finds who reads nothing but the outbox.
"""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from shard_model import Account, Closed, RedisShard

import ledger.shard_link
from ledger.balances import AccountRow, Balances, Hold, HoldPolicy, Renewal, connect_redis
from ledger.entries import AccountId, ChargeRecord, RequestId, UsageLine
from ledger.errors import BalanceUnavailable, HoldEnded, HoldUnknown, InsufficientFunds, ReadOnlyToken, ShardClosed
from ledger.holds import OutboxEntry
from ledger.ingest_groups import ChargeGroups
from ledger.ingest_values import COST_MAX, IngestKey, IngestPolicy, UsageItem
from ledger.money import Microunits
from ledger.shard_link import epoch_prefix
from ledger.tokens import ApiToken, TokenState, mint_token
from ledger.usage_record import UsageRecord, draft_usage

SHARD = 3
LINE_MAX = 40
ACCOUNTS = (AccountId(1), AccountId(2**52))
SCALES = (1, 2**40)  # small amounts, and amounts whose sums need every digit that Lua has
POLICY = HoldPolicy(overdraft_max=LINE_MAX, concurrent_max=1000, ttl_ms=3_600_000, outbox_max=10**9)
RUNS, STEPS = 16, 120
MONTH = int(datetime.now(UTC).strftime("%Y%m"))


@pytest.fixture
async def balances(redis_url: str) -> AsyncIterator[Balances]:
    redis = connect_redis(redis_url, command_seconds_max=10)
    await redis.config_set("appendonly", "no")  # nothing here asks what survives a crash, and it makes thousands of calls
    yield Balances(redis, instance="i")
    await redis.aclose()


class Pair:
    """The real shard and the model of it, moved in lockstep."""

    def __init__(self, balances: Balances, seed: int) -> None:
        self.real, self.random, self.scale = balances, random.Random(seed), SCALES[seed % 2]
        self.overdraft_max = LINE_MAX * self.scale
        self.model = RedisShard()
        self.tokens: dict[AccountId, ApiToken] = {account: mint_token(account, SHARD)[1] for account in ACCOUNTS}
        self.to_look: dict[AccountId, ApiToken] = {account: mint_token(account, SHARD)[1] for account in ACCOUNTS}
        self.holds: dict[str, Hold] = {}
        self.reported: list[tuple[RequestId, AccountId, list[tuple[int, int]]]] = []  # in this epoch: in a new one the journal is asked first
        self.reports = 0
        self.lowest_line: dict[int, int] = {}

    async def open(self) -> None:
        await self.real.redis.flushall()
        self.real._epochs.clear()
        self.real._reached.clear()
        await self.real.open_shard(SHARD, epoch=1, seq=0, due_seq=0, posted=0, instance="i", mode="sandbox")
        for account in ACCOUNTS:
            await self.change("open:" + str(account), account, 0)
            await self.change("credit:" + str(account), account, self.amount(400))

    def amount(self, most: int) -> int:
        return self.random.randint(0, most) * self.scale + self.random.randint(0, 3) * (self.scale > 1)

    def some_hold(self) -> Hold | None:
        return self.random.choice(list(self.holds.values())) if self.holds else None

    def token(self, account: int) -> ApiToken:
        return self.tokens[AccountId(account)]

    async def step(self) -> None:
        steps = (
            self.place,
            self.place,
            self.extend,
            self.renew,
            self.settle,
            self.settle,
            self.void,
            self.expire,
            self.credit,
            self.late,
            self.post,
            self.rebuild,
            self.report,
            self.look,
        )
        await self.random.choices(steps, weights=(3, 3, 3, 2, 3, 2, 2, 2, 1, 1, 1, 0.3, 4, 1))[0]()
        if self.random.random() < 0.3:
            await self.compare()

    async def place(self) -> None:
        old = self.some_hold()
        account = self.random.choice(ACCOUNTS)
        request = old.request_id if old and old.epoch == self.model.epoch and self.random.random() < 0.3 else RequestId(f"q{len(self.holds)}")
        account = old.token.account if old and request == old.request_id else account
        minimum, amount = sorted((self.amount(300), self.amount(300)))
        expected = self.model.place(self.model.epoch, account, request, minimum=minimum, amount=amount, overdraft_max=self.overdraft_max)
        policy = HoldPolicy(overdraft_max=self.overdraft_max, concurrent_max=1000, ttl_ms=3_600_000, outbox_max=10**9)
        try:
            hold = await self.real.place_hold(self.token(account), request, minimum=minimum, amount=amount, policy=policy)
        except InsufficientFunds:
            assert expected == ("insufficient", 0)
        except HoldEnded:
            assert expected == ("ended", 0)
        else:
            assert expected == ("ok", hold.amount)
            self.holds[request] = hold

    async def look(self) -> None:
        """Try to spend with a token that is for looking: even where the very hold is there already it is refused, and nothing changes."""
        old, account = self.some_hold(), self.random.choice(ACCOUNTS)
        request = old.request_id if old and old.token.account == account else RequestId("never")
        with pytest.raises(ReadOnlyToken):
            await self.real.place_hold(self.to_look[account], request, minimum=0, amount=self.amount(300), policy=POLICY)
        standing = await self.real.authenticate(self.to_look[account], to_look=True)
        assert (standing.read_only, standing.balance) == (True, self.model.account(account).balance)

    async def extend(self) -> None:
        if (hold := self.some_hold()) is None or hold.epoch != self.model.epoch:
            return
        amount = self.amount(400)
        expected = self.model.extend(hold.epoch, hold.request_id, amount, overdraft_max=self.overdraft_max)
        try:
            extended = await self.real.extend(hold, amount, overdraft_max=self.overdraft_max)
        except InsufficientFunds:
            assert expected[0] == "insufficient"
        except HoldUnknown:
            assert expected[0] == "unknown"
        else:
            assert expected == ("ok", extended.amount)

    async def renew(self) -> None:
        holds = [hold for hold in self.holds.values() if hold.epoch == self.model.epoch and self.random.random() < 0.5]
        charges = [self.amount(200) if self.random.random() < 0.5 else None for _ in holds]
        expected = {hold.request_id for hold, charge in zip(holds, charges, strict=True) if not self.model.renew(hold.epoch, hold.request_id, charge)}
        renewals = [
            Renewal(hold=hold, charge=Microunits(charge or 0), detail="" if charge is None else record_of(hold.request_id, charge).to_json())
            for hold, charge in zip(holds, charges, strict=True)
        ]
        assert await self.real.renew(renewals, ttl_ms=3_600_000) == expected

    async def settle(self) -> None:
        if (hold := self.some_hold()) is None:
            return
        charge = self.amount(350)
        try:
            expected = self.model.settle(hold.epoch, hold.token.account, hold.request_id, charge)
        except Closed:
            with pytest.raises(ShardClosed):
                await self.real.settle(hold, record_of(hold.request_id, charge))
            return
        try:
            settlement = await self.real.settle(hold, record_of(hold.request_id, charge))
        except HoldUnknown:
            assert expected[0] == "unknown"
        else:
            assert expected == ("duplicate" if settlement.repeated else "ok", settlement.charge, settlement.seq)

    async def void(self) -> None:
        if (hold := self.some_hold()) is None or hold.epoch != self.model.epoch:
            return
        self.model.void(hold.epoch, hold.request_id)
        await self.real.void(hold)

    async def expire(self) -> None:
        """Let the deadlines of some holds pass; the order is that of the deadlines."""
        chosen = [request for request in sorted(self.model.holds) if self.random.random() < 0.3]
        for request in chosen:
            self.model.expire(self.model.epoch, request)
            await self.real.redis.zadd(f"{epoch_prefix(SHARD, self.model.epoch)}holds", {request: 1})
        assert await self.real.expire(SHARD) == len(chosen)

    async def report(self) -> None:
        """Let some reports of one key travel together: new ones, some of before, and some that were given up on."""
        account, limit, blocks = self.random.choice(ACCOUNTS), self.random.choice((None, 100, 400)), self.random.random() < 0.8
        policy = IngestPolicy(block_over_balance=blocks, block_over_free_limit=limit is not None, tracked_limits={"pro": None, "free": limit}, outbox_max=10**9)
        key, groups = IngestKey(account, SHARD, self.token(account).digest), ChargeGroups(self.real)
        expected, calls = [], []
        for _ in range(self.random.choice((1, 1, 2, 5))):
            request, events = await self.some_report(account)
            expected.append((*self.model.report(self.model.epoch, account, request, events, limit=limit, block_balance=blocks), events))
            items = [UsageItem(line=line, provider="p[", model="m,\n", task_type="t", source="s", occurred_at=0, input_tokens=tokens // 2,
                               reasoning_tokens=tokens - tokens // 2, cost=cost) for line, (tokens, cost) in enumerate(events)]  # fmt: skip
            draft = draft_usage(request, items, at=0, rate_card="", markup=False, claims=())
            calls.append(groups.charge(key, request, draft, policy=policy, epoch=self.model.epoch, claimed=False))
        for charged, (status, mask, used, balance, events) in zip(await asyncio.gather(*calls), expected, strict=True):
            assert charged.status == status
            if status != "ended":
                assert (charged.mask or "1" * len(events), charged.used, charged.balance) == (mask, used, balance)

    async def some_report(self, account: AccountId) -> tuple[RequestId, list[tuple[int, int]]]:
        """Return an id and its events, tokens and cost of each."""
        earlier = [(request, events) for request, reporter, events in self.reported if reporter == account]
        if earlier and self.random.random() < 0.3:
            return self.random.choice(earlier)
        self.reports += 1
        request = RequestId(f"u{self.reports}")
        events = [(self.random.randint(0, 20), min(COST_MAX, self.amount(60)) * self.random.randint(0, 1)) for _ in range(self.random.randint(1, 6))]
        self.reported.append((request, account, events))
        if self.random.random() < 0.1:
            self.model.end_report(self.model.epoch, request)
            await self.real.run_in("end_usage", SHARD, request, 3_600_000)
        return request, events

    async def credit(self) -> None:
        await self.change(f"credit:{self.random.random()}", self.random.choice(ACCOUNTS), self.amount(300) - self.amount(100))

    async def late(self) -> None:
        await self.change(self.random.choice(("charge:", "adjust:")) + str(self.random.random()), self.random.choice(ACCOUNTS), -self.amount(50))

    async def change(self, key: str, account: AccountId, amount: int) -> None:
        due = self.model.due_seq + self.random.choice((1, 1, 1, 0, 2))
        for number in {due, self.model.due_seq + 1}:
            expected = self.model.apply(self.model.epoch, number, account, key, amount)
            digest = self.token(account).digest
            fields = {"status": "active", "tier": "free", "org": "org_1", f"t:{digest}": "1", f"k:{digest}": "key_1", f"t:{self.to_look[account].digest}": "r"}
            if key.startswith("credit:") and amount > 0:
                fields["funded"] = "1"
            assert await self.real.apply_change(SHARD, due_seq=number, account=account, key=key, amount=amount, fields=fields, detail="{}") == expected

    async def post(self) -> None:
        posted = self.random.randint(self.model.posted, self.model.seq)
        self.model.mark(self.model.epoch, posted)
        await self.real.mark_posted(SHARD, self.model.epoch, posted)

    async def rebuild(self) -> None:
        """Open the next epoch with the balances as they are; every hold is forgotten, some are placed again."""
        old, epoch = self.model, self.model.epoch + 1
        self.reported.clear()
        accounts = {account: replace(figures, held=0, holds=0) for account, figures in old.accounts.items()}
        self.model = RedisShard(epoch=epoch, seq=old.seq, due_seq=old.due_seq, posted=old.seq, accounts=accounts, out=old.out)
        rows = [self.row_of(account, figures) for account, figures in accounts.items()]
        await self.real.close_shard(SHARD)
        with pytest.raises(BalanceUnavailable):
            await self.real.authenticate(self.tokens[ACCOUNTS[0]])
        await self.real.write_accounts(SHARD, epoch, rows)
        assert await self.real.account_totals(SHARD, epoch) == (len(rows), sum(row.balance for row in rows))
        await self.real.open_shard(SHARD, epoch=epoch, seq=old.seq, due_seq=old.due_seq, posted=old.seq, instance="i", mode="sandbox")
        await self.real.drop_epoch(SHARD, epoch - 1)
        for request, hold in list(self.holds.items()):
            if request in old.holds and self.random.random() < 0.5:
                assert self.model.replace(epoch, hold.token.account, request, hold.amount) == "ok"
                self.holds[request] = await self.real.replace_hold(hold, policy=POLICY)

    def row_of(self, account: int, figures: Account) -> AccountRow:
        digest = self.token(account).digest
        return AccountRow(
            account=AccountId(account), balance=figures.balance, n=figures.n, charged=figures.charged, status="active",
            tokens={digest: TokenState.ACTIVE, self.to_look[AccountId(account)].digest: TokenState.READ_ONLY},
            org="org_1", funded=figures.funded, keys={digest: "key_1"}, tracked=figures.tracked, month=MONTH if figures.tracked else 0,
        )  # fmt: skip

    async def compare(self) -> None:
        meta = await self.real.read_meta(SHARD)
        assert meta is not None
        model = self.model
        assert (meta.epoch, meta.seq, meta.due_seq, meta.posted) == (model.epoch, model.seq, model.due_seq, model.posted)
        for account in ACCOUNTS:
            standing = await self.real.authenticate(self.tokens[account])
            figures = model.account(account)
            assert (standing.balance, standing.held, standing.available, standing.charged) == (
                figures.balance, figures.held, figures.balance - figures.held, figures.charged,
            )  # fmt: skip
            assert await self.real.account_state(account, SHARD) == (figures.n, figures.balance)
            assert (await self.real.account_month(account, SHARD))[1] == figures.tracked

    async def audit(self) -> None:
        """Know nothing but the outbox and the holds, and come to the same figures."""
        entries = await self.real.read_outbox(SHARD, after=0, count=10_000)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        assert len({entry.key for entry in entries if entry.kind != "apply"}) == sum(entry.kind != "apply" for entry in entries)
        assert [entry.due for entry in entries if entry.kind == "apply"] == list(range(1, self.model.due_seq + 1))
        prefix = epoch_prefix(SHARD, self.model.epoch)
        for account in ACCOUNTS:
            own = [entry for entry in entries if entry.account == account]
            numbered = [entry for entry in own if entry.n is not None]
            assert [entry.n for entry in numbered] == list(range(1, len(numbered) + 1))
            running = 0
            for entry in own:
                running += entry.amount
                assert entry.balance == running
            state = await self.real.account_state(account, SHARD)
            assert state == (len(numbered), running)
            assert (await self.real.authenticate(self.tokens[account])).charged == charged_in(own)
        held = dict.fromkeys(ACCOUNTS, 0)
        for request in await self.real.redis.zrange(f"{prefix}holds", 0, -1):
            account, amount = await self.real.redis.hmget(f"{prefix}h:{request.decode()}", ["account", "amount"])
            held[AccountId(int(account))] += int(amount)
        assert held == {account: (await self.real.authenticate(self.tokens[account])).held for account in ACCOUNTS}
        for entry in entries:
            if entry.kind == "charge":
                assert ChargeRecord.from_json(entry.detail).amount == -entry.amount
            if entry.kind == "usage":
                record = UsageRecord.from_json(entry.detail)
                assert (record.cost, record.balance, record.month) == (-entry.amount, entry.balance, MONTH)
            assert json.loads(entry.detail) is not None


def charged_in(entries: list[OutboxEntry]) -> int:
    return -sum(entry.amount for entry in entries if entry.key.startswith(("charge:", "adjust:")))


def record_of(request_id: RequestId, amount: int) -> ChargeRecord:
    return ChargeRecord(
        request_id=request_id, provider="openai", model="m", operation="responses", lines=(UsageLine(provider="openai", model="m"),),
        amount=Microunits(amount), provider_leg=Microunits(amount), numerator=amount * 10**6, list_numerator=amount * 10**6, rate_card="c", started_at=0,
    )  # fmt: skip


async def test_the_scripts_do_what_the_model_does_and_an_auditor_agrees(balances: Balances) -> None:
    for seed in range(RUNS):
        pair = Pair(balances, seed)
        await pair.open()
        for _ in range(STEPS):
            await pair.step()
        await pair.audit()


async def test_holds_and_exact_charges_never_reach_below_the_line(balances: Balances) -> None:
    """Whatever many holds and extensions ask for, what is granted in all stays within the balance and the line."""
    for seed in range(8):
        pair = Pair(balances, seed)
        await pair.open()
        for _ in range(80):
            await pair.random.choice((pair.place, pair.extend))()
            for hold in list(pair.holds.values()):
                if pair.random.random() < 0.2:
                    granted = pair.model.holds[hold.request_id].amount if hold.request_id in pair.model.holds else 0
                    charge = pair.random.randint(0, granted)
                    pair.model.settle(1, hold.token.account, hold.request_id, charge)
                    await balances.settle(hold, record_of(hold.request_id, charge))
                    del pair.holds[hold.request_id]
            for account in ACCOUNTS:
                standing = await balances.authenticate(pair.tokens[account])
                assert standing.available >= -pair.overdraft_max
                assert standing.balance >= -pair.overdraft_max
                assert standing.available >= -(standing.charged // 10)
        await pair.compare()


async def test_the_scripts_know_the_months_of_the_calendar(balances: Balances) -> None:
    prelude = (Path(ledger.shard_link.__file__).parent / "scripts/_prelude.lua").read_text()
    function = re.search(r"local function month_of.*?^end\n", prelude, re.DOTALL | re.MULTILINE)
    assert function is not None
    years = [datetime(year, month, 1, tzinfo=UTC) for year in (*range(1970, 2110), 2399, 2400, 2401, 9999) for month in range(1, 13)]
    moments = [int(first.timestamp() * 1000) + shift for first in years[1:] for shift in (-1, 0, 1)]

    months = await balances.redis.eval(
        f"{function[0]}\nlocal found = {{}}\nfor _, ms in ipairs(ARGV) do found[#found + 1] = month_of(tonumber(ms)) end\nreturn found", 0, *moments
    )

    assert months == [int(datetime.fromtimestamp(moment // 1000, UTC).strftime("%Y%m")) for moment in moments]
