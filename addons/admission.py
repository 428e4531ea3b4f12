"""Before anything is forwarded: who asks, what it may cost, and the hold that covers it."""

from collections.abc import Mapping
from dataclasses import dataclass

from mitmproxy import http

from addons import refusals
from addons.exchange import Exchange
from addons.ownership import Ownership
from addons.refusals import Refusal
from addons.upstream import Provider
from config.settings import LedgerSettings
from ledger.balances import Balances, HoldPolicy
from ledger.errors import BalanceUnavailable, BooksUnderPressure, HoldEnded, InactiveAccount, InsufficientFunds, ShardClosed, TooManyRequests, UnknownToken
from ledger.settlement import Settler
from ledger.stored_objects import StoredObjects
from ledger.tokens import ApiToken, parse_token
from metering.classify import BILLABLE, PATHS, RequestRefused, Route
from metering.holds import HoldBounds, affordable_output_tokens, hold_bounds
from metering.pricing import RateCard
from metering.rates import Rate, UnknownModel
from metering.requests import MeteredRequest, read_request
from metering.rewrite import rewrite_body


class Refused(Exception):
    """A request is refused before anything was sent."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """What leaves for a provider: the same request as the client's, but for what must change."""

    provider: Provider
    body: bytes
    output_limit: int | None = None
    asked_for_usage: bool = False


class Admission:
    """Authenticates, reads, prices and holds."""

    def __init__(
        self,
        *,
        balances: Balances,
        objects: StoredObjects,
        card: RateCard,
        providers: Mapping[str, Provider],
        settings: LedgerSettings,
        top_up_url: str,
    ) -> None:
        self._balances, self._card, self._providers, self._settings = balances, card, providers, settings
        self._ownership, self._top_up_url = Ownership(objects, self.authenticate), top_up_url
        self._settler: Settler | None = None
        self._policy = HoldPolicy(
            overdraft_max=settings.overdraft_max if settings.on_exhausted == "finish" else 0,
            concurrent_max=settings.concurrent_requests,
            ttl_ms=settings.hold_ttl_seconds * 1000,
            outbox_max=settings.outbox_max,
        )

    def use(self, settler: Settler) -> None:
        """Learn who keeps charges safe: nothing is admitted that could not be charged."""
        self._settler = settler

    @property
    def policy(self) -> HoldPolicy:
        """The limits that every hold is placed under."""
        return self._policy

    @property
    def card(self) -> RateCard:
        """The prices in force."""
        return self._card

    def identify(self, exchange: Exchange, text: str | None) -> None:
        """Read whose api_token this claims to be; its secret is not checked yet.

        Raises:
            Refused: 401 for what cannot be a token, 503 while no charge could be kept.
        """
        if self._settler is None or not self._settler.accepting:
            raise Refused(refusals.unavailable())
        try:
            exchange.token = parse_token(text or "")
        except UnknownToken:
            raise Refused(refusals.unknown_token()) from None

    async def authenticate(self, exchange: Exchange) -> None:
        """Check the api_token that was identified. Needless before a hold, which checks it itself.

        Raises:
            Refused: 401 from an open shard, 503 from a closed one or a Redis that does not answer.
        """
        try:
            exchange.standing = await self._balances.authenticate(_token_of(exchange))
        except UnknownToken:
            raise Refused(refusals.unknown_token()) from None
        except InactiveAccount as error:
            raise Refused(refusals.inactive_account(error.reason)) from None
        except BalanceUnavailable:
            raise Refused(refusals.unavailable()) from None

    async def admit(self, exchange: Exchange, message: http.Request) -> Forwarding:
        """Read a billable request, price it and place its hold.

        Raises:
            Refused: with the status that says why; nothing is held.
        """
        route = _route_of(exchange)
        try:
            request = self._read(route, message)
            rate, provider = self._find(exchange, route, request)
            bounds = self._bound(exchange, request, rate)
            await self._check_references(exchange, request, rate)
        except Refused:
            if exchange.standing is None:
                await self.authenticate(exchange)  # a stranger learns nothing but that
            raise
        exchange.request, exchange.rate, exchange.bounds = request, rate, bounds
        await self._place_hold(exchange, request, bounds)
        limit = self.inserted_limit(exchange, request, bounds)
        asks = needs_usage_chunk(route, request) and provider.include_usage
        body = rewrite_body(
            request,
            provider_model=rate.provider_model if rate.provider_model != request.model else None,
            include_usage=asks,
            output_limit=limit,
        )
        return Forwarding(provider=provider, body=body, output_limit=limit, asked_for_usage=asks)

    async def forward_free(self, exchange: Exchange, message: http.Request) -> Forwarding:
        """Read a free request (a token count) and find its provider.

        Raises:
            Refused: as in `admit`.
        """
        route = _route_of(exchange)
        request = self._read(route, message)
        rate, provider = self._find(exchange, route, request)
        await self._check_references(exchange, request, rate)  # the length of somebody else's conversation is not told either
        exchange.request, exchange.rate = request, rate
        renamed = rate.provider_model if rate.provider_model != request.model else None
        return Forwarding(provider=provider, body=rewrite_body(request, provider_model=renamed, include_usage=False, output_limit=None))

    def _read(self, route: Route, message: http.Request) -> MeteredRequest:
        try:
            return read_request(route, message.raw_content or b"", content_encoding=message.headers.get("content-encoding", ""))
        except RequestRefused as error:
            raise Refused(refusal_of(error)) from None

    def _find(self, exchange: Exchange, route: Route, request: MeteredRequest) -> tuple[Rate, Provider]:
        try:
            rate = self._card.at(exchange.started_at).find(request.model, provider=route.provider)
        except UnknownModel as error:
            raise Refused(_unknown_model(error)) from None
        provider = self._providers.get(rate.provider)
        if provider is None or provider.api_key is None:
            message = f"No key for {rate.provider} is configured on this gateway; its models cannot be used. Tell the operator."
            raise Refused(Refusal(status=503, code="provider_not_configured", message=message))
        if not provider.serves(route.operation):
            offered = [path for operation, path in PATHS.items() if operation in BILLABLE and provider.serves(operation)]
            message = f"The model {rate.model} is not offered on {route.upstream_path}, but on {', '.join(offered)}."
            raise Refused(Refusal(status=404, code="model_not_found", message=message))
        return rate, provider

    def _bound(self, exchange: Exchange, request: MeteredRequest, rate: Rate) -> HoldBounds:
        try:
            others = [self._further(exchange, name, provider=rate.provider) for name in request.other_models]
            settings = self._settings
            return hold_bounds(request, [rate, *others], hold_output_tokens=settings.hold_output_tokens, server_tool_tokens=settings.server_tool_tokens)
        except UnknownModel as error:
            raise Refused(_unknown_model(error)) from None
        except RequestRefused as error:
            raise Refused(refusal_of(error)) from None

    def _further(self, exchange: Exchange, name: str, *, provider: str) -> Rate:
        """Return the rate of a further model. Its name goes to the provider as it stands, and must be the provider's own."""
        rate = self._card.at(exchange.started_at).find(name, provider=provider)
        if name != rate.provider_model:
            message = f"The further model {name[:200]!r} is called {rate.provider_model!r} by its provider; write it so."
            raise RequestRefused(400, "invalid_request", message=message, details={"model": name[:200]})
        return rate

    async def _check_references(self, exchange: Exchange, request: MeteredRequest, rate: Rate) -> None:
        if not request.references and not request.sealed:
            return
        try:
            await self._ownership.check(exchange, request, rate)
        except RequestRefused as error:
            raise Refused(refusal_of(error)) from None

    async def _place_hold(self, exchange: Exchange, request: MeteredRequest, bounds: HoldBounds) -> None:
        token = _token_of(exchange)
        minimum, amount = self.hold_range(request, bounds)
        try:
            exchange.hold = await self._balances.place_hold(token, exchange.request_id, minimum=minimum, amount=amount, policy=self._policy)
            exchange.standing = exchange.hold.standing
        except InsufficientFunds as error:
            exchange.balance_heard = error.balance
            tokens = affordable_output_tokens(bounds, error.available)
            raise Refused(
                refusals.payment_required(required=error.required, available=error.available, affordable_tokens=tokens, top_up_url=self._top_up_url)
            ) from None
        except TooManyRequests as error:
            exchange.balance_heard = error.balance
            raise Refused(refusals.too_many_requests(error.concurrent_max)) from None
        except UnknownToken:
            raise Refused(refusals.unknown_token()) from None
        except InactiveAccount as error:
            raise Refused(refusals.inactive_account(error.reason)) from None
        except (ShardClosed, BooksUnderPressure, HoldEnded):
            raise Refused(refusals.unavailable()) from None
        except BalanceUnavailable:
            await self._make_void(exchange)
            raise Refused(refusals.unavailable()) from None

    def used_up(self, exchange: Exchange) -> Refusal:
        """Return the last words of a stream that its account can pay no further."""
        return refusals.balance_used_up(available=exchange.standing.available if exchange.standing else 0, top_up_url=self._top_up_url)

    async def _make_void(self, exchange: Exchange) -> None:
        """A hold was asked for and nothing answered: see to it that none stays behind."""
        if self._settler is not None and exchange.token is not None:
            await self._settler.void_unplaced(exchange.token, exchange.request_id)

    def hold_range(self, request: MeteredRequest, bounds: HoldBounds) -> tuple[int, int]:
        """Return the least and the wanted hold of a request.

        Only a stream that shows its output may start on less than it could cost: its charge is watched while it
        runs. Anything else holds its worst case, or is given an output limit that its hold covers.
        """
        if request.stream and not bounds.hidden and self._settings.on_exhausted != "strict":
            return bounds.small, bounds.expected
        return (bounds.worst if _is_limited(request) else min(bounds.small, bounds.worst)), bounds.worst

    def inserted_limit(self, exchange: Exchange, request: MeteredRequest, bounds: HoldBounds) -> int | None:
        """Return the output limit that a hold below the worst case calls for."""
        hold = exchange.hold
        watched = request.stream and not bounds.hidden and self._settings.on_exhausted != "strict"
        if hold is None or watched or hold.amount >= bounds.worst:
            return None
        return affordable_output_tokens(bounds, hold.amount)


def _is_limited(request: MeteredRequest) -> bool:
    return request.output_limit is not None or request.output_limit_field is None


def needs_usage_chunk(route: Route, request: MeteredRequest) -> bool:
    """Tell whether usage must be asked for in the client's stead: streams in the OpenAI chat format that did not."""
    return route.operation.value == "chat_completions" and request.stream and not request.wants_usage


def refusal_of(error: RequestRefused) -> Refusal:
    """Return the refusal that a reader of requests has raised."""
    retry = error.status in {429, 503}
    return Refusal(status=error.status, code=error.code, message=error.message, details=error.details, retry=retry, retry_after=5 if retry else None)


def _unknown_model(error: UnknownModel) -> Refusal:
    near = f" Did you mean {', '.join(error.near)}?" if error.near else " GET /v1/models lists what is offered."
    message = f"There is no price for the model {error.model[:200]!r}.{near}"
    return Refusal(status=404, code="model_not_found", message=message, details={"near": list(error.near)} if error.near else {})


def _token_of(exchange: Exchange) -> ApiToken:
    if exchange.token is None:
        raise Refused(refusals.unknown_token())
    return exchange.token


def _route_of(exchange: Exchange) -> Route:
    if exchange.route is None:
        raise Refused(Refusal(status=404, code="not_found", message="There is nothing here."))
    return exchange.route
