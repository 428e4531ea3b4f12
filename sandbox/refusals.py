"""Errors in the words of each provider."""

from typing import Any

from sandbox.replies import Reply, json_reply
from sandbox.script import WireScript

ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
OPENAI_TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    402: ("insufficient_quota", "insufficient_quota"),
    429: ("requests", "rate_limit_exceeded"),
}
MESSAGES = {
    400: "The request is not valid.",
    401: "The credential is not valid.",
    402: "The credit of this account is used up.",
    403: "This credential may not use the resource.",
    404: "The model does not exist.",
    413: "The request is larger than allowed.",
    429: "The rate limit of this organization is reached. Try again later.",
    500: "Internal server error.",
    503: "The service is unavailable.",
    504: "The request took too long.",
    529: "Overloaded",
}


def error_object(provider: str, wire: WireScript, *, status: int) -> dict[str, Any]:
    """Return the `error` member of the provider's error body."""
    message = wire.message or MESSAGES.get(status, "Something went wrong.")
    if provider == "anthropic":
        return {"type": wire.error or ANTHROPIC_TYPES.get(status, "api_error"), "message": message}
    if provider == "openrouter":
        metadata = {"metadata": {"provider_name": "Sandbox", "raw": message}} if status in {403, 429, 502, 503} else {}
        return {"message": message, "code": status, **metadata}
    kind, code = OPENAI_TYPES.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
    quota = wire.error == "insufficient_quota"
    return {"message": message, "type": wire.error if quota else kind, "param": None, "code": wire.error or code}


def refuse(provider: str, wire: WireScript, *, status: int, serial: str) -> Reply:
    """Return a whole error answer of the provider."""
    error = error_object(provider, wire, status=status)
    headers: tuple[tuple[str, str], ...] = (("retry-after", wire.retry_after),) if wire.retry_after else ()
    if provider == "anthropic":
        body = {"type": "error", "error": error, "request_id": f"req_{serial}"}
        return json_reply(body, (*headers, ("x-should-retry", "true" if status >= 429 else "false")), status=status)
    if provider == "openrouter" and status == 402:
        return json_reply({"error": error, "user_id": "user_sandbox"}, headers, status=status)
    return json_reply({"error": error}, headers, status=status)
