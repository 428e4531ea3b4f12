"""Recording what happened to the vault on chain: a page of moves, its journal rows and the cursor, in one transaction."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from ledger.base58 import KEY_BYTES, decode_exactly
from ledger.deposit_values import Cursor, Move, PageOutcome, Vault, deposit_key
from ledger.entries import HOUSE_SHARD
from ledger.errors import BrokenInvariant, NoVault
from ledger.journal import Connection, JournalWriter, journal_answers, journal_transaction, lock_shards, now_ms
from ledger.moments import moment
from ledger.postings import DRAWINGS, UNATTRIBUTED, VAULT, Legs, Transaction, key_digest
from ledger.queries import SQL
from ledger.vault_chain import continue_vault
from ledger.vault_link import VaultLink, read_cursor, require_all_current

BALANCE_END: Final = 2**63  # of Postgres's numbers; no supply of a token with six decimals comes near
BLOCK_TIME_END: Final = 2**37  # seconds; beyond what a date can say, whoever claims it


class VaultPages(VaultLink):
    """Recording pages, and who is meant by what they name."""

    async def find_references(self, keys: Collection[str]) -> dict[str, str]:
        """Return, of these keys in base58, those that are an account's Solana Pay reference, each with its deposit code.

        Raises:
            ValueError: a key is not base58.
        """
        names = {decode_exactly(key, KEY_BYTES): key for key in keys}
        async with journal_answers():
            rows = await self._pool.fetch(SQL["codes_by_reference"], list(names))
        return {names[row["reference"]]: row["deposit_code"] for row in rows}

    async def known_moves(self, vault: Vault, signatures: Collection[str]) -> set[str]:
        """Return those of these transactions whose moves are recorded."""
        async with journal_answers():
            rows = await self._pool.fetch(SQL["known_moves"], vault.genesis, vault.address, list(signatures))
        return {row["signature"] for row in rows}

    async def record_page(self, vault: Vault, moves: Sequence[Move], *, cursor: Cursor, set_aside_min: int) -> PageOutcome:
        """Record moves in chain order and the cursor behind them, in one transaction; what is known is skipped, so repeating is harmless.

        The page begins at the recorded cursor, or earlier with moves that are known. Arrivals below `set_aside_min` microunits that
        name no account are dust: in the journal by their sum, and no deposits. Any number of watchers may record at once.

        Raises:
            VaultDiffers: a move does not begin with the balance before it, or is recorded with another one. Read the cursor again;
                if it stays, the history that was read has a hole or a lie in it.
            NoVault: it was never opened, or Postgres is older than that: open it again.
            JournalUnavailable: also while a restored journal is brought up to date.
        """
        hot = await self._glance()
        async with journal_transaction(self._pool) as connection:
            positions = await lock_shards(connection, [HOUSE_SHARD])
            await require_all_current(connection, hot)
            row = await connection.fetchrow(SQL["lock_vault"], vault.genesis, vault.address)
            if row is None:
                raise NoVault(f"vault {vault.address} was never opened in these books")
            known = await connection.fetch(SQL["known_moves"], vault.genesis, vault.address, [move.signature for move in moves])
            balances = {stored["signature"]: (stored["pre"], stored["post"]) for stored in known}
            new, reached = continue_vault(moves, balances, at=read_cursor(row), cursor=cursor)
            page = _Page(vault, JournalWriter(connection, positions, {}), row, set_aside_min)
            await page.record(new, cursor=reached)
        return page.outcome(new, known=len(known), cursor=reached)


@dataclass(slots=True)
class _Page:
    """One page while its transaction is open: the house shard and the vault are locked."""

    vault: Vault
    writer: JournalWriter
    row: Any
    set_aside_min: int
    at: int = field(default_factory=now_ms)
    states: list[str] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        return self.writer.connection

    async def record(self, new: Sequence[Move], *, cursor: Cursor) -> None:
        """Write everything that a page is: journal rows, moves, deposits, the vault's balance and the cursor."""
        self._open()
        owners, found = await self._owners(new), await self._credits(new)
        fates = [(move, _fate(move, owners, found.get(self._deposit_key(move)))) for move in new]
        dust = [move for move, fate in fates if self._is_dust(move, fate)]
        dust_seq = self._add_dust(dust) if dust else 0
        moves, deposits = [], []
        for move, fate in fates:
            if self._is_dust(move, fate):
                kind, seq = "dust", dust_seq
            else:
                kind, seq = ("arrival" if move.amount > 0 else "withdrawal"), self._add_move(move)
            moves.append((*self._name(move), move.slot, _block_time(move), move.pre, move.post, kind, seq))
            if kind == "arrival":
                deposits.append((*self._name(move), move.slot, move.amount, _block_time(move), list(move.senders), move.naming.deposit_code, *fate.columns))
            self.states.append(fate.state if kind == "arrival" else kind)
        await self.writer.flush()
        if moves:
            await self.connection.copy_records_to_table("vault_moves", records=moves, columns=_MOVE_COLUMNS)
        if deposits:
            await self.connection.copy_records_to_table("deposits", records=deposits, columns=_DEPOSIT_COLUMNS)
        await self._move_vault(new, cursor)

    def outcome(self, new: Sequence[Move], *, known: int, cursor: Cursor) -> PageOutcome:
        return PageOutcome(
            recorded=len(new), known=known, cursor=cursor,
            arrived=sum(move.amount for move in new if move.amount > 0), withdrawn=-sum(move.amount for move in new if move.amount < 0),
            due=self.states.count("due"), aside=self.states.count("aside"), credited=self.states.count("credited"), dust=self.states.count("dust"),
        )  # fmt: skip

    def _open(self) -> None:
        """Put the opening into the journal with the first page: until then nothing was taken on it."""
        if not self.row["opened"] and self.row["opening"]:
            opening = self.row["opening"]
            legs = ((VAULT, opening), (DRAWINGS, -opening))
            self._add("opening", f"opening:{self.vault.genesis}:{self.vault.address}", legs, {"balance": opening})

    async def _owners(self, new: Sequence[Move]) -> Mapping[str, tuple[int, str]]:
        codes = {move.naming.deposit_code for move in new if move.amount > 0 and move.naming.deposit_code is not None}
        rows = await self.connection.fetch(SQL["accounts_by_code"], list(codes)) if codes else []
        return {row["deposit_code"]: (row["id"], row["status"]) for row in rows}

    async def _credits(self, new: Sequence[Move]) -> Mapping[str, Any]:
        """Find credits that the journal has already: it was restored, and has them again from the outbox."""
        digests = [key_digest(self._deposit_key(move)) for move in new if move.amount > 0]
        rows = await self.connection.fetch(SQL["journal_by_key"], digests) if digests else []
        return {row["key"]: row for row in rows}

    def _deposit_key(self, move: Move) -> str:
        return deposit_key(self.vault.genesis, move.signature, self.vault.address)

    def _name(self, move: Move) -> tuple[str, str, str]:
        return (self.vault.genesis, move.signature, self.vault.address)

    def _is_dust(self, move: Move, fate: "_Fate") -> bool:
        return 0 < move.amount < self.set_aside_min and fate.state == "aside" and fate.aside != "closed_account"

    def _add_move(self, move: Move) -> int:
        if not (0 <= move.pre < BALANCE_END and 0 <= move.post < BALANCE_END):
            raise BrokenInvariant(f"the vault's balance of {move.post} microunits after {move.signature} is beyond what the books can hold")
        kind = "arrival" if move.amount > 0 else "withdrawal"
        legs = ((VAULT, move.amount), (UNATTRIBUTED, -move.amount)) if move.amount > 0 else ((DRAWINGS, -move.amount), (VAULT, move.amount))
        detail = {"signature": move.signature, "slot": move.slot, "pre": move.pre, "post": move.post, "senders": list(move.senders)}
        return self._add(kind, f"{kind}:{self.vault.genesis}:{move.signature}:{self.vault.address}", legs, detail, occurred=move.block_time)

    def _add_dust(self, dust: Sequence[Move]) -> int:
        amount = sum(move.amount for move in dust)
        key = f"dust:{self.vault.genesis}:{dust[0].signature}:{self.vault.address}"  # no move is recorded twice, so no page begins with it again
        return self._add("dust", key, ((VAULT, amount), (UNATTRIBUTED, -amount)), {"signatures": [move.signature for move in dust]})

    def _add(self, kind: str, key: str, legs: Legs, detail: Mapping[str, object], *, occurred: int | None = None) -> int:
        whole = {"kind": kind, "created_at": self.at, "genesis": self.vault.genesis, "vault": self.vault.address, **detail}
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        happened = occurred * 1000 if occurred is not None and 0 <= occurred < BLOCK_TIME_END else self.at
        return self.writer.add_transaction(
            HOUSE_SHARD, Transaction(kind=kind, key=key, account=None, legs=legs, occurred_at=happened, settled_at=self.at, detail=text)
        )  # fmt: skip

    async def _move_vault(self, new: Sequence[Move], cursor: Cursor) -> None:
        row = self.row
        balance = (row["balance"] if row["opened"] else row["opening"]) + sum(move.amount for move in new)
        start = (row["start_signature"], row["start_slot"])
        if not row["opened"] and not row["whole_history"] and not new:
            start = (cursor.signature, cursor.slot)  # what was before the opening is never read, also not by a rewound watcher
        await self.connection.execute(
            SQL["move_vault"], self.vault.genesis, self.vault.address, balance, cursor.signature, cursor.slot, cursor.balance, *start
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Fate:
    """What becomes of an arrival: its state, why it is set aside, and to whom, by what, whose decision and when it was credited."""

    state: str
    source: str
    aside: str = ""
    account: int | None = None
    actor: str = "chainwatch"
    credited_at: datetime | None = None

    @property
    def columns(self) -> tuple[object, ...]:
        return (self.source, self.aside, self.actor, self.account, self.state, self.credited_at)


def _fate(move: Move, owners: Mapping[str, tuple[int, str]], credit: Any) -> _Fate:
    naming = move.naming
    if credit is not None:
        detail = json.loads(credit["detail"])
        return _Fate("credited", detail["source"], account=credit["account_id"], actor=detail["actor"], credited_at=credit["settled_at"])
    if naming.deposit_code is None:
        return _Fate("aside", naming.source, naming.aside or "no_code")
    account, status = owners.get(naming.deposit_code, (None, ""))
    if account is None:
        return _Fate("aside", naming.source, "unknown_code")
    if status == "closed":
        return _Fate("aside", naming.source, "closed_account")
    return _Fate("due", naming.source, account=account)


def _block_time(move: Move) -> datetime | None:
    time = move.block_time
    return moment(time * 1000) if time is not None and 0 <= time < BLOCK_TIME_END else None


_MOVE_COLUMNS: Final = ("genesis", "signature", "vault", "slot", "block_time", "pre", "post", "kind", "journal_seq")
_DEPOSIT_COLUMNS: Final = (
    "genesis", "signature", "vault", "slot", "amount", "block_time", "senders", "deposit_code",
    "source", "aside", "actor", "account_id", "state", "credited_at",
)  # fmt: skip
