"""Usage ingest: events that others report, charged to the account of an ingest key, each request as one change of the books.

A request is recorded once, under its id: the shard remembers what became of it for longer than any repeat of a call
takes, and the journal for ever. A call that meets a shard in a new epoch asks the journal before it charges anything.
"""

import time
from collections.abc import Sequence
from typing import Final

from ledger.balances import Balances
from ledger.changes import read_open_meta, wait_posted
from ledger.entries import AccountId, RequestId
from ledger.errors import AccountExhausted, BooksUnderPressure, BrokenInvariant, InactiveAccount, LedgerError, RequestEnded, ShardClosed, UnknownKey
from ledger.ingest_groups import ChargeGroups
from ledger.ingest_outcomes import outcome_of_charged, outcome_of_record
from ledger.ingest_values import IngestKey, IngestOutcome, IngestPolicy, IngestStanding, UsageItem
from ledger.journal import Pool, journal_answers
from ledger.postings import key_digest
from ledger.queries import SQL
from ledger.usage_record import ClaimMark, UsageRecord, draft_usage

ENDED_MS: Final = 900_000  # how long it refuses one that was given up on: far longer than a call can be late
POSTED_SECONDS_MAX: Final = 5.0
EPOCHS_MAX: Final = 2


class Ingest:
    """Charges reported usage. Any method may raise BalanceUnavailable (the outcome is unknown)."""

    def __init__(self, pool: Pool, balances: Balances) -> None:
        self._pool, self._balances, self._groups = pool, balances, ChargeGroups(balances)

    @property
    def balances(self) -> Balances:
        """The hot balances that usage is charged to."""
        return self._balances

    async def read_standing(self, key: IngestKey) -> IngestStanding:
        """Return who an ingest key is and how its account stands; changes nothing.

        Raises:
            UnknownKey: the open shard has no such key, or not any more.
            InactiveAccount: the account is suspended or closed.
            BalanceUnavailable: Redis did not answer, or the shard is not open.
        """
        answer = await self._balances.run("check_key", key.shard, key.account, key.digest)
        _require_ok(answer[0].decode(), balance=answer[3])
        tier, org_id = await self._identity(key.account, answer[6].decode(), answer[7].decode())
        return IngestStanding(
            key_id=answer[8].decode(), org_id=org_id, tier=tier, tokens_mtd=answer[9], balance=answer[3], available=answer[4], funded=bool(answer[10])
        )  # fmt: skip

    async def charge_usage(
        self,
        key: IngestKey,
        request_id: RequestId,
        items: Sequence[UsageItem],
        *,
        policy: IngestPolicy,
        rate_card: str = "",
        markup: bool = False,
        claims: Sequence[ClaimMark] = (),
        epoch: int | None = None,
    ) -> IngestOutcome:
        """Record what of `items` is not refused, first come first served, and charge it: one change of the books, whatever their number.

        The same request_id gives the same outcome again. `rate_card` is the hash of what costs were estimated with. A request that
        carries idempotency keys gives their `claims`, and the `epoch` in which they were taken.

        Raises:
            UnknownKey, InactiveAccount: as in `read_standing`; nothing changed.
            AccountExhausted: the account is further below zero than the books go; nothing changed.
            RequestEnded: this id was given up on (`is_recorded`), or its claims are too old; nothing changed.
            BooksUnderPressure: Redis is filling up, or the journal is too far behind; nothing changed.
            ShardClosed, BalanceUnavailable, NotPostedYet, JournalUnavailable: the outcome is unknown; `is_recorded` finds it out.
            ValueError: an event is beyond the bounds; nothing changed.
        """
        draft = draft_usage(request_id, items, at=time.time_ns() // 1_000_000, rate_card=rate_card, markup=markup, claims=claims)
        if await self._balances.under_pressure():
            raise BooksUnderPressure("Redis is nearly full")
        if claims and any(claim.valid_until < time.monotonic() for claim in claims):
            raise RequestEnded("its claims may be another's by now")
        for attempt in range(EPOCHS_MAX):
            used = epoch or self._balances.epoch(key.shard) or (await read_open_meta(self._balances, key.shard)).epoch
            try:
                charged = await self._groups.charge(key, request_id, draft, policy=policy, epoch=used, claimed=bool(claims))
            except ShardClosed:
                if epoch is not None or attempt == EPOCHS_MAX - 1 or self._balances.epoch(key.shard) <= used:
                    raise
                # An earlier try of this very call may have been charged in the epoch that has passed.
                meta = await read_open_meta(self._balances, key.shard)
                record = await self._posted(key.shard, request_id, epoch=meta.epoch, seq=meta.seq)
                if record is not None:
                    return await self.outcome_of(key.account, record, policy=policy)
            else:
                _require_ok(charged.status, balance=charged.balance)
                tier, org_id = await self._identity(key.account, charged.tier, charged.org_id)
                return outcome_of_charged(charged, request_id, items, policy=policy, tier=tier, org_id=org_id)
        raise ShardClosed(key.shard)

    async def is_recorded(self, key: IngestKey, request_id: RequestId) -> UsageRecord | None:
        """Find out what became of a request, and see to it that it is not recorded from now on if it was not before.

        Raises:
            ShardClosed, BalanceUnavailable, NotPostedYet, JournalUnavailable: it cannot be told now; ask again.
        """
        epoch, answer = await self._balances.run_in("end_usage", key.shard, request_id, ENDED_MS)
        return await self._posted(key.shard, request_id, epoch=epoch, seq=answer[1])

    async def outcome_of(self, account: AccountId, record: UsageRecord, *, policy: IngestPolicy) -> IngestOutcome:
        """Return the outcome of a request out of the journal: what its caller was told, or would have been.

        Raises:
            JournalUnavailable: Postgres did not answer.
        """
        tier, org_id = await self._identity(account, "", "")
        return outcome_of_record(record, policy=policy, tier=tier, org_id=org_id)

    async def _posted(self, shard: int, request_id: RequestId, *, epoch: int, seq: int) -> UsageRecord | None:
        """Look a request up in the journal, once that has all which the shard had taken at `seq` of `epoch`."""
        await wait_posted(self._pool, shard, epoch=epoch, seq=seq, seconds_max=POSTED_SECONDS_MAX)
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["usage_at"], shard, key_digest(f"usage:{request_id}"))
        if row["epoch"] != epoch or row["posted_seq"] < seq:
            raise ShardClosed(shard)  # a rebuild has begun, or the journal was restored: the outbox may have more to post
        return UsageRecord.from_json(row["detail"]) if row["detail"] is not None else None

    async def _identity(self, account: AccountId, tier: str, org_id: str) -> tuple[str, str]:
        """Complete what the shard does not say of an account; it does since its last rebuild."""
        if tier and org_id:
            return tier, org_id
        async with journal_answers():
            row = await self._pool.fetchrow(SQL["account_tier"], account)
        return row["tier"], row["public_id"]


def _require_ok(status: str, *, balance: int) -> None:
    if status not in ("ok", "duplicate"):
        raise _refusal(status, balance=balance)


def _refusal(status: str, *, balance: int) -> LedgerError:
    match status:
        case "unknown_key":
            return UnknownKey("unknown")
        case "suspended":
            return InactiveAccount(status)
        case "closed_account":
            return InactiveAccount("closed")
        case "pressure":
            return BooksUnderPressure("the journal is too far behind")
        case "ended":
            return RequestEnded("the request was given up on")
        case "exhausted":
            return AccountExhausted(balance)
        case _:
            return BrokenInvariant(f"a script of ingest answered {status}")
