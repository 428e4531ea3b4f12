"""Answers of providers: how each is metered, whether it streams, what its headers tell, which errors are ours to hide."""

import json
import time

from mitmproxy import http

from addons import refusals
from addons.checked_headers import names_of
from addons.exchange import STALL, Exchange, Kind
from addons.framing import BODILESS, frame, unframe
from addons.headers import put, strip_for_client, strip_hop_by_hop
from addons.meter import Meter
from addons.provider_errors import error_is_operators, operators_affair, without_operators_names
from addons.refusals import error_events
from addons.streams import BUFFERED_ANSWER_BYTES_MAX
from metering.chunks import TerminalHold, UsageChunkFilter
from metering.tally import open_tally
from telemetry import metrics
from telemetry.logs import log
from telemetry.tallies import tallies


class Answers:
    """Begins and finishes answers."""

    def begin(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response) -> None:
        """The head of an answer has come. From here on its bytes are metered."""
        exchange.answered_at = time.monotonic()
        exchange.provider_status = exchange.status = response.status_code
        if exchange.watch is not None:
            exchange.watch.start(STALL, exchange.patience.stall_seconds_max)
        if exchange.kind is Kind.CONTROL:
            strip_hop_by_hop(response.headers)
            exchange.streamed = True
            response.stream = True
            frame(response, flow.request, http10=exchange.http10)
            return
        if exchange.provider and exchange.sent_at is not None:
            tallies.observe(metrics.labelled(metrics.time_to_first_byte_seconds, exchange.provider), exchange.answered_at - exchange.sent_at)
        if 200 <= response.status_code < 300:
            self._begin_metered(flow, exchange, response)

    def _begin_metered(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response) -> None:
        if exchange.attempts is not None:
            exchange.let_go_of_body()
        content_type = response.headers.get("content-type", "")
        is_stream = _is_stream(exchange, content_type)
        if exchange.kind is Kind.BILLED:
            exchange.meter = self._open_meter(exchange, content_type, is_stream=is_stream)
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                exchange.meter.cannot_read("content_encoding")  # though none was asked for
        strip_for_client(response.headers)
        exchange.shows_output = is_stream
        if is_stream or _length_of(response) > BUFFERED_ANSWER_BYTES_MAX:
            exchange.streamed = True
            response.stream = True
            self._add_stream_headers(exchange, response)
            if is_stream:
                response.headers.pop("content-length", None)
            frame(response, flow.request, http10=exchange.http10)

    def _open_meter(self, exchange: Exchange, content_type: str, *, is_stream: bool) -> Meter:
        route, request, rate = exchange.route, exchange.request, exchange.rate
        if route is None or request is None or rate is None:
            raise RuntimeError("an answer to a request that was never priced")
        status = exchange.provider_status or 200
        tally = open_tally(route.operation, provider=rate.provider, request=request, rate=rate, status=status, content_type=content_type)
        hides_usage = is_stream and exchange.asked_for_usage
        return Meter(
            tally,
            chunk_filter=UsageChunkFilter() if hides_usage else None,
            terminal=TerminalHold(route.operation) if is_stream else None,
        )

    def finish(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response) -> None:
        """A whole answer is about to leave: hide what is the operator's affair, tell charge and balance."""
        provider = exchange.provider or "unknown"
        status = response.status_code
        reading = exchange.meter.reading() if exchange.meter is not None else None
        affair = operators_affair(status, response.raw_content)
        if affair is None and reading is not None and exchange.ending == "voided" and error_is_operators(reading.error):
            affair = "error_in_answer"
        if affair is not None:
            _alarm(exchange, affair)
            flow.response = exchange.refuse(refusals.operator_affair())
            return
        if 300 <= status < 400:
            flow.response = exchange.refuse(refusals.upstream_failed("The provider answered with a redirect, which is not followed; nothing was charged."))
            return
        if exchange.ending == "failed":
            flow.response = exchange.refuse(refusals.unavailable("The charge could not be recorded; the answer is withheld and will not be charged twice."))
            return
        if status >= 400:
            strip_for_client(response.headers)
            self._hide_names(response)
            metrics.upstream_errors_total.labels(provider=provider, reason=f"status_{status // 100}xx").inc()
        if status in BODILESS:
            unframe(response)
        elif b"transfer-encoding" in (names := names_of(response.headers)) or b"content-length" not in names:
            response.headers.pop("transfer-encoding", None)
            response.headers["content-length"] = str(len(response.raw_content or b""))
        self._add_closing_headers(exchange, response)

    @staticmethod
    def _hide_names(response: http.Response) -> None:
        told = response.raw_content or b""
        hidden = without_operators_names(told)
        if hidden != told:
            response.raw_content = hidden
            response.headers.pop("content-length", None)

    def hide_operators_affair(self, exchange: Exchange) -> None:
        """A stream has ended in an error about the operator's account: say that it failed, and no more."""
        reading = exchange.meter.reading() if exchange.meter is not None else None
        if exchange.meter is None or exchange.route is None or reading is None or not error_is_operators(reading.error):
            return
        _alarm(exchange, "error_in_stream")
        last_words = error_events(exchange.dialect, exchange.route.operation, refusals.operator_affair(), request_id=exchange.request_id)
        exchange.meter.replace_held(last_words)

    def _add_stream_headers(self, exchange: Exchange, response: http.Response) -> None:
        balance = exchange.balance
        left = None if balance is None else balance - (exchange.hold.amount if exchange.hold else 0)
        put(response.headers, *_told(exchange, balance=left, charge=None))

    def _add_closing_headers(self, exchange: Exchange, response: http.Response) -> None:
        balance: int | None = None
        charge: int | None = None
        if exchange.ending == "settled":
            charge = exchange.record.amount if exchange.record is not None else None
            balance = exchange.settlement.balance if exchange.settlement is not None else None
        elif exchange.balance is not None:
            balance = exchange.balance
            charge = 0 if exchange.kind is Kind.FREE or exchange.ending == "voided" else None
        put(response.headers, *_told(exchange, balance=balance, charge=charge))

    def closing_comment(self, exchange: Exchange) -> bytes:
        """Return the comment line that tells the exact balance at a stream's end, where it was asked for."""
        if not exchange.head.wants_comment or not exchange.shows_output or exchange.settlement is None:
            return b""
        facts = {"balance_remaining": exchange.settlement.balance, "charge": exchange.settlement.charge, "request_id": exchange.request_id}
        return f": level5 {json.dumps(facts, separators=(',', ':'))}\n\n".encode()


def _told(exchange: Exchange, *, balance: int | None, charge: int | None) -> list[tuple[bytes, bytes]]:
    """Return our own headers of an answer: what is known of it."""
    figures = ((b"X-Level5-Charge", charge), (b"X-Balance-Remaining", balance), (b"X-Level5-Output-Limit", exchange.output_limit))
    served_by = [(b"X-Level5-Provider", exchange.provider.encode())] if exchange.fell_back and exchange.provider else []
    return [(b"X-Request-Id", exchange.request_id.encode()), *served_by, *((name, b"%d" % figure) for name, figure in figures if figure is not None)]


def _alarm(exchange: Exchange, reason: str) -> None:
    provider = exchange.provider or "unknown"
    metrics.operator_alarms_total.labels(provider=provider, reason=reason).inc()
    log.error("operator_alarm", provider=provider, reason=reason, status=exchange.provider_status, request_id=exchange.request_id)


def _is_stream(exchange: Exchange, content_type: str) -> bool:
    kind = content_type.lower()
    asked = exchange.request is not None and exchange.request.stream
    return "event-stream" in kind or (asked and "json" not in kind)


def _length_of(response: http.Response) -> int:
    length = response.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
