"""Reading what callers send: bounded, validated, with an answer that names the fault."""

import json
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from control.errors import ApiError

BODY_BYTES_MAX = 16 * 1024
FORM_FIELDS_MAX = 50
FORM = "application/x-www-form-urlencoded"


def read_query[Model: BaseModel](request: Request, model: type[Model]) -> Model:
    """Read the query string.

    Raises:
        ApiError: 400, naming each parameter that is wrong, unknown or given twice.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ApiError(400, "invalid_request", message=f"Give {', '.join(repeated)[:200]} once.", details={"repeated": repeated[:10]})
    return _validated(dict(request.query_params), model)


async def read_body[Model: BaseModel](request: Request, model: type[Model]) -> Model:
    """Read a JSON object; no body is an empty object.

    Raises:
        ApiError: 400 for anything else than such an object, 413 when it is too long.
    """
    body = await _bounded_body(request)
    if not body.strip():
        return _validated({}, model)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise ApiError(400, "invalid_json", message="The body is not JSON. Send a JSON object, or no body.") from None
    if not isinstance(content, dict):
        raise ApiError(400, "invalid_request", message="The body must be a JSON object, or left out.")
    return _validated(content, model)


async def read_form[Model: BaseModel](request: Request, model: type[Model]) -> Model:
    """Read what a form of a page posted. What was left empty counts as not given.

    Raises:
        ApiError: 400, naming what is wrong, unknown or given twice; 413 when it is too long, 415 for anything but a form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise ApiError(415, "not_a_form", message=f"Post this as a form ({FORM}).")
    try:
        pairs = parse_qsl((await _bounded_body(request)).decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=FORM_FIELDS_MAX)
    except ValueError:  # not UTF-8, or too many fields
        raise ApiError(400, "invalid_request", message="The form cannot be read. Open the page again and repeat it there.") from None
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ApiError(400, "invalid_request", message="A field of the form was given twice.")
    return _validated({name: value for name, value in fields.items() if value.strip()}, model)


async def _bounded_body(request: Request) -> bytearray:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            raise ApiError(413, "body_too_large", message=f"The body may have {BODY_BYTES_MAX} bytes at most.", details={"bytes_max": BODY_BYTES_MAX})
    return body


def _validated[Model: BaseModel](content: dict[str, object], model: type[Model]) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        faults = [
            {"field": ".".join(map(str, fault["loc"]))[:100], "problem": fault["msg"]} for fault in error.errors(include_url=False, include_input=False)[:10]
        ]
        known = ", ".join(model.model_fields)
        message = "; ".join(f"{fault['field']}: {fault['problem']}" for fault in faults)
        raise ApiError(400, "invalid_request", message=f"{message}. Known names: {known}.", details={"faults": faults}) from None
