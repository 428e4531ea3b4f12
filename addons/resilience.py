"""What is done when a provider fails before its answer began: another key, the same again, another provider. Off unless configured.

Nothing here charges. A request ends once, by `lifecycle`, as who served it; what failed before cost the customer nothing.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mitmproxy import http

from addons.admission import Forwarding
from addons.attempts import Attempts, Failure, RepeatBudget, Step, failure_of, next_step, rest_seconds
from addons.exchange import Exchange
from addons.fallback import Fallback, Offer
from addons.provider_keys import KeyRing
from addons.upstream import Provider, aim
from telemetry import metrics
from telemetry.logs import log

LOOK_SECONDS: Final = 0.1  # how soon a pause notices that its client has left, or that we stop
TRIED_MAX: Final = 60  # beyond any settings: a guard against going round for ever
OPERATORS_AFFAIRS: Final = frozenset({"key_refused", "out_of_credit"})


class Resilience:
    """Sends requests to their provider, and once more where that is worth it."""

    def __init__(self, providers: Mapping[str, Provider], fallback: Fallback) -> None:
        self._fallback = fallback
        self._rings = {name: KeyRing(provider.keys) for name, provider in providers.items() if provider.keys}
        self._budgets = {name: RepeatBudget() for name in providers}

    def forward(self, flow: http.HTTPFlow, exchange: Exchange, forwarding: Forwarding) -> None:
        """Aim a request at its provider for the first time."""
        provider = forwarding.provider
        if provider.is_resilient:
            self._budgets[provider.name].earn()
            exchange.attempts = self._begin(forwarding)
        self._aim(flow, exchange, forwarding)

    def _begin(self, forwarding: Forwarding) -> Attempts:
        provider = forwarding.provider
        return Attempts(provider=provider, key=self._rings[provider.name].choose(), body=forwarding.body, repeats_left=provider.retries)

    def _aim(self, flow: http.HTTPFlow, exchange: Exchange, forwarding: Forwarding) -> None:
        if exchange.route is None:
            raise RuntimeError("nothing to forward")
        provider, attempts = forwarding.provider, exchange.attempts
        exchange.provider, exchange.patience, exchange.output_limit = provider.name, provider, forwarding.output_limit
        exchange.asked_for_usage = forwarding.asked_for_usage
        key = provider.api_key
        if attempts is not None:
            attempts.made, key = attempts.made + 1, attempts.key.secret
        aim(flow.request, provider, exchange.route, body=forwarding.body, key=key)

    async def again(self, flow: http.HTTPFlow, exchange: Exchange) -> None:
        """An attempt has failed and nothing of it went out: prepare the next one, or leave the failure as it is. `attempts.again` tells."""
        attempts = exchange.attempts
        if attempts is None:
            return
        attempts.again = False
        failure = self._failure(flow, exchange)
        if failure is None or len(attempts.tried) >= TRIED_MAX:
            return
        self._rest_key(exchange, attempts, failure)
        pause = attempts.pause(failure)
        offer = None if attempts.fell_back else self._fallback.offer(exchange, attempts.provider)
        step = self._choose(attempts, failure, pause=pause, offer=offer)
        provider, key = attempts.provider, attempts.key
        if step is not None and await self._prepare(flow, exchange, _Plan(step, failure, pause, offer)):
            attempts.again = True
            metrics.upstream_repeats_total.labels(provider=provider.name, step=step.value, reason=failure.reason).inc()
            log.info(
                "upstream_repeat", request_id=exchange.request_id, step=step.value, provider=provider.name, key=key.position, reason=failure.reason,
                next_provider=exchange.provider, pause_ms=round(pause * 1000) if step is Step.AGAIN else 0,
            )  # fmt: skip

    @staticmethod
    def _failure(flow: http.HTTPFlow, exchange: Exchange) -> Failure | None:
        response = flow.response
        if exchange.provider_status is None or response is None:
            return failure_of(None, {}, None, timed_out=exchange.timed_out)
        return failure_of(exchange.provider_status, response.headers, response.raw_content, timed_out=None)

    def _rest_key(self, exchange: Exchange, attempts: Attempts, failure: Failure) -> None:
        """Leave a key alone that was refused, is out of credit or limited. A provider's only key has nobody to stand in for it."""
        ring = self._rings[attempts.provider.name]
        if not failure.of_key or len(ring) < 2:
            return
        seconds = rest_seconds(failure, attempts.provider)
        ring.rest(attempts.key, seconds)
        name, position = attempts.provider.name, attempts.key.position
        metrics.provider_key_rests_total.labels(provider=name, key=str(position), reason=failure.reason).inc()
        log.warning("provider_key_rests", provider=name, key=position, reason=failure.reason, seconds=round(seconds, 1), request_id=exchange.request_id)

    def _choose(self, attempts: Attempts, failure: Failure, *, pause: float, offer: Offer | None) -> Step | None:
        """Return what is tried next, within the budget of repeats."""
        provider = attempts.provider
        other = self._rings[provider.name].other({*attempts.tried_keys, attempts.key}) is not None

        def choose(repeats_left: int) -> Step | None:
            most = provider.retry_pause_seconds_max
            return next_step(failure, other_key=other, repeats_left=repeats_left, pause=pause, pause_max=most, fallback=offer is not None)

        step = choose(attempts.repeats_left)
        return choose(0) if step is Step.AGAIN and not self._budgets[provider.name].spend() else step

    async def _prepare(self, flow: http.HTTPFlow, exchange: Exchange, plan: "_Plan") -> bool:
        """Make everything ready for the next attempt; False where there will be none after all."""
        attempts = exchange.attempts
        if attempts is None:
            return False
        forwarding = Forwarding(provider=attempts.provider, body=attempts.body, output_limit=exchange.output_limit, asked_for_usage=exchange.asked_for_usage)
        if plan.step is Step.FALLBACK:
            taken = await self._fallback.take(exchange, plan.offer) if plan.offer is not None else None
            if taken is None:
                return False
            forwarding = taken
        if exchange.is_over:
            return False
        _count_failure(exchange, attempts, plan.failure)
        attempts.note(plan.failure)
        exchange.begin_again()
        if plan.step is Step.AGAIN and not await _wait(exchange, plan.pause):
            return False
        self._turn(attempts, plan.step, forwarding)
        exchange.timed_out = None  # a clock of another request on the same connection may have struck meanwhile
        self._aim(flow, exchange, forwarding)
        return True

    def _turn(self, attempts: Attempts, step: Step, forwarding: Forwarding) -> None:
        """Say with which key, and at whom, the next attempt is made."""
        provider = forwarding.provider
        ring = self._rings[provider.name]
        if step is Step.FALLBACK:
            attempts.provider, attempts.body, attempts.fell_back = provider, forwarding.body, True
            attempts.repeats_left, attempts.repeats, attempts.tried_keys = provider.retries, 0, set()
            attempts.key = ring.choose()
            self._budgets[provider.name].earn()
            return
        attempts.tried_keys.add(attempts.key)
        if step is Step.OTHER_KEY:
            attempts.key = ring.other(attempts.tried_keys) or ring.choose()
        else:
            attempts.key = ring.choose()
            attempts.repeats_left, attempts.repeats = attempts.repeats_left - 1, attempts.repeats + 1


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is tried next, and after which failure."""

    step: Step
    failure: Failure
    pause: float
    offer: Offer | None


def _count_failure(exchange: Exchange, attempts: Attempts, failure: Failure) -> None:
    """Count a failure that the client will not see: the provider's figures and the operator's alarms must."""
    name, status = attempts.provider.name, exchange.provider_status
    reason = f"status_{status // 100}xx" if status is not None else failure.reason
    metrics.upstream_errors_total.labels(provider=name, reason=reason).inc()
    if failure.reason in OPERATORS_AFFAIRS:
        metrics.operator_alarms_total.labels(provider=name, reason=failure.reason).inc()
        log.error("operator_alarm", provider=name, reason=failure.reason, key=attempts.key.position, status=status, request_id=exchange.request_id)


async def _wait(exchange: Exchange, seconds: float) -> bool:
    """Wait before a repeat; False as soon as there is nobody to repeat it for."""
    left = seconds
    while left > 0 and not exchange.is_over:
        await asyncio.sleep(min(left, LOOK_SECONDS))
        left -= LOOK_SECONDS
    return not exchange.is_over
