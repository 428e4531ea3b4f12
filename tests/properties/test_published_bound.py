"""Nobody gets further below zero than `GET /v1/limits` publishes, whatever many streams do at once.

The hot side is the model that the real scripts are proven against; the streams follow the rules of holds:
a first hold, a step more whenever the charge so far has reached it, an end where a step is refused.
"""

from dataclasses import dataclass
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st
from shard_model import RedisShard

from metering.holds import overdraft_bound, overdraft_line

Mode = Literal["finish", "cut", "strict"]
EPOCH = 1


@dataclass
class Stream:
    """One running answer: what each of its pieces costs, and how far it has come. All in microunits."""

    account: int
    request: str
    pieces: list[int]
    used: int = 0

    @property
    def worst(self) -> int:
        return sum(self.pieces)


@dataclass
class Gateway:
    """Places, extends and settles holds as a worker does, in one mode."""

    shard: RedisShard
    mode: Mode
    overdraft_max: int
    concurrent: int
    step: int

    @property
    def overdraft(self) -> int:
        return self.overdraft_max if self.mode == "finish" else 0

    def begin(self, stream: Stream, *, minimum: int, expected: int) -> bool:
        if self.shard.account(stream.account).holds >= self.concurrent:
            return False
        if self.mode == "strict":
            minimum = expected = stream.worst
        status, _ = self.shard.place(EPOCH, stream.account, stream.request, minimum=minimum, amount=expected, overdraft_max=self.overdraft)
        return status == "ok"

    def advance(self, stream: Stream) -> bool:
        """Deliver one more piece; False when the stream has ended, at its end or cut."""
        stream.used += stream.pieces.pop(0)
        held = self.shard.holds[stream.request].amount
        if stream.pieces and stream.used >= held and self.mode != "strict":
            status, _ = self.shard.extend(EPOCH, stream.request, max(held, stream.used) + self.step, overdraft_max=self.overdraft)
            if status == "ok":
                return True
        elif stream.pieces:
            return True
        self.shard.settle(EPOCH, stream.account, stream.request, stream.used)
        return False


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    mode=st.sampled_from(["finish", "cut", "strict"]),
    overdraft_max=st.integers(0, 5_000),
    concurrent=st.integers(1, 6),
    step=st.integers(1, 400),
    balances=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 40_000)), min_size=1, max_size=8),
)
def test_no_account_ends_further_below_zero_than_its_published_bound(
    data: st.DataObject, mode: Mode, overdraft_max: int, concurrent: int, step: int, balances: list[tuple[int, int]]
) -> None:
    """Old customers with a line and new accounts with small balances side by side."""
    shard = RedisShard()
    for account, (balance, charged) in enumerate(balances):
        shard.account(account).balance, shard.account(account).charged = balance, charged
    gateway = Gateway(shard=shard, mode=mode, overdraft_max=overdraft_max, concurrent=concurrent, step=step)
    running: list[Stream] = []

    for number in range(data.draw(st.integers(1, 40), label="turns")):
        if running and data.draw(st.booleans(), label="advance"):
            stream = data.draw(st.sampled_from(running), label="stream")
            if not gateway.advance(stream):
                running.remove(stream)
            continue
        pieces = data.draw(st.lists(st.integers(0, step), min_size=1, max_size=12), label="pieces")
        stream = Stream(account=data.draw(st.integers(0, len(balances) - 1), label="account"), request=f"r{number}", pieces=pieces)
        expected = data.draw(st.integers(0, 2 * step), label="expected")
        if gateway.begin(stream, minimum=data.draw(st.integers(0, expected), label="minimum"), expected=expected):
            running.append(stream)
    for stream in running:
        while gateway.advance(stream):
            pass

    for account, figures in shard.accounts.items():
        line = overdraft_line(figures.charged, None, overdraft_max=gateway.overdraft)
        assert figures.balance >= -overdraft_bound(mode, line=line, concurrent=concurrent, step=step), account
        assert figures.held == 0
