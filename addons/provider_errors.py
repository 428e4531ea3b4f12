"""A provider's errors: which are the caller's to see and which are the operator's affair."""

import json
import re
from typing import Any, Final

# What providers say when it is the operator who has no money or no rights there.
_CREDIT_CODES = frozenset({
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error",
    "insufficient_credits", "payment_required", "account_deactivated",
})  # fmt: skip
_CREDIT_WORDS = (
    "credit balance is too low",
    "insufficient credits",
    "exceeded your current quota",
    "insufficient_quota",
    "plan and billing",
    "requires more credits",
)
_KEY_CODES = frozenset({"authentication_error", "permission_error", "invalid_api_key", "401", "402", "403"})
_OPERATORS_NAMES: Final = re.compile(rb"\b(org-|proj_|user-)[A-Za-z0-9]{16,}")  # as OpenAI names them in what it says of limits
_ALWAYS = {401: "key_refused", 402: "out_of_credit", 403: "key_refused"}


def operators_affair(status: int, body: bytes | None) -> str | None:
    """Return a constant word for what is wrong with the operator's account, or None for an error of the caller's own."""
    if status in _ALWAYS:
        return _ALWAYS[status]
    if status not in {400, 404, 429, 503} or not body:
        return None
    return "out_of_credit" if speaks_of_credit(error_in(body)) else None


def without_operators_names(body: bytes) -> bytes:
    """Return an error's text without the ids of the operator's organisation, project and user at the provider."""
    return _OPERATORS_NAMES.sub(rb"\1hidden", body)


def error_is_operators(error: str | None) -> bool:
    """Tell the same of an error within an answer, as the tally reports it: type or code, then the message."""
    if error is None:
        return False
    code, _, message = error.partition(": ")
    return code in _KEY_CODES or speaks_of_credit({"code": code, "message": message})


def speaks_of_credit(error: dict[str, Any]) -> bool:
    """Tell whether an error object is about the account that pays the provider."""
    if {str(error.get("code")), str(error.get("type"))} & _CREDIT_CODES:
        return True
    message = str(error.get("message", "")).lower()
    return any(words in message for words in _CREDIT_WORDS)


def error_in(body: bytes) -> dict[str, Any]:
    """Return the error object of an answer's body, empty where there is none."""
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    error = content.get("error") if isinstance(content, dict) else None
    return error if isinstance(error, dict) else {}
