"""One reading of the vault: everything beyond the cursor, by one provider's list, recorded page by page and proven at the end.

A page is recorded only as far as its balances join, without the slot right before a breach. Rows behind the last move are passed over
for good only when the vault's balance shows that none of them was a move, since a provider may hide one, or call it failed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from chainwatch.calls import Row
from chainwatch.errors import ChainBroken
from chainwatch.fetching import Fetched, Fetcher
from chainwatch.joining import join
from chainwatch.naming import NamingRules
from chainwatch.paging import Walk, chunks, walk_back
from chainwatch.providers import Provider
from config.chain import ChainSettings
from ledger.deposit_values import Cursor, Move, Vault
from ledger.deposits import Deposits

log = structlog.get_logger("chainwatch")

NOTHING: Final = -1  # a slot below all: nothing can be said of any


@dataclass(slots=True, kw_only=True)
class Proof:
    """The vault on chain at certain slots as providers tell it, and what the moves that were read say it was then.

    `told` has a slot and microunits by provider. Nothing can be said of slots before `since`, where `start` was the balance, nor of
    those beyond `until`, up to which the list was whole.
    """

    told: Mapping[Provider, tuple[int, int]]
    since: int
    until: int
    start: int
    _ends: dict[int, int] = field(default_factory=dict)

    def note(self, moves: Sequence[Fetched]) -> None:
        """Take in the moves that came next; only the balance at each told slot is kept of them."""
        for slot, _ in self.told.values():
            ends = [move.post for move in moves if move.slot <= slot]
            if ends:
                self._ends[slot] = ends[-1]

    def differences(self) -> dict[Provider, int]:
        """Return the vault on chain less the vault by its moves, in microunits, by provider, where both can be said of one slot."""
        comparable = {provider: one for provider, one in self.told.items() if self.since <= one[0] <= self.until}
        return {provider: microunits - self._ends.get(slot, self.start) for provider, (slot, microunits) in comparable.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Patch:
    """What blocks say of the slots from the cursor's to `until`, in place of lists that have a hole there."""

    until: int
    rows: tuple[Row, ...]


class VaultReader:
    """Reads one vault into the ledger. `after_page` is awaited between pages; `backlog` is what is listed and not read yet."""

    def __init__(self, deposits: Deposits, fetcher: Fetcher, vault: Vault, *, settings: ChainSettings, after_page: Callable[[], Awaitable[None]]) -> None:
        self._deposits, self._fetcher, self._vault, self._after_page = deposits, fetcher, vault, after_page
        self._set_aside_min, self._naming = settings.set_aside_min, NamingRules.of(settings, vault)
        self.backlog = 0

    async def read(self, reader: Provider, proof: Proof, *, cursor: Cursor, patch: Patch | None = None) -> Cursor:
        """Record what `reader` lists beyond `cursor`, and return the new one; `proof.until` is a slot that `reader` has finalized.

        Whether that is all there was, `proof` tells afterwards.

        Raises:
            ChainBroken, Gap, Disagreement, SecondProviderMissing, ProviderFailure: what came before it is recorded.
            VaultDiffers: another watcher was faster.
        """
        begin = cursor if patch is None else Cursor(signature=None, slot=patch.until, balance=cursor.balance)
        walk = await walk_back(reader, self._vault.address, cursor=begin, slot=proof.until)
        patched = [row for row in patch.rows if not row.failed and row.signature != cursor.signature] if patch else []
        rows = await self._without_known(patched + walk.oldest_first(), cursor)
        self.backlog, left = walk.listed, len(rows)
        for chunk in chunks(rows):
            cursor = await self._read_chunk(chunk, reader, proof, cursor=cursor)
            self.backlog, left = max(0, self.backlog - len(chunk)), left - len(chunk)
            if left:
                await self._after_page()
        return await self._finish(walk, reader, proof, cursor=cursor)

    async def _without_known(self, rows: list[Row], cursor: Cursor) -> list[Row]:
        """Leave out those of the cursor's own slot that are in the journal: providers list the rows of a slot in different orders."""
        beside = [row.signature for row in rows if row.slot == cursor.slot]
        known = await self._deposits.known_moves(self._vault, beside) if beside else set[str]()
        return [row for row in rows if row.signature not in known]

    async def _read_chunk(self, chunk: Sequence[Row], reader: Provider, proof: Proof, *, cursor: Cursor) -> Cursor:
        fetched, unfetched = await self._fetcher.fetch(chunk, reader=reader)
        joined, breach = join(cursor.balance, [one for one in fetched if one.change])
        if breach is not None:  # the lie may be on either side of it: what has no successor is as doubtful as what has no predecessor
            joined = [one for one in joined if one.slot < joined[-1].slot]
        references = await self._references(joined)
        moves, held = await self._fetcher.confirm(joined, rules=self._naming, references=references)
        broken_after = cursor.slot
        if moves:
            last = moves[-1]
            cursor = Cursor(signature=last.row.signature, slot=last.slot, balance=last.post)
            named = [self._describe(move, references) for move in moves]
            await self._deposits.record_page(self._vault, named, cursor=cursor, set_aside_min=self._set_aside_min)
            proof.note(moves)
        if held is not None:
            raise held
        if breach is not None:
            text = f"{reader.host} does not tell all that moved the vault's balance: {breach}"
            raise ChainBroken(text, after=max(broken_after, cursor.slot), until=breach.slot)
        if unfetched is not None:
            raise unfetched
        return cursor

    async def _finish(self, walk: Walk, reader: Provider, proof: Proof, *, cursor: Cursor) -> Cursor:
        """Move the cursor behind all that was read, if the vault's balance proves that nothing was missing. Else it stays at the last move."""
        if not walk.is_whole:  # the next reading goes on behind what was held; were a move hidden there, its successor would not join
            last, proof.until = walk.rows[0], NOTHING
            return await self._advance(replace(cursor, signature=last.signature, slot=last.slot)) if last.slot > cursor.slot else cursor
        difference = proof.differences().get(reader)
        self.backlog = 0
        newest = walk.newest
        if difference != 0 or newest is None or newest.slot < cursor.slot or newest.signature == cursor.signature:
            return cursor
        return await self._advance(replace(cursor, signature=newest.signature, slot=newest.slot))

    async def _advance(self, cursor: Cursor) -> Cursor:
        await self._deposits.record_page(self._vault, [], cursor=cursor, set_aside_min=self._set_aside_min)
        return cursor

    async def _references(self, moves: Sequence[Fetched]) -> Mapping[str, str]:
        """Return the deposit codes of the references among the keys of arrivals, looked up for all of them at once."""
        keys = {key for move in moves if move.post > move.pre for key in move.transaction.wire.keys}
        return await self._deposits.find_references(keys) if keys else {}

    def _describe(self, move: Fetched, references: Mapping[str, str]) -> Move:
        """Return one transaction as the ledger takes it."""
        return Move(
            signature=move.row.signature,
            slot=move.slot,
            block_time=move.transaction.block_time,
            pre=move.pre,
            post=move.post,
            senders=move.change.senders if move.change else (),
            naming=self._naming.name(move.transaction, references, amount=move.post - move.pre),
        )
