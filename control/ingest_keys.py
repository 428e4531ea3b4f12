"""An account's own ingest keys, by its api_token: made, listed, revoked."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import ControlContext, context_of
from control.errors import ApiError
from control.reading import read_body, read_query
from control.service import header_token
from control.usage_schemas import KeyLine, KeyQuery, KeyRequest, KeysAnswer, NewKeyAnswer, RevokedAnswer
from ledger.account_values import Account
from ledger.errors import UnknownKey
from ledger.ingest_values import KeyRow
from ledger.tokens import parse_token
from telemetry.logs import get_log


async def create_key(request: Request) -> Response:
    """Make a key and show its secret, this once."""
    context, account = await _owner(request)
    wish = await read_body(request, KeyRequest)
    answer = await make_key(context, account, wish.name)
    get_log().info("ingest_key_created", account_id=account.id, key_id=answer.id)
    return JSONResponse(answer.model_dump(mode="json"))


async def list_keys(request: Request) -> Response:
    """List the keys; their secrets are kept nowhere."""
    context, account = await _owner(request)
    return JSONResponse((await keys_of(context, account)).model_dump(mode="json"))


async def revoke_key(request: Request) -> Response:
    """Refuse a key from now on."""
    context, account = await _owner(request)
    key_id = request.path_params.get("key_id") or read_query(request, KeyQuery).id
    try:
        await context.keys.revoke(key_id, account)
    except UnknownKey:
        raise unknown_key_id(key_id) from None
    get_log().info("ingest_key_revoked", account_id=account.id, key_id=key_id)
    return JSONResponse(RevokedAnswer(id=key_id, status="revoked").model_dump())


async def make_key(context: ControlContext, account: Account, name: str | None) -> NewKeyAnswer:
    """Make a key for an account.

    Raises:
        ApiError: 400, the name has control characters.
        TooManyKeys: it has as many as it may have.
    """
    try:
        made = await context.keys.create(account, name)
    except ValueError as error:
        raise ApiError(400, "invalid_request", message=f"name: {error}.") from None
    return NewKeyAnswer(id=made.key_id, org_id=account.public_id, name=name, prefix=made.prefix, secret=made.text)


async def keys_of(context: ControlContext, account: Account) -> KeysAnswer:
    """Return all keys of an account."""
    return KeysAnswer(org_id=account.public_id, keys=[_line(row) for row in await context.keys.list(account)])


def unknown_key_id(key_id: str) -> ApiError:
    """Return the refusal of a key's id that is none (of this account)."""
    return ApiError(404, "unknown_key", message="There is no such key; list them with GET.", details={"id": key_id[:100]})


async def _owner(request: Request) -> tuple[ControlContext, Account]:
    """Return the active account whose api_token the request bears.

    Raises:
        ApiError: 401 where it bears none.
        UnknownToken, InactiveAccount: it is none, or not any more.
    """
    context, text = context_of(request), header_token(request)
    if text is None:
        message = "Send the api_token as `Authorization: Bearer <api_token>`."
        raise ApiError(401, "invalid_token", message=message, headers={"WWW-Authenticate": "Bearer"})
    token = parse_token(text)
    await context.balances.authenticate(token)
    return context, await context.accounts.find(str(token.account))


def _line(row: KeyRow) -> KeyLine:
    return KeyLine(
        id=row.key_id, name=row.name, prefix=row.prefix, created_at=row.created_at, last_used_at=row.last_used_at, revoked_at=row.revoked_at
    )  # fmt: skip
