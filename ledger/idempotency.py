"""Idempotency keys of clients: each is taken once, bound to what it was sent with, and keeps the first answer for 35 days.

A claim is taken in Postgres before the events are charged, and says under which request id that is done. Whoever meets a claim
without an answer whose owner has had its time finds out from the books whether that request was recorded: the shard first
sees to it that a slow owner cannot record it any more, then the journal is read up to there. Only then is the claim taken
over, under a new id. So a crash at any point leaves either a recorded request, whose answer is made again from the journal,
or one that never happened and never will.

A database that is restored from a backup has lost claims. What was charged under them is still in the outbox, with their
digests, and posting it brings them back; so no connection takes claims of a shard before it has seen that posted.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ledger.changes import wait_posted
from ledger.entries import AccountId, RequestId
from ledger.errors import JournalUnavailable, LedgerError, ShardClosed
from ledger.ingest import Ingest
from ledger.ingest_values import IngestKey
from ledger.journal import ACQUIRE_SECONDS_MAX, Connection, Pool, journal_answers, shards_with_claims
from ledger.queries import SQL
from ledger.usage_record import WHOLE_REQUEST, ClaimMark, UsageRecord

__all__ = ["WHOLE_REQUEST", "Busy", "ClaimState", "Claims", "Conflict", "Fresh", "Known", "Recorded", "Taken", "Wanted", "wanted_claim"]

LEASE_SECONDS: Final = 10.0  # longer than any request takes; shorter would only ask the books more often
POSTED_SECONDS_MAX: Final = 2.0
KEY_LENGTH_MAX: Final = 255


@dataclass(frozen=True, slots=True)
class Wanted:
    """A key as a request brings it: digests of key and body, and the event that it is of (WHOLE_REQUEST: all of them)."""

    key_sha256: bytes
    body_sha256: bytes
    line: int = WHOLE_REQUEST


@dataclass(frozen=True, slots=True)
class Fresh:
    """The caller has the claim now: it charges, then answers or releases it."""


@dataclass(frozen=True, slots=True)
class Known:
    """The key was answered before, with this text."""

    answer: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """The key's request was recorded, but never answered: `record` is of the request, `line` the event in it (or WHOLE_REQUEST).

    The answer that is made of it may be kept with `Claims.answer` under the record's request id.
    """

    record: UsageRecord
    line: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """The key was sent before with something else."""


@dataclass(frozen=True, slots=True)
class Busy:
    """The key's request is being worked on; ask again."""


type ClaimState = Fresh | Known | Recorded | Conflict | Busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of the keys of a request, in their order. What is charged names `marks` and `epoch` to `Ingest.charge_usage`."""

    request_id: RequestId
    epoch: int
    states: tuple[ClaimState, ...]
    marks: tuple[ClaimMark, ...]


def wanted_claim(key: str, body: bytes, *, line: int = WHOLE_REQUEST) -> Wanted:
    """Return what is kept of a key and of the body that it is bound to. A header's key and an event's are different things.

    Raises:
        ValueError: it is not a key of 1 to 255 printable characters.
    """
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isprintable():
        raise ValueError(f"an idempotency key is 1 to {KEY_LENGTH_MAX} printable characters")
    kind = "request" if line == WHOLE_REQUEST else "event"
    return Wanted(hashlib.sha256(f"{kind}:{key}".encode()).digest(), hashlib.sha256(body).digest(), line)


class Claims:
    """The idempotency keys of all accounts. Any method raises JournalUnavailable where Postgres does not answer."""

    def __init__(self, pool: Pool, ingest: Ingest) -> None:
        self._pool, self._ingest = pool, ingest

    async def take(self, key: IngestKey, request_id: RequestId, wanted: Sequence[Wanted]) -> Taken:
        """Take the claims of a request, all that are free; no two of `wanted` may have the same key.

        Raises:
            ShardClosed, BalanceUnavailable, NotPostedYet, JournalUnavailable: it cannot be told what became of an older claim; ask again.
        """
        valid_until = time.monotonic() + LEASE_SECONDS
        try:
            epoch, states = await self._take(key, request_id, wanted)
            stale = {index: state for index, state in states.items() if isinstance(state, _Stale)}
            if stale:
                states |= await self._resolve(key, request_id, wanted, stale)
        except LedgerError:
            with suppress(JournalUnavailable):
                await self.release(key.account, request_id, wanted)  # what was taken before it; else it is found to be free later
            raise
        final = [states[index] for index in range(len(wanted))]
        marks = [
            ClaimMark(key_sha256=one.key_sha256, body_sha256=one.body_sha256, line=one.line, valid_until=valid_until)
            for one, state in zip(wanted, final, strict=True)
            if state == Fresh()
        ]
        return Taken(request_id=request_id, epoch=epoch, states=tuple(_settled(state) for state in final), marks=tuple(marks))

    async def answer(self, account: AccountId, request_id: RequestId, answers: Mapping[bytes, str]) -> None:
        """Keep first answers by the digest of their key; later repeats get them. What is not kept can be made again from the journal."""
        async with journal_answers():
            await self._pool.execute(SQL["answer_claims"], account, request_id, list(answers), list(answers.values()))

    async def release(self, account: AccountId, request_id: RequestId, wanted: Sequence[Wanted]) -> None:
        """Give claims of a request back of which nothing was recorded, for certain: their keys may be used again."""
        async with journal_answers():
            await self._pool.execute(SQL["release_claims"], account, request_id, [one.key_sha256 for one in wanted])

    async def _take(self, key: IngestKey, request_id: RequestId, wanted: Sequence[Wanted]) -> tuple[int, dict[int, "ClaimState | _Stale"]]:
        """Insert what is new and read what is not; return the shard's epoch and the states.

        A claim that goes away in between is busy: its owner has just released it.
        """
        digests = [one.key_sha256 for one in wanted]
        bodies, lines = [one.body_sha256 for one in wanted], [one.line for one in wanted]
        async with journal_answers(), self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX) as connection:
            epoch, answer = await self._ingest.balances.run_in("last_claim", key.shard)
            present = (key.shard, epoch, int(answer[2]), int(answer[3]))
            if key.shard not in shards_with_claims(connection):
                await _wait_for_claims(connection, key.shard, epoch=epoch, seq=int(answer[4]))
            rows = await connection.fetch(SQL["take_claims"], key.account, request_id, digests, bodies, lines, *present)
            taken = {bytes(row["key_sha256"]) for row in rows}
            if len(taken) == len(wanted):
                return epoch, {index: Fresh() for index in range(len(wanted))}
            if not await connection.fetchval(SQL["is_current"], *present):
                raise ShardClosed(key.shard)
            found = await _read(connection, key.account, [digest for digest in digests if digest not in taken])
        return epoch, {index: Fresh() if one.key_sha256 in taken else _state(one, found.get(one.key_sha256)) for index, one in enumerate(wanted)}

    async def _resolve(
        self, key: IngestKey, request_id: RequestId, wanted: Sequence[Wanted], stale: Mapping[int, "_Stale"]
    ) -> dict[int, "ClaimState | _Stale"]:
        """Find out what became of requests that nobody answers for any more; take over those that never happened."""
        records = {old: await self._ingest.is_recorded(key, old) for old in {state.request_id for state in stale.values()}}
        states: dict[int, ClaimState | _Stale] = {}
        for index, state in stale.items():
            record = records[state.request_id]
            if record is not None and (state.line == WHOLE_REQUEST or state.line in {item.line for item in record.items}):
                states[index] = Recorded(record, state.line)
        free = {wanted[index].key_sha256: (index, state) for index, state in stale.items() if index not in states}
        if free:
            async with journal_answers():
                rows = await self._pool.fetch(
                    SQL["take_over_claims"], key.account, request_id, list(free), [state.request_id for _, state in free.values()],
                    [wanted[index].line for index, _ in free.values()],
                )  # fmt: skip
            taken = {bytes(row["key_sha256"]) for row in rows}
            states |= {index: Fresh() if digest in taken else Busy() for digest, (index, _) in free.items()}
        return states


@dataclass(frozen=True, slots=True)
class _Stale:
    """A claim without an answer whose owner has had its time."""

    request_id: RequestId
    line: int


@dataclass(frozen=True, slots=True)
class _Row:
    body_sha256: bytes
    request_id: RequestId
    line: int
    answer: str | None
    in_flight: bool


async def _wait_for_claims(connection: Connection, shard: int, *, epoch: int, seq: int) -> None:
    """See to it that this connection's database has the claims of all that the shard has charged: a restored one gets them by posting it."""
    await wait_posted(connection, shard, epoch=epoch, seq=seq, seconds_max=POSTED_SECONDS_MAX)
    position = await connection.fetchrow(SQL["posted_position"], shard)
    if position["epoch"] != epoch or position["posted_seq"] < seq:
        raise ShardClosed(shard)
    shards_with_claims(connection).add(shard)


async def _read(connection: Connection, account: AccountId, digests: Sequence[bytes]) -> dict[bytes, _Row]:
    if not digests:
        return {}
    rows = await connection.fetch(SQL["read_claims"], account, digests, LEASE_SECONDS)
    return {
        bytes(row["key_sha256"]): _Row(bytes(row["body_sha256"]), RequestId(row["request_id"]), row["line"], row["answer"], row["in_flight"]) for row in rows
    }


def _state(wanted: Wanted, row: _Row | None) -> "ClaimState | _Stale":
    if row is None:
        return Busy()
    if row.body_sha256 != wanted.body_sha256:
        return Conflict()
    if row.answer is not None:
        return Known(row.answer)
    return Busy() if row.in_flight else _Stale(row.request_id, row.line)


def _settled(state: "ClaimState | _Stale") -> ClaimState:
    return Busy() if isinstance(state, _Stale) else state
