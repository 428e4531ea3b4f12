"""Header rules: what is refused, what goes to a provider, what comes back from it."""

import re
from collections.abc import Set
from functools import lru_cache
from itertools import chain

from mitmproxy import http

from addons.checked_headers import CheckedHeaders, names_of

_FORBIDDEN = re.compile(rb"[\r\n\0]")
_METHOD = re.compile(rb"[A-Z][A-Z-]*")
_HOP_BY_HOP = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer", b"upgrade", b"http2-settings",
})  # fmt: skip
# The client's credentials, where it came from, and what would choose something in the operator's account.
_NOT_FOR_PROVIDERS = _HOP_BY_HOP | {
    b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"host", b"accept-encoding", b"expect", b"openai-organization", b"openai-project",
    b"transfer-encoding", b"content-encoding", b"content-length", b"forwarded", b"via", b"x-real-ip", b"true-client-ip", b"cf-connecting-ip", b"origin",
    b"referer", b"anthropic-organization-id", b"anthropic-workspace-id", b"anthropic-user-profile-id",
}  # fmt: skip
_NOT_FOR_PROVIDERS_PREFIXES = (b"x-forwarded-", b"x-level5-", b"proxy-", b"sec-websocket-")
# What would tell something of the operator's account, or make the caller talk to the provider itself.
_NOT_FOR_CLIENTS = _HOP_BY_HOP | {
    b"set-cookie", b"set-cookie2", b"anthropic-organization-id", b"openai-organization", b"openai-project", b"www-authenticate", b"alt-svc",
    b"strict-transport-security", b"x-balance-remaining", b"location", b"public-key-pins", b"nel", b"report-to",
}  # fmt: skip
type Fields = tuple[tuple[bytes, bytes], ...]
_UPSTREAM_REQUEST_ID = b"x-upstream-request-id"
_NONE: frozenset[bytes] = frozenset()
_PEER = (b"x-level5-peer", b"x-level5-peer-key")
_VERSIONS = frozenset({b"HTTP/1.0", b"HTTP/1.1", b"HTTP/2.0"})


def fault_of(request: http.Request) -> str | None:
    """Return why a request's head is refused, or None. mitmproxy has refused ambiguous framing before this."""
    return fault_of_line(request) or fault_in(request.headers)


def fault_of_line(request: http.Request) -> str | None:
    """Return why a request's first line is refused, or None."""
    data = request.data
    if data.http_version not in _VERSIONS:
        return "Only HTTP/1.0, HTTP/1.1 and HTTP/2 are spoken here."
    if data.authority and not request.is_http2:
        return "The request target must be a path, not an absolute address."
    if not _METHOD.fullmatch(data.method):
        return "A method is written in capital letters."  # mitmproxy compares them in capitals and passes them on as they came
    return None


def fault_in(headers: http.Headers) -> str | None:
    """Return why a request's fields are refused, or None."""
    if len(headers.get_all("host")) > 1:
        return "There is more than one Host."
    if _FORBIDDEN.search(b" ".join(chain.from_iterable(headers.fields))):
        return "A header holds a line break or a NUL."
    coding = headers.get_all("transfer-encoding")
    if coding and [item.strip().lower() for item in coding] != ["chunked"]:
        return "The only transfer encoding understood is chunked."
    return None


def wants_upgrade(headers: http.Headers) -> bool:
    """Tell whether a client asks for a WebSocket, which nobody could meter. Other upgrades are offers that may be ignored."""
    return "websocket" in headers.get("upgrade", "").lower()


def bearer_in(headers: http.Headers) -> str | None:
    """Return the api_token that a header carries; where both headers are there, the one that looks like ours."""
    authorization = headers.get("authorization", "")
    scheme, _, value = authorization.partition(" ")
    tokens = [value.strip()] if scheme.lower() == "bearer" and value.strip() else []
    if key := headers.get("x-api-key", "").strip():
        tokens.append(key)
    return next((token for token in tokens if token.startswith("l5_")), tokens[0] if tokens else None)


def strip_for_provider(headers: http.Headers) -> Fields:
    """Return what of a client's headers a provider may see, in their order and case. The length is not among it."""
    fields, names = headers.fields, names_of(headers)
    drop = _NOT_FOR_PROVIDERS | (_named_by_connection(fields, names) - {b"content-type"})
    kept = [field for name, field in zip(names, fields, strict=True) if name not in drop and not name.startswith(_NOT_FOR_PROVIDERS_PREFIXES)]
    return tuple(kept)


def strip_for_client(headers: http.Headers) -> None:
    """Take out of a provider's headers what the caller must not see; framing stays. The provider's own request id gets another name."""
    fields, names = headers.fields, names_of(headers)
    named = _named_by_connection(fields, names) - {b"content-length", b"transfer-encoding", b"content-type"}
    places, renamed = _places_for_clients(tuple(names), frozenset(named))
    kept, kept_names = [fields[place] for place in places], [names[place] for place in places]
    for place in renamed:
        kept_names[place] = _UPSTREAM_REQUEST_ID
        kept[place] = (_UPSTREAM_REQUEST_ID, kept[place][1])
    _reset(headers, kept, names=kept_names)


@lru_cache(maxsize=1024)  # a provider's answers have nearly the same fields again and again
def _places_for_clients(names: tuple[bytes, ...], named: frozenset[bytes]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the places of the fields that are kept, without those that are `named`, and which of the kept ones are the provider's request id."""
    places = tuple(place for place, name in enumerate(names) if name not in _NOT_FOR_CLIENTS and not name.startswith(b"x-level5-") and name not in named)
    return places, tuple(at for at, place in enumerate(places) if names[place] == b"x-request-id")


def _reset(headers: http.Headers, fields: list[tuple[bytes, bytes]], *, names: list[bytes]) -> None:
    if isinstance(headers, CheckedHeaders):
        headers.reset(tuple(fields), names)
    else:
        headers.fields = tuple(fields)


def _named_by_connection(fields: Fields, names: list[bytes]) -> Set[bytes]:
    """Return the headers that a message itself declares to concern this connection only. `names` are those of the fields, in small letters."""
    if b"connection" not in names:
        return _NONE
    named = b",".join([field[1] for name, field in zip(names, fields, strict=True) if name == b"connection"])
    return {item.strip().lower() for item in named.split(b",")}


def put(headers: http.Headers, *fields: tuple[bytes, bytes]) -> None:
    """Set several headers at once: one pass, where each would be a search of its own."""
    added, names = [name.lower() for name, _ in fields], names_of(headers)
    if set(added).isdisjoint(names):
        _reset(headers, [*headers.fields, *fields], names=[*names, *added])
        return
    kept = [(name, field) for name, field in zip(names, headers.fields, strict=True) if name not in added]
    _reset(headers, [*[field for _, field in kept], *fields], names=[*[name for name, _ in kept], *added])


def strip_hop_by_hop(headers: http.Headers) -> None:
    """Take out what concerns one connection only, and anything that only the gateway may say."""
    headers.fields = tuple((name, value) for name, value in headers.fields if (lower := name.lower()) not in _HOP_BY_HOP and lower not in _PEER)
