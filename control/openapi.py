"""The OpenAPI description, made from the same routes and schemas that serve the requests."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from control.context import context_of
from control.schemas import ErrorAnswer
from control.usage_schemas import PlainErrorAnswer

REFERENCE: Final = "#/components/schemas/{model}"
TOKEN_PARAMETER: Final[Mapping[str, object]] = {
    "name": "api_token", "in": "path", "required": True, "schema": {"type": "string"}, "description": "The account's secret.",
}  # fmt: skip
PATH_PARAMETERS: Final[Mapping[str, Mapping[str, object]]] = {
    "api_token": TOKEN_PARAMETER,
    "deposit_code": {
        "name": "deposit_code", "in": "path", "required": True, "schema": {"type": "string"}, "description": "The account's public code.",
    },
    "key_id": {"name": "key_id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "key_…."},
    "claim_id": {"name": "claim_id", "in": "path", "required": True, "schema": {"type": "string"}, "description": "Given when the claim was opened."},
}  # fmt: skip
ERROR_MEANINGS: Final[Mapping[int, str]] = {
    400: "The request cannot be read.",
    401: "The api_token is unknown or inactive.",
    402: "The balance does not cover the request.",
    403: "The api_token is read-only: it may look and nothing else.",
    404: "A model without a price, or something that is not known.",
    408: "The body did not arrive in time.",
    409: "It was done before, by this caller or another.",
    410: "Its time is over.",
    413: "The body is too large.",
    415: "The body's content encoding is not understood.",
    422: "The request cannot be priced, or cannot be done as asked.",
    429: "Too many requests; Retry-After says when to try again.",
    502: "The provider failed.",
    503: "The service cannot answer at the moment; see /health.",
    504: "The provider did not answer in time.",
}
PROXY_ERRORS: Final = (400, 401, 402, 403, 404, 413, 422, 429, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One path and method; `described` where programs are told of it, which pages for people are not."""

    path: str
    summary: str
    tag: str
    method: str = "GET"
    answer: type[BaseModel] | None = None
    media_type: str = "application/json"
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    errors: tuple[int, ...] = ()
    extra_answers: Mapping[int, type[BaseModel]] = field(default_factory=dict)
    described: bool = True


def _proxy(method: str, path: str, summary: str) -> Endpoint:
    return Endpoint(method=method, path=f"/proxy/{{api_token}}{path}", summary=summary, tag="proxy", errors=PROXY_ERRORS)


PROXY_ENDPOINTS: Final = (
    _proxy("POST", "/v1/messages", "Anthropic Messages, streamed or not; charged per token."),
    _proxy("POST", "/v1/messages/count_tokens", "Anthropic token count; free."),
    _proxy("POST", "/v1/chat/completions", "OpenAI Chat Completions, streamed or not; the model decides the provider."),
    _proxy("POST", "/v1/responses", "OpenAI Responses, streamed or not."),
    _proxy("POST", "/v1/embeddings", "OpenAI Embeddings."),
    _proxy("GET", "/v1/models", "The models that have a price, in the dialect asked for."),
)


def describe(endpoints: Sequence[Endpoint], *, public_url: str, version: str) -> dict[str, object]:
    """Return the OpenAPI document."""
    endpoints = [*(endpoint for endpoint in endpoints if endpoint.described), *PROXY_ENDPOINTS]
    answers: set[type[BaseModel]] = {model for endpoint in endpoints for model in (endpoint.answer, *endpoint.extra_answers.values()) if model} | {
        ErrorAnswer,
        PlainErrorAnswer,
    }
    bodies = {endpoint.body for endpoint in endpoints if endpoint.body}
    ordered = sorted(answers, key=lambda model: model.__name__)
    modes: list[tuple[type[BaseModel], Any]] = [(model, "serialization") for model in ordered]
    modes += [(model, "validation") for model in bodies]
    _, definitions = models_json_schema(modes, ref_template=REFERENCE)
    paths: dict[str, dict[str, object]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Level5", "version": version, "description": "Billing gateway for AI agents. Amounts are microunits: 1 USDC = 1_000_000."},
        "servers": [{"url": public_url}],
        "paths": paths,
        "components": {
            "schemas": definitions.get("$defs", {}),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
    }


async def openapi(request: Request) -> Response:
    """Serve the description."""
    context = context_of(request)
    document = describe(request.app.state.endpoints, public_url=context.public_url, version=context.version)
    return JSONResponse(document, headers={"Cache-Control": "no-cache"})


def _operation(endpoint: Endpoint) -> dict[str, object]:
    operation: dict[str, object] = {
        "operationId": f"{endpoint.method.lower()}{endpoint.path.replace('{', '').replace('}', '').replace('/', '_').replace('.', '_').replace('-', '_')}",
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "responses": _responses(endpoint),
    }
    parameters = [parameter for name, parameter in PATH_PARAMETERS.items() if f"{{{name}}}" in endpoint.path]
    if endpoint.query is not None:
        parameters += _query_parameters(endpoint.query)
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        schema = {"$ref": REFERENCE.format(model=endpoint.body.__name__)}
        operation["requestBody"] = {"required": False, "content": {"application/json": {"schema": schema}}}
    elif endpoint.tag == "proxy" and endpoint.method == "POST":
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}}
    return operation


def _responses(endpoint: Endpoint) -> dict[str, object]:
    error: dict[str, object] = {"application/json": {"schema": {"$ref": REFERENCE.format(model="ErrorAnswer")}}}
    if endpoint.tag == "proxy":
        error = {"application/json": {"schema": {"type": "object", "description": "An error body in the dialect of the path."}}}
    if endpoint.tag == "usage":
        error = {"application/json": {"schema": {"$ref": REFERENCE.format(model="PlainErrorAnswer")}}}
    schema: dict[str, object] = {"type": "string"} if endpoint.media_type != "application/json" else {"type": "object"}
    if endpoint.answer is not None:
        schema = {"$ref": REFERENCE.format(model=endpoint.answer.__name__)}
    responses: dict[str, object] = {"200": {"description": "Success.", "content": {endpoint.media_type: {"schema": schema}}}}
    for status, model in endpoint.extra_answers.items():
        content = {"application/json": {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}}
        responses[str(status)] = {"description": ERROR_MEANINGS.get(status, "Not well."), "content": content}
    for status in endpoint.errors:
        responses[str(status)] = {"description": ERROR_MEANINGS[status], "content": error}
    return responses


def _query_parameters(model: type[BaseModel]) -> list[dict[str, object]]:
    properties = model.model_json_schema(ref_template=REFERENCE)["properties"]
    return [
        {"name": name, "in": "query", "required": False, "description": schema.get("description", ""), "schema": schema} for name, schema in properties.items()
    ]
