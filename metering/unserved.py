"""Why provider paths are not served: the texts that their callers are shown."""

_STORED_HERE = "Objects stored at the provider belong to the operator's account and are not served."
_STORED_ANSWERS = "Stored answers are not served: they can be fetched any number of times, so they could not be billed once; keep what the first call returned."
_BATCHES = "Batches are not served: their results can be fetched any number of times, so they could not be billed once; send the requests one by one."
# By the first segment below /v1.
_REASONS = {
    "complete": "Legacy text completions report no usage and cannot be billed; use /v1/messages.",
    "completions": "Legacy completions are not served; use /v1/chat/completions.",
    "files": "Files are not served: they would be shared by everybody who uses this gateway; put the content into the request.",
    "batches": _BATCHES,
    **dict.fromkeys(("images", "audio", "videos", "realtime", "moderations"), "This interface has no price here and is not served."),
    **dict.fromkeys(
        ("assistants", "threads", "vector_stores", "containers", "conversations", "uploads", "fine_tuning", "evals", "skills", "organizations", "organization"),
        _STORED_HERE,
    ),
    **dict.fromkeys(("generation", "credits", "key", "auth"), "This shows the operator's account and is not served; see /proxy/{api_token}/balance."),
}
_SERVED_HINT = "Served here: /v1/messages, /v1/messages/count_tokens, /v1/chat/completions, /v1/responses, /v1/embeddings and /v1/models."


def is_unserved(first: str) -> bool:
    """Tell whether a path with this first segment below /v1 is a provider's, although it is not served."""
    return first in _REASONS


def why_unserved(rest: list[str]) -> tuple[int, str, str]:
    """Return status, code and text for a path below /v1 that is not served: 422 where what it gives could not be billed once."""
    if rest[0] == "responses" or rest[:2] == ["chat", "completions"]:
        return 422, "unbillable_request", _STORED_ANSWERS
    if rest[0] == "batches" or rest[:2] == ["messages", "batches"]:
        return 422, "unbillable_request", _BATCHES
    return 404, "not_found", _REASONS.get(rest[0], f"This path is not served. {_SERVED_HINT}")


def why_elsewhere(bases: set[str]) -> str:
    """Return the text for a path at a provider's own host that does not begin as that provider's do."""
    return f"This path is not served; paths at this host begin with {' or '.join(f'{base}/v1/...' for base in sorted(bases))}. {_SERVED_HINT}"
