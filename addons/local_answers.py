"""What the gateway answers by itself: the list of models, probes; and the limit on what is forwarded free of charge."""

import json
import time
from typing import Any

from mitmproxy import http

from addons.model_lists import describe_model, list_models
from addons.refusals import Refusal, make_answer
from ledger.entries import RequestId
from metering.classify import Dialect, Operation, RequestRefused, Route
from metering.pricing import RateCard
from metering.rates import UnknownModel

FREE_PER_MINUTE = 120  # forwarded token counts of one account, per worker
ACCOUNTS_MAX = 10_000


def answer_locally(route: Route, card: RateCard, *, dialect: Dialect, request_id: RequestId, balance: int | None) -> http.Response:
    """Answer a probe, the list of models or the question for one."""
    if route.operation is Operation.PROBE:
        return http.Response.make(200, b"{}", {"content-type": "application/json", "x-request-id": request_id})
    if route.operation is Operation.LIST_MODELS:
        offered = [rate for rate in card.all() if route.provider in {None, rate.provider}]
        try:
            return _json(list_models(offered, dialect, query=route.query), request_id=request_id, balance=balance)
        except RequestRefused as error:
            refusal = Refusal(status=error.status, code=error.code, message=error.message, details=error.details)
            return make_answer(dialect, refusal, request_id=request_id, balance=balance)
    try:
        rate = card.find(route.model or "", provider=route.provider)
    except UnknownModel as error:
        refusal = Refusal(status=404, code="model_not_found", message="No such model is offered here.", details={"near": list(error.near)})
        return make_answer(dialect, refusal, request_id=request_id, balance=balance)
    return _json(describe_model(rate, dialect), request_id=request_id, balance=balance)


def _json(body: dict[str, Any], *, request_id: RequestId, balance: int | None) -> http.Response:
    headers = {"content-type": "application/json", "x-request-id": request_id}
    if balance is not None:
        headers["x-balance-remaining"] = str(balance)
    return http.Response.make(200, json.dumps(body, separators=(",", ":")).encode(), headers)


class FreeQuota:
    """A bucket for each account: what costs nothing must not be unlimited."""

    def __init__(self, per_minute: int = FREE_PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, account: int) -> bool:
        """Count one request; False when the account's bucket is empty."""
        now = time.monotonic()
        left, at = self._buckets.pop(account, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - at) * self._per_minute / 60)
        while len(self._buckets) >= ACCOUNTS_MAX:
            self._buckets.pop(next(iter(self._buckets)))  # the one not seen for longest; it starts full again
        self._buckets[account] = (max(left - 1, 0.0) if left >= 1 else left, now)
        return left >= 1


def quota_exhausted() -> Refusal:
    return Refusal(status=429, code="too_many_requests", message="Too many token counts in a minute; they are free but limited.", retry=True, retry_after=5)
