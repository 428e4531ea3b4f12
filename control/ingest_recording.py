"""From events that were read to an answer: their workspaces, their costs, and one change of the books for all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from control.ingest_answers import Answer, Result, usage_answer
from control.ingest_reading import BadEvents, Reported, ReportedEvent
from ledger.entries import AccountId, RequestId
from ledger.errors import (
    AccountExhausted,
    BalanceUnavailable,
    BooksUnderPressure,
    InactiveAccount,
    JournalUnavailable,
    LedgerError,
    NotPostedYet,
    RequestEnded,
    UnknownKey,
    WorkspaceRefused,
)
from ledger.idempotency import Claims
from ledger.ingest import Ingest
from ledger.ingest_values import COST_MAX, BudgetUse, IngestKey, IngestOutcome, IngestPolicy, UsageItem
from ledger.usage_record import ClaimMark
from ledger.workspaces import ResolvedWorkspace, Workspaces
from metering.reported import ReportedPricer
from telemetry import metrics

NAMES_MAX: Final = 20_000
_recorded = metrics.ingest_events_total.labels("recorded")  # looked up once: nearly every request counts here


class NothingRecorded(Exception):
    """None of the events was recorded, for certain; `cause` is why."""

    def __init__(self, cause: LedgerError | BadEvents) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(slots=True, kw_only=True)
class UsageRecorder:
    """What recording needs. `names` are the workspaces that somebody with a good key has named before, `budgets` those that are nearly used up."""

    ingest: Ingest
    claims: Claims
    workspaces: Workspaces
    pricer: ReportedPricer
    policy: IngestPolicy
    workspace_caps: Mapping[str, int | None]
    refuse_workspaces: bool
    upgrade_url: str
    names: set[tuple[AccountId, str]] = field(default_factory=set)
    budgets: Mapping[str, BudgetUse] = field(default_factory=dict)


@dataclass(slots=True)
class PricedUsage:
    """Events as the books take them, and what is known of each result so far."""

    items: list[UsageItem]
    results: list[Result]

    def note(self, outcome: IngestOutcome) -> None:
        """Note what became of the events."""
        for item, became in zip(self.items, outcome.items, strict=True):
            self.results[item.line].outcome = became


async def record_usage(recorder: UsageRecorder, key: IngestKey, reported: Reported, *, request_id: RequestId, now_ms: int) -> Answer:
    """Record the events of one request, and answer it.

    Raises:
        BadEvents: there is no event that could be recorded, or a bad one and the others are not wanted without it.
        LedgerError: the books did not take it; whether they may have, the error says.
    """
    priced = await price_usage(recorder, key, reported, now_ms=now_ms)
    outcome = await charge_items(recorder, key, request_id, priced.items)
    priced.note(outcome)
    count_events(outcome, len(reported.bad))
    return usage_answer(priced.results, outcome, is_batch=reported.is_batch, upgrade_url=recorder.upgrade_url)


async def price_usage(recorder: UsageRecorder, key: IngestKey, reported: Reported, *, now_ms: int) -> PricedUsage:
    """Find the workspaces and the costs of all events.

    Raises:
        BadEvents: as in `record_usage`.
    """
    places = await _find_workspaces(recorder, key, reported)
    priced = _price(recorder, reported, places, now_ms=now_ms)
    if not priced.items:
        raise reported.bad[min(reported.bad)]
    return priced


async def _find_workspaces(recorder: UsageRecorder, key: IngestKey, reported: Reported) -> dict[str, ResolvedWorkspace]:
    """Find, or make, every workspace that is named. None is made for a key that was not looked at yet: anybody can make up a key."""
    names = {event.workspace for event in reported.events.values()} - {""}
    if not names:
        return {}
    if any((key.account, name) not in recorder.names for name in names):
        await recorder.ingest.read_standing(key)
        if len(recorder.names) > NAMES_MAX:
            recorder.names.clear()
        recorder.names.update((key.account, name) for name in names)
    places = {}
    for name in sorted(names):
        try:
            places[name] = await recorder.workspaces.resolve(
                key.account, key.shard, name, caps=recorder.workspace_caps, refuse_beyond_cap=recorder.refuse_workspaces
            )
        except WorkspaceRefused as refusal:
            reported.leave_out(
                [number for number, event in reported.events.items() if event.workspace == name],
                field="workspace",
                text=f"workspace {name!r} is one more than the {refusal.cap} of this tier",
            )
    return places


def _price(recorder: UsageRecorder, reported: Reported, places: Mapping[str, ResolvedWorkspace], *, now_ms: int) -> PricedUsage:
    """Give every event its cost, its workspace and its place among the results."""
    items, results = list[UsageItem](), [Result() for _ in range(reported.count)]
    for number, event in list(reported.events.items()):
        result, at = results[number], event.occurred_at if event.occurred_at is not None else now_ms
        result.estimated = event.cost is None
        result.cost, result.unpriced = (event.cost, False) if event.cost is not None else _estimate(recorder.pricer, event, at)
        if result.cost > COST_MAX:
            reported.leave_out([number], field="cost_usd", text=f"the estimated cost is above the {COST_MAX // 10**6} USD that one event may cost")
            continue
        place = places.get(event.workspace)
        if place is not None:
            result.folded, result.budget = place.folded, recorder.budgets.get(place.workspace.id)
        items.append(
            UsageItem(
                line=number,
                provider=event.provider,
                model=event.model,
                task_type=event.task_type,
                source=event.source,
                occurred_at=at,
                workspace_id=None if place is None else place.workspace.id,
                input_tokens=event.input_tokens,
                output_tokens=event.output_tokens,
                cache_read_tokens=event.cache_read_tokens,
                cache_write_tokens=event.cache_write_tokens,
                cache_write_1h_tokens=event.cache_write_1h_tokens,
                reasoning_tokens=event.reasoning_tokens,
                cost=result.cost,
                estimated=result.estimated,
                unpriced=result.unpriced,
                external_ref=event.external_ref,
                user_id=event.user_id,
            )
        )
    for number, fault in reported.bad.items():
        results[number].fault = fault
    return PricedUsage(items, results)


def _estimate(pricer: ReportedPricer, event: ReportedEvent, at: int) -> tuple[int, bool]:
    found = pricer.estimate(
        event.provider,
        event.model,
        at_ms=at,
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens + event.reasoning_tokens,
        cache_write_tokens=event.cache_write_tokens,
        cache_write_1h_tokens=event.cache_write_1h_tokens,
        cache_read_tokens=event.cache_read_tokens,
    )
    return found.cost, found.unpriced


async def charge_items(
    recorder: UsageRecorder,
    key: IngestKey,
    request_id: RequestId,
    items: Sequence[UsageItem],
    *,
    claims: Sequence[ClaimMark] = (),
    epoch: int | None = None,
) -> IngestOutcome:
    """Charge events. Where the answer got lost, find out what became of them, so that nobody has to send them twice.

    Raises:
        NothingRecorded: it is certain that they were not recorded and never will be under this id.
    """
    pricer, policy = recorder.pricer, recorder.policy
    try:
        return await recorder.ingest.charge_usage(
            key, request_id, items, policy=policy, rate_card=pricer.card.hash, markup=pricer.with_markup, claims=claims, epoch=epoch
        )
    except (BooksUnderPressure, UnknownKey, InactiveAccount, AccountExhausted, RequestEnded) as error:
        raise NothingRecorded(error) from error
    except ValueError as error:
        raise NothingRecorded(BadEvents(f"an event cannot be recorded: {error}")) from error
    except (BalanceUnavailable, NotPostedYet, JournalUnavailable) as error:
        record = await recorder.ingest.is_recorded(key, request_id)
        if record is None:
            raise NothingRecorded(error) from error
        return await recorder.ingest.outcome_of(key.account, record, policy=policy)


def count_events(outcome: IngestOutcome, invalid: int) -> None:
    """Count what became of events."""
    recorded = outcome.recorded
    _recorded.inc(recorded)
    if recorded < len(outcome.items):
        over_balance = sum(item.over_balance and not item.recorded for item in outcome.items)
        metrics.ingest_events_total.labels("over_balance").inc(over_balance)
        metrics.ingest_events_total.labels("over_free_limit").inc(len(outcome.items) - recorded - over_balance)
    if invalid:
        metrics.ingest_events_total.labels("invalid").inc(invalid)
