"""How much to set aside for a request before anything is forwarded, and how far an account can go.

All figures are upper bounds in whole microunits. One rounding per bound, upwards, on the sum of
the parts, so that a bound covers the charge of every usage within it.
"""

from collections.abc import Sequence
from typing import Literal

from ledger.money import Microunits, charge_from_numerator
from ledger.values import value
from metering.classify import Operation, RequestRefused
from metering.rates import BPS, Prices, Rate, effective
from metering.requests import MeteredRequest
from metering.server_tools import FREE_TOOLS, ServerTool

SMALL_ANSWER_TOKENS = 256  # what a stream must at least be able to say
EXPECTED_TOOL_USES = 3
TOOL_USES_MAX = 10  # where the client gave no bound
LINE_SHARE = 10  # a line is at most this part of what the account was charged so far
NEUTRAL_TIERS = frozenset({"", "auto", "default", "standard", "standard_only"})
_MICRO = 1_000_000
_REASONS = {"background": "A background response is not served: it can be fetched any number of times, so it could not be billed once; leave 'background' out."}


@value
class HoldBounds:
    """What one request may cost, in microunits: input <= expected <= worst, and input <= small <= worst.

    `input` is the price of the input with a usual number of server tool uses. `expected` is what a stream that shows
    its output holds at first, `worst` what any other request holds. `small` is the least that a request is started
    for: a small answer on top of `input`, or on top of `worst_input` where nobody can watch the output grow. Both have
    room for all the thinking that a stream does not show: nobody could extend a hold for it in time.
    `worst_input` is the part of `worst` that no output limit changes.
    `output_per_mtok` is the dearest effective rate of output, for all choices together; `output_max` the most output
    tokens of one choice, the client's limit apart. `hidden` tells that a stream may not show all its output.
    """

    input: Microunits
    small: Microunits
    expected: Microunits
    worst: Microunits
    worst_input: Microunits
    output_per_mtok: int
    output_max: int
    output_limit: int | None
    hidden: bool


def hold_bounds(request: MeteredRequest, rates: Sequence[Rate], *, hold_output_tokens: int, server_tool_tokens: int) -> HoldBounds:
    """Return what a request may cost. `rates` are the model's and then those of `request.other_models`, in order.

    Every model that may answer counts in full, since a declined attempt may be charged as well.

    Raises:
        RequestRefused: 422, something in the request has no price (see `require_priced`).
    """
    require_priced(request, rates)
    answering, asked = _split_rates(request, rates)
    usual, most = (_uses(request, usual=True), _uses(request, usual=False)) if request.server_tools else ({}, {})
    dearest = [_Dearest.find(request, rate, tool_tokens=sum(most.values()) * server_tool_tokens) for rate in answering]

    def input_numerator(uses: dict[ServerTool, int], advice_tokens: int | None) -> int:
        if not uses:
            return sum([entry.input(request, 0) for entry in dearest])
        tokens = sum(uses.values()) * server_tool_tokens
        fees = sum(times * max(_fee(rate, tool) for rate in answering) for tool, times in uses.items())
        return sum(entry.input(request, tokens) for entry in dearest) + _advice(request, asked, uses, advice_tokens) + fees * _MICRO

    per_token = sum([entry.output for entry in dearest]) * request.choices * request.passes
    output_max = max([rate.output_max for rate in answering]) if per_token else 0
    limit = request.output_limit if request.output_limit is not None else output_max
    usual_numerator = input_numerator(usual, hold_output_tokens)
    worst_numerator = input_numerator(most, None) if most else usual_numerator
    hidden = any(rate.hidden_output for rate in answering) or "audio_output" in request.features
    aside = min(limit, request.unseen_output)
    least_numerator = usual_numerator if request.stream and not hidden else worst_numerator
    return HoldBounds(
        input=charge_from_numerator(usual_numerator),
        small=charge_from_numerator(least_numerator + min(limit, aside + min(SMALL_ANSWER_TOKENS, hold_output_tokens)) * per_token),
        expected=charge_from_numerator(usual_numerator + min(limit, aside + hold_output_tokens) * per_token),
        worst=charge_from_numerator(worst_numerator + limit * per_token),
        worst_input=charge_from_numerator(worst_numerator),
        output_per_mtok=per_token,
        output_max=output_max,
        output_limit=request.output_limit,
        hidden=hidden,
    )


def affordable_output_tokens(bounds: HoldBounds, available: int) -> int:
    """Return the largest output limit whose worst case `available` microunits cover; 0 when not even the input is."""
    left = available - bounds.worst_input
    if left <= 0 or not bounds.output_per_mtok:
        return 0
    return min(left * _MICRO // bounds.output_per_mtok, bounds.output_max)


def require_priced(request: MeteredRequest, rates: Sequence[Rate]) -> None:
    """Refuse what the rate card has no price for: a hosted tool, a tier, a mode.

    Modes are refused whatever the card says, but for sound: no usage tells how often they were charged for.

    Raises:
        RequestRefused: 422, naming what has no price and for which model.
    """
    answering, _ = _split_rates(request, rates)
    for rate in answering:
        for tier in request.tiers:
            if tier not in NEUTRAL_TIERS and tier not in rate.service_tiers:
                raise _unpriced("tier", tier, rate)
        for tool in request.server_tools:
            if tool.name not in FREE_TOOLS and tool.name not in rate.fees:
                raise _unpriced("tool", tool.name, rate)
        for feature in sorted(request.features) if request.features else ():
            if not _feature_is_priced(feature, rate):
                raise _unpriced("mode", feature, rate)
        # OpenRouter reads files with an engine of its own, at a fee for each page.
        if request.input.files and rate.provider == "openrouter":
            raise _unpriced("mode", "files", rate)


def overdraft_line(charged: int, override: int | None, *, overdraft_max: int) -> int:
    """Return how far below zero an account may go: what the operator set, else a share of what it was charged so far."""
    if overdraft_max == 0:
        return 0
    return override if override is not None else min(overdraft_max, charged // LINE_SHARE)


def overdraft_bound(mode: Literal["finish", "cut", "strict"], *, line: int, concurrent: int, step: int) -> int:
    """Return how far below zero `concurrent` requests can bring an account. `step` is the charge of one extension."""
    if mode == "strict":
        return 0
    return concurrent * step + (line if mode == "finish" else 0)


@value
class _Dearest:
    """The dearest effective rates that a request can bring at one model, and the input of one pass."""

    tokens: int
    text: int
    audio: int
    output: int

    @classmethod
    def find(cls, request: MeteredRequest, rate: Rate, *, tool_tokens: int) -> "_Dearest":
        tokens = _input_tokens(request, rate)
        total = (tokens + request.input.audio_tokens) * request.passes + tool_tokens
        reachable = [rate.prices, *[tier.prices for tier in rate.tiers if total > tier.above]]
        tier_bps = _dearest_tier(request, rate)

        def dearest(prices: list[int]) -> int:
            return effective(max(prices), service_tier_bps=tier_bps, markup_bps=rate.markup_bps)

        text = [price for prices in reachable for price in _input_prices(request, rate, prices)]
        spoken = "audio_output" in request.features
        output = [price for prices in reachable for price in (prices.output, prices.output_audio if spoken else 0)]
        heard = request.input.audio_tokens > 0
        return cls(
            tokens=tokens,
            text=dearest(text),
            audio=dearest([*text, *[prices.input_audio for prices in reachable]]) if heard else 0,
            output=0 if request.operation is Operation.EMBEDDINGS else dearest(output),
        )

    def input(self, request: MeteredRequest, tool_tokens: int) -> int:
        """Return the numerator of all input: every pass, and what server tools add."""
        return (self.tokens * request.passes + tool_tokens) * self.text + request.input.audio_tokens * request.passes * self.audio


def _input_tokens(request: MeteredRequest, rate: Rate) -> int:
    """Return the most tokens one pass can read. A list of texts to embed is not bounded by the context of one of them."""
    bound = request.input
    if bound.remote:
        return rate.context
    tokens = bound.text_bytes + bound.media_tokens
    return tokens if request.operation is Operation.EMBEDDINGS else min(tokens, rate.context)


def _input_prices(request: MeteredRequest, rate: Rate, prices: Prices) -> list[int]:
    """Return the prices that input may have: cache writes only where asked for, but others than Anthropic cache unasked."""
    possible = [prices.input, prices.cache_read]
    if request.cache_write or rate.provider != "anthropic":
        possible.append(prices.cache_write_5m)
    if "1h" in request.cache_write:
        possible.append(prices.cache_write_1h)
    return possible


def _dearest_tier(request: MeteredRequest, rate: Rate) -> int:
    """Return basis points of list price: an answer may be served in the usual tier instead of a cheaper one."""
    bps = BPS
    for tier in request.tiers:
        bps = -(-bps * max(BPS, rate.service_tiers.get(tier, BPS)) // BPS)
    return bps


def _split_rates(request: MeteredRequest, rates: Sequence[Rate]) -> tuple[list[Rate], dict[str, Rate]]:
    """Return the rates of the models that may answer, and by name those of the models that tools ask."""
    if not request.other_models and len(rates) == 1:
        return [rates[0]], {tool.model: rates[0] for tool in request.server_tools if tool.model is not None}
    named = dict(zip(request.other_models, rates[1:], strict=True)) | {request.model: rates[0]}
    answering = [rates[0], *(named[name] for name in request.fallback_models)]
    return answering, {tool.model: named[tool.model] for tool in request.server_tools if tool.model is not None}


def _uses(request: MeteredRequest, *, usual: bool) -> dict[ServerTool, int]:
    """Return how often each server tool runs: usually, or at most."""
    if usual:
        return {tool: min(tool.max_uses or EXPECTED_TOOL_USES, EXPECTED_TOOL_USES) for tool in request.server_tools}
    return {tool: tool.max_uses or TOOL_USES_MAX for tool in request.server_tools}


def _advice(request: MeteredRequest, asked: dict[str, Rate], uses: dict[ServerTool, int], output_tokens: int | None) -> int:
    """Return the numerator of what tools ask of other models: each use reads everything and writes an answer."""
    total = 0
    for tool, times in uses.items():
        rate = asked.get(tool.model) if tool.model is not None else None
        if rate is None:
            continue
        dearest = _Dearest.find(request, rate, tool_tokens=0)
        written = min(limit for limit in (tool.output_limit, output_tokens, rate.output_max) if limit is not None)
        total += times * (dearest.input(request, 0) + written * dearest.output)
    return total


def _fee(rate: Rate, tool: ServerTool) -> int:
    return effective(rate.fees.get(tool.name, 0), markup_bps=rate.markup_bps)


def _feature_is_priced(feature: str, rate: Rate) -> bool:
    if feature == "audio_input":
        return rate.prices.input_audio > 0
    return feature == "audio_output" and rate.prices.output_audio > 0


def _unpriced(kind: str, name: str, rate: Rate) -> RequestRefused:
    message = _REASONS.get(name) or (
        f"The {kind} {name!r} has no price for the model {rate.model!r} here, so it is not served; leave it out or use another model."
    )
    return RequestRefused(422, "unpriced_request", message=message, details={kind: name, "model": rate.model})
