"""The operator's API: organisations and their ingest keys. It is there only where an admin token is set, and each change is noted."""

import hmac
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import ControlContext, caller_network, context_of
from control.errors import ApiError
from control.ingest_keys import keys_of, make_key, unknown_key_id
from control.reading import read_body, read_query
from control.usage_schemas import (
    AdminKeyRequest,
    AdminKeysQuery,
    NewOrganisationAnswer,
    OrganisationLine,
    OrganisationRequest,
    OrganisationsAnswer,
    OrganisationsQuery,
    RevokedAnswer,
)
from ledger.account_values import Account
from ledger.errors import UnknownKey
from ledger.organisations import find_organisation, note_action

ACTOR: Final = "admin_api"
CREATED: Final = 201


async def list_organisations(request: Request) -> Response:
    """List organisations, oldest first."""
    context = _admitted(request)
    query = read_query(request, OrganisationsQuery)
    found = await context.accounts.list(after=query.after, limit=query.limit)
    following = int(found[-1].id) if len(found) == query.limit else None
    return JSONResponse(OrganisationsAnswer(orgs=[_line(one) for one in found], next_after=following).model_dump(mode="json"))


async def create_organisation(request: Request) -> Response:
    """Open an account for an organisation."""
    context = _admitted(request)
    wish = await read_body(request, OrganisationRequest)
    if wish.tier not in context.settings.tiers.names:
        raise ApiError(400, "invalid_request", message=f"tier must be one of {', '.join(context.settings.tiers.names)}.")
    await _note(request, "organisation_create", {"name": wish.name, "tier": wish.tier})
    try:
        made = await context.accounts.create(name=wish.name, tier=wish.tier)
    except ValueError as error:
        raise ApiError(400, "invalid_request", message=f"name: {error}.") from None
    answer = NewOrganisationAnswer(id=made.account.public_id, name=made.account.name, tier=made.account.tier, api_token=made.api_token)
    return JSONResponse(answer.model_dump(), CREATED)


async def list_keys(request: Request) -> Response:
    """List the keys of an organisation."""
    context = _admitted(request)
    account = await find_organisation(context.pool, context.accounts, read_query(request, AdminKeysQuery).org)
    return JSONResponse((await keys_of(context, account)).model_dump(mode="json"))


async def create_key(request: Request) -> Response:
    """Make a key for an organisation and show its secret, this once."""
    context = _admitted(request)
    wish = await read_body(request, AdminKeyRequest)
    account = await find_organisation(context.pool, context.accounts, wish.org_id)
    await _note(request, "ingest_key_create", {"org_id": account.public_id, "name": wish.name})
    return JSONResponse((await make_key(context, account, wish.name)).model_dump(mode="json"), CREATED)


async def revoke_key(request: Request) -> Response:
    """Refuse a key from now on."""
    context, key_id = _admitted(request), request.path_params["key_id"]
    await _note(request, "ingest_key_revoke", {"key_id": key_id[:100]})
    try:
        await context.keys.revoke(key_id)
    except UnknownKey:
        raise unknown_key_id(key_id) from None
    return JSONResponse(RevokedAnswer(id=key_id, status="revoked").model_dump())


def _admitted(request: Request) -> ControlContext:
    """Return the context to a caller who has the admin token.

    Raises:
        ApiError: 404 where no token is set, 401 where another was sent.
    """
    context = context_of(request)
    token = context.settings.admin.token
    if token is None:
        raise ApiError(404, "not_found", message="The admin API is off: LEVEL5_ADMIN__TOKEN is not set.")
    scheme, _, credential = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(credential.strip().encode(), token.get_secret_value().encode()):
        raise ApiError(401, "invalid_admin_token", message="Send the admin token as `Authorization: Bearer …`.", headers={"WWW-Authenticate": "Bearer"})
    return context


async def _note(request: Request, action: str, detail: dict[str, object]) -> None:
    """Note what was asked for, before it is done: nothing is done that could not be noted."""
    context = context_of(request)
    told = {"request_id": request.scope.get("level5.request_id"), "from": caller_network(request), **detail}
    await note_action(context.pool, actor=ACTOR, action=action, detail=told)


def _line(account: Account) -> OrganisationLine:
    return OrganisationLine(
        id=account.public_id,
        name=account.name,
        tier=account.tier,
        status=account.status,
        deposit_code=account.deposit_code,
        balance=account.balance,
        created_at=account.created_at,
    )
