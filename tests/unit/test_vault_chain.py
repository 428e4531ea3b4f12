"""A page of moves is taken only where it continues the vault's balance."""

import pytest

from ledger.base58 import KEY_BYTES, decode_base58, decode_exactly, encode_base58
from ledger.deposit_values import Cursor, Move
from ledger.errors import VaultDiffers
from ledger.vault_chain import continue_vault
from tests.fakes.vaults import START, History, cursor_at


def stored(*moves: Move) -> dict[str, tuple[int, int]]:
    return {move.signature: (move.pre, move.post) for move in moves}


@pytest.fixture
def history() -> History:
    history = History()
    for amount in (10, 20, 30):
        history.arrive(amount)
    history.withdraw(40)
    history.arrive(5, same_slot=True)
    return history


def test_a_first_page_is_new_from_its_first_move_on(history: History) -> None:
    assert continue_vault(history.moves, {}, at=START, cursor=cursor_at(history.moves)) == (history.moves, cursor_at(history.moves))


def test_a_page_that_overlaps_the_cursor_adds_what_is_behind_it(history: History) -> None:
    a, b, c, d, e = history.moves

    new, reached = continue_vault([a, b, c, d], stored(a, b), at=cursor_at([a, b]), cursor=cursor_at([c, d]))

    assert (new, reached) == ([c, d], cursor_at([d]))
    assert continue_vault([d, e], stored(d), at=cursor_at([d]), cursor=cursor_at([e])) == ([e], cursor_at([e]))


def test_a_page_of_the_past_neither_adds_anything_nor_moves_the_cursor_back(history: History) -> None:
    at = cursor_at(history.moves)

    for last in range(1, 5):
        page = history.moves[:last]
        assert continue_vault(page, stored(*page), at=at, cursor=cursor_at(page)) == ([], at)
    assert continue_vault([], {}, at=at, cursor=Cursor(signature="older", slot=at.slot - 1, balance=at.balance)) == ([], at)


def test_a_cursor_moves_on_without_moves_where_the_balance_is_the_same(history: History) -> None:
    at = cursor_at(history.moves)
    further = Cursor(signature="later", slot=at.slot + 9, balance=at.balance)

    assert continue_vault([], {}, at=at, cursor=further) == ([], further)
    with pytest.raises(VaultDiffers, match="its cursor says"):
        continue_vault([], {}, at=at, cursor=Cursor(signature="later", slot=at.slot + 9, balance=at.balance + 1))


def test_a_cursor_without_a_transaction_does_not_go_back_either() -> None:
    at = Cursor(signature=None, slot=50, balance=0)

    assert continue_vault([], {}, at=at, cursor=Cursor(signature="older", slot=49, balance=0)) == ([], at)
    assert continue_vault([], {}, at=at, cursor=Cursor(signature="same", slot=50, balance=0))[1].signature == "same"


def test_a_history_that_is_read_again_moves_its_cursor_through_known_moves(history: History) -> None:
    known = stored(*history.moves)
    at = START
    for move in history.moves:
        new, at = continue_vault([move], known, at=at, cursor=cursor_at([move]))
        assert (new, at) == ([], cursor_at([move]))


def test_a_hidden_pair_is_found_when_the_history_is_read_again() -> None:
    history = History()
    moves = [history.arrive(10), history.arrive(7), history.withdraw(7), history.arrive(1)]

    new, reached = continue_vault(moves, stored(moves[0], moves[3]), at=START, cursor=cursor_at(moves))

    assert new == moves[1:3]
    assert reached == cursor_at(moves)


def test_a_hole_is_refused_with_what_was_expected(history: History) -> None:
    a, _, c, *_ = history.moves

    with pytest.raises(VaultDiffers) as refusal:
        continue_vault([a, c], {}, at=START, cursor=cursor_at([c]))

    assert (refusal.value.signature, refusal.value.expected, refusal.value.found) == (c.signature, 10, 30)


@pytest.mark.parametrize("page", [(0, 2), (1,), (0, 1, 3)])
def test_no_page_with_a_hole_is_taken(history: History, page: tuple[int, ...]) -> None:
    moves = [history.moves[place] for place in page]

    with pytest.raises(VaultDiffers):
        continue_vault(moves, {}, at=START, cursor=cursor_at(moves))


def test_the_same_move_twice_in_a_page_is_refused(history: History) -> None:
    a, *_ = history.moves

    with pytest.raises(VaultDiffers):
        continue_vault([a, a], {}, at=START, cursor=cursor_at([a]))


def test_a_known_move_with_other_balances_is_refused(history: History) -> None:
    a, b, *_ = history.moves

    with pytest.raises(VaultDiffers):
        continue_vault([a, b], {**stored(a), b.signature: (10, 31)}, at=START, cursor=cursor_at([b]))


def test_an_invented_move_behind_an_old_one_is_refused(history: History) -> None:
    a, b, c, *_ = history.moves
    fork = History(moves=[a], slot=b.slot, name="fork")
    invented = fork.arrive(999)

    with pytest.raises(VaultDiffers):
        continue_vault([a, invented], stored(a), at=cursor_at([a, b, c]), cursor=cursor_at([invented]))


def test_a_rewound_cursor_is_not_moved_by_a_page_that_was_under_way(history: History) -> None:
    with pytest.raises(VaultDiffers):
        continue_vault(history.moves[3:], stored(*history.moves), at=START, cursor=cursor_at(history.moves))


def test_a_transaction_that_left_the_balance_as_it_was_is_no_move() -> None:
    history = History()
    moves = [history.arrive(5), history.arrive(0)]

    assert continue_vault(moves, {}, at=START, cursor=cursor_at(moves)) == (moves[:1], cursor_at(moves))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x00\x01", bytes(32), bytes(range(64)), b"\xff" * 32])
def test_base58_comes_back_as_it_went(data: bytes) -> None:
    assert decode_base58(encode_base58(data)) == data


def test_base58_as_the_world_writes_it() -> None:
    assert encode_base58(b"Hello World!") == "2NEpo7TZRRrLZSi2U"
    for text in ("0", "O", "I", "l", "é"):
        with pytest.raises(ValueError):
            decode_base58(text)


@pytest.mark.parametrize("text", ["", "1" * 31, "1" * 33, "z" * 44, "0" * 32, "1" * 1_000_000])
def test_a_key_is_base58_of_32_bytes_and_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="must be base58 of 32 bytes"):
        decode_exactly(text, KEY_BYTES)
