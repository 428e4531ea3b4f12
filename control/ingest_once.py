"""Requests that bring idempotency keys, in the `Idempotency-Key` header or in their events: recorded once, answered as often as asked.

A key is burnt only by what it recorded: what was refused may be sent again under the same key, after a top-up for instance. It is
bound to the content, not to the bytes: another order of fields or another packing is the same request.
"""

from collections.abc import Sequence
from typing import Final

from control.ingest_answers import REPLAYED, Answer, Result, result_text, usage_answer
from control.ingest_reading import BadEvents, Reported
from control.ingest_recording import NothingRecorded, PricedUsage, UsageRecorder, charge_items, count_events, price_usage
from ledger.entries import RequestId
from ledger.errors import JournalUnavailable
from ledger.idempotency import WHOLE_REQUEST, Busy, ClaimState, Conflict, Fresh, Known, Recorded, Taken, Wanted, wanted_claim
from ledger.ingest_values import IngestKey, IngestOutcome, IngestStanding
from ledger.usage_record import UsageRecord
from telemetry.logs import get_log

IN_FLIGHT: Final = "is still in progress"
REPLAY_HEADERS: Final = {"Idempotent-Replayed": "true"}


async def record_once(recorder: UsageRecorder, key: IngestKey, reported: Reported, *, request_id: RequestId, now_ms: int, own_key: str | None) -> Answer:
    """Record the events of one request whose keys are new, and repeat the first answer for the others.

    Raises:
        BadEvents: as in `record_usage`; 409 where a key stands for something else or is being worked on.
        NothingRecorded: as in `charge_items`; its keys are free again.
        LedgerError: the books did not take it; whether they may have, the error says.
    """
    # Anybody can make up a key of this account: one that is none must not take a claim.
    standing = await recorder.ingest.read_standing(key)
    priced = await price_usage(recorder, key, reported, now_ms=now_ms)
    wanted = _wanted(reported, own_key)
    once = _Once(recorder, key, reported, priced, standing, wanted, await recorder.claims.take(key, request_id, wanted))
    try:
        return await once.answer()
    except (BadEvents, NothingRecorded):
        await once.release(once.fresh)
        raise


def _wanted(reported: Reported, own_key: str | None) -> list[Wanted]:
    """Return the request's keys, its own first."""
    wanted = [] if own_key is None else [wanted_claim(own_key, reported.canonical().encode())]
    lines: dict[str, int] = {}
    for number, event in reported.events.items():
        if event.idempotency_key is None:
            continue
        first = lines.setdefault(event.idempotency_key, number)
        if first != number:
            raise BadEvents(f"event {number}: its idempotency_key is that of event {first}", event=number, field="idempotency_key")
        wanted.append(wanted_claim(event.idempotency_key, event.canonical().encode(), line=number))
    return wanted


class _Once:
    """One request with keys, while it is answered."""

    def __init__(
        self,
        recorder: UsageRecorder,
        key: IngestKey,
        reported: Reported,
        priced: PricedUsage,
        standing: IngestStanding,
        wanted: Sequence[Wanted],
        taken: Taken,
    ) -> None:
        self._recorder, self._key, self._reported, self._priced = recorder, key, reported, priced
        self._standing, self._taken = standing, taken
        self._states = list(zip(wanted, taken.states, strict=True))
        self.fresh = [one for one, state in self._states if isinstance(state, Fresh)]

    async def answer(self) -> Answer:
        """Repeat what is known, record the rest, and keep what may be asked for again."""
        whole = next((state for one, state in self._states if one.line == WHOLE_REQUEST), None)
        if isinstance(whole, Known):
            await self.release(self.fresh)
            return Answer(200, f"{whole.answer[:-1]},{REPLAYED}}}", REPLAY_HEADERS)
        if isinstance(whole, Conflict | Busy):
            raise BadEvents(_refusal(whole, "a request with this Idempotency-Key", "request"), status=409)
        for one, state in self._states:
            if one.line != WHOLE_REQUEST:
                await self._look_at_event(one.line, state)
        if isinstance(whole, Recorded):
            return await self._answer_again(whole.record)
        return await self._record()

    async def release(self, wanted: Sequence[Wanted]) -> None:
        """Give keys back under which nothing was recorded. Where that fails they are found to be free when they are next asked for."""
        if wanted:
            try:
                await self._recorder.claims.release(self._key.account, self._taken.request_id, wanted)
            except JournalUnavailable as error:
                get_log().warning("claims_not_released", reason=str(error))

    async def _look_at_event(self, line: int, state: ClaimState) -> None:
        result = self._priced.results[line]
        match state:
            case Known(answer=text):
                result.earlier = text
            case Recorded(record=record, line=first):
                outcome = await self._recorder.ingest.outcome_of(self._key.account, record, policy=self._recorder.policy)
                # It may stand at another place in this request than in the one that recorded it.
                found = _recorded_results(record, outcome)[first]
                found.folded = result.folded
                result.earlier = result_text(found, outcome.balance)
            case Conflict() | Busy():
                text = _refusal(state, "an event with this idempotency_key", "event")
                self._reported.leave_out([line], field="idempotency_key", text=text, status=409)
                result.fault = self._reported.bad[line]

    async def _record(self) -> Answer:
        results = self._priced.results
        self._priced.items = [item for item in self._priced.items if results[item.line].earlier is None and item.line in self._reported.events]
        if self._priced.items:
            claims = [mark for mark in self._taken.marks if mark.line == WHOLE_REQUEST or mark.line in self._reported.events]
            outcome = await charge_items(
                self._recorder, self._key, self._taken.request_id, self._priced.items, claims=claims, epoch=self._taken.epoch
            )  # fmt: skip
            self._priced.note(outcome)
            count_events(outcome, len(self._reported.bad))
        else:
            outcome = self._standing_outcome()
        answer = self._written(outcome)
        await self._keep(answer)
        return answer

    async def _answer_again(self, record: UsageRecord) -> Answer:
        """Make the answer of a request that was recorded and never answered."""
        outcome = await self._recorder.ingest.outcome_of(self._key.account, record, policy=self._recorder.policy)
        for line, found in _recorded_results(record, outcome).items():
            found.folded = self._priced.results[line].folded
            if not found.cost:
                found.cost = self._priced.results[line].cost
            self._priced.results[line] = found
        answer = self._written(outcome)
        whole = next(one for one, _ in self._states if one.line == WHOLE_REQUEST)
        await self._store(record.request_id, {whole.key_sha256: answer.body})
        await self.release(self.fresh)
        return Answer(answer.status, f"{answer.body[:-1]},{REPLAYED}}}", REPLAY_HEADERS)

    def _written(self, outcome: IngestOutcome) -> Answer:
        return usage_answer(self._priced.results, outcome, is_batch=self._reported.is_batch, upgrade_url=self._recorder.upgrade_url)

    def _standing_outcome(self) -> IngestOutcome:
        """Return the account's figures where no event had to be recorded."""
        standing = self._standing
        limit = self._recorder.policy.tracked_limit(standing.tier)
        return IngestOutcome(
            items=(), tokens_mtd=standing.tokens_mtd, tracked_limit=limit, balance=standing.balance, available=standing.available, tier=standing.tier,
            org_id=standing.org_id,
        )  # fmt: skip

    async def _keep(self, answer: Answer) -> None:
        """Keep the answers of the keys that recorded something, and free the others."""
        answers, unused = dict[bytes, str](), list[Wanted]()
        for one in self.fresh:
            if one.line == WHOLE_REQUEST:
                recorded, text = answer.status == 200, answer.body
            else:
                result = self._priced.results[one.line]
                recorded, text = result.outcome is not None and result.outcome.recorded, result_text(result, 0)
            if recorded:
                answers[one.key_sha256] = text
            else:
                unused.append(one)
        await self._store(self._taken.request_id, answers)
        await self.release(unused)

    async def _store(self, request_id: RequestId, answers: dict[bytes, str]) -> None:
        """Keep answers. One that is lost here is made again from the journal."""
        if answers:
            try:
                await self._recorder.claims.answer(self._key.account, request_id, answers)
            except JournalUnavailable as error:
                get_log().warning("answers_not_kept", reason=str(error))


def _refusal(state: Conflict | Busy, what: str, content: str) -> str:
    if isinstance(state, Busy):
        return f"{what} {IN_FLIGHT}"
    return f"{what} was sent before, with a different {content}"


def _recorded_results(record: UsageRecord, outcome: IngestOutcome) -> dict[int, Result]:
    """Return what became of the events of a recorded request, by their numbers in it."""
    items, results = {item.line: item for item in record.items}, dict[int, Result]()
    for line, became in zip(record.lines, outcome.items, strict=True):
        item = items.get(line)
        results[line] = Result(became) if item is None else Result(became, item.cost, item.estimated, item.unpriced)
    return results
