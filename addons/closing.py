"""The closing line of a request in the log, and its metrics."""

from time import monotonic

from addons.activity import activity
from addons.exchange import Exchange, Kind
from addons.request_figures import count_closed
from telemetry import metrics
from telemetry.logs import log_figures, quoted, quoted_list
from telemetry.tallies import tallies

_EVENTS = {"settled": "request_settled", "voided": "request_voided", "failed": "request_failed"}


def close(exchange: Exchange) -> None:
    """Write the one closing line of a proxied request. A second call does nothing."""
    if exchange.closed:
        return
    exchange.closed = True
    if exchange.watch is not None:
        exchange.watch.close()
    exchange.stream = exchange.watch = None  # they hold it in turn; let go, none of them needs the garbage collector
    if exchange.kind is Kind.CONTROL:
        return
    seconds = monotonic() - exchange.started
    activity.note(exchange, seconds)
    provider, added = exchange.provider, None
    if provider is not None:
        if exchange.provider_status is None or exchange.reason == "cut":
            _count_failure(exchange, provider)
        if exchange.sent_at is not None and not (exchange.attempts is not None and exchange.attempts.tried):
            added = exchange.sent_at - exchange.started
    elif exchange.refusal_code:
        metrics.refusals_total.labels(code=exchange.refusal_code).inc()
    tallies.gather(count_closed, ((provider, exchange.rate.model if exchange.rate else None, exchange.status), seconds, added))
    log_figures(_EVENTS.get(exchange.ending or "", "request_refused" if exchange.refusal_code else "request_relayed"), _figures(exchange, seconds))


def _count_failure(exchange: Exchange, provider: str) -> None:
    if exchange.provider_status is None and not exchange.client_left and not exchange.stopped:
        metrics.upstream_errors_total.labels(provider=provider, reason=exchange.timed_out or "connection").inc()
    elif exchange.reason == "cut":
        metrics.upstream_errors_total.labels(provider=provider, reason=exchange.timed_out or "cut").inc()


def _figures(exchange: Exchange, seconds: float) -> str:
    """Return what the line says, as JSON writes it: ids, figures and constant words; where a provider wrote a word, it is searched."""
    token, route, rate, hold, record = exchange.token, exchange.route, exchange.rate, exchange.hold, exchange.record
    figures = (
        f'"request_id": "{exchange.request_id}", "account_id": {token.account if token else "null"}, '
        f'"operation": {f'"{route.operation}"' if route else "null"}, "provider": {quoted(exchange.provider)}, '
        f'"model": {quoted(rate.model if rate else None)}, "status": {exchange.status or "null"}, '
        f'"reason": {quoted(exchange.refusal_code or exchange.reason)}, "hold": {hold.amount if hold else "null"}'
    )
    if record is not None:
        lines = [f'{{"model": {quoted(line.model)}, "input": {line.input_tokens}, "output": {line.output_tokens}}}' for line in record.lines]
        figures += f', "charge": {record.amount}, "estimated": {"true" if record.estimated else "false"}, "usage": [{", ".join(lines)}]'
    figures += f', "duration_ms": {round(seconds * 1000)}'
    if exchange.attempts is not None and exchange.attempts.tried:
        figures += f', "attempts": {exchange.attempts.made}, "tried": {quoted_list(exchange.attempts.tried)}'
    return f'{figures}, "doubts": {quoted_list(exchange.doubts)}' if exchange.doubts else figures
