"""What `POST /v1/usage` answers: the bodies, written as text at once.

Amounts are whole microunits until they are written, as the exact decimal number of USD that they are; there is no float on the way.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from control.ingest_reading import BadEvents
from ledger.ingest_values import BudgetUse, IngestOutcome, ItemOutcome
from ledger.money import MICROUNITS_PER_USDC

RECORDED, NOTHING_RECORDED, BAD = 200, 402, 400
FREE_LIMIT_REACHED: Final = "free-tier token quota reached — upgrade to Pro"
BALANCE_EXHAUSTED: Final = "prepaid credit exhausted"
BOTH_EXHAUSTED: Final = "usage rejected: free-tier quota and prepaid credit both exhausted"
REPLAYED: Final = '"idempotent_replay":true'
_FLAGS: Final = ("false", "true")
_quoted = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a JSON body and headers beside the usual ones."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Result:
    """One event of a request and what became of it. `outcome` is None for one that was not even asked for: it is `fault`y.

    `budget` is its workspace's, where that is nearly used up or more than that.

    `earlier` is the text of its result where its own key was used before.
    """

    outcome: ItemOutcome | None = None
    cost: int = 0
    estimated: bool = False
    unpriced: bool = False
    folded: bool = False
    budget: BudgetUse | None = None
    fault: BadEvents | None = None
    earlier: str | None = None


def usd(amount: int) -> str:
    """Write microunits as a JSON number of USD, exactly: 15600 as 0.0156."""
    whole, rest = divmod(abs(amount), MICROUNITS_PER_USDC)
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{rest:06d}".rstrip("0") if rest else f"{sign}{whole}.0"


def error_answer(status: int, text: str, *, headers: Mapping[str, str] | None = None, details: Mapping[str, object] | None = None) -> Answer:
    """Return an error in the shape that clients of the peer know: one object, its text under `error`."""
    return Answer(status, _quoted({"error": text, **(details or {})}), headers or {})


def result_text(result: Result, balance: int) -> str:
    """Return the fields of one event, without braces; `balance` is told for one that was not asked for."""
    if result.earlier is not None:
        return f"{result.earlier},{REPLAYED}"
    outcome = result.outcome
    if outcome is None:
        text, name = ("", None) if result.fault is None else (result.fault.text, result.fault.field)
        return (
            f'"recorded":false,"event_id":null,"cost_usd":0.0,"estimated":false,"balance_after":{usd(balance)},"over_free_limit":false,'
            f'"over_balance":false,"unpriced":false,"error":{_quoted(text)},"field":{_quoted(name)}'
        )
    # What the month's quota refused was not priced against anything; what the balance refused says what it would have cost.
    cost = result.cost if outcome.recorded or outcome.over_balance else 0
    return (
        f'"recorded":{_FLAGS[outcome.recorded]},"event_id":{_id(outcome.event_id)},"cost_usd":{usd(cost)},"estimated":{_FLAGS[result.estimated]},'
        f'"balance_after":{usd(outcome.balance_after)},"over_free_limit":{_FLAGS[outcome.over_free_limit]},'
        f'"over_balance":{_FLAGS[outcome.over_balance]},"unpriced":{_FLAGS[result.unpriced]}{_FOLDED if result.folded else ""}{_budget(result.budget)}'
    )


_FOLDED: Final = ',"workspace_folded":true'


def _budget(use: BudgetUse | None) -> str:
    return "" if use is None else f',"workspace_budget_usd":{usd(use.budget)},"workspace_spent_usd":{usd(use.spent)}'


def _id(text: str | None) -> str:
    return "null" if text is None else f'"{text}"'


def usage_answer(results: Sequence[Result], outcome: IngestOutcome, *, is_batch: bool, upgrade_url: str) -> Answer:
    """Return the answer of a request whose events got as far as being asked for."""
    quota = (
        f'{{"org_id":{_quoted(outcome.org_id)},"tracked_tokens_mtd":{outcome.tokens_mtd},'
        f'"tracked_limit":{"null" if outcome.tracked_limit is None else outcome.tracked_limit},"tier":{_quoted(outcome.tier)},'
    )
    texts = [result_text(result, outcome.balance) for result in results]
    recorded, over_free, over_balance, invalid = _count(results)
    refusal = _refusal(over_free, over_balance, upgrade_url) if not recorded else ""
    status = NOTHING_RECORDED if not recorded else RECORDED
    if not is_batch:
        return Answer(status, f"{quota}{texts[0]}{refusal}}}")
    counts = f'"recorded":{recorded},"blocked":{over_free + over_balance},"free_limit_blocked":{over_free},"over_balance_blocked":{over_balance}'
    if invalid:
        counts += f',"invalid":{invalid}'
    return Answer(status, f'{quota}"results":[{{{"},{".join(texts)}}}],{counts}{refusal}}}')


def _count(results: Sequence[Result]) -> tuple[int, int, int, int]:
    """Return how many were recorded, refused by the quota, refused by the balance, and no events at all."""
    recorded = over_free = over_balance = invalid = 0
    for result in results:
        outcome = result.outcome
        if outcome is None:
            invalid += result.earlier is None
            recorded += result.earlier is not None
        elif outcome.recorded:
            recorded += 1
        elif outcome.over_balance:
            over_balance += 1
        else:
            over_free += 1
    return recorded, over_free, over_balance, invalid


def _refusal(over_free: int, over_balance: int, upgrade_url: str) -> str:
    text = BOTH_EXHAUSTED if over_free and over_balance else BALANCE_EXHAUSTED if over_balance else FREE_LIMIT_REACHED
    return f',"error":{_quoted(text)},"upgrade_url":{_quoted(upgrade_url)}'
