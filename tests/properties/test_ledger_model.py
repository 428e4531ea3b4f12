"""The ledger protocol under random interleavings, with either store lost or set back in the middle.

One shard, one account: workers with holds, a reaper, two posters that rebuild, two appliers, somebody who
credits. Every `yield` is a place where anything else may happen. At the end both stores must agree to
the microunit with what was really used. Each rule that is taken out must make some run end wrong.
"""

import os
import random
from collections.abc import Iterator

import pytest
from shard_model import Account, Closed, JournalShard, RedisShard

SEEDS = int(os.environ.get("LEVEL5_MODEL_SEEDS", "500"))
STEPS_MAX = 30_000
ACCOUNT = 1
Actor = Iterator[None]


class World:
    """Both stores, the truth, and everyone who acts on them."""

    def __init__(self, seed: int, chaos: str, off: frozenset[str]) -> None:
        self.random, self.off = random.Random(seed), off
        self.redis: RedisShard | None = RedisShard(off=off, accounts={ACCOUNT: Account()})
        self.journal = JournalShard()
        self.truth: dict[str, set[int]] = {}  # by request: what it may have cost
        self.credits: dict[str, int] = {}
        self.rebuilding = self.restoring = False
        self.leaked = self.away = False  # `away`: the journal does not answer
        self.servers = 0
        requests = [f"r{number}" for number in range(6)]
        self.workers = [self.worker(request) for request in requests] + [self.creditor(4)]
        if chaos:
            self.workers.append(self.chaos(chaos))
        self.background = [self.poster(), self.poster(), self.applier(), self.applier(), self.reaper(), self.reconciler(), self.time()]

    def run(self) -> str:
        """Return what is wrong at the end, or nothing."""
        acting = list(self.workers)
        for _ in range(STEPS_MAX):
            if not acting:
                break
            actor = self.random.choice(acting + self.background)
            if next(actor, "ended") == "ended":
                acting.remove(actor)
        else:
            return "stuck"
        for _ in range(1500):
            next(self.random.choice(self.background))
        return self.audit()

    def audit(self) -> str:
        redis, journal = self.redis, self.journal
        if redis is None or redis.state != "open" or redis.epoch != journal.epoch:
            return "not open"
        figures = redis.account(ACCOUNT)
        costs = {request: journal.charged_for(request) for request in self.truth}
        wrong = [
            name
            for name, fault in {
                "cost": any(cost not in self.truth[request] for request, cost in costs.items()),
                "journal": journal.balance != sum(self.credits.values()) - sum(costs.values()),
                "redis": figures.balance != journal.balance,
                "statement": journal.line_balance != journal.balance or figures.n != len(journal.statement),
                "leaked": self.leaked,
                "held": (figures.held, figures.holds, len(redis.holds)) != (0, 0, 0),
            }.items()
            if fault
        ]
        return ",".join(wrong)

    # ---- who acts ----

    def open_shard(self, known: int) -> RedisShard | None:
        redis = self.redis
        return redis if redis is not None and redis.state == "open" and redis.epoch >= known else None

    def worker(self, request: str) -> Actor:
        rng = self.random
        cost, fate = rng.randint(0, 200), rng.choice(["settle", "settle", "settle", "void", "die", "unplaced"])
        self.truth[request] = {cost} if fate == "settle" else {0}
        epoch = 0
        while epoch == 0:
            yield
            if (redis := self.open_shard(0)) is not None:
                if fate == "unplaced":  # the answer was late, the caller has voided, the request arrives after that
                    redis.void(redis.epoch, request)
                    yield from self.arrive_late(request, redis)
                    return
                redis.replace(redis.epoch, ACCOUNT, request, 100)
                epoch = redis.epoch
        replaced, floor = False, (0, 0)
        for _ in range(rng.choice([0, 1, 4, 25])):
            yield
            if (redis := self.open_shard(epoch)) is None:
                continue
            if redis.epoch > epoch:
                redis.replace(redis.epoch, ACCOUNT, request, 100)
                epoch, replaced = redis.epoch, True
            elif fate != "void" and rng.random() < 0.3:
                checkpoint = rng.randint(0, 200)
                if fate == "die":
                    self.truth[request].add(checkpoint)
                redis.renew(epoch, request, checkpoint)
        if fate == "void":
            while (redis := self.open_shard(epoch)) is None:
                yield
            if redis.epoch == epoch:
                redis.void(epoch, request)
        elif fate == "settle":
            yield from self.deliver(request, cost, epoch=epoch, late=replaced, floor=floor)

    def arrive_late(self, request: str, voided: RedisShard) -> Actor:
        for _ in range(self.random.choice([0, 3])):
            yield
        if self.redis is voided and voided.state == "open":
            self.leaked |= voided.place(voided.epoch, ACCOUNT, request, minimum=-1000, amount=-1000)[0] == "ok"

    def deliver(self, request: str, cost: int, *, epoch: int, late: bool, floor: tuple[int, int]) -> Actor:
        """Settle and remember until posted, as the settler does."""
        seq, settled_on, known = 0, -1, epoch
        while True:
            yield
            if (redis := self.open_shard(known)) is None:
                continue
            if redis.epoch == floor[0] and redis.seq < floor[1]:
                redis.state = "closed"
                continue
            known, floor = redis.epoch, max(floor, (redis.epoch, redis.seq))
            watermark = (redis.epoch, redis.posted)
            if self.random.random() < 0.3:
                yield  # the server is asked for its name after the watermarks were read
                if (redis := self.open_shard(known)) is None or redis.epoch != known:
                    continue
            server = redis.server
            same = "restart" in self.off or settled_on == server
            if seq and same and watermark[0] == epoch and watermark[1] >= seq:
                return
            if seq and "resend" in self.off:
                return
            lost = known > epoch
            if not late and not lost and (seq == 0 or not same):
                status, _, at = redis.settle(epoch, ACCOUNT, request, cost)
                if status != "unknown":
                    floor = max(floor, (redis.epoch, redis.seq))
                    if self.random.random() > 0.2:  # else the answer was lost
                        seq, settled_on = at, server
                    for _ in range(self.random.choice([0, 0, 60])):
                        yield
                    continue
            elif not late and not lost:
                continue
            done: list[bool] = []
            yield from self.charge_late(request, cost, epoch, done)
            if done:
                return

    def charge_late(self, request: str, cost: int, epoch: int, done: list[bool]) -> Actor:
        redis = self.open_shard(epoch)
        if redis is None:
            return
        if redis.epoch == epoch and "latevoid" not in self.off:
            redis.void(epoch, request)
            yield
            if (redis := self.open_shard(epoch)) is None:
                return
        at_epoch, at_seq = redis.epoch, redis.seq
        yield
        if "latewait" not in self.off and self.journal.posted < at_seq and self.journal.epoch == at_epoch:
            return
        if self.journal.state == "open" and self.journal.epoch == at_epoch and not (self.restoring or self.away):
            self.journal.charge_late(request, cost)
            done.append(True)

    def time(self) -> Actor:
        """A quarter of an hour passes now and then, and tombstones with it."""
        while True:
            for _ in range(200):
                yield
            if self.redis is not None and self.redis.tombstones:
                del self.redis.tombstones[self.random.choice(sorted(self.redis.tombstones))]

    def creditor(self, count: int) -> Actor:
        for number in range(count):
            yield
            while self.restoring or self.away:
                yield
            self.credits[f"credit:{number}"] = self.random.randint(50, 500)
            self.journal.owe(f"credit:{number}", self.credits[f"credit:{number}"])
        for _ in range(40):
            yield
        while self.restoring or self.rebuilding or self.away:
            yield
        for key, amount in self.credits.items():  # whoever pays in asks again for what a restored journal has forgotten
            if key not in self.journal.keys:
                self.journal.owe(key, amount)

    def reaper(self) -> Actor:
        while True:
            yield
            redis = self.redis
            if redis is not None and redis.state == "open" and redis.holds and self.random.random() < 0.2:
                redis.expire(redis.epoch, self.random.choice(sorted(redis.holds)))

    def applier(self) -> Actor:
        while True:
            yield
            if (redis := self.open_shard(0)) is None or self.restoring or self.away:
                continue
            epoch = redis.epoch
            due = next((due for due in self.journal.dues if due.due_seq > redis.due_seq), None)
            yield
            if due is None or self.redis is None:
                continue
            try:
                self.redis.apply(epoch, due.due_seq, ACCOUNT, due.key, due.amount)
            except Closed:
                continue

    def poster(self) -> Actor:
        marked = (0, 0)
        while True:
            yield
            if self.away:
                continue
            position = self.journal.copy() if self.restoring else self.journal
            epoch, posted, state = position.epoch, position.posted, position.state
            yield
            redis = self.redis
            if redis is None or redis.state != "open" or state != "open" or redis.epoch != epoch or redis.seq < posted:
                yield from self.rebuild()
                continue
            went_back = redis.posted > self.journal.posted or redis.due_seq > len(self.journal.dues)
            if went_back or (marked[0] == epoch and redis.posted < marked[1]):
                yield from self.rebuild(forced=True)
                continue
            self.restoring = False
            entries = [entry for entry in redis.out if entry.seq > posted][: self.random.randint(1, 4)]
            yield
            if self.away or (self.journal.epoch, self.journal.posted, self.journal.state) != (epoch, posted, "open"):
                continue
            refused = False
            for entry in entries:
                refused = entry.seq != self.journal.posted + 1 or entry.epoch != epoch or not self.journal.post(entry)
                if refused:
                    break
                self.journal.posted = entry.seq
            reached = self.journal.posted
            yield
            if self.redis is not None:
                try:
                    if self.redis.mark(epoch, reached) == "ok":
                        marked = (epoch, reached)
                except Closed:
                    continue
            if refused:
                yield from self.rebuild(forced=True)

    def reconciler(self) -> Actor:
        """Compare what Redis says first with what the journal wrote for it; a difference is rebuilt."""
        while True:
            yield
            if (redis := self.open_shard(0)) is None or "reconcile" in self.off:
                continue
            at, epoch, n, balance = redis.seq, redis.epoch, redis.account(ACCOUNT).n, redis.account(ACCOUNT).balance
            for _ in range(5):
                yield
                journal = self.journal
                if journal.posted >= at and journal.epoch == epoch and journal.state == "open" and self.redis is redis:
                    line = journal.statement[n - 1][2] if 0 < n <= len(journal.statement) else 0
                    if n > len(journal.statement) or line != balance or len(journal.statement) > redis.account(ACCOUNT).n:
                        yield from self.rebuild(forced=True)
                    break

    def rebuild(self, *, forced: bool = False) -> Actor:
        if self.rebuilding or self.away:
            return
        redis = self.redis
        fine = redis is not None and redis.state == "open" and redis.epoch == self.journal.epoch and self.journal.state == "open"
        if fine and redis is not None and redis.seq >= self.journal.posted and not forced:
            return
        self.rebuilding = True
        self.journal.epoch = epoch = max(self.journal.epoch, redis.epoch if redis else 0) + 1
        self.journal.state = "rebuilding"
        yield
        if self.redis is not None:
            self.redis.state = "closed"
        yield
        if self.redis is not None:
            for entry in self.redis.out:
                self.journal.repost(entry)
            self.journal.posted = max([self.journal.posted, self.redis.seq, *(entry.seq for entry in self.redis.out)])
        self.restoring = False
        yield
        if "mark" not in self.off:
            for due in self.journal.dues:
                if due.key not in self.journal.lines:
                    self.journal.write_line(due.key, due.amount)
        due_seq = 0 if "mark" in self.off else len(self.journal.dues)
        figures = Account(balance=self.journal.balance, n=len(self.journal.statement))
        yield
        old = self.redis
        self.redis = RedisShard(
            epoch=epoch, seq=self.journal.posted, due_seq=due_seq, posted=self.journal.posted, server=old.server if old else self.servers,
            off=self.off, accounts={ACCOUNT: figures}, out=old.out if old else [],
        )  # fmt: skip
        yield
        self.journal.state, self.rebuilding = "open", False

    def chaos(self, kind: str) -> Actor:
        for _ in range(self.random.randint(3, 60)):
            yield
        self.away = self.random.random() < 0.5
        old_redis, old_journal = self.redis.copy() if self.redis else None, self.journal.copy()
        for _ in range(self.random.randint(2, 60)):
            yield
        while self.rebuilding and not self.away:  # a fault within a rebuild has a run of its own
            yield
        self.servers += 1
        if kind == "redis lost":
            self.redis = None
        elif kind == "redis rolled back" and old_redis is not None:
            old_redis.server, self.redis = self.servers, old_redis
            for _ in range(self.random.choice([0, 40, 120])):
                yield
        elif kind == "journal restored":
            self.journal, self.restoring = old_journal, True
        self.away = False


def wrong_runs(chaos: str, off: frozenset[str], seeds: range) -> dict[int, str]:
    results = {seed: World(seed, chaos, off).run() for seed in seeds}
    return {seed: result for seed, result in results.items() if result}


@pytest.mark.parametrize("chaos", ["", "redis lost", "redis rolled back", "journal restored"])
def test_no_interleaving_ends_with_a_wrong_balance(chaos: str) -> None:
    assert wrong_runs(chaos, frozenset(), range(SEEDS)) == {}


@pytest.mark.parametrize(
    ("rule", "chaos"),
    [
        ("adjust", ""),
        ("tombstone", ""),
        ("resend", "redis lost"),
        ("restart", "redis rolled back"),
        ("mark", "redis lost"),
    ],
)
def test_each_rule_is_needed(rule: str, chaos: str) -> None:
    for start in range(0, 5000, 50):
        if wrong_runs(chaos, frozenset({rule}), range(start, start + 50)):
            return
    pytest.fail(f"no run noticed that the rule {rule!r} was missing")
