"""Tracking a provider's answer in one line.

An answer whose usage cannot be read raises `PlutusUsageError`, which is a `PlutusError` and a `TypeError`: recording nothing in
silence would give the call away, and recording a guess would be worse. A piece of a stream that has no figures, as most have not,
records nothing and says so by `recorded=False`.
"""

from dataclasses import replace
from typing import Any, Protocol

from plutus_agent.amounts import usd_float
from plutus_agent.results import TrackResult
from plutus_agent.usage_figures import Figures, read_anthropic, read_openai


class Tracker(Protocol):
    """Whatever has the `track` of a Meter."""

    def track(self, provider: str, **event: Any) -> TrackResult:
        """Record one call."""


def track_anthropic(
    meter: Tracker,
    response: Any,
    *,
    model: str | None = None,
    task_type: str = "general",
    workspace: str | None = None,
    provider: str = "anthropic",
) -> TrackResult:
    """Track a message of Anthropic's (the SDK's object, a dict, its usage, or the list of a stream's events).

    Where several models took part, each is an event of its own; the result is that of the answering one, with the sum of the costs.

    Raises:
        PlutusUsageError: it is none of these, or its usage cannot be read.
        PlutusError: as `Meter.track`.
    """
    lines = read_anthropic(response)
    if lines is None:
        return _nothing(provider, model, task_type)
    results = [_track(meter, line, provider=provider, model=model if line is lines[0] else None, task_type=task_type, workspace=workspace) for line in lines]
    first = results[0]
    if len(results) == 1:
        return first
    cost, last = sum(result.cost_microunits for result in results), results[-1]
    return replace(
        first,
        cost_microunits=cost,
        cost_usd=usd_float(cost),
        balance_after=last.balance_after,
        balance_after_microunits=last.balance_after_microunits,
        recorded=all(result.recorded for result in results),
        unpriced=any(result.unpriced for result in results),
    )


def track_openai(
    meter: Tracker,
    response: Any,
    *,
    model: str | None = None,
    task_type: str = "general",
    workspace: str | None = None,
    provider: str = "openai",
) -> TrackResult:
    """Track a chat completion, a response or an embedding of OpenAI's kind (object, dict, usage, last chunk, or a list of chunks).

    `provider` names who answered where it was not OpenAI. What OpenRouter says the call cost is taken as its cost.

    Raises:
        PlutusUsageError: it is none of these, or its usage cannot be read.
        PlutusError: as `Meter.track`.
    """
    figures = read_openai(response)
    if figures is None:
        return _nothing(provider, model, task_type)
    return _track(meter, figures, provider=provider, model=model, task_type=task_type, workspace=workspace)


def _track(meter: Tracker, figures: Figures, *, provider: str, model: str | None, task_type: str, workspace: str | None) -> TrackResult:
    event: dict[str, Any] = {
        "model": model or figures.model,
        "task_type": task_type,
        "workspace": workspace,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "cache_read_tokens": figures.cache_read_tokens,
        "reasoning_tokens": figures.reasoning_tokens,
        "source": provider,
    }
    # Left out where there is nothing to say, so that a meter of somebody's own with fewer arguments serves as well.
    if figures.cache_write_tokens:
        event |= {"cache_write_tokens": figures.cache_write_tokens, "cache_write_1h_tokens": figures.cache_write_1h_tokens}
    if provider == "openrouter" and figures.cost_usd is not None:
        event["cost_usd"] = figures.cost_usd
    return meter.track(provider=provider, **event)


def _nothing(provider: str, model: str | None, task_type: str) -> TrackResult:
    return TrackResult(event_id="", org_id="", provider=provider, model=model, task_type=task_type, recorded=False)
