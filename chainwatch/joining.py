"""The balance chain: each move begins at the balance that the one before it ended with. Pure.

Providers list the transactions of one slot in different orders, so the order inside a slot is searched. Balances are points and
moves are arrows between them, and what is sought is a path that uses each arrow once: Hierholzer's way finds it in linear time.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Protocol


class Step(Protocol):
    """Something that changed the vault's balance in a slot."""

    @property
    def slot(self) -> int:
        """The slot it happened in."""

    @property
    def pre(self) -> int:
        """The balance before."""

    @property
    def post(self) -> int:
        """The balance after."""


class DoesNotJoin(Exception):
    """No order of a slot's moves continues the chain; `slot` is that slot, `balance` where the chain ended before it."""

    def __init__(self, *, slot: int, balance: int) -> None:
        super().__init__(f"the moves of slot {slot} do not continue from a balance of {balance} microunits")
        self.slot, self.balance = slot, balance


def join[S: Step](balance: int, steps: Iterable[S]) -> tuple[list[S], DoesNotJoin | None]:
    """Return the steps in an order in which they continue from `balance`, slot by slot, as far as that is possible.

    What could not be joined, and anything later, is left out; the second value then says where.
    """
    joined: list[S] = []
    for slot, group in groupby(sorted(steps, key=attrgetter("slot")), key=attrgetter("slot")):
        ordered = order_slot(balance, list(group))
        if ordered is None:
            return joined, DoesNotJoin(slot=slot, balance=balance)
        joined += ordered
        balance = ordered[-1].post
    return joined, None


def order_slot[S: Step](balance: int, steps: Sequence[S]) -> list[S] | None:
    """Return the steps of one slot in an order that continues from `balance`; None where there is none.

    Steps that already stand in such an order keep it.
    """
    leaving: defaultdict[int, list[S]] = defaultdict(list)
    for step in reversed(steps):
        leaving[step.pre].append(step)
    path: list[S] = []
    waiting: list[tuple[int, S | None]] = [(balance, None)]
    while waiting:
        point, arrow = waiting[-1]
        if leaving[point]:
            taken = leaving[point].pop()
            waiting.append((taken.post, taken))
            continue
        waiting.pop()
        if arrow is not None:
            path.append(arrow)
    path.reverse()
    is_chain = len(path) == len(steps) and all(one.post == other.pre for one, other in pairwise(path))
    return path if is_chain and (not path or path[0].pre == balance) else None
