"""The chain of the vault's balances: each move begins with what the one before left. Pure."""

from collections.abc import Mapping, Sequence

from ledger.deposit_values import Cursor, Move
from ledger.errors import VaultDiffers


def continue_vault(moves: Sequence[Move], known: Mapping[str, tuple[int, int]], *, at: Cursor, cursor: Cursor) -> tuple[list[Move], Cursor]:
    """Prove that a page continues the vault's balance; return its moves that are not recorded yet, and the cursor behind it.

    `known` maps the recorded signatures of the page to their balances before and after; `at` is the recorded cursor, `cursor` the
    page's own. The page begins at the recorded cursor or, where another watcher was faster, with a known move before it. The
    cursor never goes back.

    Raises:
        VaultDiffers: the page does not continue the balance.
    """
    overlaps = bool(moves) and moves[0].signature in known and _is_before(moves[0], at)
    last_known = max((place for place, move in enumerate(moves) if move.signature in known), default=-1)
    balance = moves[0].pre if overlaps else at.balance
    new: list[Move] = []
    for place, move in enumerate(moves):
        if overlaps and place == last_known + 1 and balance != at.balance:
            raise _differs("follows a move before the cursor, which has", move, expected=balance, found=at.balance)
        if move.pre != balance:
            raise _differs("begins with", move, expected=balance, found=move.pre)
        stored = known.get(move.signature)
        if stored is not None and stored != (move.pre, move.post):
            raise _differs("ends with", move, expected=stored[1], found=move.post)
        if stored is None and move.amount:
            new.append(move)
        balance = move.post
    if cursor.balance != balance:
        text = f"the page ends with {balance} microunits, and its cursor says {cursor.balance}"
        raise VaultDiffers(text, signature=cursor.signature, expected=balance, found=cursor.balance)
    return new, cursor if _advances(at, cursor, moves, overlaps=overlaps) else at


def _is_before(move: Move, at: Cursor) -> bool:
    return move.slot < at.slot or (move.slot == at.slot and move.pre != at.balance)


def _advances(at: Cursor, cursor: Cursor, moves: Sequence[Move], *, overlaps: bool) -> bool:
    if cursor.slot != at.slot:
        return cursor.slot > at.slot
    return not overlaps or any(move.signature == at.signature for move in moves)


def _differs(words: str, move: Move, *, expected: int, found: int) -> VaultDiffers:
    text = f"move {move.signature} in slot {move.slot} {words} {found} microunits, and {expected} are expected"
    return VaultDiffers(text, signature=move.signature, expected=expected, found=found)
