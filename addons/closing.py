"""The closing line of a request in the log, and its metrics."""

import time

from addons.activity import activity
from addons.exchange import Exchange, Kind
from telemetry import metrics
from telemetry.logs import log, log_figures, redact_text
from telemetry.tallies import tallies

_EVENTS = {"settled": "request_settled", "voided": "request_voided", "failed": "request_failed"}


def close(exchange: Exchange) -> None:
    """Write the one closing line of a proxied request. A second call does nothing."""
    if exchange.closed:
        return
    exchange.closed = True
    if exchange.watch is not None:
        exchange.watch.stop()
    exchange.stream = exchange.watch = None  # they hold it in turn; let go, none of them needs the garbage collector
    if exchange.kind is Kind.CONTROL:
        return
    seconds = time.monotonic() - exchange.started
    activity.note(exchange, seconds)
    provider, model = exchange.provider or "none", exchange.rate.model if exchange.rate else "none"
    tallies.count(metrics.labelled(metrics.requests_total, provider, model, str(exchange.status or "none")))
    if exchange.provider is not None:
        tallies.observe(metrics.labelled(metrics.request_seconds, provider), seconds)
        _count_failure(exchange, exchange.provider)
        if exchange.sent_at is not None and not (exchange.attempts is not None and exchange.attempts.tried):
            tallies.observe(metrics.added_latency_seconds, exchange.sent_at - exchange.started)
    elif exchange.refusal_code:
        metrics.refusals_total.labels(code=exchange.refusal_code).inc()
    event = _EVENTS.get(exchange.ending or "", "request_refused" if exchange.refusal_code else "request_relayed")
    fields = _fields(exchange) | {"duration_ms": round(seconds * 1000)}
    if exchange.attempts is not None and exchange.attempts.tried:
        fields["attempts"], fields["tried"] = exchange.attempts.made, list(exchange.attempts.tried)
    if exchange.doubts:
        log.info(event, **fields, doubts=list(exchange.doubts))  # a provider's words may be in them
    else:
        log_figures(event, fields)


def _count_failure(exchange: Exchange, provider: str) -> None:
    if exchange.provider_status is None and not exchange.client_left and not exchange.stopped:
        metrics.upstream_errors_total.labels(provider=provider, reason=exchange.timed_out or "connection").inc()
    elif exchange.reason == "cut":
        metrics.upstream_errors_total.labels(provider=provider, reason=exchange.timed_out or "cut").inc()


def _fields(exchange: Exchange) -> dict[str, object]:
    """Return what the line says: ids, figures and constant words; where a provider wrote a word, it is searched."""
    record = exchange.record
    fields: dict[str, object] = {
        "request_id": exchange.request_id,
        "account_id": exchange.token.account if exchange.token else None,
        "operation": exchange.route.operation.value if exchange.route else None,
        "provider": exchange.provider,
        "model": exchange.rate.model if exchange.rate else None,
        "status": exchange.status,
        "reason": exchange.refusal_code or exchange.reason,
        "hold": exchange.hold.amount if exchange.hold else None,
    }
    if record is not None:
        fields["charge"], fields["estimated"] = record.amount, record.estimated
        fields["usage"] = [{"model": redact_text(line.model), "input": line.input_tokens, "output": line.output_tokens} for line in record.lines]
    return fields
