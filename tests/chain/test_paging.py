"""Walking back to the cursor over any number of rows and pages, and joining what was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainwatch.calls import Row
from chainwatch.errors import BadAnswer, ChainBroken
from chainwatch.joining import join, order_slot
from chainwatch.paging import chunks, walk_back
from ledger.deposit_values import Cursor
from tests.fakes.listed import VAULT, ListedHistory

EVERYTHING = Cursor(signature=None, slot=0, balance=0)


def history_of(rows: int) -> ListedHistory:
    history = ListedHistory()
    for _ in range(rows):
        history.add(1)
    return history


def cursor_at(history: ListedHistory, place: int) -> Cursor:
    return Cursor(signature=history.rows[place]["signature"], slot=history.rows[place]["slot"], balance=0)


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 2000])
async def test_case_40_any_number_of_new_rows_is_found(rows: int) -> None:
    history = history_of(rows + 1)

    walk = await walk_back(history, VAULT.address, cursor=cursor_at(history, 0), slot=history.slot)

    assert [row.signature for row in walk.oldest_first()] == [row["signature"] for row in history.rows[1:]]


@pytest.mark.parametrize("rows", [0, 1, 999, 1000, 1001, 2000])
async def test_case_40_a_whole_history_is_read_to_its_end(rows: int) -> None:
    history = history_of(rows)

    walk = await walk_back(history, VAULT.address, cursor=EVERYTHING, slot=history.slot)

    assert len(walk.oldest_first()) == rows


async def test_case_40_rows_that_come_between_two_pages_hurt_nobody() -> None:
    history = history_of(2500)

    class Growing(ListedHistory):
        async def call(self, method: str, *params: object) -> object:
            answer = await history.call(method, *params)
            for _ in range(7):
                history.add(1)
            return answer

    walk = await walk_back(Growing(), VAULT.address, cursor=cursor_at(history, 0), slot=history.slot)

    assert [row.signature for row in walk.oldest_first()] == [row["signature"] for row in history.rows[1:2500]]


async def test_a_short_page_is_no_end() -> None:
    history = history_of(50)

    class Short(ListedHistory):
        async def call(self, method: str, *params: object) -> object:
            return (await history.call(method, *params))[:7]

    walk = await walk_back(Short(), VAULT.address, cursor=cursor_at(history, 0), slot=history.slot)

    assert len(walk.rows) == 49


async def test_a_list_that_ends_before_the_cursor_is_a_gap() -> None:
    history = history_of(50)
    cursor = cursor_at(history, 10)
    del history.rows[:20]
    history.places = {row["signature"]: place for place, row in enumerate(history.rows)}

    with pytest.raises(ChainBroken) as gap:
        await walk_back(history, VAULT.address, cursor=cursor, slot=history.slot)

    assert (gap.value.after, gap.value.until) == (cursor.slot, history.rows[0]["slot"])


async def test_a_list_that_goes_on_below_the_cursors_slot_without_it_is_a_gap() -> None:
    history = history_of(50)
    cursor = cursor_at(history, 10)
    del history.rows[10]

    with pytest.raises(ChainBroken):
        await walk_back(history, VAULT.address, cursor=cursor, slot=history.slot)


@pytest.mark.parametrize("fault", ["same", "unsorted"])
async def test_pages_that_cannot_be_pages_are_refused(fault: str) -> None:
    history = history_of(3000)

    class Odd(ListedHistory):
        async def call(self, method: str, *params: object) -> object:
            page = await history.call("getSignaturesForAddress", params[0], {"limit": 1000})
            return page if fault == "same" else page[::-1]

    with pytest.raises(BadAnswer, match="out of order"):
        await walk_back(Odd(), VAULT.address, cursor=cursor_at(history, 0), slot=history.slot)


async def test_failed_rows_are_not_held_and_still_seen() -> None:
    history = history_of(3)
    for _ in range(5):
        history.add(1, failed=True)

    walk = await walk_back(history, VAULT.address, cursor=cursor_at(history, 0), slot=history.slot)

    assert len(walk.rows) == 2
    assert walk.newest is not None
    assert walk.newest.signature == history.rows[-1]["signature"]


def test_chunks_never_part_a_slot() -> None:
    rows = [Row(str(number), number // 3, False) for number in range(20)]

    pieces = list(chunks(rows, 4))

    assert [row for piece in pieces for row in piece] == rows
    assert all(one[-1].slot < other[0].slot for one, other in pairwise(pieces))


@dataclass(frozen=True)
class Step:
    slot: int
    pre: int
    post: int


def chain_of(amounts: Sequence[int], slots: Sequence[int]) -> list[Step]:
    steps, balance, slot = [], 0, 0
    for amount, rise in zip(amounts, slots, strict=False):
        slot += rise
        steps.append(Step(slot, balance, balance + amount))
        balance += amount
    return steps


@given(st.lists(st.integers(-2, 2), max_size=40), st.lists(st.integers(0, 1), min_size=40, max_size=40), st.randoms(use_true_random=False))
def test_moves_in_any_order_within_their_slots_are_joined_again(amounts: list[int], slots: list[int], chance: object) -> None:
    steps = chain_of(amounts, slots)
    mixed = list(steps)
    chance.shuffle(mixed)  # type: ignore[attr-defined]

    joined, breach = join(0, mixed)

    assert breach is None
    assert sorted(map(repr, joined)) == sorted(map(repr, steps))
    assert all(one.post == other.pre for one, other in pairwise(joined))


@given(st.lists(st.integers(1, 9), min_size=3, max_size=20), st.data())
def test_a_move_that_is_missing_breaks_the_chain_there(amounts: list[int], data: st.DataObject) -> None:
    steps = chain_of(amounts, [1] * len(amounts))
    missing = data.draw(st.integers(0, len(steps) - 2))

    joined, breach = join(0, steps[:missing] + steps[missing + 1 :])

    assert joined == steps[:missing]
    assert breach is not None
    assert breach.slot == steps[missing + 1].slot


def test_what_stands_in_order_keeps_it_and_what_cannot_be_ordered_is_refused() -> None:
    round_trip = [Step(1, 5, 7), Step(1, 7, 5), Step(1, 5, 9), Step(1, 9, 5), Step(1, 5, 6)]

    assert order_slot(5, round_trip) == round_trip
    assert order_slot(7, round_trip) is None
    assert order_slot(5, [Step(1, 5, 6), Step(1, 8, 9)]) is None
    assert order_slot(5, []) == []
