"""Whether the fast lane did nothing that mitmproxy's own layers would not have done with the same bytes."""

from itertools import zip_longest
from typing import Any

from tests.fakes.said import SaidAnswer
from tests.fakes.two_paths import Outcome

HEAD_REFUSED = {400, 431}
ANSWER_REFUSED = 502


def disagreement(lane: Outcome, stock: Outcome) -> str | None:
    """Return what the lane did otherwise, None where it did the same or was the stricter of the two."""
    if lane.leftover or stock.leftover:
        return "half a head was written"
    if lane == stock:
        return None
    pairs = zip_longest(lane.answers, stock.answers)
    index, ours, theirs = next(((place, *pair) for place, pair in enumerate(pairs) if pair[0] != pair[1]), (0, None, None))
    if ours is None:
        return "the lane left a request without an answer, or the answers are alike and something else is not"
    if not (_is_beginning(lane.asked, stock.asked) and _is_beginning(lane.control, stock.control)):
        return "the lane forwarded something else"
    if ours.status in HEAD_REFUSED:
        return None if _ends_there(lane, index) and _is_beginning(lane.charges, stock.charges) else "the lane refused a head and went on"
    if ours.status == ANSWER_REFUSED or _is_cut_of(ours, theirs):
        return None if _amount(lane) <= _amount(stock) else "the lane charged more for an answer that it refused"
    return "the lane answered otherwise"


def _is_beginning(some: tuple[Any, ...], whole: tuple[Any, ...]) -> bool:
    return some == whole[: len(some)]


def _ends_there(lane: Outcome, index: int) -> bool:
    return len(lane.answers) == index + 1 and lane.closed and lane.answers[index].closes


def _is_cut_of(ours: SaidAnswer, theirs: SaidAnswer | None) -> bool:
    return theirs is not None and not ours.whole and ours.status == theirs.status and ours.fields == theirs.fields and theirs.body.startswith(ours.body)


def _amount(outcome: Outcome) -> int:
    return sum(charge.amount for charge in outcome.charges)


def describe(lane: Outcome, stock: Outcome) -> str:
    """Return the differences, for a failing test's report."""
    names = ("asked", "control", "answers", "leftover", "closed", "charges")
    return "\n".join(
        f"{name}:\n  lane  {getattr(lane, name)!r}\n  stock {getattr(stock, name)!r}" for name in names if getattr(lane, name) != getattr(stock, name)
    )
