"""A vault's history as a chain would have it, and what a watcher makes of it, in few words."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from ledger.base58 import encode_base58
from ledger.deposit_values import Cursor, Move, Naming, PageOutcome, Vault
from ledger.deposits import Deposits


def address(name: str) -> str:
    return encode_base58(hashlib.sha256(name.encode()).digest())


VAULT = Vault(genesis=address("genesis"), address=address("vault"), owner=address("treasury"), mint=address("mint"), token_program=address("program"))
SENDER = address("sender")
START = Cursor(signature=None, slot=0, balance=0)


@dataclass
class History:
    """Moves in chain order. Slots rise by one, or stay where `same_slot` says so."""

    opening: int = 0
    moves: list[Move] = field(default_factory=list)
    slot: int = 100
    name: str = "main"
    made: int = 0

    @property
    def balance(self) -> int:
        return self.moves[-1].post if self.moves else self.opening

    def arrive(self, amount: int, *, to: str | None = None, aside: str = "no_code", source: str = "memo", same_slot: bool = False) -> Move:
        naming = Naming(deposit_code=to, source=source) if to is not None else Naming(aside=aside)
        return self._move(amount, naming, same_slot=same_slot)

    def withdraw(self, amount: int, *, same_slot: bool = False) -> Move:
        return self._move(-amount, Naming(), same_slot=same_slot)

    def _move(self, amount: int, naming: Naming, *, same_slot: bool) -> Move:
        self.slot += not same_slot
        self.made += 1
        signature = encode_base58(hashlib.sha512(f"{self.name} move {self.made}".encode()).digest())
        pre = self.balance
        move = Move(
            signature=signature, slot=self.slot, block_time=1_700_000_000 + self.slot, pre=pre, post=pre + amount,
            senders=(SENDER,) if amount > 0 else (VAULT.owner,), naming=naming,
        )  # fmt: skip
        self.moves.append(move)
        return move

    def behind(self, cursor: Cursor, *, at_most: int = 1000) -> list[Move]:
        """What a watcher reads behind a cursor."""
        first = next((place + 1 for place, move in enumerate(self.moves) if move.signature == cursor.signature), 0)
        return self.moves[first : first + at_most]


def cursor_at(moves: Sequence[Move]) -> Cursor:
    """The cursor of a page that ends with its last move."""
    return Cursor(signature=moves[-1].signature, slot=moves[-1].slot, balance=moves[-1].post)


async def record(deposits: Deposits, moves: Sequence[Move], *, set_aside_min: int = 0) -> PageOutcome:
    return await deposits.record_page(VAULT, moves, cursor=cursor_at(moves), set_aside_min=set_aside_min)


async def catch_up(deposits: Deposits, history: History, *, opening: int | None = None, set_aside_min: int = 0) -> None:
    """Do what a watcher does: open the vault, and record everything behind the cursor."""
    cursor = await deposits.open_vault(VAULT, opening=opening)
    while moves := history.behind(cursor, at_most=7):
        cursor = (await record(deposits, moves, set_aside_min=set_aside_min)).cursor
