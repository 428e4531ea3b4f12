"""The paths of usage ingest: reporting, exports, keys, and the operator's API."""

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from control import admin, exports, ingest_keys
from control.openapi import Endpoint
from control.usage_lane import USAGE_PATH, report_usage
from control.usage_schemas import (
    AdminKeyRequest,
    AdminKeysQuery,
    AnyUsageAnswer,
    ExportQuery,
    KeyQuery,
    KeyRequest,
    KeysAnswer,
    NewKeyAnswer,
    NewOrganisationAnswer,
    OrganisationRequest,
    OrganisationsAnswer,
    OrganisationsQuery,
    RevokedAnswer,
    UsageBody,
)

Handler = Callable[[Request], Awaitable[Response]]
EXPORT_ERRORS: Final = (400, 401, 503)
ADMIN_ERRORS: Final = (400, 401, 404, 503)


def _export(name: str, summary: str, media_type: str) -> Endpoint:
    return Endpoint(path=f"{USAGE_PATH}/export.{name}", summary=summary, tag="usage", media_type=media_type, query=ExportQuery, errors=EXPORT_ERRORS)


USAGE_ROUTES: Final[tuple[tuple[Endpoint, Handler], ...]] = (
    (
        Endpoint(
            path=USAGE_PATH,
            method="POST",
            summary="Report usage: one event, or an array of 1 to 1000. Bearer of an ingest key.",
            tag="usage",
            answer=AnyUsageAnswer,
            body=UsageBody,
            extra_answers={402: AnyUsageAnswer},
            errors=(400, 401, 408, 409, 413, 415, 429, 503),
        ),
        report_usage,
    ),
    (_export("csv", "Usage events as CSV.", "text/csv"), exports.export_csv),
    (_export("json", "Usage events as JSON.", "application/json"), exports.export_json),
    (_export("focus.csv", "Usage events as CSV in the FOCUS format.", "text/csv"), exports.export_focus),
    (
        Endpoint(
            path="/v1/keys",
            method="POST",
            summary="Make an ingest key.",
            tag="keys",
            answer=NewKeyAnswer,
            body=KeyRequest,
            errors=(400, 401, 403, 409, 413, 503),
        ),
        ingest_keys.create_key,
    ),
    (Endpoint(path="/v1/keys", summary="List the ingest keys.", tag="keys", answer=KeysAnswer, errors=(401, 403, 503)), ingest_keys.list_keys),
    (
        Endpoint(
            path="/v1/keys",
            method="DELETE",
            summary="Revoke an ingest key.",
            tag="keys",
            answer=RevokedAnswer,
            query=KeyQuery,
            errors=(400, 401, 403, 404, 503),
        ),
        ingest_keys.revoke_key,
    ),
    (
        Endpoint(path="/v1/keys/{key_id}", method="DELETE", summary="Revoke an ingest key.", tag="keys", answer=RevokedAnswer, errors=(401, 403, 404, 503)),
        ingest_keys.revoke_key,
    ),
    (
        Endpoint(path="/v1/admin/orgs", summary="List organisations.", tag="admin", answer=OrganisationsAnswer, query=OrganisationsQuery, errors=ADMIN_ERRORS),
        admin.list_organisations,
    ),
    (
        Endpoint(
            path="/v1/admin/orgs",
            method="POST",
            summary="Open an account for an organisation.",
            tag="admin",
            answer=NewOrganisationAnswer,
            body=OrganisationRequest,
            errors=(*ADMIN_ERRORS, 413),
        ),
        admin.create_organisation,
    ),
    (
        Endpoint(path="/v1/admin/keys", summary="List the keys of an organisation.", tag="admin", answer=KeysAnswer, query=AdminKeysQuery, errors=ADMIN_ERRORS),
        admin.list_keys,
    ),
    (
        Endpoint(
            path="/v1/admin/keys",
            method="POST",
            summary="Make an ingest key for an organisation.",
            tag="admin",
            answer=NewKeyAnswer,
            body=AdminKeyRequest,
            errors=(*ADMIN_ERRORS, 409, 413),
        ),
        admin.create_key,
    ),
    (
        Endpoint(path="/v1/admin/keys/{key_id}", method="DELETE", summary="Revoke an ingest key.", tag="admin", answer=RevokedAnswer, errors=ADMIN_ERRORS),
        admin.revoke_key,
    ),
)
