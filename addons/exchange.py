"""Our own record of one request: where it is, what it owns, how it ends. Hooks come and go; this stays.

It is also what a stream asks (`conduct.Conduct`). Its methods do not raise and do no I/O: what needs
a store is left to `lifecycle`, which reads the flags kept here.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from mitmproxy import http

from addons import refusals
from addons.attempts import Attempts
from addons.budget import BodyBudget
from addons.conduct import END, Middle
from addons.deadlines import Watch
from addons.framing import frame
from addons.head_facts import HeadFacts
from addons.meter import Meter
from addons.refusals import Refusal, error_events, make_answer, make_plain_answer
from addons.streams import GatewayStream
from addons.upstream import Patience
from config.settings import GatewaySettings
from ledger.entries import ChargeRecord, RequestId
from ledger.holds import Hold, Settlement, Standing
from ledger.tokens import ApiToken
from metering.classify import Dialect, Operation, Route
from metering.holds import HoldBounds
from metering.rates import Rate
from metering.requests import MeteredRequest

CONNECT, FIRST_BYTE, STALL, READ_ON_OVER, STOPPED = "connect", "first_byte", "stall", "read_on_over", "stopped"
SMALL_BODY_BYTES_MAX = 64 * 1024
KEPT_BODY_BYTES_MAX = 4 * 1024
BODY_BYTES_PER_SECOND = 32 * 1024
END_SECONDS_MAX = 5.0  # between a stream's terminal event and the end of its body


class Kind(StrEnum):
    """Where a request goes."""

    BILLED = "billed"
    FREE = "free"
    LOCAL = "local"
    CONTROL = "control"


class Exchange:
    """One request from its head to its ending."""

    # What the request is and owns.
    kind = Kind.LOCAL
    dialect: Dialect | None = None
    route: Route | None = None
    token: ApiToken | None = None
    standing: Standing | None = None
    balance_heard: int | None = None
    request: MeteredRequest | None = None
    rate: Rate | None = None
    bounds: HoldBounds | None = None
    hold: Hold | None = None
    meter: Meter | None = None
    provider: str | None = None
    attempts: Attempts | None = None  # where more than one may be made
    stream: GatewayStream | None = None
    watch: Watch | None = None
    output_limit: int | None = None
    asked_for_usage = http10 = plain_errors = endless = False
    # What happened. An ending is judged by these, never by mitmproxy's texts.
    sent_at: float | None = None
    answered_at: float | None = None
    provider_status: int | None = None
    status: int | None = None  # of the answer that the client gets
    timed_out: str | None = None
    own_answer = streamed = shows_output = failed = False
    client_left = unsendable = reading_on = stopped = False
    cut_message: bytes | None = None
    # How it ended.
    ending: str | None = None
    reason = ""
    refusal_code = ""
    record: ChargeRecord | None = None
    settlement: Settlement | None = None
    doubts: tuple[str, ...] = ()
    tail = b""
    closed = is_ended = False
    _ended: asyncio.Event | None = None

    def __init__(self, *, request_id: RequestId, client_id: str, head: HeadFacts, budget: BodyBudget, settings: GatewaySettings) -> None:
        self.request_id, self.client_id, self.head = request_id, client_id, head
        self._budget, self._settings = budget, settings
        self._body_bytes = 0
        self._body_account: int | None = None  # that its bytes are counted on
        self.patience: Patience = settings
        self.started, self.started_at = time.monotonic(), time.time_ns() // 1_000_000
        self.extension_needed: Callable[[], bool] | None = None  # where the hold may be too small

    @property
    def ended(self) -> asyncio.Event:
        """Set once the ending is in the books. Made for who waits for it: most requests need none."""
        self._ended = self._ended or asyncio.Event()
        if self.is_ended:
            self._ended.set()
        return self._ended

    def conclude(self) -> None:
        """The ending is in the books, or has failed: whoever waits goes on. A stream's body is still to end, which its provider may forget."""
        self.is_ended = True
        if self.watch is not None and self.streamed and not self.client_left:
            self.watch.start(END, min(END_SECONDS_MAX, self.patience.stall_seconds_max))
        elif self.watch is not None:
            self.watch.stop()
        if self._ended is not None:
            self._ended.set()

    # The request

    def check_length(self, headers: http.Headers) -> Refusal | None:
        """Return a refusal for a body that says beforehand that it is too large."""
        length = headers.get("content-length", "")
        too_large = length.isascii() and length.isdigit() and int(length) > self._settings.body_bytes_max
        return refusals.body_too_large(self._settings.body_bytes_max) if too_large else None

    def is_small(self, headers: http.Headers) -> bool:
        """Tell whether a body is known to be so small that it may be read before its sender is known for certain."""
        length = headers.get("content-length", "")
        return length.isascii() and length.isdigit() and int(length) <= SMALL_BODY_BYTES_MAX

    def body_seconds_max(self, headers: http.Headers) -> float:
        """Return how long the body may take to come: as long as any may, and a second for each `BODY_BYTES_PER_SECOND` that it may have."""
        length = headers.get("content-length", "")
        size = int(length) if length.isascii() and length.isdigit() else self._settings.body_bytes_max
        return self._settings.body_seconds_max + size / BODY_BYTES_PER_SECOND

    def body_grows(self, size: int) -> http.Response | None:
        """Count a piece of the body; refuse what is too large for one request, one account or this worker."""
        refusal = None
        if self._body_bytes + size > self._settings.body_bytes_max:
            refusal = refusals.body_too_large(self._settings.body_bytes_max)
        elif not self._take_room(size):
            refusal = refusals.unavailable("Too many request bodies are being read at once; try again shortly.")
        if refusal is not None:
            self.own_answer = True
            return self.refuse(refusal)
        self._body_bytes += size
        return None

    def body_overdue(self) -> http.Response:
        """Refuse a request whose body has not arrived in time."""
        self.own_answer = True
        self.body_gone()
        return self.refuse(refusals.body_overdue())

    def body_gone(self) -> None:
        """The body is not buffered any more."""
        if self._body_bytes:
            self._budget.give_back(self._body_account, self._body_bytes)
            self._body_bytes = 0

    def _take_room(self, size: int) -> bool:
        """Count a piece of the body on the account, if it is known to be this client's: whoever claims to be of an account must not take its room."""
        if not self._body_bytes:
            self._body_account = self.token.account if self.token is not None and self.standing is not None else None
        return self._budget.take(self._body_account, size)

    def sent(self) -> None:
        """The request leaves; from here on an ending may cost something."""
        self.sent_at = time.monotonic()
        self.body_gone()
        if self.attempts is None:
            self.let_go_of_body()
        if self.watch is not None:
            self.watch.start(FIRST_BYTE, self.patience.first_byte_seconds_max)

    def let_go_of_body(self) -> None:
        """The request will not be sent again: its text, a whole history perhaps, need not stay for the minutes that an answer may take."""
        if self.request is not None and len(self.request.body) > KEPT_BODY_BYTES_MAX:
            self.request = replace(self.request, body=b"")
        if self.attempts is not None:
            self.attempts.body = b""

    # More than one attempt

    @property
    def repeatable(self) -> bool:
        """True while a failure may be followed by another attempt: nothing of an answer has gone out, and somebody waits for it."""
        return self.attempts is not None and not self.is_over and not self.own_answer and (self.provider_status is None or self.provider_status >= 400)

    @property
    def repeats(self) -> bool:
        """True once the request has been made ready to leave again."""
        return self.attempts is not None and self.attempts.again

    @property
    def fell_back(self) -> bool:
        """True when another provider than the model's own serves the request."""
        return self.attempts is not None and self.attempts.fell_back

    @property
    def is_over(self) -> bool:
        """True when nobody waits for an answer any more."""
        return self.client_left or self.stopped or self.ending is not None

    def begin_again(self) -> None:
        """An attempt has failed and cost nothing; from here on it is as if nothing had been sent."""
        if self.watch is not None:
            self.watch.stop()
        self.sent_at = self.answered_at = self.provider_status = self.status = self.timed_out = None

    # The answer

    @property
    def wants_settlement(self) -> bool:
        """True while the terminal event waits for the charge."""
        return self.meter is not None and self.ending is None and self.meter.terminal_held

    @property
    def wants_extension(self) -> bool:
        """True when more has been used than the hold covers."""
        return self.ending is None and self.extension_needed is not None and self.extension_needed()

    def relay(self, data: bytes) -> bytes:
        """Meter a piece of a stream."""
        self._touch()
        return data if self.meter is None else self.meter.relay(data)

    def relay_middle(self, data: bytes) -> Middle:
        """Meter a piece from the middle of a stream, if it is one."""
        meter, watch = self.meter, self.watch
        if meter is not None and not meter.takes(data):
            return Middle.UNDECIDED
        if watch is not None and not self.reading_on:
            watch.touched_at = time.monotonic()
        return Middle.OUT_AND_EXTEND if self.extension_needed is not None and self.ending is None and self.extension_needed() else Middle.OUT

    def observe(self, data: bytes) -> None:
        """Meter a piece of an answer that is kept back."""
        self._touch()
        if self.meter is not None:
            self.meter.observe(data)

    def flush(self) -> bytes:
        """The answer's body is over."""
        return b"" if self.meter is None else self.meter.flush()

    def release(self) -> bytes:
        """Give out the terminal event and, where asked for, the comment with the balance."""
        held = b"" if self.meter is None else self.meter.release()
        tail, self.tail = self.tail, b""
        return held + tail

    def ended_whole(self) -> bool:
        """Tell whether the answer may be ended politely."""
        return self.meter is None or self.meter.ended_whole()

    def spill(self, flow: http.HTTPFlow) -> bool:
        """An answer too large to keep back leaves without its exact balance. What is no success is looked through first, and so never leaves like this."""
        response = flow.response
        if response is None or response.status_code >= 300:
            return False
        self.streamed = True
        frame(response, flow.request, http10=self.http10)
        return True

    def cut(self, refusal: Refusal) -> None:
        """The stream ends here, and says why."""
        operation = self.route.operation if self.route else Operation.CHAT_COMPLETIONS
        self.cut_message = error_events(self.dialect, operation, refusal, request_id=self.request_id)

    # The client leaves

    def leave(self) -> None:
        """The client's connection is gone: what has not been sent will not be."""
        self.client_left = True
        self.unsendable = self.sent_at is None

    def reads_on(self) -> bool:
        """The client has left: go on reading where the answer does not show what is being written."""
        self.client_left = True
        if self.kind is not Kind.BILLED or self.sent_at is None or self.ending is not None or self.stopped:
            return False
        # What tools bring is not in the text, and is told with the closing figures alone.
        hidden = (self.bounds is not None and self.bounds.hidden) or (self.request is not None and bool(self.request.server_tools))
        shown = self.shows_output and self.meter is not None and self.meter.shows_output
        if shown and not hidden:
            return False
        self.reading_on = True
        if self.watch is not None:
            self.watch.start(READ_ON_OVER, self._settings.read_on_seconds_max)
        return True

    def broke_off(self) -> None:
        """Nothing more will come from one of the two sides."""
        if self.status is None:
            self.status = 499 if self.client_left else None

    # Failures

    def failure(self, status: int) -> http.Response:
        """Return our answer to a failure between us and the provider, or in the request's framing."""
        return self.refuse(self._refusal_for(status))

    def _refusal_for(self, status: int) -> Refusal:
        if status < 500:
            return refusals.malformed("The request is not valid HTTP.")
        if self.kind is Kind.CONTROL:
            return refusals.unavailable("The control API does not answer; try again shortly.")
        if self.stopped:
            return refusals.unavailable("The gateway is being restarted; try again shortly.")
        if self.timed_out is not None:
            return refusals.upstream_timed_out()
        return refusals.upstream_failed() if self.record is None else refusals.upstream_broke_off()

    def refuse(self, refusal: Refusal) -> http.Response:
        """Return an error in the caller's dialect, with the balance where it is known."""
        self.status, self.refusal_code = refusal.status, refusal.code
        if self.plain_errors:
            return make_plain_answer(refusal, request_id=self.request_id)
        return make_answer(self.dialect, refusal, request_id=self.request_id, balance=self.balance)

    @property
    def balance(self) -> int | None:
        """The account's balance as last heard, None where it is not known."""
        if self.settlement is not None:
            return self.settlement.balance
        return self.standing.balance if self.standing else self.balance_heard

    def _touch(self) -> None:
        if self.watch is not None and not self.reading_on and not self.is_ended:
            self.watch.touched_at = time.monotonic()
