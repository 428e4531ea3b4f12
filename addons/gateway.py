"""The hooks: each translates an event of mitmproxy into one step of a request's life, and fails closed."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

from mitmproxy import http

from addons import refusals
from addons.admission import Admission, Forwarding, Refused, refusal_of
from addons.answers import Answers
from addons.background import Background
from addons.budget import BodyBudget
from addons.closing import close
from addons.conduct import BODY, CONDUCT
from addons.control_relay import ControlRelay
from addons.deadlines import Watch
from addons.exchange import Exchange, Kind
from addons.forward_gate import ForwardGate
from addons.guards import exchange_of, fails_closed, settles_anyway
from addons.head_facts import facts_of
from addons.headers import fault_of_line
from addons.lifecycle import Lifecycle
from addons.links import Links
from addons.local_answers import FreeQuota, answer_locally, quota_exhausted
from addons.resilience import Resilience
from config.settings import GatewaySettings
from ledger.tokens import new_request_id
from metering.classify import ControlRoute, Dialect, Operation, RequestRefused, Route, classify
from telemetry.logs import log

RELAYED_BODY_SECONDS_MAX = 20.0  # as long as the control API itself waits for a body
SETTLE_SECONDS_MAX = 1.0  # how long a terminal event or an error waits for the books


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the gateway is made of."""

    settings: GatewaySettings
    admission: Admission
    lifecycle: Lifecycle
    relay: ControlRelay
    answers: Answers
    background: Background
    links: Links
    resilience: Resilience
    forward: ForwardGate


class Gateway:
    """The addon. It must come after NextLayer."""

    def __init__(self, parts: Parts) -> None:
        self._settings, self._admission, self._lifecycle = parts.settings, parts.admission, parts.lifecycle
        self._relay, self._answers, self._background, self.links = parts.relay, parts.answers, parts.background, parts.links
        self._resilience, self._forward = parts.resilience, parts.forward
        self._budget = BodyBudget(parts.settings.buffered_bytes_max)
        self._quota = FreeQuota()

    # Before forwarding

    @fails_closed
    def requestheaders(self, flow: http.HTTPFlow) -> Awaitable[None] | None:
        """Classify, authenticate and refuse what its head alone condemns, before the body is read."""
        if flow.error is not None or flow.request.method == "CONNECT":
            return None
        exchange = self._open(flow)
        try:
            route = self._check_head(flow, exchange)
            if route is None:
                return None
            self._check_length(flow, exchange)
            if exchange.watch is not None:
                exchange.watch.start(BODY, exchange.body_seconds_max(flow.request.headers))
            if not self._identify(flow, exchange, route):
                return None
        except Refused as refused:
            self._answer(flow, exchange, exchange.refuse(refused.refusal))
            return None
        return self._authenticate(flow, exchange, route)

    async def _authenticate(self, flow: http.HTTPFlow, exchange: Exchange, route: Route) -> None:
        try:
            await self._admission.authenticate(exchange)
            self._accept(flow, exchange, route)
        except Refused as refused:
            self._answer(flow, exchange, exchange.refuse(refused.refusal))

    def _open(self, flow: http.HTTPFlow) -> Exchange:
        request = flow.request
        exchange = Exchange(
            request_id=new_request_id(), client_id=flow.client_conn.id, head=facts_of(request.headers), budget=self._budget, settings=self._settings
        )
        exchange.stream = flow.metadata.get("level5.stream")
        exchange.http10 = request.data.http_version == b"HTTP/1.0"
        exchange.watch = Watch(lambda reason: self.links.interrupt(exchange, reason))
        flow.metadata[CONDUCT] = exchange
        self.links.add(exchange)
        return exchange

    def _check_head(self, flow: http.HTTPFlow, exchange: Exchange) -> Route | None:
        """Return the route of a request that is the proxy's own affair; None where it is the control API's."""
        if exchange.stream is None:
            # mitmproxy's own stream carries this request, which knows nothing of our endings: serving it could be free.
            raise Refused(refusals.unavailable())
        if fault := fault_of_line(flow.request) or exchange.head.fault:
            raise Refused(refusals.malformed(fault))
        try:
            route = self._forward.classify(flow, exchange) or classify(flow.request.method, flow.request.path)
        except RequestRefused as error:
            exchange.dialect = error.dialect
            # A WebSocket begins with a GET, for which the path may have no meaning: 426 lets the client fall back at once.
            raise Refused(refusals.upgrade_refused() if exchange.head.wants_upgrade else refusal_of(error)) from None
        if isinstance(route, ControlRoute):
            exchange.kind = Kind.CONTROL
            if exchange.head.wants_upgrade:
                raise Refused(refusals.upgrade_refused())
            exchange.plain_errors = route.path.startswith("/v1/usage")
            exchange.endless = route.path.endswith("/events")
            self._check_length(flow, exchange)
            self._relay.aim(flow, route)
            if exchange.watch is not None:
                exchange.watch.start(BODY, RELAYED_BODY_SECONDS_MAX)  # until the request is whole and leaves
            return None
        exchange.route, exchange.dialect = route, dialect_of(route, flow.request)
        exchange.kind = kind_of(route)
        if exchange.head.wants_upgrade:
            raise Refused(refusals.upgrade_refused())
        return route

    def _identify(self, flow: http.HTTPFlow, exchange: Exchange, route: Route) -> bool:
        """Read whose token it is; tell whether it is yet to be checked. Where the body is small, the hold does that in the same round trip."""
        if route.operation is not Operation.PROBE:
            self._admission.identify(exchange, route.token_text or exchange.head.bearer)
            if exchange.kind is not Kind.BILLED or not exchange.is_small(flow.request.headers):
                return True
        self._accept(flow, exchange, route)
        return False

    def _accept(self, flow: http.HTTPFlow, exchange: Exchange, route: Route) -> None:
        if exchange.kind is Kind.LOCAL:
            dialect = exchange.dialect or Dialect.OPENAI
            answer = answer_locally(route, self._admission.card, dialect=dialect, request_id=exchange.request_id, balance=exchange.balance)
            self._answer(flow, exchange, answer)

    @staticmethod
    def _check_length(flow: http.HTTPFlow, exchange: Exchange) -> None:
        if refusal := exchange.check_length(flow.request.headers):
            raise Refused(refusal)

    @fails_closed
    async def request(self, flow: http.HTTPFlow) -> None:
        """Price the request, hold the money and turn it into the operator's."""
        exchange = exchange_of(flow)
        if exchange is not None and exchange.watch is not None:
            exchange.watch.stop()  # the body has come
        if flow.response is not None:
            return
        if exchange is None:
            flow.response = http.Response.make(503)
            return
        if exchange.kind is Kind.CONTROL:
            return
        try:
            forwarding = await self._admit(flow, exchange)
        except Refused as refused:
            self._answer(flow, exchange, exchange.refuse(refused.refusal))
            return
        self._resilience.forward(flow, exchange, forwarding)

    async def _admit(self, flow: http.HTTPFlow, exchange: Exchange) -> Forwarding:
        if exchange.kind is Kind.FREE:
            if exchange.token is None or not self._quota.take(exchange.token.account):
                raise Refused(quota_exhausted())
            return await self._admission.forward_free(exchange, flow.request)
        forwarding = await self._admission.admit(exchange, flow.request)
        self._lifecycle.watch(exchange)
        return forwarding

    def _answer(self, flow: http.HTTPFlow, exchange: Exchange, response: http.Response) -> None:
        exchange.own_answer = True
        exchange.status = response.status_code
        flow.response = response
        flow.request.headers.pop("expect", None)  # else the client would be told to send the body of a refused request

    # After forwarding

    async def level5_repeat(self, flow: http.HTTPFlow) -> None:
        """An attempt has failed before anything of its answer went out. Where this raises there is no other."""
        exchange = exchange_of(flow)
        if exchange is not None:
            await self._resilience.again(flow, exchange)

    @settles_anyway
    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Decide how the answer is metered and whether it streams."""
        exchange = exchange_of(flow)
        if exchange is not None and flow.response is not None and not exchange.own_answer:
            self._answers.begin(flow, exchange, flow.response)

    @settles_anyway
    async def response(self, flow: http.HTTPFlow) -> None:
        """The answer is complete: settle, and tell the balance where the headers are still to leave."""
        exchange = exchange_of(flow)
        if exchange is None or flow.response is None:
            return
        await self.end(exchange)
        if not exchange.own_answer and not exchange.streamed and exchange.kind is not Kind.CONTROL:
            self._answers.finish(flow, exchange, flow.response)
        close(exchange)

    @settles_anyway
    async def error(self, flow: http.HTTPFlow) -> None:
        """The exchange broke off, on either side: settle what is known."""
        exchange = exchange_of(flow)
        if exchange is None:
            return
        exchange.broke_off()
        await self._end_briefly(exchange)
        close(exchange)

    @settles_anyway
    async def level5_settle(self, flow: http.HTTPFlow) -> None:
        """A stream's usage is known: settle before its terminal event goes out, for a moment at most."""
        exchange = exchange_of(flow)
        if exchange is not None:
            await self._end_briefly(exchange)
            self._answers.hide_operators_affair(exchange)
            exchange.tail = self._answers.closing_comment(exchange)
            if exchange.cut_message is not None:
                close(exchange)  # no other hook follows

    @settles_anyway
    async def level5_extend(self, flow: http.HTTPFlow) -> None:
        """A stream has used up its hold."""
        exchange = exchange_of(flow)
        if exchange is not None and not await self._lifecycle.extend(exchange):
            exchange.cut(self._admission.used_up(exchange))

    async def _end_briefly(self, exchange: Exchange) -> None:
        if exchange.ending is None:
            self._background.start(self.end(exchange), name="end", at_once=True)
        if exchange.is_ended:
            return
        try:
            await asyncio.wait_for(exchange.ended.wait(), SETTLE_SECONDS_MAX)
        except TimeoutError:
            log.warning("settlement_is_slow", request_id=exchange.request_id)

    async def end(self, exchange: Exchange) -> None:
        """End an exchange, whoever asks first."""
        try:
            await self._lifecycle.end(exchange)
        finally:
            self.links.remove(exchange)


def dialect_of(route: Route, request: http.Request) -> Dialect:
    """Return the caller's dialect: the path's, except that the list of models has one path for both."""
    shared = route.operation in {Operation.LIST_MODELS, Operation.GET_MODEL, Operation.PROBE}
    return Dialect.ANTHROPIC if shared and "anthropic-version" in request.headers else route.dialect


def kind_of(route: Route) -> Kind:
    """Return where a proxied request goes."""
    if route.billable:
        return Kind.BILLED
    return Kind.FREE if route.free_upstream else Kind.LOCAL
