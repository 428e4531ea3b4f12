"""Redis's refusals by their first word, as the exceptions that redis-py raises for them."""

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

_KINDS: dict[str, type[RedisError]] = {
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "LOADING": BusyLoadingError,
    "READONLY": ReadOnlyError,
    "NOPERM": NoPermissionError,
    "NOAUTH": AuthenticationError,
    "WRONGPASS": AuthenticationError,
}
_CLUSTER = "; this Redis is a cluster: name one server that holds all keys in LEVEL5_REDIS_URL"


def read_error(text: str) -> RedisError:
    """Return the exception for an error reply."""
    code, _, rest = text.partition(" ")
    if code in _KINDS:
        return _KINDS[code](rest or text)
    if code in {"MOVED", "ASK", "CROSSSLOT", "CLUSTERDOWN"}:
        return ResponseError(text + _CLUSTER)
    if code == "MASTERDOWN":
        return MasterDownError(f"{rest}; this replica has lost its primary")
    if text == "ERR max number of clients reached":
        return RedisConnectionError(text)  # as where nobody listens: it may have room in a moment
    if rest.startswith("AUTH <password> called without"):
        return AuthenticationError(rest)
    return ResponseError(rest if code == "ERR" else text)
