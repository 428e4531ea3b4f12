"""A shard as the protocol describes it, in plain Python: what Redis decides and what the journal remembers.

Written from the protocol and not from the scripts. Names in `off` take one rule out, to show that it is needed.
"""

import copy
from dataclasses import dataclass, field


class Closed(Exception):
    """The shard is missing, closed or in another epoch; nothing changed."""


@dataclass
class Entry:
    """One change in the outbox; `n` is None where the balance did not change."""

    seq: int
    kind: str
    key: str
    account: int
    n: int | None
    amount: int
    balance: int
    epoch: int
    due: int | None


@dataclass
class Account:
    balance: int = 0
    held: int = 0
    holds: int = 0
    n: int = 0
    charged: int = 0
    tracked: int = 0
    funded: bool = False


@dataclass
class HoldModel:
    account: int
    amount: int
    deadline: int = 0
    checkpoint: int | None = None


@dataclass
class RedisShard:
    """The hot side. `server` names the run of the server, which changes when it comes back with older data."""

    epoch: int = 1
    state: str = "open"
    seq: int = 0
    due_seq: int = 0
    posted: int = 0
    server: int = 0
    off: frozenset[str] = frozenset()
    accounts: dict[int, Account] = field(default_factory=dict)
    holds: dict[str, HoldModel] = field(default_factory=dict)
    tombstones: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    reports: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    out: list[Entry] = field(default_factory=list)

    def copy(self) -> "RedisShard":
        return copy.deepcopy(self)

    def check(self, epoch: int) -> None:
        if self.state != "open" or self.epoch != epoch:
            raise Closed

    def account(self, account: int) -> Account:
        return self.accounts.setdefault(account, Account())

    def line(self, account: int, overdraft_max: int) -> int:
        return min(overdraft_max, self.account(account).charged // 10)

    def place(self, epoch: int, account: int, request: str, *, minimum: int, amount: int, overdraft_max: int = 0, deadline: int = 0) -> tuple[str, int]:
        self.check(epoch)
        figures = self.account(account)
        if request in self.holds:
            return "ok", self.holds[request].amount
        if request in self.tombstones:
            return "ended", 0
        room = figures.balance - figures.held + self.line(account, overdraft_max)
        granted = min(amount, room)
        if room < min(minimum, amount):
            return "insufficient", 0
        self._hold(account, request, granted, deadline)
        return "ok", granted

    def replace(self, epoch: int, account: int, request: str, amount: int, *, deadline: int = 0) -> str:
        self.check(epoch)
        if request in self.tombstones:
            return "ended"
        if request not in self.holds:
            self._hold(account, request, amount, deadline)
        return "ok"

    def extend(self, epoch: int, request: str, amount: int, *, overdraft_max: int = 0) -> tuple[str, int]:
        self.check(epoch)
        hold = self.holds.get(request)
        if hold is None:
            return "unknown", 0
        figures, growth = self.account(hold.account), amount - hold.amount
        if growth > 0:
            if growth > figures.balance - figures.held + self.line(hold.account, overdraft_max):
                return "insufficient", hold.amount
            hold.amount += growth
            figures.held += growth
        return "ok", hold.amount

    def renew(self, epoch: int, request: str, checkpoint: int | None, *, deadline: int = 0) -> bool:
        self.check(epoch)
        hold = self.holds.get(request)
        if hold is None:
            return False
        hold.deadline = deadline
        hold.checkpoint = hold.checkpoint if checkpoint is None else checkpoint
        return True

    def settle(self, epoch: int, account: int, request: str, charge: int) -> tuple[str, int, int]:
        self.check(epoch)
        if request in self.holds:
            seq = self._post("charge", f"charge:{request}", account, -charge, counts=True)
            self.account(account).charged += charge
            self._end(request, ("settled", charge, seq))
            return "ok", charge, seq
        ending, charged, seq = self.tombstones.get(request, ("none", 0, 0))
        if ending == "settled":
            return "duplicate", charged, seq
        if ending != "expired":
            if "unknown" not in self.off:
                return "unknown", 0, 0
            charged = seq = 0
        if "adjust" in self.off and seq:
            return "duplicate", charged, seq
        if seq == 0:
            seq = self._post("charge", f"charge:{request}", account, -charge, counts=True)
        elif charge != charged:
            seq = self._post("adjust", f"adjust:{request}", account, charged - charge, counts=True)
        self.account(account).charged += charge - charged
        self.tombstones[request] = ("settled", charge, seq)
        return "ok", charge, seq

    def void(self, epoch: int, request: str) -> None:
        self.check(epoch)
        if request in self.holds:
            self._end(request, ("void", 0, 0))
        elif "tombstone" not in self.off:
            self.tombstones.setdefault(request, ("void", 0, 0))

    def expire(self, epoch: int, request: str) -> None:
        self.check(epoch)
        hold = self.holds[request]
        if hold.checkpoint is None:
            self._end(request, ("expired", 0, 0))
            return
        seq = self._post("charge", f"charge:{request}", hold.account, -hold.checkpoint, counts=True)
        self.account(hold.account).charged += hold.checkpoint
        self._end(request, ("expired", hold.checkpoint, seq))

    def report(
        self, epoch: int, account: int, request: str, events: list[tuple[int, int]], *, limit: int | None, block_balance: bool
    ) -> tuple[str, str, int, int]:
        """Record events (tokens, cost) one after the other; return status, a mark for each, the tokens before and the balance after."""
        self.check(epoch)
        if request in self.reports:
            mask, used, balance = self.reports[request]
            return "duplicate" if mask else "ended", mask, used, balance
        figures = self.account(account)
        used, available, mask, cost, tokens = figures.tracked, figures.balance - figures.held, "", 0, 0
        for event_tokens, event_cost in events:
            if limit is not None and used + tokens >= limit:
                mask += "f"
            elif block_balance and figures.funded and event_cost > 0 and available - cost - event_cost < 0:
                mask += "b"
            else:
                mask, cost, tokens = mask + "1", cost + event_cost, tokens + event_tokens
        if "1" in mask:
            self._post("usage", f"usage:{request}", account, -cost, counts=cost > 0)
            figures.tracked += tokens
            self.reports[request] = (mask, used, figures.balance)
        return "ok", mask, used, figures.balance

    def end_report(self, epoch: int, request: str) -> None:
        self.check(epoch)
        self.reports.setdefault(request, ("", 0, 0))

    def apply(self, epoch: int, due: int, account: int, key: str, amount: int) -> str:
        self.check(epoch)
        if due <= self.due_seq:
            return "done"
        if due > self.due_seq + 1 and "order" not in self.off:
            return "gap"
        late = key.startswith(("charge:", "adjust:"))
        self._post("apply", key, account, amount, counts=amount != 0 or late or key.startswith("credit:"), due=due)
        self.account(account).charged -= amount if late else 0
        self.account(account).funded |= amount > 0 and key.startswith("credit:")
        self.due_seq = due
        return "ok"

    def mark(self, epoch: int, posted: int) -> str:
        self.check(epoch)
        if posted > self.seq:
            self.state = "closed"
            return "rolled_back"
        self.posted = max(self.posted, posted)
        return "ok"

    def _hold(self, account: int, request: str, amount: int, deadline: int) -> None:
        self.holds[request] = HoldModel(account, amount, deadline)
        self.account(account).held += amount
        self.account(account).holds += 1

    def _end(self, request: str, tombstone: tuple[str, int, int]) -> None:
        hold = self.holds.pop(request)
        self.account(hold.account).held -= hold.amount
        self.account(hold.account).holds -= 1
        self.tombstones[request] = tombstone

    def _post(self, kind: str, key: str, account: int, amount: int, *, counts: bool, due: int | None = None) -> int:
        figures = self.account(account)
        self.seq += 1
        figures.balance += amount
        figures.n += counts
        self.out.append(Entry(self.seq, kind, key, account, figures.n if counts else None, amount, figures.balance, self.epoch, due))
        return self.seq


@dataclass
class Due:
    due_seq: int
    key: str
    amount: int


@dataclass
class JournalShard:
    """The remembering side, for one account: keys with their amounts, what it owes Redis, and the statement."""

    epoch: int = 1
    state: str = "open"
    posted: int = 0
    keys: dict[str, int] = field(default_factory=dict)
    dues: list[Due] = field(default_factory=list)
    statement: list[tuple[str, int, int]] = field(default_factory=list)  # key, amount, balance after
    lines: set[str] = field(default_factory=set)

    def copy(self) -> "JournalShard":
        return copy.deepcopy(self)

    @property
    def balance(self) -> int:
        return sum(self.keys.values())

    @property
    def line_balance(self) -> int:
        return self.statement[-1][2] if self.statement else 0

    def charged_for(self, request: str) -> int:
        return -self.keys.get(f"charge:{request}", 0) - self.keys.get(f"adjust:{request}", 0)

    def write_line(self, key: str, amount: int) -> None:
        self.lines.add(key)
        self.statement.append((key, amount, self.line_balance + amount))

    def owe(self, key: str, amount: int) -> None:
        """One transaction: the journal row and what Redis is owed for it."""
        self.keys[key] = amount
        self.dues.append(Due(len(self.dues) + 1, key, amount))

    def charge_late(self, request: str, charge: int) -> None:
        have = self.keys.get(f"charge:{request}")
        if have is None:
            self.owe(f"charge:{request}", -charge)
        elif f"adjust:{request}" not in self.keys and -have != charge:
            self.owe(f"adjust:{request}", -charge - have)

    def post(self, entry: Entry) -> bool:
        """Post one entry where it continues the books, else change nothing: Redis holds something twice or has lost something."""
        known = entry.key in (self.lines if entry.kind == "apply" else self.keys)
        continues = entry.n == len(self.statement) + 1 and entry.balance == self.line_balance + entry.amount
        if known or not continues:
            return False
        self.repost(entry)
        return True

    def repost(self, entry: Entry) -> None:
        """Take what is new in an entry, as a rebuild does."""
        if entry.key not in self.keys:
            self.keys[entry.key] = entry.amount
            if entry.kind == "apply":
                self.dues.append(Due(len(self.dues) + 1, entry.key, entry.amount))
            self.write_line(entry.key, entry.amount)
        elif entry.kind == "apply" and entry.key not in self.lines:
            self.write_line(entry.key, entry.amount)
