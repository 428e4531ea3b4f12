"""`POST /v1/usage`: usage that happened elsewhere, charged to the account of an ingest key.

The order of checks is the peer's: key, rate, size, JSON, count, every event, and only then the books. On the way that nearly all
requests take, the script that records also looks at the key; a request that is refused before it gets there is answered 401 first
where its key is none.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from starlette.types import Receive

from config.settings import Settings
from control.ingest_answers import Answer, error_answer
from control.ingest_body import Arrival, BodyRefused, read_usage_body
from control.ingest_once import IN_FLIGHT, record_once
from control.ingest_reading import KEY_LENGTH_MAX, BadEvents, Reported, is_idempotency_key, read_events
from control.ingest_recording import NothingRecorded, UsageRecorder, record_usage
from control.key_buckets import KeyBuckets
from ledger.entries import RequestId
from ledger.errors import (
    AccountExhausted,
    BalanceUnavailable,
    InactiveAccount,
    JournalUnavailable,
    LedgerError,
    NotPostedYet,
    RequestEnded,
    UnknownKey,
)
from ledger.idempotency import Claims
from ledger.ingest import Ingest
from ledger.ingest_values import BudgetUse, IngestKey, IngestPolicy
from ledger.keys import parse_key
from ledger.workspaces import Workspaces
from metering.rate_cards import RateCard
from metering.reported import ReportedPricer
from telemetry.logs import get_log

UNKNOWN_KEY: Final = "invalid or missing API key"
TOO_MANY: Final = "rate limit exceeded — slow down"
BUSY: Final = "temporarily busy, retry shortly"
CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
RETRY: Final = {"Retry-After": "1"}
PARTIAL: Final = {"Preference-Applied": "partial"}

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageDoor:
    """Everything that reported usage needs, opened once."""

    recorder: UsageRecorder
    buckets: KeyBuckets
    body_bytes_max: int
    late_days_max: int


def make_door(settings: Settings, card: RateCard, *, ingest: Ingest, claims: Claims, workspaces: Workspaces, budgets: Mapping[str, BudgetUse]) -> UsageDoor:
    """Return the door that these settings describe."""
    wanted, pricing = settings.ingest, settings.pricing
    recorder = UsageRecorder(
        ingest=ingest,
        claims=claims,
        workspaces=workspaces,
        pricer=ReportedPricer(card, with_markup=wanted.markup),
        policy=IngestPolicy(
            block_over_balance=pricing.block_over_balance,
            block_over_free_limit=pricing.block_over_free_limit,
            tracked_limits=settings.tiers.tracked_limits,
            outbox_max=settings.ledger.outbox_max,
        ),
        workspace_caps=settings.tiers.workspace_caps,
        refuse_workspaces=wanted.workspace_overflow == "refuse",
        upgrade_url=pricing.upgrade_url or f"{settings.origin}/pricing",
        budgets=budgets,
    )
    return UsageDoor(recorder=recorder, buckets=KeyBuckets(wanted.rate_per_minute), body_bytes_max=wanted.body_bytes_max, late_days_max=wanted.late_days_max)


def bearer_key(authorization: bytes | None) -> IngestKey | None:
    """Return the ingest key of an Authorization header, None where it has none that could be one."""
    scheme, _, credential = (authorization or b"").strip().partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    try:
        return parse_key(credential.strip().decode("ascii", "replace"))
    except UnknownKey:
        return None


async def answer_usage(door: UsageDoor, headers: Headers, receive: Receive, *, request_id: RequestId, arrival: Arrival) -> Answer:
    """Record what a request reports, and answer it. The caller sees to it that it does not take for ever.

    Raises:
        ClientGone: there is nobody to answer; nothing was recorded.
    """
    key = bearer_key(headers.get(b"authorization"))
    if key is None:
        return unknown_key()
    seconds = door.buckets.take(key.digest, time.monotonic())
    if seconds > 0:
        return await _refuse(door, key, error_answer(429, TOO_MANY, headers={"Retry-After": str(ceil(seconds))}))
    try:
        length, encoding = headers.get(b"content-length"), headers.get(b"content-encoding")
        body = await read_usage_body(receive, length=length, encoding=encoding, bytes_max=door.body_bytes_max)
        arrival.complete = True
        partial = b"partial" in headers.get(b"prefer", b"").lower()
        now_ms = time.time_ns() // 1_000_000
        reported = read_events(body, now_ms=now_ms, late_days_max=door.late_days_max, partial=partial)
        own_key = _own_key(headers.get(b"idempotency-key"))
    except BodyRefused as refusal:
        return await _refuse(door, key, error_answer(refusal.status, refusal.text, headers={"Connection": "close"} if refusal.is_cut else {}))
    except BadEvents as bad:
        return await _refuse(door, key, _bad_answer(bad))
    try:
        answer = await _record(door, key, reported, request_id=request_id, now_ms=now_ms, own_key=own_key)
    except BadEvents as bad:
        return _bad_answer(bad)
    except LedgerError as error:
        return _ledger_answer(door, key, error)
    return Answer(answer.status, answer.body, {**answer.headers, **PARTIAL}) if partial else answer


async def _record(door: UsageDoor, key: IngestKey, reported: Reported, *, request_id: RequestId, now_ms: int, own_key: str | None) -> Answer:
    try:
        if own_key is not None or any(event.idempotency_key is not None for event in reported.events.values()):
            return await record_once(door.recorder, key, reported, request_id=request_id, now_ms=now_ms, own_key=own_key)
        return await record_usage(door.recorder, key, reported, request_id=request_id, now_ms=now_ms)
    except NothingRecorded as refusal:
        raise refusal.cause from None


def unknown_key() -> Answer:
    """Return the answer to a key that is none, or not any more."""
    return error_answer(401, UNKNOWN_KEY, headers=CHALLENGE)


def _own_key(header: bytes | None) -> str | None:
    """Return the request's own idempotency key; blanks around it, and nothing but blanks, are no key."""
    text = (header or b"").strip().decode("latin-1")
    if text and not is_idempotency_key(text):
        raise BadEvents(f"Idempotency-Key must be 1 to {KEY_LENGTH_MAX} visible ASCII characters")
    return text or None


async def _refuse(door: UsageDoor, key: IngestKey, answer: Answer) -> Answer:
    """Answer a refusal, but only to one whose key is good."""
    try:
        await door.recorder.ingest.read_standing(key)
    except LedgerError as error:
        return _ledger_answer(door, key, error)
    return answer


def _bad_answer(bad: BadEvents) -> Answer:
    return error_answer(
        bad.status,
        bad.text,
        headers=RETRY if bad.status == 409 and bad.text.endswith(IN_FLIGHT) else {},
        details={name: value for name, value in (("event", bad.event), ("field", bad.field)) if value is not None},
    )


def _ledger_answer(door: UsageDoor, key: IngestKey, error: LedgerError) -> Answer:
    """Say a failure of the books in the shape of this door.

    Raises:
        LedgerError: it is none that was to be expected.
    """
    match error:
        case UnknownKey():
            door.buckets.forget(key.digest)
            return unknown_key()
        case InactiveAccount(reason=reason):
            return error_answer(401, f"{UNKNOWN_KEY}: its account is {reason}", headers=CHALLENGE)
        case AccountExhausted():
            return error_answer(402, "the account is too far below zero to take more usage", details={"upgrade_url": door.recorder.upgrade_url})
        case BalanceUnavailable() | JournalUnavailable() | NotPostedYet() | RequestEnded():
            get_log().warning("usage_unavailable", kind=type(error).__name__, reason=str(error))
            return error_answer(503, BUSY, headers=RETRY)
    raise error
