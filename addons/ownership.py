"""Whose the stored objects are that a request refers to: it is forwarded only for the account that made them.

Providers know one customer, the operator. What they keep for one account of ours they would hand to any other, so an id
that the account is not known to have made reads as one that does not exist, whether it does or not.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from addons.exchange import Exchange
from addons.local_answers import FreeQuota
from ledger.entries import object_digest
from ledger.errors import BalanceUnavailable, JournalUnavailable, ShardClosed
from ledger.stored_objects import KEPT_DAYS, StoredObjects
from ledger.tokens import ApiToken
from metering.classify import Dialect, RequestRefused
from metering.rates import Rate
from metering.references import MADE_BY_ANSWERS, StoredKind, StoredReference
from metering.requests import MeteredRequest

SEARCHES_PER_MINUTE: Final = 600  # for one account and worker: each asks the journal's database
# As OpenAI words it; Anthropic's sentence is the same for all kinds.
_OPENAI: Final = {StoredKind.RESPONSE: "Previous response with id '{id}' not found.", StoredKind.FILE: "No such File object: {id}."}
_CODES: Final = {StoredKind.RESPONSE: "previous_response_not_found"}
_MADE = f"Here only what this account itself made within {KEPT_DAYS} days can be referred to; send the content again."
_NOT_MADE = "What is stored at the provider is not shared by those who use this gateway; put the content into the request."

Authenticate = Callable[[Exchange], Awaitable[None]]


class Ownership:
    """Finds out whether an account may refer to what it refers to."""

    def __init__(self, objects: StoredObjects, authenticate: Authenticate) -> None:
        self._objects, self._authenticate = objects, authenticate
        self._quota = FreeQuota(SEARCHES_PER_MINUTE)

    async def check(self, exchange: Exchange, request: MeteredRequest, rate: Rate) -> None:
        """Return if everything that the request refers to was made by its account. One round trip, and none where it refers to nothing.

        Raises:
            RequestRefused: 404 in the words of the provider, 429 for too many searches, 503 where nobody knows.
        """
        # Others than OpenAI keep no answers: a bare item is read there as it stands.
        named = request.references + (request.sealed if rate.provider == "openai" else ())
        if not named:
            return
        if exchange.token is None:
            raise RequestRefused(401, "invalid_api_token", message="The api_token is missing.")
        dialect = exchange.route.dialect if exchange.route is not None else None
        for one in named:
            if one.kind not in MADE_BY_ANSWERS:
                raise _not_found(one, dialect)
        by_digest = {object_digest(one.identity): one for one in named}
        try:
            unknown = await self._find_unknown(exchange, exchange.token, list(by_digest))
        except (BalanceUnavailable, JournalUnavailable, ShardClosed):
            message = "Nobody knows for a moment whose the stored objects are that this request refers to; try again shortly."
            raise RequestRefused(503, "temporarily_unavailable", message=message) from None
        if unknown:
            raise _not_found(next(one for digest, one in by_digest.items() if digest in unknown), dialect)

    async def _find_unknown(self, exchange: Exchange, token: ApiToken, digests: list[str]) -> frozenset[str]:
        unknown = await self._objects.not_made_lately(token, digests)
        if not unknown:
            return unknown
        if exchange.standing is None:
            await self._authenticate(exchange)  # a stranger must not make the database work
        if not self._quota.take(token.account):
            raise RequestRefused(429, "too_many_requests", message="Too many references to unknown stored objects in a minute.")
        return await self._objects.never_made(token.account, list(unknown))


def _not_found(reference: StoredReference, dialect: Dialect | None) -> RequestRefused:
    kind, identity = reference.kind, reference.identity
    name = kind.value.replace("_", " ").capitalize()
    text = f"{name} not found: {identity}." if dialect is Dialect.ANTHROPIC else _OPENAI.get(kind, f"{name} with id '{{id}}' not found.").format(id=identity)
    hint = _MADE if kind in MADE_BY_ANSWERS else _NOT_MADE
    return RequestRefused(404, _CODES.get(kind, "not_found"), message=f"{text} {hint}", details={"field": reference.field})
