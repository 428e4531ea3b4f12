"""A test request: the smallest that the cheapest model takes, sent through the gateway's own door as any client would, and charged like any other."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from config.settings import reachable_host
from control.accounts import find_lines
from control.context import ControlContext
from control.dashboard.visitor import Visitor
from control.descriptions import PROVIDER_NAMES
from control.schemas import TransactionsQuery
from ledger.errors import LedgerError
from metering.rates import Rate, effective
from telemetry.logs import get_log

QUESTION: Final = "Say hello in three words."
OUTPUT_TOKENS_MAX: Final = 16  # the least that every provider takes
INPUT_TOKENS: Final = 40  # more than the question is, with what providers put around it
ANSWER_SHOWN_MAX: Final = 400  # characters
LINES_LOOKED_AT: Final = 20  # others of the account may run beside it
MILLION: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOffer:
    """A provider that can be tried, with its cheapest model; `cost_max` is about the most that it costs, in microunits."""

    provider: str
    title: str
    model: str
    cost_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of a test request. `problem` says why there is no answer; counts and amounts are None where nobody told them."""

    model: str
    status: int | None = None
    answer: str = ""
    problem: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    charge: int | None = None
    balance: int | None = None
    milliseconds: int = 0
    request_id: str = ""

    @property
    def is_broke(self) -> bool:
        """The balance was too small even for this."""
        return self.status == 402


def trial_offers(context: ControlContext) -> list[TrialOffer]:
    """Return the cheapest model of each provider that the operator has a key for. One that shows what it writes is preferred."""
    cheapest: dict[str, Rate] = {}
    for rate in context.served_rates():
        if rate.kind == "text" and (rate.provider not in cheapest or _order(rate) < _order(cheapest[rate.provider])):
            cheapest[rate.provider] = rate
    return [
        TrialOffer(provider=rate.provider, title=PROVIDER_NAMES.get(rate.provider, rate.provider), model=rate.model, cost_max=_cost_max(rate))
        for rate in sorted(cheapest.values(), key=lambda rate: list(PROVIDER_NAMES).index(rate.provider))
    ]


async def send_trial(visitor: Visitor, offer: TrialOffer) -> Trial:
    """Send a test request with the visitor's token, and return what became of it, whatever that is."""
    from control.dashboard.connect_door import DoorClosed, NoAnswer, post_json  # what few processes ever need is loaded by those that do

    path, body = _request(offer)
    began = time.monotonic()
    for door in _doors(visitor.context):
        try:
            answer = await post_json(door + path, body, token=visitor.token_text)
        except DoorClosed:
            continue  # the gateway may be on another machine: its public address then leads there
        except NoAnswer as error:
            get_log().warning("test_request_failed", account_id=visitor.account.id, kind=str(error))
            return Trial(model=offer.model, problem="The gateway took the request and did not answer in time. Your transactions tell whether it was charged.")
        trial = _read(offer, answer.status, headers=answer.headers, content=answer.content, milliseconds=int((time.monotonic() - began) * 1000))
        get_log().info("test_request_sent", account_id=visitor.account.id, model=offer.model, status=answer.status, charge=trial.charge)
        return await with_charge(visitor, trial) if trial.charge is None and not trial.problem else trial
    return Trial(model=offer.model, problem="The gateway cannot be reached from here, so nothing was sent. The operator can see why with `level5 doctor`.")


async def with_charge(visitor: Visitor, trial: Trial) -> Trial:
    """Return the trial with its charge out of the statement: an answer that comes in pieces begins before its charge is known."""
    try:
        lines = await find_lines(visitor.context, visitor.token, TransactionsQuery(limit=LINES_LOOKED_AT))
    except LedgerError:
        return trial  # the journal is away: its line stands there later
    line = next((line for line in lines if line.request_id == trial.request_id), None)
    return trial if line is None else replace(trial, charge=-line.usdc_amount, balance=line.balance_after)


def _order(rate: Rate) -> tuple[bool, int]:
    return rate.hidden_output, _cost_max(rate)


def _cost_max(rate: Rate) -> int:
    listed = INPUT_TOKENS * effective(rate.prices.input, markup_bps=rate.markup_bps)
    return -(-(listed + OUTPUT_TOKENS_MAX * effective(rate.prices.output, markup_bps=rate.markup_bps)) // MILLION)


def _doors(context: ControlContext) -> Iterator[str]:
    own = f"http://{reachable_host(context.settings.gateway.host)}:{context.settings.gateway.port}"
    yield own
    if context.public_url != own:
        yield context.public_url


def _request(offer: TrialOffer) -> tuple[str, dict[str, object]]:
    """Return where a request for this model goes, and the smallest that it can be."""
    messages = [{"role": "user", "content": QUESTION}]
    if offer.provider == "anthropic":
        return "/v1/messages", {"model": offer.model, "max_tokens": OUTPUT_TOKENS_MAX, "messages": messages}
    if offer.provider == "openai":
        return "/v1/chat/completions", {"model": offer.model, "max_completion_tokens": OUTPUT_TOKENS_MAX, "messages": messages}
    return "/v1/chat/completions", {"model": f"{offer.provider}/{offer.model}", "max_tokens": OUTPUT_TOKENS_MAX, "messages": messages}


def _read(offer: TrialOffer, status: int, *, headers: Mapping[str, str], content: bytes, milliseconds: int) -> Trial:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    body: dict[str, Any] = found if isinstance(found, dict) else {}
    succeeded = 200 <= status < 300
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    return Trial(
        model=offer.model,
        status=status,
        answer=_answer(body)[:ANSWER_SHOWN_MAX] if succeeded else "",
        problem="" if succeeded else (_problem(body) or f"The gateway answered {status}.")[:ANSWER_SHOWN_MAX],
        input_tokens=_count(usage, "input_tokens", "prompt_tokens"),
        output_tokens=_count(usage, "output_tokens", "completion_tokens"),
        charge=_number(headers.get("x-level5-charge")),
        balance=_number(headers.get("x-balance-remaining")),
        milliseconds=milliseconds,
        request_id=headers.get("x-request-id", "")[:100],
    )


def _answer(body: Mapping[str, Any]) -> str:
    """Return the words of an answer in either format; none where it has another shape."""
    try:
        if "choices" in body:
            return str(body["choices"][0]["message"]["content"] or "")
        return "".join(part["text"] for part in body["content"] if part["type"] == "text")
    except (KeyError, IndexError, TypeError):
        return ""


def _problem(body: Mapping[str, Any]) -> str:
    error = body.get("error")
    return str(error.get("message", "")) if isinstance(error, dict) else ""


def _count(usage: Any, *names: str) -> int | None:
    found = next((usage[name] for name in names if name in usage), None)
    return found if isinstance(found, int) else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.removeprefix("-").isdecimal() and len(text) < 20 else None
